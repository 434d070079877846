import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLog } from '../../../src/host.ts'
import { createAgentClock } from '../../../src/pipeline/clock.ts'
import { releasedAtUs } from '../../../src/release.ts'

const dayUs = 86_400_000_000
const createHand = (wallUs: number) => {
  const hand = { wallUs, monotonicMs: 1_000 }
  const clock = {
    nowUs: () => hand.wallUs,
    monotonicMs: () => hand.monotonicMs,
    sleep: async () => {},
    after: () => () => {},
  }
  return { hand, host: { clock, bootId: 'b'.repeat(32), log: silentLog } }
}

test('a clock at 1970 is not trusted until it is set', () => {
  const { hand, host } = createHand(10_000_000)
  const clock = createAgentClock(host, { floorUs: releasedAtUs, savedUs: 0 })
  assert.equal(clock.reading().trusted, false)
  hand.wallUs = releasedAtUs + dayUs
  assert.equal(clock.reading().trusted, true)
})

test('a step away from what the far side confirmed is not trusted, and is again when it is undone', () => {
  const { hand, host } = createHand(releasedAtUs + dayUs)
  const clock = createAgentClock(host, { floorUs: releasedAtUs, savedUs: 0 })
  clock.farTime(hand.wallUs + 2_000_000)
  hand.wallUs += dayUs
  assert.equal(clock.reading().trusted, false)
  hand.wallUs -= dayUs
  assert.equal(clock.reading().trusted, true)
})

test('a far side that never agreed proves nothing', () => {
  const { hand, host } = createHand(releasedAtUs + dayUs)
  const clock = createAgentClock(host, { floorUs: releasedAtUs, savedUs: 0 })
  clock.farTime(hand.wallUs - 3 * dayUs)
  assert.equal(clock.reading().trusted, true)
  assert.equal(clock.farOffsetUs(), -3 * dayUs)
})

test('monotonic time passes with the wall: slow drift is no step', () => {
  const { hand, host } = createHand(releasedAtUs + dayUs)
  const clock = createAgentClock(host, { floorUs: releasedAtUs, savedUs: 0 })
  clock.farTime(hand.wallUs)
  hand.wallUs += 10 * dayUs
  hand.monotonicMs += (10 * dayUs) / 1000 + 60_000
  assert.equal(clock.reading().trusted, true)
})

test('a saved time that lay ahead does not outweigh the agreement of the far side', () => {
  const { hand, host } = createHand(releasedAtUs + dayUs)
  const clock = createAgentClock(host, {
    floorUs: releasedAtUs,
    savedUs: releasedAtUs + 400 * dayUs,
  })
  assert.equal(clock.reading().trusted, false)
  clock.farTime(hand.wallUs)
  assert.equal(clock.reading().trusted, true)
})
