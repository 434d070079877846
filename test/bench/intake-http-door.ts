/**
 * The process under measurement of `intake-http.ts`: the HTTP door over the real spool, as the agent has them. Answers
 * `cpu` with its CPU time so far (all threads), ends when its parent goes.
 */

import { seriesIdOf } from '../../src/codec/series-id.ts'
import { createSystemHost, silentLog } from '../../src/host.ts'
import { commitWindowMsDefault, maxDelayMsDefault, segmentPointsMax } from '../../src/limits.ts'
import { createIntake } from '../../src/pipeline/intake.ts'
import { createSeriesTable } from '../../src/pipeline/series.ts'
import { httpSource } from '../../src/sources/http.ts'
import { openSpoolWorker } from '../../src/spool/client.ts'
import { spoolWorkerUrl } from '../support/spool-worker.ts'
import { temporaryFolder } from '../support/temp.ts'

const host = createSystemHost({
  log: { ...silentLog, info: (_event, fields) => process.send?.({ port: fields?.port }) },
})
const clock = () => ({
  ...{ nowUs: host.clock.nowUs(), bootId: host.bootId },
  ...{ monotonicUs: host.clock.monotonicMs() * 1000, trusted: true },
})
const series = createSeriesTable({ agent: 'bench', seriesIdOf })
const lanes = [
  { name: 'raw', policy: 'block', maxDelayMs: maxDelayMsDefault, segmentPointsMax },
] as const
const spool = await openSpoolWorker({
  workerUrl: spoolWorkerUrl,
  path: `${temporaryFolder('bench')}/spool.db`,
  spool: {
    ...{ agent: 'bench', bytesMax: 4 * 1024 ** 3, diskFreeBytesMin: 0, keepSentMs: 0 },
    ...{ compressor: 'zstd', configRevision: 0, clockFloorUs: 0 },
    lanes,
  },
  ingest: { commitWindowMs: commitWindowMsDefault, lanes },
  host,
  series,
  onFatal: (failure) => {
    throw failure
  },
})
const stop = new AbortController()
const source = httpSource.create(
  {
    ...{ host, name: 'http', agent: 'bench', series, clock },
    ...{ kept: spool.kept, blocked: spool.blocked },
  },
  httpSource.config.parse({ type: 'http', listen: '127.0.0.1:0' }),
)
const emit = createIntake({ spool, lane: 'raw', source: 'http', meter: host.meter, clock })
process.on('message', () => {
  const { user, system } = process.cpuUsage()
  process.send?.({ cpuUs: user + system })
})
process.on('disconnect', () => stop.abort())
await source.run(emit, stop.signal)
await spool[Symbol.asyncDispose]()
