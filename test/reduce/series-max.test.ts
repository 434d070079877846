/** More series than a state remembers: those silent longest are forgotten, and nothing of theirs is lost by it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { seriesIdOf } from '../../src/codec/series-id.ts'
import type { Stage } from '../../src/model.ts'
import { compileClasses, type Reduce, type WindowSpec } from '../../src/pipeline/classes.ts'
import { createRulesStage } from '../../src/pipeline/rules.ts'
import { createWindowsStage } from '../../src/pipeline/windows.ts'
import { drive, entryOf, type Given, type Sample, type Turn } from './harness.ts'
import { startUs } from './signals.ts'

const second = 1_000_000
const entries = Array.from({ length: 9 }, (_, at) => entryOf(`s${at}`))
const seriesMax = 4
const classesOf = (reduce: Reduce, ...windows: WindowSpec[]) =>
  compileClasses([{ name: 'c', match: {}, reduce, windows }])
const rules = (): Stage =>
  createRulesStage({
    classes: classesOf({ method: 'deadband', deviation: 2, lane: 'thin' }),
    seriesMax,
  })
const windows = (): Stage =>
  createWindowsStage({
    classes: classesOf(
      { method: 'none' },
      { everyUs: 10 * second, latenessUs: second, statistics: ['count'], lane: 'w' },
    ),
    ...{ timeZone: 'UTC', idOf: (key) => seriesIdOf('a', key), seriesMax },
  })

const point = fc.record({
  series: fc.nat(entries.length - 1),
  step: fc.integer({ min: 1, max: 4 * second }),
  value: fc.integer({ min: -6, max: 6 }),
})
const batches = fc.array(
  fc.record({ points: fc.array(point, { minLength: 1, maxLength: 3 }), restart: fc.boolean() }),
  { minLength: 5, maxLength: 60 },
)
type Batches = typeof batches extends fc.Arbitrary<infer T> ? T : never
const turnsOf = (given: Batches, restarts: boolean): Turn[] => {
  let timeUs = startUs
  return given.flatMap(({ points, restart }): Turn[] => {
    const samples = points.map(({ series, step, value }): Sample => {
      timeUs += step
      return { series, timeUs, value, quality: 0 }
    })
    const step: Turn = { kind: 'step', points: samples }
    return restart && restarts ? [{ kind: 'restart' }, step] : [step]
  })
}
const end: Turn[] = [
  { kind: 'tick', nowUs: startUs },
  { kind: 'tick', nowUs: startUs * 2 },
]
const textOf = ({ entry, timeUs, value }: Given) =>
  `${entry.name} ${entry.tags.join()} ${timeUs} ${value}`
const samplesIn = (turns: readonly Turn[]) =>
  turns.flatMap((turn) => (turn.kind === 'step' ? turn.points : []))

test('rules: the bound holds though series are forgotten and come again, restarted anywhere', () => {
  let begunAnew = 0
  fc.assert(
    fc.property(batches, (list) => {
      const turns = [...turnsOf(list, false), ...end]
      const { given } = drive(rules, entries, turns)
      const again = drive(rules, entries, [...turnsOf(list, true), ...end])
      assert.deepEqual(new Set(again.given.map(textOf)), new Set(given.map(textOf)))
      assert.equal(again.given.length, given.length)
      for (const { series, timeUs, value } of samplesIn(turns)) {
        const own = given.filter(({ entry }) => entry.name === `s${series}`)
        const last = own.findLast((one) => one.timeUs <= timeUs)
        assert.ok(last !== undefined && Math.abs(Number(last.value) - Number(value)) <= 2)
      }
      if (new Set(samplesIn(turns).map(({ series }) => series)).size > seriesMax) begunAnew++
    }),
    { numRuns: 300 },
  )
  assert.ok(begunAnew > 100)
})

test('windows: each counts all its points in the end, though its series was forgotten in the middle', () => {
  let partial = 0
  fc.assert(
    fc.property(batches, (list) => {
      const turns = [...turnsOf(list, true), ...end]
      const { given } = drive(windows, entries, turns)
      const found = new Map<string, number>()
      for (const { entry, timeUs, value } of given) {
        const [, statistic] = entry.tags.find(([tag]) => tag === '@statistic') ?? []
        if (statistic === 'partial') partial++
        if (statistic === 'count') found.set(`${entry.name} ${timeUs}`, Number(value))
      }
      const expected = new Map<string, number>()
      for (const { series, timeUs } of samplesIn(turns)) {
        const key = `s${series} ${timeUs - (timeUs % (10 * second))}`
        expected.set(key, (expected.get(key) ?? 0) + 1)
      }
      assert.deepEqual(found, expected)
    }),
    { numRuns: 300 },
  )
  assert.ok(partial > 100)
})
