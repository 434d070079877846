/** Which knots a rule remembers, against all that there ever were; and the bound around points that come very late. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { compileClasses, contractOf, type SeriesClass } from '../../src/pipeline/classes.ts'
import {
  addKnot,
  forgetKnots,
  type KnotRange,
  noteMended,
  rangeAround,
} from '../../src/pipeline/rule-knots.ts'
import { createRuleTable } from '../../src/pipeline/rule-table.ts'
import { createRulesStage } from '../../src/pipeline/rules.ts'
import { drive, entryOf, type Sample, type Turn } from './harness.ts'
import { beyondBound } from './naive-rules.ts'
import { runsOf } from './runs.ts'
import { startUs } from './signals.ts'

const runs = runsOf(1_000)
/** Of knots at 10, 20, 30 …; `beside[i]`: nothing was left out between knot i and the one before. */
const remembered = (beside: readonly boolean[]) => {
  const table = createRuleTable()
  table.add(0, 0)
  const cells = table.cells()
  for (const [at, one] of beside.entries()) addKnot(cells, 0, (at + 1) * 10, one)
  return cells
}
/** Whether all that the line is drawn anew over, when a point comes at `timeUs`, lies in the range. */
const covers = (
  range: KnotRange,
  beside: readonly boolean[],
  timeUs: number,
  stepped: boolean,
): boolean => {
  const next = Math.floor(timeUs / 10)
  const here = timeUs % 10 === 0
  // Knot `next` (from 0) is the first behind it.
  const after = next < beside.length && beside[next] === false
  const beforeIt = here ? next - 1 : next
  const before = !stepped && beforeIt > 0 && beforeIt < beside.length && beside[beforeIt] === false
  const toUs = (next + 1) * 10
  const fromUs = here ? timeUs - 10 : next * 10
  return (
    (!after || (range.toUs >= toUs && range.fromUs <= timeUs)) &&
    (!before || (range.fromUs <= fromUs && range.toUs >= timeUs))
  )
}

test('a late point finds all that was left out around it, however many knots ago', () => {
  fc.assert(
    fc.property(
      fc.array(fc.boolean(), { minLength: 1, maxLength: 2_000, size: 'max' }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.integer({ min: 0, max: 9 }),
      fc.boolean(),
      (beside, share, more, stepped) => {
        const timeUs = 10 + Math.floor(share * (beside.length - 1)) * 10 + more
        const range = rangeAround(remembered([true, ...beside.slice(1)]), 0, timeUs, stepped)
        assert.ok(range !== null)
        assert.ok(covers(range, [true, ...beside.slice(1)], timeUs, stepped), JSON.stringify(range))
        for (const edge of [range.fromUs, range.toUs])
          assert.ok(edge === timeUs || edge % 10 === 0, 'a knot, or the point itself')
        assert.ok(range.fromUs <= timeUs && range.toUs >= timeUs)
      },
    ),
    { numRuns: runs },
  )
})

test('among the last knots the range is the narrowest there is; further back about as long as it is late', () => {
  const none = Array.from({ length: 5_000 }, () => false)
  const cells = remembered(none)
  for (const timeUs of [49_995, 49_905, 49_855])
    assert.deepEqual(rangeAround(cells, 0, timeUs, false), {
      fromUs: timeUs - 5,
      toUs: timeUs + 5,
    })
  for (const timeUs of [49_605, 48_005, 40_005, 20_005, 15]) {
    const range = rangeAround(cells, 0, timeUs, false)
    assert.ok(range !== null && range.toUs - range.fromUs <= 2 * (50_000 - timeUs) + 320)
  }
})

test('what was sent around one late point need not be sent around the next', () => {
  const cells = remembered(Array.from({ length: 500 }, () => false))
  const range = rangeAround(cells, 0, 1_005, true) as KnotRange
  assert.ok(range.toUs - range.fromUs >= 20, 'of a stepped line too, far back')
  noteMended(cells, 0, range)
  for (const timeUs of [range.fromUs + 3, 1_005, range.toUs - 3])
    assert.deepEqual(rangeAround(cells, 0, timeUs, false), { fromUs: timeUs, toUs: timeUs })
  const beyond = rangeAround(cells, 0, range.toUs + 5, false) as KnotRange
  assert.equal(beyond.fromUs, range.toUs)
  assert.ok(beyond.toUs > beyond.fromUs)
  // Behind the late point alone, as among the last knots of a stepped line: before it something is missing still.
  const recent = remembered([true, false, false])
  const half = rangeAround(recent, 0, 25, true) as KnotRange
  assert.deepEqual(half, { fromUs: 25, toUs: 30 })
  noteMended(recent, 0, half)
  assert.deepEqual(rangeAround(recent, 0, 23, true), { fromUs: 23, toUs: 30 })
})

test('before the oldest knot that is known nothing is promised; before the very first there is nothing', () => {
  const many = remembered(Array.from({ length: 40_000 }, () => false))
  assert.equal(rangeAround(many, 0, 15, false), null)
  assert.equal(
    rangeAround(remembered(Array.from({ length: 30_000 }, () => false)), 0, 5, false)?.fromUs,
    5,
  )
  const forgot = remembered([true, false, false])
  forgetKnots(forgot, 0)
  addKnot(forgot, 0, 40, false)
  assert.equal(rangeAround(forgot, 0, 25, false), null)
  assert.deepEqual(rangeAround(forgot, 0, 45, false), { fromUs: 40, toUs: 45 })
  const hour = 3_600_000_000
  const table = createRuleTable()
  table.add(0, 0)
  for (const at of [0, 3, 6]) addKnot(table.cells(), 0, at * hour, false)
  assert.equal(rangeAround(table.cells(), 0, hour, false), null, 'too far apart to read')
})

for (const method of ['deadband', 'swinging_door'] as const)
  test(`${method}: noisy series keep the bound around points that come minutes late`, () => {
    const lane = 'process'
    const one: SeriesClass = {
      ...{ name: 'c', match: {}, windows: [] },
      reduce: { method, lane, deviation: 0.5 },
    }
    let seed = 7
    const random = () => {
      seed = (seed * 48_271) % 2_147_483_647
      return seed / 2_147_483_647
    }
    for (const lateSeconds of [5, 30, 120, 900, 3_000]) {
      for (let run = 0; run < 20; run++) {
        let level = 20
        const points = Array.from({ length: lateSeconds + 300 }, (_, at): Sample => {
          level += random() - 0.5
          return { series: 0, timeUs: startUs + at * 1e6, value: level, quality: 0 }
        })
        // A burst of them, as of a device that was cut off.
        const from = 100 + Math.floor(random() * 50)
        const late = points.splice(from, 1 + (run % 4))
        const shifted = late.map((point) => ({ ...point, value: Number(point.value) + 3 }))
        points.splice(from + lateSeconds, 0, ...shifted)
        const turns: Turn[] = []
        for (let at = 0; at < points.length; at += 10)
          turns.push({ kind: 'step', points: points.slice(at, at + 10) })
        turns.push({ kind: 'tick', nowUs: startUs * 1.5 }, { kind: 'tick', nowUs: startUs * 1.6 })
        const create = () => createRulesStage({ classes: compileClasses([one]) })
        const { given, stage } = drive(create, [entryOf('s')], turns)
        const contract = contractOf(one)
        assert.ok(contract !== undefined)
        assert.equal(beyondBound(points, given, contract), null, `${lateSeconds} s late`)
        assert.equal(stage.totals()[0]?.lateUnmended, 0)
        assert.deepEqual(stage.warnings?.(), [])
      }
    }
  })
