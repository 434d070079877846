/**
 * A ceiling on bytes per second, shared by all pumps of one destination.
 *
 * Invariants: over any span no more than rate × (span + 1 ms) plus one request passes, whoever sends it; who waits goes
 * by priority first, then by share (start-time fair queueing), so a pump that is alone has the whole rate and none
 * starves behind another of its priority; a wait ends with its signal and leaves nothing behind.
 */
import type { Clock } from '../host.ts'

export interface Wish {
  /** Whose share it is: one name a lane and pump. */
  readonly pump: string
  readonly bytes: number
  /** Weight beside the others that wait, above 0. */
  readonly share: number
  /** 0 goes first. */
  readonly priority: number
}
export interface Bandwidth {
  /** Resolves when the bytes may go out, or when `signal` fires. */
  readonly take: (wish: Wish, signal: AbortSignal) => Promise<void>
}
interface Waiter {
  readonly wish: Wish
  /** Virtual time at which it would begin, had every pump a link of its share. */
  readonly start: number
  readonly go: () => void
}

/** No timer is finer: a smaller debt, such as rounding leaves over, would be waited for again and again. */
const timerMs = 1

const before = (a: Waiter, b: Waiter): boolean =>
  a.wish.priority !== b.wish.priority ? a.wish.priority < b.wish.priority : a.start < b.start

export const createBandwidth = (
  clock: Pick<Clock, 'monotonicMs' | 'after'>,
  bytesPerSecond: number | undefined,
): Bandwidth => {
  let freeAtMs = Number.NEGATIVE_INFINITY
  /** Virtual time: start of what went last. */
  let virtual = 0
  const ends = new Map<string, number>()
  let waiters: Waiter[] = []
  let cancel: (() => void) | undefined

  const dispatch = (rate: number): void => {
    cancel?.()
    cancel = undefined
    const [first, ...others] = waiters
    if (first === undefined) return
    const nowMs = clock.monotonicMs()
    const debtMs = freeAtMs - nowMs
    if (debtMs >= timerMs) {
      cancel = clock.after(debtMs, () => dispatch(rate))
      return
    }
    const next = others.reduce((best, one) => (before(one, best) ? one : best), first)
    waiters = waiters.filter((one) => one !== next)
    virtual = next.start
    freeAtMs = Math.max(nowMs, freeAtMs) + (next.wish.bytes / rate) * 1000
    next.go()
    dispatch(rate)
  }
  return {
    take: (wish, signal) =>
      new Promise((resolve) => {
        if (bytesPerSecond === undefined || signal.aborted) return resolve()
        const start = Math.max(virtual, ends.get(wish.pump) ?? 0)
        const done = () => {
          signal.removeEventListener('abort', giveUp)
          resolve()
        }
        const waiter: Waiter = { wish, start, go: done }
        const giveUp = () => {
          waiters = waiters.filter((one) => one !== waiter)
          ends.set(wish.pump, start)
          done()
          dispatch(bytesPerSecond)
        }
        ends.set(wish.pump, start + wish.bytes / wish.share)
        signal.addEventListener('abort', giveUp, { once: true })
        waiters.push(waiter)
        dispatch(bytesPerSecond)
      }),
  }
}
