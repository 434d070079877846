/**
 * Drives the stages: whatever is sealed is derived soon, a bounded turn at a time, so that commits and acks in between
 * wait for one turn at most.
 *
 * Invariants: one turn in flight, none after one that failed; no room is tried again each second until there is; no
 * timer while there is nothing to do.
 */
import type { Host } from '../host.ts'
import type { LaneHead, Turn } from './spool.ts'

export interface DerivePort {
  readonly derive: () => Promise<Turn> | Turn
  readonly heads: () => readonly LaneHead[]
}
export interface Deriver {
  /** Heads may have moved. */
  readonly look: () => void
  /** Resolves when nothing is left to derive, there is no room for it, or it takes too long to wait for. */
  readonly idle: () => Promise<void>
  readonly stop: () => Promise<void>
}

const retryMs = 1_000
const waitMsMax = 2_000

export const createDeriver = (
  spool: DerivePort,
  clock: Host['clock'],
  parts: {
    /** A turn may have opened or sealed segments of other lanes. */
    readonly moved: () => void
    readonly failed: (error: unknown) => void
  },
): Deriver => {
  const stopped = new AbortController()
  let running: Promise<void> | null = null
  let cancelRetry: (() => void) | null = null

  const run = async () => {
    while (!stopped.signal.aborted) {
      const turn = await spool.derive()
      parts.moved()
      if (turn === 'full') {
        cancelRetry = clock.after(retryMs, () => {
          cancelRetry = null
          look()
        })
      }
      if (turn !== 'more') return
      // Lets go of the thread, where the spool is in this one.
      await clock.sleep(0, stopped.signal)
    }
  }
  const look = () => {
    if (running !== null || cancelRetry !== null || stopped.signal.aborted) return
    if (!spool.heads().some(({ underived }) => underived)) return
    running = run()
      .catch((error: unknown) => {
        stopped.abort()
        parts.failed(error)
      })
      .finally(() => {
        running = null
        // What was sealed during the last turn.
        look()
      })
  }
  return {
    look,
    idle: async () => {
      const waiting = new AbortController()
      const late = clock.sleep(waitMsMax, waiting.signal)
      const done = (async () => {
        while (running !== null && !waiting.signal.aborted) await running
      })()
      await Promise.race([done, late])
      waiting.abort()
    },
    stop: async () => {
      stopped.abort()
      cancelRetry?.()
      while (running !== null) await running
    },
  }
}
