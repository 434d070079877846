import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLog } from '../../src/host.ts'
import { supervise } from '../../src/supervise.ts'

const host = () => {
  let nowMs = 0
  return {
    random: () => 0.5,
    log: silentLog,
    clock: {
      nowUs: () => nowMs * 1000,
      monotonicMs: () => nowMs,
      sleep: async (ms: number) => {
        nowMs += ms
        await new Promise((resolve) => setImmediate(resolve))
      },
      after: () => () => {},
    },
  }
}
const untilAborted = (signal: AbortSignal) =>
  new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))

test('a failing service is started again, others run on', async () => {
  const stop = new AbortController()
  let starts = 0
  const flaky = {
    name: 'flaky',
    run: async (signal: AbortSignal) => {
      if (++starts < 4) throw new Error('no')
      stop.abort()
      await untilAborted(signal)
    },
  }
  let steadyStarts = 0
  const steady = {
    name: 'steady',
    run: (signal: AbortSignal) => {
      steadyStarts++
      return untilAborted(signal)
    },
  }
  await supervise(host(), [[flaky, steady]], stop.signal)
  assert.equal(starts, 4)
  assert.equal(steadyStarts, 1)
})

test('groups stop in flow order, each after the one before has ended', async () => {
  const stop = new AbortController()
  const order: string[] = []
  const service = (name: string) => ({
    name,
    run: async (signal: AbortSignal) => {
      await untilAborted(signal)
      order.push(`${name} told`)
      await new Promise((resolve) => setImmediate(resolve))
      order.push(`${name} ended`)
    },
  })
  const slow = host()
  slow.clock.sleep = () => new Promise<undefined>(() => {})
  const done = supervise(slow, [[service('source')], [service('forwarder')]], stop.signal)
  stop.abort()
  await done
  assert.deepEqual(order, ['source told', 'source ended', 'forwarder told', 'forwarder ended'])
})
