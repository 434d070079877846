import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Failure } from '../../../src/errors.ts'
import { createSystemHost } from '../../../src/host.ts'
import { openSpoolWorker } from '../../../src/spool/client.ts'
import { forgetFolder, temporaryFolder } from '../../support/temp.ts'
import { contents, floats, laneOptions, newSeries, spoolOptions } from './support.ts'

const openWorker = (folder: string, series = newSeries(), fatal: Failure[] = []) => {
  const spool = spoolOptions({ lanes: [laneOptions('raw'), laneOptions('alarms')] })
  return openSpoolWorker({
    path: join(folder, 'spool.db'),
    spool,
    ingest: { commitWindowMs: 5, lanes: spool.lanes },
    host: createSystemHost(),
    series,
    onFatal: (failure) => fatal.push(failure),
  })
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
