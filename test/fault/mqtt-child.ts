/**
 * A process with an mqtt source whose spool is a file: one line an intake, synced before its emit resolves.
 * Arguments: URL, file, after how many commits it stops answering emits (0: never). Says `committed N` as it goes.
 */
import { appendFileSync, existsSync, fsyncSync, openSync, readFileSync } from 'node:fs'
import { valueAt } from '../../src/batch.ts'
import { seriesIdOf } from '../../src/codec/series-id.ts'
import { createSystemHost } from '../../src/host.ts'
import { createSeriesTable } from '../../src/pipeline/series.ts'
import { mqttSource } from '../../src/sources/mqtt.ts'

const [url = '', file = '', hangAfter = '0', version = '5'] = process.argv.slice(2)
const kept = new Map<string, Uint8Array>()
if (existsSync(file)) {
  for (const line of readFileSync(file, 'utf8').trim().split('\n')) {
    for (const [key, value] of (JSON.parse(line) as { kept: [string, string][] }).kept)
      kept.set(key, Buffer.from(value, 'base64'))
  }
}
const descriptor = openSync(file, 'a')
const host = createSystemHost()
const series = createSeriesTable({ agent: 'edge', seriesIdOf })
const source = mqttSource.create(
  {
    host,
    name: 'plant',
    agent: 'edge',
    series,
    clock: () => ({ nowUs: Date.now() * 1000, bootId: host.bootId, monotonicUs: 0, trusted: true }),
    kept: (key) => Promise.resolve(kept.get(key) ?? null),
    blocked: () => false,
  },
  mqttSource.config.parse({
    type: 'mqtt',
    url,
    version: version === '5' ? 5 : '3.1.1',
    client_id: `killed-${version}`,
    subscribe: [{ topic: `k/${version}/#` }],
  }),
)
let points = 0
await source.run(async ({ points: batch, kept: keep = [] }) => {
  const line = {
    points: Array.from({ length: batch.count }, (_, at) => String(valueAt(batch, at))),
    kept: keep.map(({ key, value }) => [key, Buffer.from(value ?? []).toString('base64')]),
  }
  appendFileSync(descriptor, `${JSON.stringify(line)}\n`)
  fsyncSync(descriptor)
  points += batch.count
  process.stdout.write(`committed ${points}\n`)
  if (hangAfter !== '0' && points >= Number(hangAfter)) await new Promise(() => {})
}, new AbortController().signal)
