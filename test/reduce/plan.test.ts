/** What `plan` measures, and what `explain` finds again, against the same seen from everything at once. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { createArrivalClock } from '../../src/cli/plan/clock.ts'
import { createErrorMeasure, hullOf } from '../../src/cli/plan/error.ts'
import { createRehearsal } from '../../src/cli/plan/rehearse.ts'
import { seriesIdOf } from '../../src/codec/series-id.ts'
import { catalog } from '../../src/config/catalog.ts'
import { loadConfig } from '../../src/config/load.ts'
import type { Config } from '../../src/config/schema.ts'
import type { Contract } from '../../src/model.ts'
import { compileClasses, type Reduce, type SeriesClass } from '../../src/pipeline/classes.ts'
import { explainRule } from '../../src/pipeline/explain.ts'
import { isSentReason, type RuleReason } from '../../src/pipeline/rule-reasons.ts'
import { createRulesStage } from '../../src/pipeline/rules.ts'
import { createSeriesTable } from '../../src/pipeline/series.ts'
import { batchOf, drive, entryOf, type Sample } from './harness.ts'
import { runsOf } from './runs.ts'
import { cut, signal, startUs } from './signals.ts'

const runs = runsOf(300)
// A mutant need not be shrunk.
type Knot = readonly [timeUs: number, value: number]

/** As a reader computes it, from everything at once. */
const naiveError = (
  raw: readonly Knot[],
  knots: readonly Knot[],
  how: Contract['interpolation'],
): number => {
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
    knot: fc.integer({ min: 0, max: 2_000 }),
  })
  const points = fc.array(point, { minLength: 200, maxLength: 9_000, size: 'max' })
  for (const how of ['step', 'linear'] as const) {
    fc.assert(
      fc.property(points, fc.integer({ min: -3, max: 3 }), (given, slope) => {
        const measure = createErrorMeasure(how)
        const raw: Knot[] = []
        const knots: Knot[] = []
        let time = 0
        given.forEach(({ gap, value: noise, knot }, at) => {
          time += gap
          const value = noise + slope * time
          raw.push([time, value])
          measure.raw(time, value)
          if (at === 0 || knot === 0 || at === given.length - 1) {
            knots.push([time, value])
            measure.knot(time, value)
          }
          if (at % 50 === 0) measure.settle()
        })
        measure.settle(true)
        assert.equal(measure.unmeasured(), 0)
        const truth = naiveError(raw, knots, how)
        assert.ok(Math.abs(measure.greatest() - truth) < 1e-6, `${measure.greatest()} ${truth}`)
      }),
      { numRuns: 8 },
    )
  }
})

test('a hull keeps what lies furthest from any straight line', () => {
  const values = fc.array(fc.integer({ min: -9, max: 9 }), { minLength: 1, maxLength: 40 })
  const parts = [values, fc.integer({ min: -9, max: 9 }), fc.integer({ min: -5, max: 5 })] as const
  fc.assert(
    fc.property(...parts, (given, base, slope) => {
      const track = { times: given.map((_, at) => at), values: given }
      const furthest = ({ times, values: all }: typeof track) =>
        Math.max(...times.map((time, at) => Math.abs((all[at] ?? 0) - base - slope * time)))
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

const folder = mkdtempSync(join(tmpdir(), 'holdfast-reduce-plan-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
const configWith = (reduce: object): Config => {
  const path = join(folder, 'holdfast.yaml')
  const all = {
    agent: { name: 'gw', state_dir: folder },
    lanes: { raw: { max_delay: '9s' }, reduced: { max_delay: '60s' } },
    classes: { c: { reduce } },
    sources: [{ name: 'plant', type: 'simulate' }],
    destinations: [{ name: 'out', type: 'file', output_dir: folder, lanes: ['reduced'] }],
  }
  writeFileSync(path, JSON.stringify(all))
  const result = loadConfig(path, { environment: {}, catalog, surroundings: false })
  assert.ok(result.ok, result.ok ? '' : JSON.stringify(result.problems))
  return result.config
}
const plain = (points: readonly Sample[]) =>
  points.filter(({ value }) => typeof value === 'number' && Number.isFinite(value))

for (const reduce of [
  { method: 'deadband', deviation: 0.5 },
  { method: 'swinging_door', deviation: 0.5 },
  { method: 'swinging_door', deviation: 2, heartbeat: '7s' },
])
  test(`${JSON.stringify(reduce)}: rehearsed, the greatest error is within the deviation`, () => {
    const config = configWith(reduce)
    fc.assert(
      fc.property(signal(0), (points) => {
        fc.pre(plain(points).length > 1)
        const series = createSeriesTable({ agent: 'gw', seriesIdOf })
        series.ref('oven', [])
        const batch = batchOf(points)
        const arrival = createArrivalClock()
        using rehearsal = createRehearsal({ config, series, lane: 'raw' })
        rehearsal.take(batch, batch.timeUs.map(arrival.arrival))
        const [found] = rehearsal.finish().classes
        assert.equal(found?.pointsIn, points.length)
        fc.pre(found.unmended === 0 && found.unmeasured === 0)
        assert.ok((found.greatestError ?? 0) <= reduce.deviation, `${found.greatestError}`)
      }),
      { numRuns: Math.min(runs, 25) },
    )
  })

const lane = 'reduced'
const one = entryOf('oven')
const rules: readonly Reduce[] = [
  { method: 'every', lane, intervalUs: 2e6 },
  { method: 'on_change', lane },
  { method: 'deadband', lane, deviation: 0.5 },
  { method: 'deadband', lane, deviation: 2, heartbeatUs: 7e6, minGapUs: 3e6 },
  { method: 'swinging_door', lane, deviation: 0.5 },
  { method: 'swinging_door', lane, deviation: 2, heartbeatUs: 7e6 },
]
const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 })
for (const reduce of rules)
  test(`${JSON.stringify(reduce)}: found again from what is held, a reason is the one there was`, () => {
    const kept: SeriesClass = { name: 'c', match: {}, reduce, windows: [] }
    // Where the rule's beginning is held nearly all is found again; where it is not, what follows a point sent.
    const [whole, rest] = [
      { said: 0, all: 0 },
      { said: 0, all: 0 },
    ]
    fc.assert(
      fc.property(signal(0), sizes, fc.nat(8), fc.boolean(), (points, cuts, gone, ticks) => {
        const last = new Map<number, RuleReason>()
        const decided = (_: number, timeUs: number, reason: RuleReason) => {
          last.set(timeUs, reason)
        }
        const silence = [1.5, 1.6].map((by) => ({ kind: 'tick', nowUs: startUs * by }) as const)
        const steps = cut(points, cuts)
        const turns = ticks ? [...steps, ...silence] : steps
        const classes = compileClasses([kept])
        const { given } = drive(() => createRulesStage({ classes, decided }), [one], turns)
        const sent = new Set(given.map(({ timeUs }) => timeUs))
        const segments = steps.flatMap((turn, at) =>
          turn.kind === 'step' ? [{ seq: at + 1, points: batchOf(turn.points) }] : [],
        )
        const held = segments.slice(gone)
        const found = explainRule(
          { class: kept, entry: one, segments: held },
          (timeUs) => sent.has(timeUs),
          gone === 0,
        )
        const times = new Set(held.flatMap((segment) => [...segment.points.timeUs]))
        const sum = gone === 0 ? whole : rest
        sum.all += times.size
        for (const [timeUs, { reason }] of found) {
          assert.equal(isSentReason(reason), sent.has(timeUs), `${timeUs - startUs}: ${reason}`)
          if (times.has(timeUs) && reason === last.get(timeUs)) sum.said++
        }
      }),
      { numRuns: runs },
    )
    for (const [{ said, all }, share] of [
      [whole, 0.65],
      [rest, 0.5],
    ] as const)
      assert.ok(said > all * share, `${said} reasons of ${all} points`)
  })
