/** A far side with books, and a script of what goes wrong; the forwarder under test runs on virtual time. */
import { createForwarder, type ForwarderOptions } from '../../../src/forward/forwarder.ts'
import { type Host, silentLog, silentMeter } from '../../../src/host.ts'
import { relayBodyBytesDefault } from '../../../src/limits.ts'
import type { Destination, Outcome, SendBatch, Standing } from '../../../src/model.ts'
import { createVirtualClock, createVirtualTime } from '../../sim/clock.ts'
import { createMemorySpool } from './memory-spool.ts'

export interface Script {
  /** What to do instead of storing; undefined stores. `lost` stores and loses the answer. */
  send?: (batch: SendBatch, nth: number) => Outcome | 'lost' | undefined
  standing?: (nth: number) => Standing | undefined
  delayMs?: number
  /** Asked when a forwarder is built. */
  endpoint?: () => string
}

export const createTrial = (script: Script = {}, options: Partial<ForwarderOptions> = {}) => {
  const time = createVirtualTime()
  let seed = 1
  const random = () => {
    seed = (seed * 48_271) % 2_147_483_647
    return seed / 2_147_483_647
  }
  const host: Host = {
    clock: createVirtualClock(time, { offsetUs: 1.8e15 }, 0, () => true),
    random,
    randomBytes: (length) => new Uint8Array(length),
    bootId: 'boot',
    log: silentLog,
    meter: silentMeter,
  }
  const memory = createMemorySpool()
  let held = new Set<number>()
  const order: number[] = []
  const sends: { readonly atMs: number; readonly batch: SendBatch }[] = []
  let [standings, inFlight, inFlightMax] = [0, 0, 0]
  const contiguous = () => {
    let seq = 0
    while (held.has(seq + 1)) seq++
    return seq
  }
  const store = (batch: SendBatch) => {
    for (const item of batch.items) {
      const last = item.type === 'segment' ? item.seq : item.seqLast
      for (let seq = item.seq; seq <= last; seq++) {
        held.add(seq)
        order.push(seq)
      }
    }
  }
  const destination: Destination = {
    name: 'far',
    type: 'trial',
    bodyBytesMax: relayBodyBytesDefault,
    standing: async () => {
      await host.clock.sleep(script.delayMs ?? 10)
      return (
        script.standing?.(++standings) ?? {
          kind: 'known',
          lanes: new Map([[1, { contiguous: contiguous(), above: [] }]]),
        }
      )
    },
    send: async (batch, signal) => {
      sends.push({ atMs: time.nowMs(), batch })
      inFlightMax = Math.max(inFlightMax, ++inFlight)
      const planned = script.send?.(batch, sends.length)
      await host.clock.sleep(script.delayMs ?? 10, signal)
      inFlight--
      if (signal.aborted) return { kind: 'later', text: 'aborted' }
      if (planned !== undefined && planned !== 'lost') return planned
      if (!batch.replay && contiguous() < batch.ackedThrough)
        return { kind: 'rewind', after: contiguous() }
      store(batch)
      return planned === 'lost'
        ? { kind: 'later', text: 'answer lost' }
        : { kind: 'stored', rejected: [] }
    },
    [Symbol.asyncDispose]: async () => {},
  }
  let stop = new AbortController()
  const build = () =>
    createForwarder({
      spool: memory.spool,
      destination: { ...destination, endpoint: script.endpoint?.() ?? 'https://far' },
      lanes: [{ lane: 'raw', priority: 5 }],
      options: {
        from: 'oldest',
        requestsInFlight: 4,
        bodyBytesMax: 250,
        liveShare: 0.5,
        ...options,
      },
      host,
    })
  const forwarder = build()
  let ended: { error?: unknown } | undefined
  return {
    ...memory,
    time,
    host,
    forwarder,
    build,
    sends,
    order,
    held: () => held,
    forget: (after: number) => {
      held = new Set([...held].filter((seq) => seq <= after))
    },
    inFlight: () => inFlight,
    inFlightMax: () => inFlightMax,
    start: (one = forwarder) => {
      ended = undefined
      one.run(stop.signal).then(
        () => {
          ended = {}
        },
        (error: unknown) => {
          ended = { error }
        },
      )
    },
    /** Runs until `done`, at most `ms` of virtual time; a forwarder that failed fails the test. */
    until: async (done: () => boolean, ms = 600_000) => {
      const good = await time.run(() => done() || ended?.error !== undefined, time.nowMs() + ms)
      if (ended?.error !== undefined) throw ended.error
      return good
    },
    stop: async () => {
      stop.abort()
      stop = new AbortController()
      return await time.run(() => ended !== undefined, time.nowMs() + 60_000)
    },
    drained: () => memory.cursor('far').backlog,
  }
}
