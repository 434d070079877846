/**
 * Whose turn it is on one link: lanes of a lower priority send nothing new while one of a higher has anything to send
 * or out.
 *
 * Invariants: a pump that has ended holds nobody up; whoever waits is woken when the answer may have changed.
 */

/** One pump's place. */
export interface Turn {
  /** It has something to send or waits for an answer. */
  readonly busy: (now: boolean) => void
  readonly mine: () => boolean
  /** Resolves once it may be its turn, or when `signal` fires. */
  readonly changed: (signal: AbortSignal) => Promise<void>
  readonly leave: () => void
}
export interface Turns {
  /** 0 comes first. */
  readonly take: (priority: number) => Turn
}

export const createTurns = (): Turns => {
  const busyPumps: number[] = []
  let waiters: (() => void)[] = []
  const count = (priority: number, by: number) => {
    busyPumps[priority] = (busyPumps[priority] ?? 0) + by
    if (by > 0) return
    const woken = waiters
    waiters = []
    for (const wake of woken) wake()
  }
  return {
    take: (priority) => {
      let isBusy = false
      const busy = (now: boolean) => {
        if (now === isBusy) return
        isBusy = now
        count(priority, now ? 1 : -1)
      }
      return {
        busy,
        mine: () => !busyPumps.some((pumps, at) => at < priority && pumps > 0),
        changed: (signal) =>
          new Promise((resolve) => {
            const done = () => {
              signal.removeEventListener('abort', done)
              waiters = waiters.filter((one) => one !== done)
              resolve()
            }
            if (signal.aborted) return resolve()
            signal.addEventListener('abort', done, { once: true })
            waiters.push(done)
          }),
        leave: () => busy(false),
      }
    },
  }
}
