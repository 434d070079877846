/**
 * Reading a lane: segments and tombstones in seq order, the stored bytes as they are.
 *
 * Invariants: every seq between floor and head is answered; bytes whose checksum is wrong are never handed out, their
 * place is taken by a `damaged` tombstone and the line goes on.
 */
import { readHeader } from '../codec/segment.ts'
import { Failure, isFailure, textOf } from '../errors.ts'
import { readPointsMax } from '../limits.ts'
import type { LaneItem, Segment, Seq, Tombstone } from '../model.ts'
import type { GapRow, RangeEstimate } from '../spool-port.ts'
import { dictionaryHolds, epochNamed } from './epochs.ts'
import { type GapRecord, gapRows, segmentsToGaps } from './gaps.ts'
import { fillHole } from './holes.ts'
import { quarantineSegment } from './quarantine.ts'
import { listReaderGaps } from './reader-gaps.ts'
import { blob, integer } from './schema.ts'
import { alive, asFailure, die, keyOf, type LaneState, type SpoolState, seqOf } from './state.ts'
import { write } from './write.ts'

const itemsMax = 1_024
/** What a tombstone takes on the wire, about. */
const tombstoneBytes = 200

interface Row {
  readonly key: number
  readonly epoch: number
  readonly points: number
  readonly min: number
  readonly max: number
  readonly bytes: Uint8Array
}
const segmentOf = (state: SpoolState, row: Row): Segment => ({
  type: 'segment',
  seq: seqOf(row.key),
  epoch: epochNamed(state, row.epoch),
  pointCount: row.points,
  timeUsMin: row.min,
  timeUsMax: row.max,
  bytes: row.bytes,
})
const tombstoneOf = (state: SpoolState, row: GapRecord, after: Seq): Tombstone => ({
  type: 'tombstone',
  seq: Math.max(row.seq, after + 1),
  seqLast: seqOf(row.key),
  epoch: epochNamed(state, row.epoch),
  gap: {
    reason: row.reason,
    count: row.count,
    source: row.source,
    timeUsMin: row.timeUsMin,
    timeUsMax: row.timeUsMax,
  },
})

/** The first problem of the bytes, or '' when they are what was sealed at this place. */
const problemOf = (state: SpoolState, lane: LaneState, row: Row): string => {
  try {
    const header = readHeader(row.bytes)
    const same =
      header.lane === lane.id &&
      header.seq === seqOf(row.key) &&
      header.pointCount === row.points &&
      header.epoch === epochNamed(state, row.epoch)
    if (!same) return 'its header belongs elsewhere'
    return dictionaryHolds(state, row.epoch, header) ? '' : 'its series are unknown'
  } catch (error) {
    return textOf(error)
  }
}

/** Runs of rows until `bytesMax` or enough points; stops early at a row that SQLite cannot read. */
const segmentsWithin = (
  state: SpoolState,
  lane: LaneState,
  after: Seq,
  to: Seq,
  bytesMax: number,
) => {
  const rows: Row[] = []
  let bytes = 0
  let points = 0
  const found = state
    .sql(
      `SELECT key, ${integer('epoch')}, ${integer('points')},
         ${integer('time_us_min', 'min')}, ${integer('time_us_max', 'max')},
         ${blob('bytes')} FROM segments
       WHERE key > ? AND key <= ? ORDER BY key LIMIT ?`,
    )
    .iterate(keyOf(lane.id, after), keyOf(lane.id, to), itemsMax) as IterableIterator<Row>
  for (const row of found) {
    bytes += row.bytes.length
    points += row.points
    if (rows.length > 0 && (bytes > bytesMax || points > readPointsMax)) break
    rows.push(row)
    if (bytes >= bytesMax) break
  }
  return rows
}

/** A row that SQLite cannot follow: its place is answered by a tombstone, if the file lets us. */
const replaceUnreadable = (state: SpoolState, lane: LaneState, after: Seq, to: Seq): boolean => {
  const keys = state
    .sql('SELECT key FROM segments WHERE key > ? AND key <= ? ORDER BY key LIMIT ?')
    .pluck()
    .all(keyOf(lane.id, after), keyOf(lane.id, to), itemsMax) as number[]
  for (const key of keys) {
    try {
      state.sql('SELECT bytes FROM segments WHERE key = ?').get(key)
    } catch {
      write(state, 'write', () => segmentsToGaps(state, lane, seqOf(key), seqOf(key), 'damaged'))
      return true
    }
  }
  return false
}

const damagedTable = (lane: LaneState, seq: Seq): Failure =>
  new Failure(
    'HF-S005',
    `the spool is damaged: seq ${seq} of lane "${lane.name}" cannot be put right`,
    'The next start looks at the whole file, and sets it aside if it must.',
  )

export const readItems = (
  state: SpoolState,
  lane: LaneState,
  asked: Seq,
  bytesMax: number,
  upTo: Seq = lane.now.head,
): readonly LaneItem[] => {
  alive(state)
  const to = Math.min(upTo, lane.now.head)
  // Below the floor stubs answer: a replay that trimming has overtaken goes on at what is held.
  const after = Math.max(asked, lane.now.floor - 1)
  let mended = -1
  /** What was put right and is found wrong again: rows that one way in shows and another does not. */
  const mend = (seq: Seq, work: () => void) => {
    if (mended === seq) throw die(state, damagedTable(lane, seq))
    mended = seq
    work()
  }
  for (let repairs = 0; repairs <= itemsMax; repairs++) {
    let rows: readonly Row[]
    try {
      rows = segmentsWithin(state, lane, after, to, bytesMax)
    } catch (error) {
      const failure = asFailure(state, error)
      if (isFailure(failure, 'HF-S005') && replaceUnreadable(state, lane, after, to)) continue
      throw failure instanceof Failure ? die(state, failure) : failure
    }
    const bad = rows.find((row) => problemOf(state, lane, row) !== '')
    if (bad !== undefined) {
      const text = problemOf(state, lane, bad)
      state.host.log.warn('segment is damaged', { lane: lane.name, seq: seqOf(bad.key), text })
      const seq = seqOf(bad.key)
      mend(seq, () => quarantineSegment(state, lane, seq, 'damaged', text))
      continue
    }
    const items = mergeItems(state, lane, rows, after, to, bytesMax)
    const last = items[items.length - 1]
    if (last === undefined && after < to) {
      mend(after + 1, () => fillHole(state, lane, after, to))
      continue
    }
    if (last !== undefined) {
      const seq = last.type === 'segment' ? last.seq : last.seqLast
      lane.readThrough = Math.max(lane.readThrough, seq)
    }
    return items
  }
  return []
}

/** Tombstones that grew together may reach over the end of what is asked for: no cursor stands there. */
const gapAcross = (state: SpoolState, lane: LaneState, to: Seq): readonly GapRecord[] =>
  to < lane.now.head
    ? gapRows(state, lane, to, lane.now.head, 1).filter(({ seq }) => seq <= to)
    : []

const mergeItems = (
  state: SpoolState,
  lane: LaneState,
  rows: readonly Row[],
  after: Seq,
  to: Seq,
  bytesMax: number,
): LaneItem[] => {
  const gaps = [...gapRows(state, lane, after, to, itemsMax), ...gapAcross(state, lane, to)]
  const items: LaneItem[] = []
  let bytes = 0
  let nextRow = 0
  let nextGap = 0
  let at = after
  // Seqs follow without holes: a row that does not continue the run lies beyond what was fetched of the other kind.
  while (items.length < itemsMax && at < to) {
    const row = rows[nextRow]
    const gap = gaps[nextGap]
    if (row !== undefined && seqOf(row.key) === at + 1) {
      items.push(segmentOf(state, row))
      bytes += row.bytes.length
      at = seqOf(row.key)
      nextRow++
    } else if (gap !== undefined && gap.seq <= at + 1) {
      if (items.length > 0 && bytes + tombstoneBytes > bytesMax) break
      const tombstone = tombstoneOf(state, gap, at)
      items.push({ ...tombstone, seqLast: Math.min(to, tombstone.seqLast) })
      bytes += tombstoneBytes
      at = seqOf(gap.key)
      nextGap++
    } else break
  }
  return items
}

export const estimate = (
  state: SpoolState,
  lane: LaneState,
  fromUs: number,
  toUs: number,
): RangeEstimate =>
  state
    .sql(
      `SELECT count(*) AS segments, coalesce(sum(points), 0) AS points,
       coalesce(sum(length(bytes)), 0) AS bytes, coalesce(min(key) % ?, 0) AS seqFirst,
       coalesce(max(key) % ?, 0) AS seqLast FROM segments
       WHERE key > ? AND key <= ? AND time_us_max >= ? AND time_us_min <= ?`,
    )
    .get(
      ...[2 ** 44, 2 ** 44, keyOf(lane.id, 0), keyOf(lane.id, lane.now.head), fromUs, toUs],
    ) as RangeEstimate

/**
 * When each was lost, as far as points tell: within a lane never before its predecessor, so that one without a time
 * stands where it happened. A lane whose losses have no time at all comes last: better seen than left out.
 */
const withTimes = (rows: readonly GapRow[]): readonly (readonly [number, GapRow])[] => {
  let lastUs = rows.find(({ timeUsMax }) => timeUsMax > 0)?.timeUsMax ?? Number.MAX_SAFE_INTEGER
  return rows.map((row) => {
    lastUs = Math.max(lastUs, row.timeUsMax)
    return [lastUs, row]
  })
}
/** The newest recorded losses of all lanes, and of single readers, newest last. */
export const listGaps = (state: SpoolState, limit: number): readonly GapRow[] =>
  [...state.lanes.values()]
    .flatMap((lane) =>
      withTimes(
        [
          ...gapRows(state, lane, 0, lane.now.head).map((row) => ({
            lane: lane.name,
            destination: '',
            ...tombstoneOf(state, row, 0).gap,
            seq: row.seq,
            seqLast: seqOf(row.key),
          })),
          ...listReaderGaps(state, lane),
        ].sort((a, b) => a.seqLast - b.seqLast),
      ),
    )
    .sort(([a], [b]) => a - b)
    .slice(-limit)
    .map(([, row]) => row)
