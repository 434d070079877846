/**
 * The demo's verdict: the plant's own journal against what the region's database holds, by the checker that trusts no
 * counter of the agent. Both processes have ended by then; the files are all there is.
 */
import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { extendDictionaryHash } from '../../codec/series-id.ts'
import { createEmbeddedStore } from '../../database/embedded.ts'
import { createEmbeddedReadBack } from '../../database/read-back.ts'
import { Failure } from '../../errors.ts'
import type { Host } from '../../host.ts'
import { kinds } from '../../model.ts'
import { check, type JournalPoint, type Verdict } from '../../verify/checker.ts'
import { readEvidence } from '../../verify/evidence.ts'
import { fieldTypes } from './sensors.ts'

const batchMax = 4_096

const patternOf = (value: number): bigint =>
  new BigUint64Array(new Float64Array([value]).buffer)[0] as bigint
type Field = keyof typeof fieldTypes
type Scan = Readonly<Record<Field, number | boolean | string>> & { readonly time: number }

const pointOf = (topic: string, field: Field, scan: Scan): JournalPoint => {
  const value = scan[field]
  const type = fieldTypes[field]
  return {
    series: `${topic.replaceAll('/', '.')}.${field}`,
    timeUs: scan.time,
    kind: kinds[type],
    bits:
      type === 'float'
        ? patternOf(Number(value))
        : type === 'string'
          ? 0n
          : BigInt(value as number | boolean),
    text: type === 'string' ? String(value) : null,
    quality: 0,
    acked: true,
  }
}
async function* journalOf(path: string): AsyncGenerator<JournalPoint[]> {
  let batch: JournalPoint[] = []
  for await (const line of createInterface({ input: createReadStream(path) })) {
    const { topic, scan } = JSON.parse(line) as { topic: string; scan: Scan }
    for (const field of Object.keys(fieldTypes) as Field[]) batch.push(pointOf(topic, field, scan))
    if (batch.length < batchMax) continue
    yield batch
    batch = []
  }
  yield batch
}
/** Makes the region's database with its audit, before anything else opens it. */
export const prepareRegion = async (host: Host, path: string): Promise<void> => {
  await using store = createEmbeddedStore({ path, host, extendDictionaryHash })
  await store.prepare()
  await createEmbeddedReadBack(store.database).installAudit()
}

/** Everything has drained by now: nothing may be excused as pending. */
export const judge = async (
  host: Host,
  files: { readonly region: string; readonly journal: string },
  agent: string,
): Promise<Verdict> => {
  await using store = createEmbeddedStore({ path: files.region, host, extendDictionaryHash })
  const back = createEmbeddedReadBack(store.database)
  const answer = await store.agents()
  if (answer.kind !== 'ok') throw new Failure('HF-X020', "the region's ledger cannot be read")
  return await check({
    ...(await readEvidence(back, agent)),
    journal: journalOf(files.journal),
    delivered: answer.agents.find((one) => one.agent === agent)?.points ?? 0,
    reduced: 0,
    pending: 0,
  })
}
