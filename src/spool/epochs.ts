/**
 * Epochs: each opening of the spool is one, with its own dictionary, continuing its parent's lanes.
 *
 * Invariants: an epoch's seqs in a lane are (its base, the next epoch's base]; a dictionary stays as long
 * as a segment,
 * a journal row or waiting points of its epoch do.
 */
import { dictionaryHashStart, extendDictionaryHash } from '../codec/series-id.ts'
import { textOf } from '../errors.ts'
import type { EpochId, EpochLink, LaneId, Seq, SeriesEntry } from '../model.ts'
import { asTheyAre, type Renumber } from './columns.ts'
import { entryOfRow, type SeriesRow, seriesColumns } from './series-rows.ts'
import { type EpochRow, type LaneState, type SpoolState, seqSpan } from './state.ts'

const dictionarySpan = 2 ** 24
/** Ordinals kept beyond what is held, so that a rewind far back can still name the epoch. */
const epochsKept = 1_024

export const loadEpochs = (sql: SpoolState['sql']): EpochRow[] => {
  const rows = sql('SELECT ordinal, epoch, parent FROM epochs ORDER BY ordinal').all() as Omit<
    EpochRow,
    'bases'
  >[]
  const epochs = rows.map((row) => ({ ...row, bases: new Map() }) as EpochRow)
  const byOrdinal = new Map(epochs.map((row) => [row.ordinal, row]))
  const bases = sql('SELECT key, base, base_hash AS baseHash FROM epoch_lanes').all() as {
    key: number
    base: Seq
    baseHash: string
  }[]
  for (const { key, base, baseHash } of bases) {
    byOrdinal.get(Math.floor(key / 512))?.bases.set(key % 512, { base, baseHash })
  }
  return epochs
}

/** Inside a transaction: the lane's base in an epoch. */
export const putBase = (
  sql: SpoolState['sql'],
  row: EpochRow,
  lane: LaneId,
  now: { head: Seq; hash: string },
) => {
  row.bases.set(lane, { base: now.head, baseHash: now.hash })
  sql('INSERT OR REPLACE INTO epoch_lanes VALUES (?, ?, ?)').run(
    row.ordinal * 512 + lane,
    now.head,
    now.hash,
  )
}

/** Ordinals rise by one an opening; the list is a run of them, so the place follows from the number. */
export const epochNamed = (state: SpoolState, ordinal: number): EpochId => {
  const first = state.epochs[0]?.ordinal ?? ordinal
  return (state.epochs[Math.max(0, ordinal - first)] ?? state).epoch
}

/** The ordinal of the epoch that used this seq: the newest whose base lies below it. */
export const epochOfSeq = (state: SpoolState, lane: LaneState, seq: Seq): number =>
  state.epochs.findLast((row) => (row.bases.get(lane.id)?.base ?? 0) < seq)?.ordinal ??
  state.ordinal

/** Ordinals that copies name in their order, and the last copy of each: (ordinal, lane, seq). */
type Named = readonly (readonly [number, LaneId, Seq])[]
const namedKey = 'spool/copied'
/** By copies that are still held. */
const namedByCopies = (state: SpoolState): Named => {
  const kept = state.sql('SELECT value FROM kept WHERE key = ?').pluck().get(namedKey)
  if (kept === undefined) return []
  try {
    const rows = JSON.parse(new TextDecoder().decode(kept as Uint8Array)) as Named
    const floors = new Map([...state.lanes.values()].map(({ id, now }) => [id, now.floor]))
    return rows.filter(([, lane, seq]) => seq >= (floors.get(lane) ?? 0))
  } catch (error) {
    // Damaged: the far side puts points of an opening it does not know below all others.
    state.host.log.warn('copied_openings_unknown', { text: textOf(error) })
    return []
  }
}
/** Inside a transaction: a copy at this seq has the order of that opening. */
export const nameInCopy = (state: SpoolState, lane: LaneId, seq: Seq, epoch: EpochId): void => {
  const ordinal = state.epochs.find((row) => row.epoch === epoch)?.ordinal ?? state.ordinal
  if (ordinal === state.ordinal) return
  const others = namedByCopies(state).filter((row) => row[0] !== ordinal || row[1] !== lane)
  const value = new TextEncoder().encode(JSON.stringify([...others, [ordinal, lane, seq]]))
  state.sql('INSERT OR REPLACE INTO kept VALUES (?, ?)').run(namedKey, value)
}

/**
 * The oldest epoch that still holds something: its successor's base in some lane is at or above the floor, or a copy
 * that is held has its order.
 */
const oldestHolding = (state: SpoolState): number => {
  const named = Math.min(...namedByCopies(state).map(([ordinal]) => ordinal))
  for (let at = 0; at < state.epochs.length - 1; at++) {
    if ((state.epochs[at] as EpochRow).ordinal >= named) return at
    const next = state.epochs[at + 1] as EpochRow
    for (const lane of state.lanes.values()) {
      if ((next.bases.get(lane.id)?.base ?? 0) >= lane.now.floor) return at
    }
  }
  return state.epochs.length - 1
}

/** Those of a file that was set aside come too, as long as the first one of this file may be news to the region. */
const oldestTold = (state: SpoolState): number => {
  const holding = oldestHolding(state)
  return holding <= state.epochs.findIndex(({ bases }) => bases.size > 0) ? 0 : holding
}

export const epochLinks = (state: SpoolState): readonly EpochLink[] =>
  state.epochs.slice(oldestTold(state)).map(({ epoch, parent, bases }) => ({
    epoch,
    parent,
    lanes: [...bases].map(([lane, base]) => ({ lane, ...base })),
  }))

/** Inside the opening transaction: forgets epochs and dictionaries that nothing refers to. */
export const pruneEpochs = (state: SpoolState): void => {
  const holding = state.epochs[oldestHolding(state)]?.ordinal ?? state.ordinal
  // Rows of a lane come in the order of their epochs: the first one is of the oldest.
  const oldestUsed = (table: 'journal' | 'waiting', lane: LaneState) =>
    (state
      .sql(`SELECT epoch FROM ${table} WHERE key >= ? AND key < ? ORDER BY key LIMIT 1`)
      .pluck()
      .get(lane.id * seqSpan, (lane.id + 1) * seqSpan) as number | undefined) ?? holding
  const used = [...state.lanes.values()].flatMap((lane) => [
    oldestUsed('journal', lane),
    oldestUsed('waiting', lane),
  ])
  const oldest = Math.min(holding, ...used)
  state.sql('DELETE FROM dictionary WHERE key < ?').run(oldest * dictionarySpan)
  const surplus = state.epochs.findIndex((row) => row.ordinal >= oldest) - epochsKept
  if (surplus <= 0) return
  const first = state.epochs[surplus]?.ordinal ?? 0
  state.epochs.splice(0, surplus)
  state.sql('DELETE FROM epochs WHERE ordinal < ?').run(first)
  state.sql('DELETE FROM epoch_lanes WHERE key < ?').run(first * 512)
}

export const dictionaryEntries = (
  state: SpoolState,
  epoch: EpochId,
  first: number,
  max: number,
): readonly SeriesEntry[] => {
  if (epoch === state.epoch) return state.dictionary.entries(first).slice(0, max)
  const row = state.epochs.find((one) => one.epoch === epoch)
  if (row === undefined) return []
  const start = row.ordinal * dictionarySpan
  const rows = state
    .sql(
      `SELECT ${seriesColumns} FROM dictionary d JOIN series s ON s.id = d.series
       WHERE d.key >= ? AND d.key < ? ORDER BY d.key LIMIT ?`,
    )
    .safeIntegers()
    .all(start + first, start + dictionarySpan, max) as SeriesRow[]
  const entries: SeriesEntry[] = []
  for (const row of rows) {
    const entry = entryOfRow(row)
    // No segment beyond this one is read out any more (`dictionaryHolds`).
    if (entry === undefined) break
    entries.push(entry)
  }
  return entries
}

/** Whether the epoch's dictionary is still the one a segment was sealed with: nobody could tell its series else. */
export const dictionaryHolds = (
  state: SpoolState,
  ordinal: number,
  sealed: { readonly dictionaryLength: number; readonly dictionaryHash: string },
): boolean => {
  const seen = state.dictionariesSeen.get(ordinal) ?? { length: 0, hash: dictionaryHashStart }
  if (ordinal === state.ordinal || sealed.dictionaryLength <= seen.length) return true
  const start = ordinal * dictionarySpan
  const rows = state
    .sql(
      `SELECT ${seriesColumns} FROM dictionary d JOIN series s ON s.id = d.series
       WHERE d.key >= ? AND d.key < ? ORDER BY d.key`,
    )
    .safeIntegers()
    .iterate(start + seen.length, start + sealed.dictionaryLength) as IterableIterator<SeriesRow>
  let { length, hash } = seen
  for (const row of rows) {
    if (entryOfRow(row) === undefined) break
    hash = extendDictionaryHash(hash, BigInt.asUintN(64, row.id))
    length++
  }
  if (length !== sealed.dictionaryLength || hash !== sealed.dictionaryHash) return false
  state.dictionariesSeen.set(ordinal, { length, hash })
  return true
}

/** What segments of that epoch call `index`. Throws when nothing does (a row is damaged). */
export const entryIn = (state: SpoolState, ordinal: number, index: number): SeriesEntry => {
  if (ordinal === state.ordinal) {
    const entry = state.dictionary.entry(index)
    if (entry !== undefined) return entry
    throw new Error(`no series ${index} in this epoch`)
  }
  const row = state
    .sql(
      `SELECT ${seriesColumns} FROM dictionary d JOIN series s ON s.id = d.series WHERE d.key = ?`,
    )
    .safeIntegers()
    .get(ordinal * dictionarySpan + index) as SeriesRow | undefined
  const entry = row === undefined ? undefined : entryOfRow(row)
  if (entry === undefined) throw new Error(`no series ${index} in epoch ${ordinal}`)
  return entry
}

/** From an older epoch's dictionary indexes to this one's. Throws when an index is unknown (the row is damaged). */
export const renumberFrom = (state: SpoolState, ordinal: number): Renumber => {
  if (ordinal === state.ordinal) return asTheyAre
  const known = new Map<number, number>()
  const learn = (index: number): number => {
    const number = state.dictionary.ofEntry(entryIn(state, ordinal, index))
    known.set(index, number)
    return number
  }
  return (source, into) => {
    source.forEach((index, at) => {
      into[at] = known.get(index) ?? learn(index)
    })
  }
}

export const seriesCount = (state: SpoolState): number =>
  state.sql('SELECT count(*) FROM series').pluck().get() as number
