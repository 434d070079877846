/**
 * Trimming: a segment goes when every reader has passed it and the hold is over; a stub stays in its place.
 *
 * Invariants: a lane without readers keeps everything; the hold counts accumulated uptime, never wall time; the floor
 * moves in the transaction that deletes; stubs are bounded, the oldest ones fold into coarser ones.
 */
import type { Seq } from '../model.ts'
import { integer } from './schema.ts'
import { keyOf, type LaneState, type SpoolState, seqOf, uptimeMs } from './state.ts'

const trimRowsMax = 256
/** Deleting many at once writes fewer pages than one by one. */
const trimRowsMin = 32
/** The hold is kept to within 1/64 of its length. */
const holdMarks = 64
const stubRowsMax = 10_000

/** What every reader has passed; the live cursor does not count, its backlog does. */
export const passedByReaders = (lane: LaneState): Seq => {
  if (lane.readers.size === 0) return 0
  let passed = Number.MAX_SAFE_INTEGER
  for (const reader of lane.readers.values()) passed = Math.min(passed, reader.now.backlog)
  return passed
}
/** And no stage may ask for again. */
export const passedByAll = (lane: LaneState): Seq => {
  let passed = passedByReaders(lane)
  for (const reader of lane.readers.values()) passed = Math.min(passed, reader.now.keepsAfter)
  return passed
}

interface SegmentRow {
  readonly key: number
  readonly epoch: number
  readonly points: number
  readonly min: number
  readonly max: number
  readonly size: number
}
export const segmentRows = (
  state: SpoolState,
  lane: LaneState,
  from: Seq,
  to: Seq,
  rowsMax: number,
): readonly SegmentRow[] =>
  state
    .sql(
      `SELECT key, ${integer('epoch')}, ${integer('points')},
         ${integer('time_us_min', 'min')}, ${integer('time_us_max', 'max')},
         coalesce(length(bytes), 0) AS size
       FROM segments WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?`,
    )
    .all(keyOf(lane.id, from), keyOf(lane.id, to), rowsMax) as SegmentRow[]

/**
 * Inside a transaction: deletes what lies in floor..through, at most `rowsMax` segments. Returns stored bytes
 * freed.
 */
export const trimLane = (
  state: SpoolState,
  lane: LaneState,
  through: Seq,
  rowsMax = trimRowsMax,
): number => {
  const rows = segmentRows(state, lane, lane.now.floor, through, rowsMax)
  const last = rows.length === rowsMax ? seqOf(rows[rows.length - 1]?.key ?? 0) : through
  let freed = 0
  for (const row of rows) {
    state
      .sql('INSERT INTO stubs VALUES (?, ?, ?, ?, 0, ?, ?)')
      .run(row.key, seqOf(row.key), row.epoch, row.points, row.min, row.max)
    freed += row.size
  }
  state
    .sql('DELETE FROM segments WHERE key BETWEEN ? AND ?')
    .run(keyOf(lane.id, lane.now.floor), keyOf(lane.id, last))
  lane.now = { ...lane.now, floor: last + 1, bytes: lane.now.bytes - freed }
  if (rows.length > 0) boundStubs(state)
  return freed
}

/** Inside a transaction: notes that `passed` was reached now, and answers up to where the hold is over. */
const heldThrough = (state: SpoolState, lane: LaneState, passed: Seq): Seq => {
  const { keepSentMs } = state.options
  if (keepSentMs === 0) return passed
  const now = uptimeMs(state)
  if (now - lane.heldAtMs >= keepSentMs / holdMarks && passed >= lane.now.floor) {
    state.sql('INSERT OR IGNORE INTO holds VALUES (?, ?)').run(keyOf(lane.id, passed), now)
    lane.heldAtMs = now
  }
  const [from, to] = [keyOf(lane.id, 0), keyOf(lane.id, passed)]
  const over = state
    .sql('SELECT max(key) FROM holds WHERE key BETWEEN ? AND ? AND uptime_ms <= ?')
    .pluck()
    .get(from, to, now - keepSentMs) as number | null
  if (over === null) return 0
  state.sql('DELETE FROM holds WHERE key BETWEEN ? AND ?').run(from, over - 1)
  return seqOf(over)
}

/** Inside a transaction: what may go, goes, as long as it is worth a page write. */
export const trimPassed = (state: SpoolState): void => {
  for (const lane of state.lanes.values()) {
    const passed = passedByAll(lane)
    if (passed - lane.now.floor + 1 < trimRowsMin) continue
    const through = heldThrough(state, lane, passed)
    if (through - lane.now.floor + 1 >= trimRowsMin) trimLane(state, lane, through)
  }
}

interface StubRow {
  readonly key: number
  readonly seq: number
  readonly epoch: number
  readonly points: number
  readonly lost: number
  readonly min: number
  readonly max: number
}
export const stubRows = (
  state: SpoolState,
  lane: LaneState,
  after: Seq,
  to: Seq,
): readonly StubRow[] =>
  state
    .sql(
      `SELECT key, seq, epoch, points, lost, time_us_min AS min, time_us_max AS max FROM stubs
       WHERE key > ? AND key <= ? ORDER BY key`,
    )
    .all(keyOf(lane.id, after), keyOf(lane.id, to)) as StubRow[]

/** The oldest stubs of the longest table fold, neighbours of one lane and epoch into one. */
const boundStubs = (state: SpoolState) => {
  const count = state.sql('SELECT count(*) FROM stubs').pluck().get() as number
  if (count <= stubRowsMax) return
  const rows = state
    .sql(
      `SELECT key, seq, epoch, points, lost, time_us_min AS min, time_us_max AS max FROM stubs
       ORDER BY key LIMIT ?`,
    )
    .all(stubRowsMax / 4) as StubRow[]
  let run: StubRow | null = null
  for (const row of rows) {
    const touches = run !== null && run.key === row.key - (seqOf(row.key) - row.seq) - 1
    if (run === null || !touches || run.epoch !== row.epoch) {
      run = row
      continue
    }
    run = {
      ...row,
      seq: run.seq,
      points: run.points + row.points,
      lost: run.lost + row.lost,
      min: Math.min(run.min, row.min),
      max: Math.max(run.max, row.max),
    }
    state
      .sql('DELETE FROM stubs WHERE key >= ? AND key < ?')
      .run(row.key - seqOf(row.key) + run.seq, row.key)
    state
      .sql('INSERT OR REPLACE INTO stubs VALUES (?, ?, ?, ?, ?, ?, ?)')
      .run(run.key, run.seq, run.epoch, run.points, run.lost, run.min, run.max)
  }
}
