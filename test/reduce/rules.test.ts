import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Contract } from '../../src/model.ts'
import {
  compileClasses,
  contractOf,
  type Reduce,
  type SeriesClass,
} from '../../src/pipeline/classes.ts'
import { createRulesStage, type RulesStage } from '../../src/pipeline/rules.ts'
import { drive, entryOf, type Given, type Sample, standing, type Turn } from './harness.ts'
import { cut, signal, startUs } from './signals.ts'

const runs = 1_500
const one = entryOf('oven')
const classOf = (reduce: Reduce): SeriesClass => ({ name: 'c', match: {}, reduce, windows: [] })
const creator = (reduce: Reduce) => () =>
  createRulesStage({ classes: compileClasses([classOf(reduce)]) })
const farUs = startUs * 1.5
const flush: Turn[] = [
  { kind: 'tick', nowUs: farUs },
  { kind: 'tick', nowUs: farUs * 1.1 },
]
const lane = 'process'
const bounded: Readonly<Record<string, Reduce>> = {
  on_change: { method: 'on_change', lane },
  deadband: { method: 'deadband', lane, deviation: 0.5 },
  'deadband, heartbeat': { method: 'deadband', lane, deviation: 2, heartbeatUs: 7e6 },
  'swinging door': { method: 'swinging_door', lane, deviation: 0.5 },
  'swinging door, heartbeat': { method: 'swinging_door', lane, deviation: 2, heartbeatUs: 7e6 },
  'swinging door, fine': { method: 'swinging_door', lane, deviation: 1e-7 },
  'swinging door, coarse': { method: 'swinging_door', lane, deviation: 1e300 },
}

/** What a reader draws at `timeUs` from the points it has: the last one before, or the line to the next. */
const drawn = (given: readonly Sample[], timeUs: number, how: Contract['interpolation']) => {
  const after = given.findIndex((point) => point.timeUs > timeUs)
  const from = given[(after === -1 ? given.length : after) - 1]
  const to = after === -1 ? undefined : given[after]
  if (from === undefined) return undefined
  if (how === 'step' || from.timeUs === timeUs || to === undefined) return from.value
  const share = (timeUs - from.timeUs) / (to.timeUs - from.timeUs)
  const [a, b] = [Number(from.value), Number(to.value)]
  return a + (b - a) * share
}
const numeric = ({ value }: Sample) => typeof value === 'number' || typeof value === 'bigint'

/** Every accepted point, as it stands, within the deviation of what is drawn; what has no distance, equal. */
const checkBound = (accepted: readonly Sample[], given: readonly Given[], contract: Contract) => {
  const have = standing(given)
  for (const point of standing(accepted)) {
    const value = drawn(have, point.timeUs, contract.interpolation)
    const text = `${String(point.value)} at ${point.timeUs - startUs}, drawn ${String(value)}`
    const exact = !numeric(point) || !Number.isFinite(Number(point.value))
    if (exact || typeof value === 'boolean' || typeof value === 'string') {
      assert.ok(Object.is(value, point.value), text)
    } else {
      const error = Math.abs(Number(value) - Number(point.value))
      assert.ok(error <= contract.deviation, `${text}: ${error} > ${contract.deviation}`)
    }
  }
}
const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 })

for (const [name, reduce] of Object.entries(bounded)) {
  const contract = contractOf(classOf(reduce)) as Contract
  test(`${name}: nothing left out lies further off the drawn line than the deviation`, () => {
    fc.assert(
      fc.property(signal(0), sizes, (points, cuts) => {
        const turns = cut(points, cuts, (at) => (at % 3 === 2 ? [{ kind: 'restart' }] : []))
        const { given, stage } = drive(creator(reduce), [one], [...turns, ...flush])
        const [totals] = (stage as RulesStage).totals()
        // Too far back for the knots remembered: counted, and beyond the promise.
        fc.pre(totals?.lateUnmended === 0)
        checkBound(points, given, contract)
      }),
      { numRuns: runs },
    )
  })
}
