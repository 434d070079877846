/**
 * Why sessions end, and the endless retry that waits by the injected clock; how long says the breaker.
 * Invariant: p-retry arms no timer of its own (its delay is 0 and the wait happens inside its hook), so a simulated
 * clock drives it.
 */
import pRetry from 'p-retry'
import type { Outcome, Seq } from '../model.ts'

/** Why a session with the far side ended. A value: only p-retry's door makes an exception of it. */
export type Setback =
  | Extract<Outcome, { kind: 'later' | 'blocked' }>
  /** The far side forgot what it had committed in this lane beyond `after`. */
  | {
      readonly kind: 'rewind'
      readonly lane: string
      readonly after: Seq
    }

export const textOfSetback = (setback: Setback): string =>
  setback.kind === 'rewind'
    ? `the far side holds ${setback.lane} only up to ${setback.after}: sending again from there`
    : setback.text

/**
 * Runs `session` until `signal` fires, each time after the wait `pause` takes. A session that
 * throws is a bug and ends
 * the loop with its error.
 */
export const sessionsUntil = async (
  signal: AbortSignal,
  session: () => Promise<Setback | undefined>,
  pause: (setback: Setback) => Promise<void>,
): Promise<void> => {
  const carried = new WeakMap<Error, Setback>()
  await pRetry(
    async () => {
      if (signal.aborted) return
      const setback = await session()
      if (setback === undefined || signal.aborted) return
      const carrier = new Error(textOfSetback(setback))
      carried.set(carrier, setback)
      throw carrier
    },
    {
      retries: Number.POSITIVE_INFINITY,
      minTimeout: 0,
      shouldRetry: async ({ error }) => {
        const setback = carried.get(error)
        if (setback === undefined) return false
        await pause(setback)
        return true
      },
    },
  )
}

/** A promise's settled state as a value, so that nobody has to wait for it at once. */
export type Settled<T> = { readonly value: T } | { readonly error: unknown }
export const settled = <T>(promise: Promise<T>): Promise<Settled<T>> =>
  promise.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  )

/** An abort that also follows `parents`; `release` removes the listeners. */
export const follow = (...parents: readonly AbortSignal[]) => {
  const own = new AbortController()
  const abort = () => own.abort()
  for (const parent of parents) {
    if (parent.aborted) own.abort()
    else parent.addEventListener('abort', abort, { once: true })
  }
  const release = () => {
    for (const parent of parents) parent.removeEventListener('abort', abort)
  }
  return { signal: own.signal, abort, release }
}

/**
 * Of works that ended together: throws the first bug, else gives the setback that says most (a
 * rewind before others).
 */
export const firstSetback = (
  ends: readonly Settled<Setback | undefined>[],
): Setback | undefined => {
  const setbacks = ends.map((one) => {
    if ('error' in one) throw one.error
    return one.value
  })
  return setbacks.find((one) => one?.kind === 'rewind') ?? setbacks.find((one) => one !== undefined)
}
