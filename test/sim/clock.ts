/**
 * Virtual time: an event heap, a monotonic clock and a wall clock of its own that may jump.
 * Invariants: time moves only between events, to the time of the next one; events of one moment run in the order they
 * were asked for; between two events everything that can go on without time passing has gone on.
 */
import { setImmediate as breathe } from 'node:timers/promises'
import type { Clock } from '../../src/host.ts'

interface Event {
  readonly atMs: number
  readonly order: number
  work: (() => void) | null
}

export interface VirtualTime {
  readonly nowMs: () => number
  readonly at: (ms: number, work: () => void) => () => void
  /** Runs events until `done`, the heap is empty or `untilMs` is reached; true when `done`. */
  readonly run: (done: () => boolean, untilMs: number) => Promise<boolean>
  readonly events: () => number
}

/** How the verdict begins on a world that goes round and round. */
export const standsStill = 'stands still'
/** A seed takes some thousands. */
const eventsMax = 1_000_000

export const createVirtualTime = (): VirtualTime => {
  const heap: Event[] = []
  let nowMs = 0
  let order = 0
  let events = 0
  const before = (a: Event, b: Event) => a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)

  const push = (event: Event) => {
    heap.push(event)
    let at = heap.length - 1
    while (at > 0) {
      const up = (at - 1) >> 1
      const [child, parent] = [heap[at] as Event, heap[up] as Event]
      if (before(parent, child)) break
      heap[at] = parent
      heap[up] = child
      at = up
    }
  }
  const pop = (): Event | undefined => {
    const top = heap[0]
    const last = heap.pop()
    if (heap.length === 0 || last === undefined) return top
    heap[0] = last
    for (let at = 0; ; ) {
      const left = at * 2 + 1
      const right = left + 1
      let least = at
      if (left < heap.length && before(heap[left] as Event, heap[least] as Event)) least = left
      if (right < heap.length && before(heap[right] as Event, heap[least] as Event)) least = right
      if (least === at) return top
      const moved = heap[at] as Event
      heap[at] = heap[least] as Event
      heap[least] = moved
      at = least
    }
  }
  return {
    nowMs: () => nowMs,
    at: (ms, work) => {
      const event: Event = { atMs: nowMs + Math.max(0, ms), order: order++, work }
      push(event)
      return () => {
        event.work = null
      }
    },
    run: async (done, untilMs) => {
      for (;;) {
        // All promise work is microtasks here, so one turn of the loop lets everything settle.
        await breathe()
        if (done()) return true
        let event = pop()
        while (event !== undefined && event.work === null) event = pop()
        if (event === undefined) return done()
        if (event.atMs > untilMs) {
          push(event)
          nowMs = untilMs
          return false
        }
        nowMs = event.atMs
        if (++events > eventsMax) throw new Error(`${standsStill}: ${events} events in ${nowMs} ms`)
        event.work?.()
      }
    },
    events: () => events,
  }
}

/**
 * A machine's clocks over virtual time. `boot` begins a new monotonic time; a process that died passes a `alive` that has
 * become false: its timers never fire and its sleeps never return.
 */
export const createVirtualClock = (
  time: VirtualTime,
  wall: { offsetUs: number },
  bootMs: number,
  alive: () => boolean,
): Clock => ({
  nowUs: () => Math.floor(time.nowMs() * 1000) + wall.offsetUs,
  monotonicMs: () => time.nowMs() - bootMs,
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted) return resolve()
      const done = () => {
        cancel()
        signal?.removeEventListener('abort', done)
        resolve()
      }
      const cancel = time.at(ms, () => {
        if (alive()) done()
      })
      signal?.addEventListener('abort', done, { once: true })
    }),
  after: (ms, work) =>
    time.at(ms, () => {
      if (alive()) work()
    }),
})
