/**
 * A ceiling on bytes per second, shared by the live and the backlog pump.
 * Invariants: over any span no more than rate × span plus one request passes; a pump that is alone
 * has the whole rate.
 */
import type { Clock } from '../host.ts'

export interface Bandwidth {
  /** Resolves when `bytes` may go out, or when `signal` fires. `share` of the rate, from above 0 to 1. */
  readonly take: (pump: string, bytes: number, share: number, signal: AbortSignal) => Promise<void>
}

/** Each pump has a bucket of its own that refills at its share; a request goes when its bucket is not in debt. */
export const createBandwidth = (
  clock: Pick<Clock, 'monotonicMs' | 'sleep'>,
  bytesPerSecond: number | undefined,
): Bandwidth => {
  const freeAtMs = new Map<string, number>()
  return {
    take: async (pump, bytes, share, signal) => {
      if (bytesPerSecond === undefined) return
      const nowMs = clock.monotonicMs()
      const startMs = Math.max(nowMs, freeAtMs.get(pump) ?? 0)
      freeAtMs.set(pump, startMs + (bytes / (bytesPerSecond * share)) * 1000)
      if (startMs > nowMs) await clock.sleep(startMs - nowMs, signal)
    },
  }
}
