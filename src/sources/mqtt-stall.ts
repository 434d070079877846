/**
 * Tells a broker that waits for acks (mosquitto: after 20 messages) from one that has nothing to send, so that
 * the first gets an early commit and the second none, whatever the rhythm of its messages.
 *
 * A broker processes acks before the probe behind them. So after a silence: messages that come between acks and
 * the probe's answer were waiting for the acks, and what was unacked then is the broker's window; an answer
 * without messages before it says that it was not.
 */

/** No message for so long is a silence; far more than two messages of one burst are apart. */
const silenceMs = 2

export interface StallWatch {
  /** Messages came. */
  readonly arrived: () => void
  /** True when the broker is known to send no more before it gets acks. */
  readonly stalled: (unacked: number) => boolean
  /** Acks go out now, of `unacked` messages that had none; call the answer when the probe behind them is answered. */
  readonly acking: (unacked: number) => () => void
  /** The broker's window as far as it is known. */
  readonly window: () => number
}

export const createStallWatch = (monotonicMs: () => number): StallWatch => {
  let window = Number.POSITIVE_INFINITY
  let arrivedMs = monotonicMs()
  let arrivals = 0
  return {
    arrived: () => {
      arrivals++
      arrivedMs = monotonicMs()
    },
    stalled: (unacked) => unacked >= window,
    acking: (unacked) => {
      const silent = monotonicMs() - arrivedMs >= silenceMs
      const before = arrivals
      return () => {
        if (!silent) return
        if (arrivals > before) window = unacked
        else if (unacked >= window) window = Number.POSITIVE_INFINITY
      }
    },
    window: () => window,
  }
}
