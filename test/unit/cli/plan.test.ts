import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { laneOptions, spoolOptions, stagesConfig } from '../../../src/agent-spool.ts'
import { stagesOf } from '../../../src/agent-stages.ts'
import { createBatchBuilder } from '../../../src/batch.ts'
import { createArrivalClock } from '../../../src/cli/plan/clock.ts'
import { createErrorMeasure, hullOf } from '../../../src/cli/plan/error.ts'
import { createRehearsal } from '../../../src/cli/plan/rehearse.ts'
import { catalog } from '../../../src/config/catalog.ts'
import { loadConfig } from '../../../src/config/load.ts'
import type { Config } from '../../../src/config/schema.ts'
import { silentLog } from '../../../src/host.ts'
import type { Contract, PointBatch } from '../../../src/model.ts'
import { createSpoolIngest, createSpoolPort, type SpoolCalls } from '../../../src/spool/port.ts'
import { openSpool } from '../../../src/spool/spool.ts'
import { countingBytes, createTestClock, newSeries, readAll } from '../spool/support.ts'

const second = 1_000_000
const startUs = 1_700_000_001 * second

const folder = mkdtempSync(join(tmpdir(), 'holdfast-plan-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
const configOf = (classes: object, lanes: object = {}): Config => {
  const path = join(folder, 'holdfast.yaml')
  const all = {
    agent: { name: 'agent-1', state_dir: folder },
    lanes: { raw: {}, reduced: { max_delay: '20s' }, windows: { max_delay: '30s' }, ...lanes },
    classes,
    sources: [{ name: 'door', type: 'http', listen: '127.0.0.1:0' }],
    destinations: [
      { name: 'out', type: 'file', output_dir: folder, lanes: ['reduced', 'windows'] },
    ],
  }
  writeFileSync(path, JSON.stringify(all))
  const result = loadConfig(path, { environment: {}, catalog, surroundings: false })
  assert.ok(result.ok, result.ok ? '' : JSON.stringify(result.problems))
  return result.config
}
let seed = 3
const random = () => {
  seed = (seed * 48_271) % 2_147_483_647
  return seed / 2_147_483_647
}
/** A walk a series, ten points a second in all, now and then silent or late. */
const walks = (series: ReturnType<typeof newSeries>, seconds: number) => {
  const values = [20, 40, 1_000]
  const batches: PointBatch[] = []
  for (let at = 0; at < seconds; at++) {
    if (at % 97 > 90) continue
    const builder = createBatchBuilder()
    for (const [number, value] of values.entries()) {
      values[number] = Math.round((value + random() - 0.5) * 100) / 100
      const late = random() < 0.01 ? 5 : 0
      const timeUs = startUs + (at - late) * second + number
      builder.addFloat(series.ref(`walk.${'abc'[number]}`, []), timeUs, values[number] ?? 0, 0)
    }
    batches.push(builder.take())
  }
  return batches
}
const rehearse = (
  config: Config,
  series: ReturnType<typeof newSeries>,
  batches: readonly PointBatch[],
) => {
  using rehearsal = createRehearsal({ config, series, lane: 'raw' })
  const arrival = createArrivalClock()
  for (const batch of batches) rehearsal.take(batch, batch.timeUs.map(arrival.arrival))
  return rehearsal.finish()
}
const classes = {
  a: { match: { names: ['*.a'] }, reduce: { method: 'deadband', deviation: 0.5 } },
  b: {
    match: { names: ['*.b'] },
    reduce: { method: 'swinging_door', deviation: 0.7, heartbeat: '40s' },
    windows: [{ every: '10s', statistics: ['count', 'mean', 'max'], lateness: '2s' }],
  },
}

/** The same points through an agent's spool: its own group commit, its own timers, a clock that passes. */
const live = async (
  config: Config,
  series: ReturnType<typeof newSeries>,
  batches: readonly PointBatch[],
) => {
  const clock = createTestClock()
  const spool = openSpool({
    at: { image: null },
    host: { clock, log: silentLog, bootId: 'b0', randomBytes: countingBytes },
    series,
    options: { ...spoolOptions(config), diskFreeBytesMin: 0 },
    stages: stagesOf(stagesConfig(config)),
  })
  const ingest = createSpoolIngest(spool as SpoolCalls, clock, {
    commitWindowMs: config.spool.commit_window,
    lanes: laneOptions(config),
  })
  const port = createSpoolPort(spool as SpoolCalls, ingest, series)
  const settle = () =>
    port.setClock({ nowUs: clock.nowUs(), bootId: 'b0', monotonicUs: 0, trusted: true })
  let next = 0
  for (let at = 0; at < 400; at++) {
    const atUs = clock.nowUs()
    const batch = batches[next]
    if (batch !== undefined && Math.max(...batch.timeUs) <= atUs + 500_000) {
      next++
      void port.append('raw', { points: batch })
    }
    await settle()
    await clock.pass(1_000)
  }
  assert.equal(next, batches.length)
  clock.jump(86_400_000)
  await settle()
  clock.jump(86_400_000)
  await settle()
  await clock.pass(100_000)
  const totals = (name: string) => {
    const items = readAll(spool, name).flatMap((one) => (one.type === 'segment' ? [one] : []))
    return {
      lane: name,
      points: items.reduce((sum, { pointCount }) => sum + pointCount, 0),
      bytes: items.reduce((sum, { bytes }) => sum + bytes.length, 0),
      segments: items.length,
    }
  }
  const found = config.lanes.map(({ name }) => totals(name))
  await port[Symbol.asyncDispose]()
  return found
}

test('a rehearsal gives out and seals what a spool with timers and a clock does', async () => {
  const config = configOf(classes)
  const series = newSeries()
  const batches = walks(series, 300)
  const { lanes, classes: rows } = rehearse(config, series, batches)
  const real = await live(config, series, batches)
  for (const lane of real) {
    const mine = lanes.find((one) => one.lane === lane.lane)
    assert.ok(mine && lane.points > 50, lane.lane)
    assert.equal(mine.points, lane.points, lane.lane)
    const ratio = mine.bytes / lane.bytes
    assert.ok(ratio > 0.95 && ratio < 1.05, `${lane.lane}: ${mine.bytes} of ${lane.bytes} bytes`)
  }
  const sum = (of: (row: (typeof rows)[number]) => number) =>
    rows.reduce((all, row) => all + of(row), 0)
  const bytes = (name: string) => lanes.find(({ lane }) => lane === name)?.bytes ?? 0
  assert.ok(Math.abs(sum((row) => row.bytesIn) - bytes('raw')) < 1)
  assert.ok(Math.abs(sum((row) => row.bytesOut) - bytes('reduced') - bytes('windows')) < 1)
  assert.deepEqual(
    rows.map((row) => row.class),
    ['a', 'b', null],
  )
  for (const { class: name, greatestError, deviation, pointsIn, pointsOut } of rows.slice(0, 2)) {
    assert.ok(
      greatestError !== null && deviation !== null && greatestError <= deviation,
      String(name),
    )
    assert.ok(greatestError > deviation / 2 && pointsOut < pointsIn / 2, String(name))
  }
})

/** As a reader computes it, from everything at once. */
const naive = (
  raw: readonly (readonly [number, number])[],
  knots: readonly (readonly [number, number])[],
  how: Contract['interpolation'],
) => {
  const line = [...new Map(knots)].sort(([a], [b]) => a - b)
  let worst = 0
  for (const [time, value] of new Map(raw)) {
    const after = line.findIndex(([at]) => at > time)
    const at = (after < 0 ? line.length : after) - 1
    const [from, to] = [line[at], line[at + 1]]
    if (from === undefined) return Number.POSITIVE_INFINITY
    const straight = how === 'linear' && to !== undefined && from[0] !== time
    const drawn = straight
      ? from[1] + (to[1] - from[1]) * ((time - from[0]) / (to[0] - from[0]))
      : from[1]
    worst = Math.max(worst, Math.abs(value - drawn))
  }
  return worst
}
test('the error measured on the way is that of everything at once, however long the silences', () => {
  const point = fc.record({
    gap: fc.integer({ min: 0, max: 3 }),
    value: fc.integer({ min: -50, max: 50 }),
    knot: fc.integer({ min: 0, max: 400 }),
  })
  const points = fc.array(point, { minLength: 200, maxLength: 5_000, size: 'max' })
  for (const how of ['step', 'linear'] as const) {
    fc.assert(
      fc.property(points, (given) => {
        const measure = createErrorMeasure(how)
        const [raw, knots]: [number, number][][] = [[], []] as [number, number][][]
        let time = 0
        given.forEach(({ gap, value, knot }, at) => {
          time += gap
          raw?.push([time, value])
          measure.raw(time, value)
          if (at === 0 || knot === 0 || at === given.length - 1) {
            knots?.push([time, value])
            measure.knot(time, value)
          }
          if (at % 50 === 0) measure.settle()
        })
        measure.settle(true)
        assert.equal(measure.unmeasured(), 0)
        const truth = naive(raw ?? [], knots ?? [], how)
        assert.ok(Math.abs(measure.greatest() - truth) < 1e-9, `${measure.greatest()} ${truth}`)
      }),
      { numRuns: 30 },
    )
  }
})

test('a hull keeps what lies furthest from any straight line', () => {
  const values = fc.array(fc.integer({ min: -9, max: 9 }), { minLength: 1, maxLength: 40 })
  fc.assert(
    fc.property(values, fc.integer(), fc.integer({ min: -5, max: 5 }), (given, base, slope) => {
      const track = { times: given.map((_, at) => at), values: given }
      const furthest = ({ times, values: all }: typeof track) =>
        Math.max(...times.map((time, at) => Math.abs((all[at] ?? 0) - (base % 9) - slope * time)))
      assert.equal(furthest(hullOf(track)), furthest(track))
    }),
  )
})

test('points behind what was measured are counted, and a line not drawn yet is no good line', () => {
  const measure = createErrorMeasure('linear')
  measure.knot(0, 0)
  for (let at = 0; at < 200; at++) measure.raw(at, 0)
  measure.knot(199, 0)
  measure.settle()
  measure.raw(3, 77)
  measure.settle(true)
  assert.equal(measure.unmeasured(), 1)
  assert.equal(measure.greatest(), 0)
  const early = createErrorMeasure('step')
  early.raw(5, 1)
  early.knot(6, 1)
  early.settle(true)
  assert.equal(early.greatest(), Number.POSITIVE_INFINITY)
})

test('one wrong time moves the clock of a recording by nothing; three that agree do', () => {
  const { arrival, behind } = createArrivalClock()
  assert.deepEqual([1, 2, 9e15, 3, 1, 9e12, 9e12, 9e12].map(arrival), [1, 2, 2, 3, 3, 3, 3, 9e12])
  assert.equal(behind(), 1)
})
