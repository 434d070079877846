/**
 * What a destination makes of each series of the spool's dictionaries, made once.
 *
 * Invariant: the series held in memory are those of one epoch, and of others as long as all are at most `seriesMax`.
 */
import { dictionaryEntriesPerRequestMax, seriesMax } from '../limits.ts'
import type { EpochId, SeriesEntry } from '../model.ts'
import type { DestinationDeps } from './destination.ts'

export interface SeriesCache<T> {
  /** The first `length` series of an epoch, or undefined when the spool does not hold them. */
  readonly of: (epoch: EpochId, length: number) => Promise<readonly T[] | undefined>
}
export const createSeriesCache = <T>(
  spool: Pick<DestinationDeps['spool'], 'dictionary'>,
  /** Of one epoch, in the order of its dictionary. */
  makerOf: () => (entry: SeriesEntry) => T,
): SeriesCache<T> => {
  interface Epoch {
    readonly made: T[]
    readonly make: (entry: SeriesEntry) => T
  }
  const epochs = new Map<EpochId, Epoch>()
  let tail: Promise<unknown> = Promise.resolve()

  const forgetOthers = (epoch: EpochId) => {
    let held = 0
    for (const { made } of epochs.values()) held += made.length
    for (const [other, { made }] of epochs) {
      if (held <= seriesMax) return
      if (other === epoch) continue
      epochs.delete(other)
      held -= made.length
    }
  }
  const load = async (epoch: EpochId, length: number) => {
    const known = epochs.get(epoch) ?? { made: [], make: makerOf() }
    const { made, make } = known
    epochs.delete(epoch)
    epochs.set(epoch, known)
    while (made.length < length) {
      const more = await spool.dictionary(epoch, made.length, dictionaryEntriesPerRequestMax)
      if (more.length === 0) return undefined
      for (const entry of more) made.push(make(entry))
    }
    forgetOthers(epoch)
    return made
  }
  return {
    of: (epoch, length) => {
      // One at a time: two would append the same entries twice.
      const loaded = tail.then(() => load(epoch, length))
      tail = loaded.catch(() => undefined)
      return loaded
    },
  }
}
