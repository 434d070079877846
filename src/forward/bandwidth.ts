/**
 * A ceiling on bytes per second, shared by all pumps of one destination. Before a request goes out it is known by its
 * bytes of the spool alone; what it comes to on the wire (lines, rows, headers) is expected from those before it, and
 * charged as it goes out.
 *
 * Invariants: over any span no more than rate × (span + 1 ms) plus one request passes, whoever sends it: what a request
 * was beyond what was expected of it is waited for before the next; who waits goes by priority first, then by share
 * (start-time fair queueing), so a pump that is alone has the whole rate and none starves behind another of its
 * priority; a wait ends with its signal and leaves nothing behind.
 */
import type { Clock } from '../host.ts'

export interface Wish {
  /** Whose share it is: one name a lane and pump. */
  readonly pump: string
  /** Of the spool. */
  readonly bytes: number
  /** Weight beside the others that wait, above 0. */
  readonly share: number
  /** 0 goes first. */
  readonly priority: number
}
export interface Bandwidth {
  /** Resolves when the bytes may go out, or when `signal` fires; to be called once the request is over. */
  readonly take: (wish: Wish, signal: AbortSignal) => Promise<() => void>
  /** Bytes of the spool that hold a thin link no longer than a request may. */
  readonly bodyBytesMax: () => number
  /** How long so many bytes of the spool take; null without a ceiling. */
  readonly secondsOf: (bytes: number) => number | null
}
export interface BandwidthParts {
  readonly clock: Pick<Clock, 'monotonicMs' | 'after'>
  readonly bytesPerSecond: number | undefined
  /** Bytes that went out so far; without it the spool's bytes are what goes out. */
  readonly bytesSent?: (() => number) | undefined
  /** Of a byte of the spool, until some were sent. */
  readonly wireBytesPerByte?: number | undefined
}
interface Waiter {
  readonly wish: Wish
  /** Virtual time at which it would begin, had every pump a link of its share. */
  readonly start: number
  readonly go: (done: () => void) => void
}
/** A request that is out. */
interface Grant {
  readonly bytes: number
  /** Charged for it, and not sent yet. */
  left: number
  used: boolean
}

/** No timer is finer: a smaller debt, such as rounding leaves over, would be waited for again and again. */
const timerMs = 1
/** One request holds a thin link no longer than this: what is more urgent waits behind it. */
const requestSecondsMax = 2
const thinBodyBytesMin = 16 * 1024
/** What is expected of a request is learned from about so many bytes of the spool. */
const learnBytes = 256 * 1024
const nothing = () => {}

const before = (a: Waiter, b: Waiter): boolean =>
  a.wish.priority !== b.wish.priority ? a.wish.priority < b.wish.priority : a.start < b.start

/** What a byte of the spool comes to on the wire. */
const createRatio = (guess: number) => {
  let [spool, wire] = [learnBytes / 16, (learnBytes / 16) * guess]
  return {
    now: () => wire / spool,
    sent: (bytes: number) => {
      wire += bytes
    },
    ended: (bytes: number) => {
      spool += bytes
      if (spool > learnBytes) [spool, wire] = [spool / 2, wire / 2]
    },
  }
}
/** Bytes that went out since it was asked last, on the account of those requests that are out. */
const createAccount = (bytesSent: () => number, ratio: ReturnType<typeof createRatio>) => {
  const grants = new Set<Grant>()
  let seen = bytesSent()
  return {
    grants,
    /** What nobody was charged for yet. */
    look: (): number => {
      const now = bytesSent()
      let more = now - seen
      seen = now
      // Greetings in between say nothing of requests.
      if (grants.size > 0) ratio.sent(more)
      for (const grant of grants) {
        const part = Math.min(grant.left, more)
        grant.used ||= part > 0
        grant.left -= part
        more -= part
      }
      return more
    },
  }
}

export const createBandwidth = (parts: BandwidthParts): Bandwidth => {
  const { clock, bytesPerSecond: rate, bytesSent, wireBytesPerByte = 1 } = parts
  const free = { take: async () => nothing, bodyBytesMax: () => Number.POSITIVE_INFINITY }
  if (rate === undefined) return { ...free, secondsOf: () => null }
  const ratio = createRatio(bytesSent === undefined ? 1 : wireBytesPerByte)
  const account = bytesSent === undefined ? undefined : createAccount(bytesSent, ratio)
  let freeAtMs = Number.NEGATIVE_INFINITY
  /** Virtual time: start of what went last. */
  let virtual = 0
  const ends = new Map<string, number>()
  let waiters: Waiter[] = []
  let cancel: (() => void) | undefined

  const charge = (bytes: number) => {
    if (bytes > 0) freeAtMs = Math.max(clock.monotonicMs(), freeAtMs) + (bytes / rate) * 1000
  }
  /** What nobody was charged for yet is a debt. */
  const settle = () => charge(account?.look() ?? 0)
  const grantOf = ({ bytes }: Wish): (() => void) => {
    const left = bytes * ratio.now()
    charge(left)
    if (account === undefined) return nothing
    const grant: Grant = { bytes, left, used: false }
    account.grants.add(grant)
    return () => {
      if (!account.grants.has(grant)) return
      settle()
      account.grants.delete(grant)
      if (grant.used) ratio.ended(grant.bytes)
      freeAtMs -= (grant.left / rate) * 1000
      dispatch()
    }
  }
  const dispatch = (): void => {
    cancel?.()
    cancel = undefined
    settle()
    const [first, ...others] = waiters
    if (first === undefined) return
    const debtMs = freeAtMs - clock.monotonicMs()
    if (debtMs >= timerMs) {
      cancel = clock.after(debtMs, dispatch)
      return
    }
    const next = others.reduce((best, one) => (before(one, best) ? one : best), first)
    waiters = waiters.filter((one) => one !== next)
    virtual = next.start
    next.go(grantOf(next.wish))
    dispatch()
  }
  return {
    take: (wish, signal) =>
      new Promise((resolve) => {
        if (signal.aborted) return resolve(nothing)
        const start = Math.max(virtual, ends.get(wish.pump) ?? 0)
        const go = (done: () => void) => {
          signal.removeEventListener('abort', giveUp)
          resolve(done)
        }
        const waiter: Waiter = { wish, start, go }
        const giveUp = () => {
          waiters = waiters.filter((one) => one !== waiter)
          ends.set(wish.pump, start)
          go(nothing)
          dispatch()
        }
        ends.set(wish.pump, start + wish.bytes / wish.share)
        signal.addEventListener('abort', giveUp, { once: true })
        waiters.push(waiter)
        dispatch()
      }),
    bodyBytesMax: () => Math.max(thinBodyBytesMin, rate * requestSecondsMax) / ratio.now(),
    secondsOf: (bytes) => (bytes * ratio.now()) / rate,
  }
}
