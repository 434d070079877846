/**
 * The largest request a far side takes, as far as its refusals taught: halved when one was too big, tried twice as
 * large again after a while, kept over a restart.
 *
 * Invariants: never below one byte nor above what is configured; what was learned of one endpoint holds for no other.
 */
import { isFailure } from './errors.ts'
import type { SpoolPort } from './spool-port.ts'

export interface LearnedLimit {
  readonly bytesMax: () => number
  /** A request of so many bytes was refused for its size; `bytesMax` where the far side named its limit. */
  readonly tooBig: (bytes: number, bytesMax?: number) => Promise<void>
  /** A request was taken: somebody's limit in between may be gone, so a larger one is tried now and then. */
  readonly taken: () => Promise<void>
  readonly load: () => Promise<void>
}
export interface LearnedLimitParts {
  readonly spool: Pick<SpoolPort, 'kept' | 'keep'>
  /** Under which it is kept. */
  readonly key: string
  /** Where requests go, without secrets. */
  readonly endpoint: string
  readonly bytesMax: number
  readonly onLearned: (bytesMax: number) => void
}
/** Taken under a learned limit before a request twice as large is tried. */
const takenBetweenTries = 256

export const createLearnedLimit = (parts: LearnedLimitParts): LearnedLimit => {
  const { spool, key, endpoint } = parts
  let bytesMax = parts.bytesMax
  let taken = 0
  const change = async (to: number) => {
    bytesMax = to
    taken = 0
    const learned = bytesMax < parts.bytesMax
    const value = learned ? Buffer.from(JSON.stringify({ endpoint, bytesMax }), 'utf8') : null
    try {
      await spool.keep([{ key, value }])
    } catch (error) {
      // No room: it is learned again after a restart.
      if (!isFailure(error, 'HF-S020')) throw error
    }
  }
  return {
    bytesMax: () => bytesMax,
    tooBig: async (bytes, named) => {
      const half = Math.floor(bytes / 2)
      await change(Math.max(1, Math.min(bytesMax, half, named ?? half)))
      parts.onLearned(bytesMax)
    },
    taken: async () => {
      if (bytesMax >= parts.bytesMax || ++taken < takenBetweenTries) return
      await change(Math.min(parts.bytesMax, bytesMax * 2))
    },
    load: async () => {
      const kept = await spool.kept(key)
      if (kept === null) return
      const found = JSON.parse(new TextDecoder().decode(kept)) as {
        readonly endpoint: string
        readonly bytesMax: number
      }
      if (found.endpoint !== endpoint) return
      bytesMax = Math.max(1, Math.min(parts.bytesMax, found.bytesMax))
    },
  }
}
