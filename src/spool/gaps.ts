/**
 * Tombstones: recorded losses that answer their seqs for ever.
 *
 * Invariants: written in the transaction that deletes; what a reader may have seen never changes its shape (only rows
 * above `readThrough` and away from every cursor grow); at most `gapRowsMax` rows, then losses coalesce to
 * (lane, reason).
 */
import { gapRowsMax } from '../limits.ts'
import type { Gap, GapReason, Loss, Seq } from '../model.ts'
import { missingPoints } from './missing.ts'
import { segmentRows } from './retention.ts'
import { keyOf, type LaneState, type SpoolState, seqOf } from './state.ts'

export interface GapRecord extends Gap {
  readonly key: number
  readonly seq: Seq
  readonly epoch: number
  readonly deliveredTo: string
}
const columns = `key, seq, epoch, reason, count, source, time_us_min AS timeUsMin,
  time_us_max AS timeUsMax, delivered_to AS deliveredTo`

export const gapRows = (
  state: SpoolState,
  lane: LaneState,
  after: Seq,
  to: Seq,
  rowsMax = gapRowsMax * 2,
): readonly GapRecord[] =>
  state
    .sql(`SELECT ${columns} FROM gaps WHERE key > ? AND key <= ? ORDER BY key LIMIT ?`)
    .all(keyOf(lane.id, after), keyOf(lane.id, to), rowsMax) as GapRecord[]

const gapEndingAt = (state: SpoolState, lane: LaneState, seq: Seq): GapRecord | undefined =>
  state.sql(`SELECT ${columns} FROM gaps WHERE key = ?`).get(keyOf(lane.id, seq)) as
    | GapRecord
    | undefined

const cursorAt = (lane: LaneState, seq: Seq): boolean => {
  for (const { now } of lane.readers.values()) {
    if (now.backlog === seq || now.live?.start === seq || now.live?.upTo === seq) return true
  }
  return false
}
/** Nobody can have seen this end of the lane: neither handed out nor a place where a cursor stands. */
const unseen = (lane: LaneState, seq: Seq): boolean =>
  seq > lane.readThrough && !cursorAt(lane, seq)

export const readersPast = (lane: LaneState, seq: Seq): readonly string[] =>
  [...lane.readers.values()]
    .filter(
      ({ now }) =>
        (seq > now.start && seq <= now.backlog) ||
        (now.live !== null && seq > now.live.start && seq <= now.live.upTo),
    )
    .map((reader) => reader.name)

const put = (state: SpoolState, row: GapRecord) => {
  state
    .sql('INSERT OR REPLACE INTO gaps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)')
    .run(
      ...[row.key, row.seq, row.epoch, row.reason, row.count, row.source],
      ...[row.timeUsMin, row.timeUsMax, row.deliveredTo],
    )
}

const joined = (a: Gap, b: Gap): Gap => ({
  reason: a.reason,
  count: a.count + b.count,
  source: a.source === b.source ? a.source : '',
  timeUsMin: a.timeUsMin === 0 ? b.timeUsMin : Math.min(a.timeUsMin, b.timeUsMin || a.timeUsMin),
  timeUsMax: Math.max(a.timeUsMax, b.timeUsMax),
})

/**
 * Inside a transaction: seqs `seq..seqLast` are answered by this gap; it joins its unseen neighbour of the
 * same reason.
 */
export const putGap = (
  state: SpoolState,
  lane: LaneState,
  place: {
    readonly seq: Seq
    readonly seqLast: Seq
    readonly epoch: number
    readonly deliveredTo: readonly string[]
  },
  gap: Gap,
): void => {
  const deliveredTo = JSON.stringify(place.deliveredTo)
  const row: GapRecord = {
    ...gap,
    key: keyOf(lane.id, place.seqLast),
    seq: place.seq,
    epoch: place.epoch,
    deliveredTo,
  }
  const before = gapEndingAt(state, lane, place.seq - 1)
  const joins =
    before !== undefined &&
    before.reason === gap.reason &&
    before.epoch === place.epoch &&
    before.deliveredTo === deliveredTo &&
    unseen(lane, place.seq - 1)
  if (joins) {
    state.sql('DELETE FROM gaps WHERE key = ?').run(before.key)
    put(state, { ...row, ...joined(before, gap), seq: before.seq })
  } else {
    put(state, row)
    boundGaps(state)
  }
}

/** Inside a transaction: segments `rows` of one lane, ascending, become tombstones of one reason. */
export const segmentsToGaps = (
  state: SpoolState,
  lane: LaneState,
  from: Seq,
  to: Seq,
  reason: GapReason,
): number => {
  let freed = 0
  for (const row of segmentRows(state, lane, from, to, to - from + 1)) {
    const seq = seqOf(row.key)
    // No segment is empty: the row itself is damaged, and the books alone know what it held.
    const lost = row.points === 0 ? missingPoints(state, lane, seq - 1, seq) : 0
    state.sql('DELETE FROM segments WHERE key = ?').run(row.key)
    putGap(
      state,
      lane,
      { seq, seqLast: seq, epoch: row.epoch, deliveredTo: readersPast(lane, seq) },
      { reason, count: row.points || lost, source: '', timeUsMin: row.min, timeUsMax: row.max },
    )
    freed += row.size
  }
  lane.now = { ...lane.now, bytes: lane.now.bytes - freed }
  return freed
}

/** Inside a transaction: a loss that never was a segment takes a seq of its own, or adds to the newest one. */
export const recordGap = (state: SpoolState, lane: LaneState, gap: Gap): void => {
  const { head } = lane.now
  const newest = gapEndingAt(state, lane, head)
  const grow =
    newest !== undefined &&
    newest.reason === gap.reason &&
    newest.source === gap.source &&
    newest.epoch === state.ordinal &&
    unseen(lane, head)
      ? newest
      : coalescing(state, lane, gap.reason)
  lane.now = { ...lane.now, accepted: lane.now.accepted + gap.count }
  if (grow !== undefined) {
    put(state, { ...grow, ...joined(grow, gap) })
    return
  }
  const seq = head + 1
  lane.now = { ...lane.now, head: seq }
  // A row of its own even beside a neighbour of the same reason: (source, reason) stay apart.
  put(state, { ...gap, key: keyOf(lane.id, seq), seq, epoch: state.ordinal, deliveredTo: '[]' })
  boundGaps(state)
}

/** Once the table is full: the latest unseen row of the lane and reason takes the count. */
const coalescing = (
  state: SpoolState,
  lane: LaneState,
  reason: GapReason,
): GapRecord | undefined => {
  const count = state.sql('SELECT count(*) FROM gaps').pluck().get() as number
  if (count < gapRowsMax) return undefined
  const rows = state
    .sql(
      `SELECT ${columns} FROM gaps WHERE key > ? AND key <= ? AND reason = ?
       ORDER BY key DESC LIMIT 1`,
    )
    .all(keyOf(lane.id, lane.readThrough), keyOf(lane.id, lane.now.head), reason) as GapRecord[]
  return rows.find((row) => unseen(lane, seqOf(row.key)))
}

/** Inside a transaction: the losses of one window, one record per (source, reason). */
export const recordLosses = (
  state: SpoolState,
  lane: LaneState,
  losses: readonly Loss<GapReason>[],
): void => {
  const sums = new Map<string, Gap>()
  for (const { source, reason, count } of losses) {
    const key = `${reason} ${source}`
    const gap = { reason, count, source, timeUsMin: 0, timeUsMax: 0 }
    const sum = sums.get(key)
    sums.set(key, sum === undefined ? gap : joined(sum, gap))
  }
  for (const gap of sums.values()) recordGap(state, lane, gap)
}

/** Old history below every floor becomes stubs; what is not yet delivered is never touched here. */
const boundGaps = (state: SpoolState) => {
  const count = state.sql('SELECT count(*) FROM gaps').pluck().get() as number
  if (count <= gapRowsMax) return
  for (const lane of state.lanes.values()) {
    for (const row of gapRows(state, lane, 0, lane.now.floor - 1, 256)) {
      state
        .sql('INSERT OR REPLACE INTO stubs VALUES (?, ?, ?, 0, ?, ?, ?)')
        .run(row.key, row.seq, row.epoch, row.count, row.timeUsMin, row.timeUsMax)
      state.sql('DELETE FROM gaps WHERE key = ?').run(row.key)
    }
  }
}
