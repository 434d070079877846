/** The ceiling on a link: whatever pumps ask for, it holds, is used in full, and is shared as they say. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createBandwidth, type Wish } from '../../../src/forward/bandwidth.ts'
import { createTestClock } from '../spool/support.ts'

const rate = 1_000
interface Pass extends Wish {
  readonly atMs: number
}
type Pump = Omit<Wish, 'bytes'> & {
  readonly sizes: readonly number[]
  readonly fromMs: number
  /** Before each request: an answer that is waited for. */
  readonly pauseMs?: number
}
const run = async (pumps: readonly Pump[], ms: number) => {
  const clock = createTestClock()
  const beganMs = clock.monotonicMs()
  const bandwidth = createBandwidth({ clock, bytesPerSecond: rate })
  const stop = new AbortController()
  const passes: Pass[] = []
  const ended = pumps.map(async ({ sizes, fromMs, pauseMs = 0, ...wish }) => {
    await clock.sleep(fromMs, stop.signal)
    for (const bytes of sizes) {
      if (pauseMs > 0) await clock.sleep(pauseMs, stop.signal)
      await bandwidth.take({ ...wish, bytes }, stop.signal)
      if (stop.signal.aborted) return
      passes.push({ ...wish, bytes, atMs: clock.monotonicMs() - beganMs })
    }
  })
  await clock.pass(ms)
  stop.abort()
  await Promise.all(ended)
  return { passes, clock, bandwidth }
}
const bytesOf = (passes: readonly Pass[], pump?: string) =>
  passes.reduce((sum, one) => sum + (pump === undefined || one.pump === pump ? one.bytes : 0), 0)
const many = (bytes: number) => Array.from({ length: 1_000 }, () => bytes)

test('over any span no more than rate × (span + 1 ms) plus one request passes, and a link that is asked for is used', async () => {
  const pump = fc.record({
    pump: fc.constantFrom('raw/live', 'raw/backlog', 'alarms/live', 'raw/replay'),
    sizes: fc.array(fc.integer({ min: 1, max: 3_000 }), { minLength: 1, maxLength: 20 }),
    share: fc.double({ min: 0.01, max: 1, noNaN: true }),
    priority: fc.integer({ min: 0, max: 9 }),
    fromMs: fc.integer({ min: 0, max: 4_000 }),
    pauseMs: fc.integer({ min: 0, max: 2_000 }),
  })
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(pump, { minLength: 1, selector: (one) => one.pump }),
      async (pumps) => {
        const { passes, clock } = await run(pumps, 600_000)
        assert.equal(
          passes.length,
          pumps.reduce((sum, { sizes }) => sum + sizes.length, 0),
        )
        for (let from = 0; from < passes.length; from++) {
          let bytes = 0
          for (const { atMs, bytes: more } of passes.slice(from)) {
            const spanMs = atMs - (passes[from] as Pass).atMs
            assert.ok(
              bytes <= (rate * (spanMs + 1)) / 1000 + 1e-6,
              `${bytes} bytes before ${spanMs} ms`,
            )
            bytes += more
          }
        }
        assert.equal(clock.timers(), 0)
      },
    ),
    { numRuns: 100 },
  )
})

test('a pump that is alone has the whole rate, whatever its share', async () => {
  const { passes } = await run(
    [{ pump: 'raw/backlog', sizes: many(100), share: 0.1, priority: 5, fromMs: 0 }],
    10_000,
  )
  assert.ok(Math.abs(bytesOf(passes) - 10 * rate) <= 100, `${bytesOf(passes)}`)
})

test('pumps that want more than there is have their shares of it, also one that comes late', async () => {
  const { passes } = await run(
    [
      { pump: 'raw/live', sizes: many(100), share: 0.8, priority: 5, fromMs: 0 },
      { pump: 'raw/backlog', sizes: many(400), share: 0.2, priority: 5, fromMs: 20_000 },
    ],
    120_000,
  )
  const both = passes.filter(({ atMs }) => atMs >= 20_000)
  const share = bytesOf(both, 'raw/live') / bytesOf(both)
  assert.ok(share > 0.78 && share < 0.82, `${share}`)
})

test('a higher priority goes first: it waits for the one request that is out, no longer', async () => {
  const { passes } = await run(
    [
      { pump: 'raw/live', sizes: many(500), share: 1, priority: 5, fromMs: 0 },
      { pump: 'raw/backlog', sizes: many(500), share: 1, priority: 5, fromMs: 0 },
      { pump: 'alarms/live', sizes: [100, 100, 100], share: 0.01, priority: 0, fromMs: 5_050 },
    ],
    20_000,
  )
  const first = passes.findIndex(({ pump }) => pump === 'alarms/live')
  assert.deepEqual(
    passes.slice(first, first + 3).map(({ pump }) => pump),
    ['alarms/live', 'alarms/live', 'alarms/live'],
  )
  assert.ok((passes[first] as Pass).atMs <= 5_500)
})

test('who gives up leaves nothing behind, and the next one has its turn', async () => {
  const clock = createTestClock()
  const bandwidth = createBandwidth({ clock, bytesPerSecond: rate })
  const [gone, stays] = [new AbortController(), new AbortController()]
  const wish = { share: 1, priority: 5, bytes: 1_000 }
  const order: string[] = []
  const take = (pump: string, signal: AbortSignal) =>
    bandwidth.take({ ...wish, pump }, signal).then(() => {
      if (!signal.aborted) order.push(pump)
    })
  const all = [take('a', stays.signal), take('b', gone.signal), take('c', stays.signal)]
  gone.abort()
  await clock.pass(1_000)
  assert.deepEqual(order, ['a', 'c'])
  await Promise.all(all)
  await clock.pass(1_000)
  assert.equal(clock.timers(), 0)
})

test('a debt that rounding leaves over is not waited for', async () => {
  // A clock of whole milliseconds, whose timers come as early as that allows.
  let nowMs = 1e6
  let turns = 0
  const clock = {
    monotonicMs: () => Math.floor(nowMs),
    after: (ms: number, work: () => void) => {
      if (++turns > 1_000) throw new Error('it spins')
      nowMs += Math.floor(ms)
      queueMicrotask(work)
      return () => {}
    },
  }
  const bandwidth = createBandwidth({ clock, bytesPerSecond: 777 })
  const never = new AbortController().signal
  for (let at = 0; at < 100; at++)
    await bandwidth.take({ pump: 'raw/live', bytes: 331, share: 1, priority: 5 }, never)
  assert.ok(nowMs - 1e6 > (99 * 331_000) / 777 - 2)
})

/** One pump whose requests come to `wireOf` bytes on the wire; each is answered `answerMs` after it went out. */
const onTheWire = async (options: {
  readonly sizes: readonly number[]
  readonly wireOf: (bytes: number, nth: number) => number
  readonly pumps: number
  readonly answerMs: number
  readonly guess?: number
}) => {
  const { sizes, wireOf, answerMs } = options
  const clock = createTestClock()
  const beganMs = clock.monotonicMs()
  let sent = 0
  const bandwidth = createBandwidth({
    ...{ clock, bytesPerSecond: rate, bytesSent: () => sent },
    wireBytesPerByte: options.guess,
  })
  const stop = new AbortController()
  const out: { readonly atMs: number; readonly bytes: number }[] = []
  let nth = 0
  const pumps = Array.from({ length: options.pumps }, async (_, at) => {
    while (nth < sizes.length && !stop.signal.aborted) {
      const bytes = sizes[nth++] as number
      const mine = nth
      const wish = { pump: `raw/${at}`, bytes, share: 1, priority: 5 }
      const done = await bandwidth.take(wish, stop.signal)
      if (stop.signal.aborted) return done()
      const wire = wireOf(bytes, mine)
      sent += wire
      out.push({ atMs: clock.monotonicMs() - beganMs, bytes: wire })
      await clock.sleep(answerMs, stop.signal)
      done()
    }
  })
  await clock.pass(10_000_000)
  stop.abort()
  await Promise.all(pumps)
  return { out, clock, bandwidth }
}
/** Most of what went out beyond rate × span, in any span that begins with a request. */
const excessOf = (out: readonly { readonly atMs: number; readonly bytes: number }[]): number => {
  let most = Number.NEGATIVE_INFINITY
  for (let from = 0; from < out.length; from++) {
    let bytes = 0
    for (const one of out.slice(from)) {
      bytes += one.bytes
      const spanMs = one.atMs - (out[from]?.atMs ?? 0)
      most = Math.max(most, bytes - (rate * (spanMs + 1)) / 1000)
    }
  }
  return most
}

test('the ceiling is one of bytes on the wire, whatever a request comes to there: within one request', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 3_000 }), { minLength: 1, maxLength: 40 }),
      fc.double({ min: 0.1, max: 60, noNaN: true }),
      fc.double({ min: 0.5, max: 60, noNaN: true }),
      fc.integer({ min: 0, max: 3_000 }),
      async (sizes, ratio, guess, answerMs) => {
        const wireOf = (bytes: number, nth: number) => bytes * ratio * (nth % 3 === 0 ? 2 : 1)
        const given = { sizes, wireOf, pumps: 1, answerMs, guess }
        const { out, clock } = await onTheWire(given)
        assert.equal(out.length, sizes.length)
        const largest = Math.max(...out.map(({ bytes }) => bytes))
        assert.ok(excessOf(out) <= largest + 1, `${excessOf(out)} beside ${largest}`)
        assert.equal(clock.timers(), 0)
      },
    ),
    { numRuns: 100 },
  )
})

test('what went out beyond what was expected is waited for; what did not go out is not', async () => {
  for (const ratio of [0.1, 1, 5, 50]) {
    const sizes = Array.from({ length: 60 }, () => 1_000)
    const wireOf = (bytes: number) => bytes * ratio
    const { out, bandwidth } = await onTheWire({ sizes, wireOf, pumps: 3, answerMs: 100 })
    const all = out.reduce((sum, { bytes }) => sum + bytes, 0)
    const seconds = ((out.at(-1)?.atMs ?? 0) - (out[0]?.atMs ?? 0)) / 1000
    const used = (all - 1_000 * ratio) / (rate * seconds)
    assert.ok(used > 0.8 && used <= 1.1, `${used} of the link at ${ratio}`)
    assert.ok(Math.abs((bandwidth.secondsOf(1_000) ?? 0) - ratio) < 0.5 * ratio + 1)
  }
})

test('a request that never went out costs nothing, and greetings are on the account too', async () => {
  const clock = createTestClock()
  let sent = 0
  const bandwidth = createBandwidth({ clock, bytesPerSecond: rate, bytesSent: () => sent })
  const never = new AbortController().signal
  const wish = { pump: 'raw/live', bytes: 50_000, share: 1, priority: 5 }
  const takenWithin = async (ms: number, bytes: number): Promise<() => void> => {
    let done: (() => void) | undefined
    void bandwidth.take({ ...wish, bytes }, never).then((one) => {
      done = one
    })
    await clock.pass(ms)
    assert.ok(done !== undefined, `${bytes} bytes are not let out in ${ms} ms`)
    return done
  }
  const neverSent = await takenWithin(0, 50_000)
  neverSent()
  const done = await takenWithin(10, 10)
  sent += 10
  done()
  sent += 2 * rate
  await assert.rejects(takenWithin(1_900, 10))
  await clock.pass(200)
  await takenWithin(100, 10)
  assert.equal(clock.timers(), 0)
})
