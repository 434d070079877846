/**
 * The circuit breaker of one destination: when it is tried, and how hard.
 *
 * - **closed**: it answers; as many requests as configured.
 * - **open**: it failed again and again, or only a person can help: nothing is sent until the wait is over.
 * - **half open**: the wait is over; it is asked where it stands, one request a lane goes out. A committed answer
 *   closes the breaker, a setback opens it again.
 *
 * Invariants: a wait is never longer than `retryAfterMsMax`; one setback alone opens nothing unless it needs a person;
 * a rewind is an answer, no failure; nothing is dropped in any state; each destination has its own.
 */
import { backoffMsMax, backoffMsMin, helloIdleMs, retryAfterMsMax } from '../limits.ts'
import type { Setback } from './backoff.ts'

export type BreakerState = 'closed' | 'open' | 'half_open'
export interface Breaker {
  readonly state: () => BreakerState
  /** Setbacks since the last committed answer. */
  readonly failures: () => number
  /** The session ended with this; answers how long to wait. */
  readonly failed: (setback: Setback) => number
  /** The wait is over. */
  readonly trying: () => void
  /** What had failed works again. */
  readonly close: () => void
  /** A committed answer: the next wait begins small again. */
  readonly stored: () => void
}

/** So many setbacks without a committed answer between them open it. */
export const opensAfterFailures = 3

/**
 * Full jitter over a doubling ceiling; what the far side asked for stands (clamped, and a tenth of jitter, so that a
 * fleet does not return as one); a person's matter is looked at once a minute; a rewind waits not at all, unless it
 * goes where the one before it went. `failures` counts the setbacks since the last committed answer, or such rewinds.
 */
const waitMsAfter = (setback: Setback, failures: number, random: () => number): number => {
  if (setback.kind === 'blocked') return helloIdleMs * (1 + random() / 10)
  if (setback.kind === 'rewind' && failures === 0) return 0
  if (setback.kind === 'later' && setback.afterMs !== undefined) {
    const askedMs = Math.min(Math.max(setback.afterMs, backoffMsMin), retryAfterMsMax)
    return Math.min(askedMs * (1 + random() / 10), retryAfterMsMax)
  }
  return random() * Math.min(backoffMsMax, backoffMsMin * 2 ** Math.min(failures, 30))
}

export const createBreaker = (random: () => number): Breaker => {
  let state: BreakerState = 'closed'
  let failures = 0
  /** Where the last rewind went, how often in a row: one that stands still is not asked as fast as it answers. */
  let [rewoundTo, again] = ['', 0]
  return {
    state: () => state,
    failures: () => failures,
    failed: (setback) => {
      const place = setback.kind === 'rewind' ? `${setback.lane} ${setback.after}` : rewoundTo
      if (setback.kind === 'rewind') again = place === rewoundTo ? again + 1 : 0
      rewoundTo = place
      const waitMs = waitMsAfter(setback, setback.kind === 'rewind' ? again : failures, random)
      failures++
      const repeated = failures >= opensAfterFailures || state === 'half_open'
      if (setback.kind === 'blocked' || (setback.kind === 'later' && repeated)) state = 'open'
      return waitMs
    },
    trying: () => {
      if (state === 'open') state = 'half_open'
    },
    close: () => {
      state = 'closed'
    },
    stored: () => {
      failures = 0
      state = 'closed'
    },
  }
}
