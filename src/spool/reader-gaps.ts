/**
 * Points of stored segments that one reader's far side can never hold: gap records of that reader alone, beside its
 * cursor. The segment itself stays what it is for every other reader.
 *
 * Invariants: a row belongs to a seq that its reader has passed as a segment, and goes when a rewind takes that back;
 * rows are written in the transaction that writes the cursor; at most `rowsMax` rows a (lane, reader), then neighbours
 * of one reason fold into ranges, never across the place where a live cursor began.
 */
import type { Gap, GapReason, PointsLost, Seq } from '../model.ts'
import type { GapRow } from '../spool-port.ts'
import { type Copy, saveCopies } from './refused.ts'
import { integer } from './schema.ts'
import { keyOf, type LaneState, type ReaderState, readerNamed, type SpoolState } from './state.ts'

export interface ReaderGap extends Gap {
  readonly seq: Seq
  readonly seqLast: Seq
}
export const noGaps: readonly ReaderGap[] = []
export const noCopies: readonly Copy[] = []

const rowsMax = 256
const unsavedMax = 256
/** Copies of refused points that wait for the next transaction; more are lost without one. */
const unsavedCopiesMax = 256

const joined = (a: ReaderGap, b: ReaderGap): ReaderGap => ({
  reason: a.reason,
  count: a.count + b.count,
  source: a.source === b.source ? a.source : '',
  timeUsMin: Math.min(a.timeUsMin, b.timeUsMin),
  timeUsMax: Math.max(a.timeUsMax, b.timeUsMax),
  seq: Math.min(a.seq, b.seq),
  seqLast: Math.max(a.seqLast, b.seqLast),
})
/** One row a reason on each side of `border`: what a rewind of the live cursor takes back stays exact. */
const folded = (rows: readonly ReaderGap[], border: Seq): readonly ReaderGap[] => {
  const sums = new Map<string, ReaderGap>()
  for (const row of rows) {
    const key = `${row.seq > border} ${row.reason}`
    const sum = sums.get(key)
    sums.set(key, sum === undefined ? row : joined(sum, row))
  }
  return [...sums.values()]
}
const borderOf = ({ now }: ReaderState): Seq => now.live?.start ?? Number.POSITIVE_INFINITY

/**
 * What of `lost` an ack over (after, to] books: nothing for a seq that is no segment any more (its tombstone says all),
 * nor more points than it has.
 */
export const acceptLost = (
  state: SpoolState,
  lane: LaneState,
  lost: readonly PointsLost[],
  after: Seq,
  to: Seq,
): readonly ReaderGap[] => {
  const left = new Map<Seq, number>()
  const rows: ReaderGap[] = []
  for (const { seq, count, reason, source, timeUsMin, timeUsMax } of lost) {
    if (seq <= after || seq > to) continue
    const points =
      left.get(seq) ??
      (state.sql('SELECT points FROM segments WHERE key = ?').pluck().get(keyOf(lane.id, seq)) as
        | number
        | undefined) ??
      0
    const taken = Math.min(count, points)
    left.set(seq, points - taken)
    if (taken <= 0) continue
    rows.push({ seq, seqLast: seq, reason, count: taken, source, timeUsMin, timeUsMax })
  }
  return rows
}
/** What waits for the next transaction, bounded. */
export const withUnsaved = (
  reader: ReaderState,
  rows: readonly ReaderGap[],
): readonly ReaderGap[] => {
  if (rows.length === 0) return reader.now.unsaved
  const all = [...reader.now.unsaved, ...rows]
  return all.length > unsavedMax ? folded(all, borderOf(reader)) : all
}

export const withCopies = (reader: ReaderState, copies: readonly Copy[]): readonly Copy[] =>
  copies.length === 0
    ? reader.now.copies
    : [...reader.now.copies, ...copies].slice(-unsavedCopiesMax)

const columns = `reason, source, ${integer('count')}, ${integer('time_us_min', 'timeUsMin')},
  ${integer('time_us_max', 'timeUsMax')}, ${integer('seq')}, ${integer('seq_last', 'seqLast')}`
const rowsOf = (
  state: SpoolState,
  lane: LaneState,
  reader: string,
  after: Seq,
  to: Seq,
): readonly ReaderGap[] =>
  state
    .sql(
      `SELECT ${columns} FROM reader_gaps
       WHERE lane = ? AND reader = ? AND seq_last > ? AND seq <= ? ORDER BY seq_last`,
    )
    .all(lane.id, reader, after, to) as ReaderGap[]
const put = (state: SpoolState, lane: LaneState, reader: string, row: ReaderGap) => {
  state
    .sql('INSERT OR REPLACE INTO reader_gaps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)')
    .run(
      ...[lane.id, reader, row.seqLast, row.reason, row.seq],
      ...[row.count, row.source, row.timeUsMin, row.timeUsMax],
    )
}
const remove = (state: SpoolState, lane: LaneState, reader: string, row: ReaderGap) => {
  state
    .sql('DELETE FROM reader_gaps WHERE lane = ? AND reader = ? AND seq_last = ? AND reason = ?')
    .run(lane.id, reader, row.seqLast, row.reason)
}

/** Inside a transaction. */
export const saveReaderGaps = (state: SpoolState, lane: LaneState, reader: ReaderState): void => {
  const { unsaved } = reader.now
  if (unsaved.length === 0) return
  for (const row of unsaved) put(state, lane, reader.name, row)
  saveCopies(state, lane, reader.name, reader.now.copies)
  reader.now = { ...reader.now, unsaved: noGaps, copies: noCopies }
  boundRows(state, lane, reader)
}
const boundRows = (state: SpoolState, lane: LaneState, reader: ReaderState) => {
  const rows = rowsOf(state, lane, reader.name, -1, Number.MAX_SAFE_INTEGER)
  if (rows.length <= rowsMax) return
  const oldest = rows.slice(0, -rowsMax / 2)
  for (const row of oldest) remove(state, lane, reader.name, row)
  for (const row of folded(oldest, borderOf(reader))) put(state, lane, reader.name, row)
}

/** Inside a transaction, all rows saved: forgets what lies in (after, to]. Returns the points it had booked as lost. */
export const takeBackLost = (
  state: SpoolState,
  lane: LaneState,
  reader: string,
  after: Seq,
  to: Seq,
): number => {
  let points = 0
  state
    .sql('DELETE FROM refused WHERE lane = ? AND reader = ? AND seq > ? AND seq <= ?')
    .run(lane.id, reader, after, to)
  for (const row of rowsOf(state, lane, reader, after, to)) {
    remove(state, lane, reader, row)
    // Only a folded row reaches below: a share of it, as exact as the row is.
    const share = (row.seqLast - Math.max(row.seq, after + 1) + 1) / (row.seqLast - row.seq + 1)
    const taken = Math.round(row.count * share)
    points += taken
    if (taken < row.count)
      put(state, lane, reader, { ...row, seqLast: after, count: row.count - taken })
  }
  return points
}

/** Inside a transaction: the reader is gone, or begins. */
export const dropReaderGaps = (state: SpoolState, lane: LaneState, reader: string): void => {
  for (const table of ['reader_gaps', 'refused'])
    state.sql(`DELETE FROM ${table} WHERE lane = ? AND reader = ?`).run(lane.id, reader)
}

/**
 * Inside a transaction: `count` points of one loss are another's from here on, or nobody's (`to` null). Returns how
 * many there were to move; the reader's sum of the lost is the caller's.
 */
export const moveLost = (
  state: SpoolState,
  lane: LaneState,
  reader: string,
  { seq, reason }: { readonly seq: Seq; readonly reason: GapReason },
  count: number,
  to: GapReason | null,
): number => {
  const row = rowsOf(state, lane, reader, seq - 1, seq).find((one) => one.reason === reason)
  const moved = Math.min(count, row?.count ?? 0)
  if (row === undefined || moved <= 0) return 0
  if (moved === row.count) remove(state, lane, reader, row)
  else put(state, lane, reader, { ...row, count: row.count - moved })
  if (to === null) return moved
  const other = rowsOf(state, lane, reader, seq - 1, seq).find((one) => one.reason === to)
  put(
    state,
    lane,
    reader,
    other === undefined
      ? { ...row, seq, seqLast: seq, reason: to, count: moved }
      : { ...other, count: other.count + moved },
  )
  boundRows(state, lane, readerNamed(lane, reader))
  return moved
}

export const listReaderGaps = (state: SpoolState, lane: LaneState): readonly GapRow[] =>
  [...lane.readers.values()].flatMap((reader) =>
    [...rowsOf(state, lane, reader.name, -1, Number.MAX_SAFE_INTEGER), ...reader.now.unsaved].map(
      (row) => ({ ...row, lane: lane.name, destination: reader.name }),
    ),
  )
