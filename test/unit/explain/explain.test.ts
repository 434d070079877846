/** `explain` of series that bring more points than a look may take apart. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { createBatchBuilder } from '../../../src/batch.ts'
import { createMeasures } from '../../../src/cli/plan/measures.ts'
import { catalog } from '../../../src/config/catalog.ts'
import { loadConfig } from '../../../src/config/load.ts'
import type { Config } from '../../../src/config/schema.ts'
import { createExplain } from '../../../src/explain/explain.ts'
import { createPicker, readTail } from '../../../src/explain/held.ts'
import { createSpoolIngest, createSpoolPort } from '../../../src/spool/port.ts'
import { temporaryFolder } from '../../support/temp.ts'
import { createRig, floats, laneOptions, newSeries, store } from '../spool/support.ts'

const folder = temporaryFolder('explain')
const configOf = (): Config => {
  const path = join(folder, 'holdfast.yaml')
  const all = {
    agent: { name: 'agent-1', state_dir: folder },
    lanes: { raw: {}, reduced: {} },
    classes: { all: { reduce: { method: 'deadband', deviation: 0.5 } } },
    sources: [{ name: 'door', type: 'http', listen: '127.0.0.1:0' }],
    destinations: [{ name: 'out', type: 'file', output_dir: folder, lanes: ['reduced'] }],
  }
  writeFileSync(path, JSON.stringify(all))
  const result = loadConfig(path, { environment: {}, catalog, surroundings: false })
  assert.ok(result.ok, result.ok ? '' : JSON.stringify(result.problems))
  return result.config
}

test('a series of 180,000 points in a few segments: the newest are shown, and no more is stepped', async () => {
  const lanes = [
    laneOptions('raw', { segmentPointsMax: 60_000 }),
    laneOptions('reduced', { derived: true }),
  ]
  const rig = createRig({ lanes })
  const spool = rig.open()
  for (const first of [0, 60_000, 120_000])
    store(spool, floats(rig.series, first, 60_000), 'raw', true)
  const ingest = createSpoolIngest(spool, rig.clock, { commitWindowMs: 10, lanes })
  const port = createSpoolPort(spool, ingest, rig.series)
  const answer = await createExplain({ config: configOf(), spool: port, series: rig.series })(
    's',
    3,
  )
  assert.deepEqual(
    answer.points.map(({ timeUs }) => timeUs),
    [179_997_000, 179_998_000, 179_999_000],
  )
  const [raw] = spool.lanes()
  assert.ok(raw)
  const pick = createPicker(port, rig.series.entry(0))
  const budget = { segments: 100, points: 1_000_000 }
  const tail = await readTail(port, raw, pick, 80, budget)
  const counts = tail.segments.map(({ points }) => points.timeUs.length)
  assert.equal(tail.whole, false)
  assert.ok(counts.length === 1 && (counts[0] ?? 0) < 6_000, `${counts}`)
  assert.equal(tail.segments[0]?.points.count, counts[0])
  await port[Symbol.asyncDispose]()
})

test('a plan measures a class of 150,000 series', () => {
  const series = newSeries()
  const builder = createBatchBuilder()
  for (let at = 0; at < 150_000; at++) builder.addFloat(series.ref(`s${at}`, []), at, at, 0)
  const measures = createMeasures(configOf(), series, 'raw')
  measures.raw(builder.take())
  const [row] = measures.finish([]).classes
  assert.equal(row?.series, 150_000)
  assert.equal(row?.greatestError, Number.POSITIVE_INFINITY, 'nothing was sent')
})
