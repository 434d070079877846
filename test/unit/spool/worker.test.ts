import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, test } from 'node:test'
import type { Failure } from '../../../src/errors.ts'
import { createSystemHost } from '../../../src/host.ts'
import type { SeriesClass } from '../../../src/pipeline/classes.ts'
import { openSpoolWorker } from '../../../src/spool/client.ts'
import { spoolWorkerUrl } from '../../support/spool-worker.ts'
import { forgetFolder, temporaryFolder } from '../../support/temp.ts'
import { contents, floats, laneOptions, newSeries, spoolOptions } from './support.ts'

/** Whatever fails, no thread stays. */
const opened = new Set<AsyncDisposable>()
after(async () => {
  for (const one of opened) await one[Symbol.asyncDispose]()
})
const openWorker = async (folder: string, series = newSeries(), fatal: Failure[] = []) => {
  const spool = spoolOptions({ lanes: [laneOptions('raw'), laneOptions('alarms')] })
  const port = await openSpoolWorker({
    workerUrl: spoolWorkerUrl,
    path: join(folder, 'spool.db'),
    spool,
    ingest: { commitWindowMs: 5, lanes: spool.lanes },
    host: createSystemHost(),
    series,
    onFatal: (failure) => fatal.push(failure),
  })
  opened.add(port)
  return port
}

test('points cross to the worker by transfer, and come back as they were, also over a restart', async () => {
  const folder = temporaryFolder('spool')
  const series = newSeries()
  const one = await openWorker(folder, series)
  await one.openReader('raw', 'region', 'oldest')
  await Promise.all([
    one.append('raw', { points: floats(series, 1, 60) }),
    one.append('raw', {
      points: floats(series, 61, 60, 'second'),
      kept: [{ key: 'k', value: Uint8Array.of(7) }],
    }),
    one.append('alarms', { points: floats(series, 500, 2), urgent: true }),
  ])
  assert.equal(await one.whenPast('raw', 0, AbortSignal.timeout(5_000)), 1)
  await one.ack('raw', 'region', { which: 'backlog', upTo: 1 })
  await one[Symbol.asyncDispose]()

  const two = await openWorker(folder, newSeries())
  await two.seal('raw')
  const items = await two.read('raw', 0, 1e6)
  assert.deepEqual(
    new Set(contents(items)),
    new Set(Array.from({ length: 120 }, (_, at) => at + 1)),
  )
  const [raw] = await two.lanes()
  assert.deepEqual(raw?.readers[0]?.cursor, { backlog: 1, live: null })
  assert.deepEqual([raw?.readers[0]?.delivered, raw?.readers[0]?.pending], [100, 20])
  assert.deepEqual([...((await two.kept('k')) ?? [])], [7])
  assert.equal((await two.epochs()).length, 2)
  await two[Symbol.asyncDispose]()
  forgetFolder(folder)
})

test('a second process is refused, and its refusal harms nothing', async () => {
  const folder = temporaryFolder('spool')
  const series = newSeries()
  const one = await openWorker(folder, series)
  await assert.rejects(openWorker(folder), { code: 'HF-S002' })
  await one.append('raw', { points: floats(series, 1, 1) })
  await one[Symbol.asyncDispose]()
  forgetFolder(folder)
})

test('a thread that ends is fatal once, and every call is refused from then on', async () => {
  const folder = temporaryFolder('spool')
  const series = newSeries()
  const fatal: Failure[] = []
  const port = await openWorker(folder, series, fatal)
  // A call the spool does not know is a defect: the thread says so and the process must end.
  const asked = port.read('no such lane', 0, 1)
  await assert.rejects(asked, { code: 'HF-S010' })
  assert.equal(fatal.length, 0)
  const bad = { ...floats(series, 1, 1), series: Uint32Array.of(999) }
  await assert.rejects(port.append('raw', { points: bad }), { code: 'HF-S074' })
  assert.deepEqual(
    fatal.map((one) => one.code),
    ['HF-S074'],
  )
  await assert.rejects(port.append('raw', { points: floats(series, 1, 1) }), { code: 'HF-S074' })
  assert.equal(port.blocked(), true)
  forgetFolder(folder)
})

test('stages run in the thread: what is sealed is derived unasked, and closes with the clock', async () => {
  const folder = temporaryFolder('spool')
  const series = newSeries()
  const lanes = [laneOptions('raw'), laneOptions('thin', { derived: true })]
  const spool = spoolOptions({ lanes })
  const classes: readonly SeriesClass[] = [
    {
      name: 'all',
      match: {},
      reduce: { method: 'deadband', deviation: 10, lane: 'thin' },
      windows: [],
    },
  ]
  const port = await openSpoolWorker({
    path: join(folder, 'spool.db'),
    workerUrl: spoolWorkerUrl,
    stages: [{ lane: 'raw', classes }],
    spool,
    ingest: { commitWindowMs: 5, lanes },
    host: createSystemHost(),
    series,
    onFatal: assert.fail,
  })
  opened.add(port)
  await port.append('raw', { points: floats(series, 0, 99) })
  await port.seal('raw')
  await port.seal('thin')
  assert.deepEqual(contents(await port.read('thin', 0, 1e6)), [0, 11, 22, 33, 44, 55, 66, 77, 88])
  const [raw] = await port.lanes()
  const { delivered, reduced, stage } = raw?.readers[0] ?? {}
  assert.deepEqual([delivered, reduced, stage], [9, 90, true])
  await assert.rejects(port.append('thin', { points: floats(series, 0, 1) }), { code: 'HF-S017' })
  await port[Symbol.asyncDispose]()
  forgetFolder(folder)
})
