/** Which points of one millisecond are written, however often and in whatever order their segments are sent. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createBatchBuilder } from '../../../src/batch.ts'
import { createTimeKeeper, type TimeKeeper } from '../../../src/destinations/influx-times.ts'

const look = (keeper: TimeKeeper, seq: number, times: readonly number[], bad = Number.NaN) => {
  const builder = createBatchBuilder()
  for (const timeUs of times) builder.add(0, timeUs, 1, 0)
  const told: number[] = []
  const passed = keeper.look({
    ...{ epoch: 'a'.repeat(32), laneId: 1, seq, points: builder.take() },
    holds: (at) => times[at] !== bad,
    leaveOut: (_, at) => told.push(times[at] as number),
  })
  return { written: times.filter((_, at) => !passed.has(at)), told }
}
const open = () => createTimeKeeper(1_000, () => undefined)

test('of a millisecond the point accepted last is written, the others are told; a correction is none of them', () => {
  assert.deepEqual(look(open(), 1, [1, 5, 3, 1_000, 1_001, 1_001, 2_000]), {
    written: [3, 1_001, 2_000],
    told: [1, 5, 1_000],
  })
  // What could not be written takes nobody's place.
  assert.deepEqual(look(open(), 1, [1, 5], 5), { written: [1, 5], told: [] })
})
test('between segments the first that was sent stands, whichever is sent again', () => {
  const keeper = open()
  assert.deepEqual(look(keeper, 1, [10, 1_100]).told, [])
  for (const _ of ['sent', 'sent again']) {
    assert.deepEqual(look(keeper, 2, [1_200, 2_000, 3_100]).told, [1_200])
    assert.deepEqual(look(keeper, 1, [10, 1_100]).told, [])
    assert.deepEqual(look(keeper, 3, [3_200]).told, [3_200])
  }
  // In the midst of a segment it is not seen; and one that was written is not told as lost when it is sent again.
  const late = open()
  assert.deepEqual(look(late, 1, [10, 5_100, 9_000]).told, [])
  assert.deepEqual(look(late, 2, [5_200]).told, [])
  assert.deepEqual(look(late, 1, [10, 5_100, 9_000]).told, [])
  // The same microsecond: a correction.
  assert.deepEqual(look(keeper, 4, [1_100]).told, [])
})
test('a product of microseconds is not looked at, limits are', () => {
  const whole = createTimeKeeper(1, () => undefined)
  assert.deepEqual(look(whole, 1, [1, 2, -3]).told, [])
  const limited = createTimeKeeper(1_000, () => ({ fromUs: 5_000, toUs: 9_000 }))
  assert.deepEqual(look(limited, 1, [-1, 4_999, 5_000, 8_999, 9_000]).told, [-1, 4_999, 9_000])
})
test('every point is written, told, or replaced by one of its own microsecond, and no millisecond is written twice', () => {
  const times = fc.array(fc.integer({ min: 0, max: 20_000 }), { minLength: 1, maxLength: 40 })
  fc.assert(
    fc.property(times, (all) => {
      const { written, told } = look(open(), 1, all)
      const ms = written.map((one) => Math.floor(one / 1_000))
      assert.equal(new Set(ms).size, ms.length)
      for (const one of all) assert.ok(written.includes(one) || told.includes(one))
    }),
  )
})
