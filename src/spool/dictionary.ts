/**
 * The present epoch's dictionary: series to small numbers, in order of first use.
 *
 * Invariants: the series of entry i never changes; points use the first number of a series, a later one only brings
 * news of it to whoever read the first; new entries are written in the transaction that first uses them, or before;
 * `truncate` undoes entries of a transaction that failed; every hash of the running chain is kept, as bytes, so that
 * undoing needs no recomputation.
 */
import { dictionaryHashStart, extendDictionaryHash } from '../codec/series-id.ts'
import type { SeriesEntry, SeriesId, SeriesRef } from '../model.ts'
import type { Renumber } from './columns.ts'

export interface Dictionary {
  readonly length: () => number
  readonly hash: () => string
  /** Process-wide refs to numbers, a column at a time. */
  readonly ofRefs: Renumber
  readonly ofEntry: (entry: SeriesEntry) => number
  /** The series once more, as it is now: an entry that is out is never changed. */
  readonly again: (entry: SeriesEntry) => void
  /** Of an entry that nobody has read yet. */
  readonly complete: (number: number, entry: SeriesEntry) => void
  readonly entry: (number: number) => SeriesEntry | undefined
  readonly entries: (from: number) => readonly SeriesEntry[]
  readonly truncate: (length: number) => void
}

const none = 0xffffffff
const hashBytes = 16

export const createDictionary = (entryOf: (ref: SeriesRef) => SeriesEntry): Dictionary => {
  const entries: SeriesEntry[] = []
  /** Up to each entry; `hash` is the last one. */
  let hashes = Buffer.alloc(hashBytes * 256)
  let hash = dictionaryHashStart
  const byId = new Map<SeriesId, number>()
  let byRef = new Uint32Array(1024).fill(none)

  const again = (entry: SeriesEntry): void => {
    entries.push(entry)
    hash = extendDictionaryHash(hash, entry.id)
    if ((entries.length + 1) * hashBytes > hashes.length)
      hashes = Buffer.concat([hashes, Buffer.alloc(hashes.length)])
    hashes.write(hash, entries.length * hashBytes, 'hex')
  }
  const ofEntry = (entry: SeriesEntry): number => {
    const known = byId.get(entry.id)
    if (known !== undefined) return known
    const at = entries.length
    again(entry)
    byId.set(entry.id, at)
    return at
  }
  const learn = (ref: SeriesRef): number => {
    if (ref >= byRef.length) {
      const grown = new Uint32Array(Math.max(ref + 1, byRef.length * 2)).fill(none)
      grown.set(byRef)
      byRef = grown
    }
    const at = ofEntry(entryOf(ref))
    byRef[ref] = at
    return at
  }
  return {
    length: () => entries.length,
    hash: () => hash,
    ofRefs: (source, into) => {
      let table = byRef
      for (let i = 0; i < source.length; i++) {
        const ref = source[i] as number
        let number = ref < table.length ? (table[ref] as number) : none
        if (number === none) {
          number = learn(ref)
          table = byRef
        }
        into[i] = number
      }
    },
    ofEntry,
    again,
    complete: (number, entry) => {
      entries[number] = entry
    },
    entry: (number) => entries[number],
    entries: (from) => entries.slice(from),
    truncate: (length) => {
      if (length === entries.length) return
      for (const { id } of entries.splice(length)) {
        if ((byId.get(id) ?? 0) >= length) byId.delete(id)
      }
      hash = hashes.toString('hex', length * hashBytes, (length + 1) * hashBytes)
      for (let ref = 0; ref < byRef.length; ref++) {
        const at = byRef[ref] as number
        if (at !== none && at >= length) byRef[ref] = none
      }
    },
  }
}
