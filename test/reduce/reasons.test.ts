import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { compileClasses, type Reduce, type SeriesClass } from '../../src/pipeline/classes.ts'
import { type RuleReason, sentReasons } from '../../src/pipeline/rule-reasons.ts'
import { createRulesStage } from '../../src/pipeline/rules.ts'
import { drive, entryOf, type Turn } from './harness.ts'
import { cut, signal, startUs } from './signals.ts'

const runs = Number(process.env.HOLDFAST_REDUCE_RUNS ?? 400)
const one = entryOf('oven')
const lane = 'process'
const rules: readonly Reduce[] = [
  { method: 'every', lane, intervalUs: 2e6 },
  { method: 'sample', lane, intervalUs: 3e6 },
  { method: 'on_change', lane },
  { method: 'deadband', lane, deviation: 0.5 },
  { method: 'deadband', lane, deviation: 2, heartbeatUs: 7e6, minGapUs: 3e6 },
  { method: 'swinging_door', lane, deviation: 0.5 },
  { method: 'swinging_door', lane, deviation: 2, heartbeatUs: 7e6, minGapUs: 3e6 },
]
const classOf = (reduce: Reduce): SeriesClass => ({ name: 'c', match: {}, reduce, windows: [] })
const isSent = (reason: RuleReason) => (sentReasons as readonly RuleReason[]).includes(reason)
const flush: readonly Turn[] = [
  { kind: 'tick', nowUs: startUs * 1.5 },
  { kind: 'tick', nowUs: startUs * 1.6 },
]
const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 })

for (const reduce of rules)
  test(`${JSON.stringify(reduce)}: who listens changes nothing, and hears of each point whether it left`, () => {
    fc.assert(
      fc.property(signal(0), sizes, (points, cuts) => {
        const turns = [...cut(points, cuts), ...flush]
        const compiled = compileClasses([classOf(reduce)])
        const last = new Map<number, RuleReason>()
        const everSent = new Set<number>()
        const decided = (own: number, timeUs: number, reason: RuleReason) => {
          assert.equal(own, 0)
          last.set(timeUs, reason)
          if (isSent(reason)) everSent.add(timeUs)
        }
        const listened = drive(() => createRulesStage({ classes: compiled, decided }), [one], turns)
        const plain = drive(() => createRulesStage({ classes: compiled }), [one], turns)
        assert.deepEqual(listened.given, plain.given)
        assert.deepEqual(listened.stage.totals(), plain.stage.totals())
        const given = new Set(plain.given.map(({ timeUs }) => timeUs))
        assert.deepEqual(everSent, given)
        for (const { timeUs } of points)
          assert.ok(last.has(timeUs), `nothing was said of ${timeUs}`)
      }),
      { numRuns: runs },
    )
  })
