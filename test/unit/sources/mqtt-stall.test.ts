import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createStallWatch } from '../../../src/sources/mqtt-stall.ts'

const setUp = () => {
  const clock = { ms: 0 }
  const watch = createStallWatch(() => clock.ms)
  const pass = (ms: number) => {
    clock.ms += ms
  }
  return { watch, pass }
}

test('messages right behind the acks that ended a silence: that many are the window', () => {
  const { watch, pass } = setUp()
  watch.arrived()
  assert.equal(watch.stalled(20), false)
  pass(100)
  const answered = watch.acking(20)
  watch.arrived()
  answered()
  assert.deepEqual([watch.stalled(19), watch.stalled(20)], [false, true])
})

test('bursts in a rhythm of their own are no stall', () => {
  const { watch, pass } = setUp()
  for (let burst = 0; burst < 10; burst++) {
    watch.arrived()
    pass(5)
    const answered = watch.acking(20)
    pass(1)
    answered()
    pass(4)
    assert.equal(watch.stalled(20), false)
  }
})

test('a steady flow says nothing; a window once believed is dropped when silence follows the acks', () => {
  const { watch, pass } = setUp()
  watch.arrived()
  pass(1)
  const steady = watch.acking(50)
  watch.arrived()
  steady()
  assert.equal(watch.window(), Number.POSITIVE_INFINITY)
  pass(10)
  const mistaken = watch.acking(30)
  watch.arrived()
  mistaken()
  assert.equal(watch.window(), 30)
  pass(10)
  watch.acking(29)()
  assert.equal(watch.window(), 30)
  watch.acking(30)()
  assert.equal(watch.window(), Number.POSITIVE_INFINITY)
})
