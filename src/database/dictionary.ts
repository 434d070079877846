/**
 * Dictionaries of epochs: which series a small number in a segment means. The database holds them; a bounded
 * cache spares reading and hashing them again for each segment.
 *
 * Invariants: a dictionary only grows; entries never change (a difference is a fork); the cache is believed only
 * as far as the database's own length, read in the same transaction, so that a database which forgot is noticed.
 */
import type { Contract, EpochId, SeriesEntry, SeriesId } from '../model.ts'
import type { CommitFrame, StoreTrouble } from './store.ts'

/** Hash after one more entry (`extendDictionaryHash` of the codec). */
export type ExtendHash = (hash: string, id: SeriesId) => string
const hashStart = '0'.repeat(32)
/** 200 k series of ten agents: 8 bytes of id and ~56 of hash text each. */
const cachedEntriesMax = 2_000_000

export interface Dictionary {
  /** Entry i: the series that segments of the epoch call i. */
  readonly ids: SeriesId[]
  /** `hashes[n]`: running hash after n entries. */
  readonly hashes: string[]
}
export interface DictionaryCache {
  readonly get: (agent: string, epoch: EpochId) => Dictionary | undefined
  readonly put: (agent: string, epoch: EpochId, ids: readonly SeriesId[]) => Dictionary
  readonly clear: () => void
}

export const createDictionaryCache = (extend: ExtendHash): DictionaryCache => {
  const kept = new Map<string, Dictionary>()
  let entries = 0
  const drop = (key: string) => {
    entries -= kept.get(key)?.ids.length ?? 0
    kept.delete(key)
  }
  return {
    get: (agent, epoch) => {
      const key = `${epoch} ${agent}`
      const found = kept.get(key)
      if (found === undefined) return undefined
      kept.delete(key)
      kept.set(key, found)
      return found
    },
    put: (agent, epoch, ids) => {
      const key = `${epoch} ${agent}`
      const old = kept.get(key)
      const same = old?.ids.every((id, at) => id === ids[at]) ?? false
      const base = same && old !== undefined ? old : { ids: [], hashes: [hashStart] }
      const grown: Dictionary = { ids: [...ids], hashes: [...base.hashes] }
      for (let at = base.ids.length; at < ids.length; at++)
        grown.hashes.push(extend(grown.hashes[at] as string, ids[at] as SeriesId))
      drop(key)
      kept.set(key, grown)
      entries += ids.length
      for (const oldest of kept.keys()) {
        if (entries <= cachedEntriesMax || oldest === key) break
        drop(oldest)
      }
      return grown
    },
    clear: () => {
      kept.clear()
      entries = 0
    },
  }
}

/** Is this frame's dictionary ours, as far as it needs it? */
export const checkDictionary = (
  dictionary: Dictionary,
  known: number,
  frame: Extract<CommitFrame, { type: 'segment' }>,
): StoreTrouble | null => {
  if (frame.dictionaryLength > known)
    return { kind: 'need-series', epoch: frame.epoch, first: known }
  const ours = dictionary.hashes[frame.dictionaryLength]
  if (ours === frame.dictionaryHash) return null
  const text = `dictionary of epoch ${frame.epoch} differs within its first ${frame.dictionaryLength} entries`
  return { kind: 'fork', text }
}

/** Ids, 8 bytes big-endian each: how a request's entries stand in one row. */
export const packIds = (ids: readonly SeriesId[]): Buffer => {
  const packed = Buffer.allocUnsafe(ids.length * 8)
  ids.forEach((id, at) => {
    packed.writeBigUInt64BE(id, at * 8)
  })
  return packed
}
export const unpackIds = (packed: Buffer): SeriesId[] =>
  Array.from({ length: packed.length / 8 }, (_, at) => packed.readBigUInt64BE(at * 8))

/** Entries beyond what is known, or why they do not fit. */
export const newEntries = (
  known: readonly SeriesId[],
  epoch: EpochId,
  first: number,
  entries: readonly SeriesEntry[],
): readonly SeriesEntry[] | StoreTrouble => {
  if (first > known.length) return { kind: 'need-series', epoch, first: known.length }
  for (let at = first; at < Math.min(known.length, first + entries.length); at++) {
    if (known[at] === entries[at - first]?.id) continue
    return { kind: 'fork', text: `entry ${at} of epoch ${epoch}'s dictionary is another series` }
  }
  return entries.slice(known.length - first)
}

/** Tags as they stand in `series.tags`: one text for one key, so that equality is text equality. */
export const tagsText = (tags: SeriesEntry['tags']): string =>
  JSON.stringify(Object.fromEntries(tags))

/** What an entry says of a contract. */
export interface ToldContract {
  readonly id: SeriesId
  /** Null: nobody said since when. */
  readonly fromUs: number | null
  readonly contract: Contract | null
  /** The entry tells of no other: what is not dated is in force now. */
  readonly alone: boolean
}
/** Of these entries, each (series, time) once: the last one told stands. */
export const toldContracts = (entries: readonly SeriesEntry[]): readonly ToldContract[] => {
  const told = new Map<string, ToldContract>()
  for (const { id, contracts = [] } of entries)
    for (const { fromUs, contract } of contracts)
      told.set(`${id} ${fromUs}`, { id, fromUs, contract, alone: contracts.length === 1 })
  return [...told.values()]
}
