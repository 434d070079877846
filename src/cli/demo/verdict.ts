/**
 * The demo's verdict: the plant's own journal against what the region's database holds, by the checker that trusts no
 * counter of the agent. Both processes have ended by then; the files are all there is.
 */
import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { extendDictionaryHash } from '../../codec/series-id.ts'
import { createEmbeddedStore, type EmbeddedStore } from '../../database/embedded.ts'
import { createEmbeddedReadBack } from '../../database/read-back.ts'
import { Failure } from '../../errors.ts'
import type { Host } from '../../host.ts'
import { kinds } from '../../model.ts'
import type { LaneStatus } from '../../spool-port.ts'
import { check, type JournalPoint, type Verdict } from '../../verify/checker.ts'
import { readEvidence } from '../../verify/evidence.ts'
import { checkReduced, type ReducedVerdict } from '../../verify/reduction.ts'
import type { Asked } from './cellular.ts'
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

export interface Files {
  readonly region: string
  readonly journal: string
}
/** Points of the region's ledger, each taken in once. */
const ledgerPoints = async (store: EmbeddedStore, agent: string): Promise<number> => {
  const answer = await store.agents()
  if (answer.kind !== 'ok') throw new Failure('HF-X020', "the region's ledger cannot be read")
  return answer.agents.find((one) => one.agent === agent)?.points ?? 0
}

/** Everything has drained by now: nothing may be excused as pending. */
export const judge = async (host: Host, files: Files, agent: string): Promise<Verdict> => {
  await using store = createEmbeddedStore({ path: files.region, host, extendDictionaryHash })
  return await check({
    ...(await readEvidence(createEmbeddedReadBack(store.database), agent)),
    journal: journalOf(files.journal),
    delivered: await ledgerPoints(store, agent),
    reduced: 0,
    pending: 0,
  })
}

/**
 * The agent's books must say what was found without them, and the region's ledger what its lanes had to give. A broker
 * may deliver a message twice (QoS 1) and not say so: then the agent has accepted more than the plant sent.
 */
const bookTroubles = (
  books: readonly LaneStatus[],
  accepted: number,
  ledger: number,
): readonly string[] => {
  const raw = books.find(({ lane }) => lane === 'raw')
  const open = (raw?.readers ?? []).filter(
    (one) =>
      raw?.accepted !==
        one.delivered + one.reduced + one.pending + one.declaredLost + (one.passedOver ?? 0) ||
      one.pending > 0,
  )
  const given = books.reduce((sum, lane) => sum + (lane.derived ? lane.accepted : 0), 0)
  return [
    ...((raw?.accepted ?? 0) >= accepted
      ? []
      : [`books: the agent accepted ${raw?.accepted}, the plant has ${accepted} acknowledged`]),
    ...open.map(({ reader }) => `books: those of ${reader} do not add up to ${raw?.accepted}`),
    ...(given === ledger ? [] : [`books: ${given} points were to be sent, ${ledger} came in`]),
  ]
}

/** As `judge`, of a region that has windows and what its contracts let through. */
export const judgeReduced = async (
  host: Host,
  files: Files,
  agent: string,
  { asked, books }: { readonly asked: Asked; readonly books: readonly LaneStatus[] },
): Promise<ReducedVerdict> => {
  await using store = createEmbeddedStore({ path: files.region, host, extendDictionaryHash })
  const back = createEmbeddedReadBack(store.database)
  const prefix = asked.series.replace(/\*$/, '')
  const verdict = await checkReduced({
    ...(await readEvidence(back, agent)),
    rows: async function* () {
      yield* (await readEvidence(back, agent)).rows
    },
    journal: () => journalOf(files.journal),
    windows: await back.windowsOf(agent),
    contracts: await back.contractsOf(agent),
    asked: (series, timeUs) =>
      series.startsWith(prefix) && timeUs >= asked.fromUs && timeUs < asked.toUs,
    pending: 0,
  })
  const troubles = bookTroubles(books, verdict.accepted, await ledgerPoints(store, agent))
  const reasons = [...verdict.reasons, ...troubles]
  return { ...verdict, reasons, ok: reasons.length === 0 }
}
