import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createBatchBuilder, pointsOf, valueAt } from '../../../src/batch.ts'
import { because, type ClockReading, quality } from '../../../src/model.ts'
import {
  createArrivalStamps,
  flagAhead,
  flagNotANumber,
  isAhead,
} from '../../../src/pipeline/quality.ts'

const untimed = Number.NaN

test('NaN and both infinities are bad, whatever their bits; nothing else is', () => {
  const builder = createBatchBuilder()
  const add = (pattern: bigint, quality = 0) => {
    builder.addFloat(0, 1, 0, quality)
    return pattern
  }
  const patterns = [
    ...[0x7ff8_0000_0000_0000n, 0x7ff0_0000_0000_0001n, 0xfff8_dead_beef_0001n],
    ...[0x7ff0_0000_0000_0000n, 0xfff0_0000_0000_0000n],
  ].map((pattern) => add(pattern))
  const fine = [0n, 1n << 63n, 0x7fef_ffff_ffff_ffffn, 1n].map((pattern) => add(pattern))
  const batch = builder.take()
  batch.bits.set([...patterns, ...fine])
  const before = batch.bits.slice()
  flagNotANumber(batch)
  const bad = quality.bad | because.notANumber
  assert.deepEqual([...batch.qualities], [bad, bad, bad, bad, bad, 0, 0, 0, 0])
  assert.deepEqual(batch.bits, before)
})

test('an int or a text with the bits of a NaN is left alone; a reason already given stands', () => {
  const builder = createBatchBuilder()
  builder.addInt(0, 1, 0x7ff8_0000_0000_0000n, quality.good)
  builder.addFloat(0, 1, Number.NaN, quality.bad | because.sensorFailure)
  builder.addFloat(0, 1, Number.NaN, quality.uncertain | because.stale)
  const batch = builder.take()
  flagNotANumber(batch)
  assert.deepEqual(
    [...batch.qualities],
    [quality.good, quality.bad | because.sensorFailure, quality.bad | because.notANumber],
  )
})

test('arrival times increase strictly per series while the clock jumps at will', () => {
  const steps = fc.array(fc.tuple(fc.integer({ min: -50, max: 50 }), fc.boolean()), {
    minLength: 1,
    maxLength: 40,
  })
  fc.assert(
    fc.property(steps, fc.array(fc.nat(300), { minLength: 1, maxLength: 20 }), (clock, refs) => {
      let reading: ClockReading = { nowUs: 0, bootId: 'b', monotonicUs: 0, trusted: true }
      const stamps = createArrivalStamps(() => reading)
      const latest = new Map<string, number>()
      for (const [step, trusted] of clock) {
        const nowUs = Math.max(0, reading.nowUs + step)
        reading = { ...reading, nowUs, monotonicUs: reading.monotonicUs + 1, trusted }
        const builder = createBatchBuilder()
        for (const ref of refs) builder.addFloat(ref, untimed, 1, 0)
        const [part, ...rest] = stamps.stamp(builder.take())
        assert.equal(rest.length, 0)
        assert.equal(part?.timeBase, trusted ? 'wall' : 'monotonic')
        for (const { series, timeUs } of pointsOf(part?.points as never, BigInt)) {
          const key = `${part?.timeBase} ${series}`
          assert.ok(timeUs > (latest.get(key) ?? -1))
          assert.ok(timeUs >= (trusted ? reading.nowUs : reading.monotonicUs))
          latest.set(key, timeUs)
        }
      }
    }),
  )
})

test('own times are never touched; only points without one wait for a trusted clock', () => {
  const stamps = createArrivalStamps(() => ({
    ...{ nowUs: 9_000, bootId: 'b', monotonicUs: 70, trusted: false },
  }))
  const builder = createBatchBuilder()
  builder.addFloat(1, 5, 1.5, 0)
  builder.addText(2, untimed, 'two', quality.uncertain)
  builder.addText(1, 6, 'one', 0)
  builder.addInt(2, untimed, -3n, 0)
  const parts = stamps.stamp(builder.take())
  const shown = parts.map(({ points, timeBase }) => [
    timeBase,
    [...pointsOf(points, BigInt)].map(({ series, timeUs, quality: rated }, at) => [
      ...[Number(series), timeUs, valueAt(points, at), rated],
    ]),
  ])
  assert.deepEqual(shown, [
    [
      'wall',
      [
        [1, 5, 1.5, 0],
        [1, 6, 'one', 0],
      ],
    ],
    [
      'monotonic',
      [
        [2, 70, 'two', quality.uncertain],
        [2, 71, -3n, 0],
      ],
    ],
  ])
})

test('a time beyond the limit is uncertain at best and says so; at the limit and without a time nothing changes', () => {
  const builder = createBatchBuilder()
  const given = [0, 0, quality.bad | because.sensorFailure, quality.uncertain | because.stale, 0]
  const times = [100, 101, 102, 1e15, untimed]
  times.forEach((timeUs, at) => {
    builder.addFloat(0, timeUs, 1, given[at] as number)
  })
  const batch = builder.take()
  assert.equal(flagAhead(batch, 100), 3)
  const ahead = quality.uncertain | because.ahead
  assert.deepEqual([...batch.qualities], [0, ahead, quality.bad | because.ahead, ahead, 0])
  assert.deepEqual([...batch.timeUs], times, 'the time itself stands')
  assert.deepEqual([...batch.qualities].map(isAhead), [false, true, true, true, false])
})
