/**
 * The spool's figures: durable points a second, bytes that reach the disk a point, time of a commit, and one
 * row a point in the same SQLite with the same settings beside it.
 * The gateway: 1,000 series of decimals, 10,000 points a second; its seconds are counted, not waited for. Disk
 * bytes are what the kernel charges this process for (`/proc/self/io`), so TMPDIR must lie on a disk.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import Database from 'better-sqlite3'
import { createBatchBuilder } from '../../src/batch.ts'
import { seriesIdOf } from '../../src/codec/series-id.ts'
import { createSystemHost } from '../../src/host.ts'
import { segmentPointsMax } from '../../src/limits.ts'
import type { PointBatch, SeriesTable } from '../../src/model.ts'
import { createSeriesTable } from '../../src/pipeline/series.ts'
import { openSpoolWorker } from '../../src/spool/client.ts'
import { createSpoolIngest, createSpoolPort } from '../../src/spool/port.ts'
import { openSpool, type Spool } from '../../src/spool/spool.ts'
import { spoolWorkerUrl } from '../support/spool-worker.ts'
import { forgetFolder, temporaryFolder } from '../support/temp.ts'
import {
  createTestClock,
  laneOptions,
  spoolOptions,
  type TestClock,
} from '../unit/spool/support.ts'
import type { Figures } from './run.ts'

const seriesCount = 1_000
const pointsASecond = 10_000

/** Walks of one decimal, as a plant's sensors give them; ten readings a second of every series. */
const createGateway = (series: SeriesTable) => {
  const refs = Array.from({ length: seriesCount }, (_, at) =>
    series.ref('sensor', [['id', String(at)]]),
  )
  const values = refs.map((_, at) => 200 + at)
  let state = 12_345
  const random = () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return state / 2 ** 32
  }
  let timeUs = 1_700_000_000_000_000
  let next = 0
  return (count: number): PointBatch => {
    const builder = createBatchBuilder(count)
    for (let at = 0; at < count; at++) {
      const one = next++ % seriesCount
      if (one === 0) timeUs += 100_000
      if (random() < 0.3) values[one] = (values[one] as number) + Math.round(random() * 6 - 3)
      builder.addFloat(refs[one] as number, timeUs, (values[one] as number) / 10, 0)
    }
    return builder.take()
  }
}

const lanes = [laneOptions('raw', { segmentPointsMax })]
const bytesMax = 2 * 1024 ** 3
const open = (folder: string, series: SeriesTable): Spool =>
  openSpool({
    at: { path: join(folder, 'spool.db') },
    host: createSystemHost(),
    series,
    options: spoolOptions({ lanes, bytesMax }),
  })

const bytesWritten = (): number =>
  Number(/^write_bytes: (\d+)$/m.exec(readFileSync('/proc/self/io', 'latin1'))?.[1] ?? Number.NaN)

/** Group commit on a clock that the gateway's seconds move; the spool's own times stay real. */
const runGateway = async (commitWindowMs: number, seconds: number) => {
  const folder = temporaryFolder('bench')
  const series = createSeriesTable({ agent: 'bench', seriesIdOf })
  const points = createGateway(series)
  const spool = open(folder, series)
  const clock: TestClock = createTestClock()
  const ingest = createSpoolIngest(spool, clock, { commitWindowMs, lanes })
  const port = createSpoolPort(spool, ingest, series)
  const stepMs = 20
  const step = async () => {
    void port.append('raw', { points: points((pointsASecond * stepMs) / 1000) })
    await clock.pass(stepMs)
  }
  for (let at = 0; at < 2_000 / stepMs; at++) await step()
  const before = bytesWritten()
  for (let at = 0; at < (seconds * 1_000) / stepMs; at++) await step()
  const bytes = bytesWritten() - before
  const stats = await port.stats()
  await port[Symbol.asyncDispose]()
  forgetFolder(folder)
  return { bytesPerPoint: bytes / (seconds * pointsASecond), stats }
}

const batchPoints = 10_000
/** One segment is committed while the next gathers: fewer senders than fill both wait for the window's end. */
const senders = (2 * segmentPointsMax) / batchPoints
const warmPoints = 3_000_000

/**
 * As fast as it goes, as the agent has it: the spool in its thread, batches made beforehand, each append awaited by its
 * sender. The first points are not counted: an agent runs for months, and V8 has compiled its loops by then.
 */
const runAppend = async (points: number): Promise<number> => {
  const folder = temporaryFolder('bench')
  const series = createSeriesTable({ agent: 'bench', seriesIdOf })
  const make = createGateway(series)
  const batches = Array.from({ length: 200 }, () => make(batchPoints))
  const port = await openSpoolWorker({
    workerUrl: spoolWorkerUrl,
    path: join(folder, 'spool.db'),
    spool: spoolOptions({ lanes, bytesMax }),
    ingest: { commitWindowMs: 100, lanes },
    host: createSystemHost(),
    series,
    onFatal: (failure) => {
      throw failure
    },
  })
  let next = 0
  const sendUntil = async (end: number) => {
    while (next < end) {
      const batch = batches[next++ % batches.length] as PointBatch
      await port.append('raw', { points: batch })
    }
  }
  const sendAll = (end: number) =>
    Promise.all(Array.from({ length: senders }, () => sendUntil(end)))
  await sendAll(warmPoints / batchPoints)
  const startMs = performance.now()
  await sendAll((warmPoints + points) / batchPoints)
  const elapsedMs = performance.now() - startMs
  const [lane] = await port.lanes()
  if (lane?.accepted !== warmPoints + points) throw new Error('the spool has not what was appended')
  await port[Symbol.asyncDispose]()
  forgetFolder(folder)
  return points / elapsedMs / 1_000
}

/** The plain way: one row a point, one transaction a window, the same settings. */
const runRows = (points: number): number => {
  const folder = temporaryFolder('bench')
  const make = createGateway(createSeriesTable({ agent: 'bench', seriesIdOf }))
  const window = pointsASecond / 10
  const batches = Array.from({ length: points / window }, () => make(window))
  const db = new Database(join(folder, 'rows.db'))
  for (const pragma of ['locking_mode = EXCLUSIVE', 'journal_mode = WAL', 'synchronous = FULL']) {
    db.pragma(pragma)
  }
  db.exec('CREATE TABLE points (series INTEGER, time INTEGER, value REAL, quality INTEGER)')
  const insert = db.prepare('INSERT INTO points VALUES (?, ?, ?, ?)')
  const commit = db.transaction((batch: PointBatch) => {
    const values = new Float64Array(batch.bits.buffer, batch.bits.byteOffset, batch.count)
    for (let at = 0; at < batch.count; at++) {
      insert.run(batch.series[at], batch.timeUs[at], values[at], batch.qualities[at])
    }
  })
  const startMs = performance.now()
  for (const batch of batches) commit(batch)
  const elapsedMs = performance.now() - startMs
  db.close()
  forgetFolder(folder)
  return points / elapsedMs / 1_000
}

export const bench = async (): Promise<Figures> => {
  const appended = await runAppend(24_000_000)
  const byDefault = await runGateway(100, 20)
  const bySecond = await runGateway(1_000, 40)
  const rows = runRows(300_000)
  return {
    append_mpts_per_s: appended,
    disk_bytes_per_point: byDefault.bytesPerPoint,
    disk_bytes_per_point_1s: bySecond.bytesPerPoint,
    commit_ms_p50: byDefault.stats.commitMsP50,
    commit_ms_p99: byDefault.stats.commitMsP99,
    row_per_point_mpts_per_s: rows,
  }
}
