/**
 * Points taken while the clock was not trusted: they carry monotonic time and wait, durable, until it is.
 *
 * Invariants: a boot's points get one offset; once it is known they are sealed at once, so that no restart can stamp
 * them differently; a boot that ended untrusted is stamped from the last wall time known, in order, as uncertain.
 */
import { decodeJournal, encodeJournal } from '../codec/journal.ts'
import { textOf } from '../errors.ts'
import { segmentPointsMax } from '../limits.ts'
import { because, type ClockReading, type Intake, type PointBatch, quality } from '../model.ts'
import { createOpenColumns } from './columns.ts'
import { renumberFrom } from './epochs.ts'
import { recordGap } from './gaps.ts'
import { blob } from './schema.ts'
import { pointsMaxOf, sealPoints, segmentTextCostMax } from './seal.ts'
import { saveDictionary } from './series-rows.ts'
import { keyOf, type LaneState, type SpoolState, seqSpan } from './state.ts'
import { write } from './write.ts'

const rowsPerStep = 64

/** Inside a transaction: the window's monotonic points of the lane. Returns the bytes written. */
export const addWaiting = (
  state: SpoolState,
  lane: LaneState,
  intakes: readonly Intake[],
): number => {
  const columns = createOpenColumns()
  for (const intake of intakes) columns.append(intake.points, state.dictionary.ofRefs)
  let written = 0
  for (let from = 0; from < columns.count(); ) {
    const to = columns.fit(from, segmentPointsMax, segmentTextCostMax)
    const bytes = encodeJournal(columns.slice(from, to))
    // A row of its own number: a window may hold more points than a row.
    if (from > 0) state.now = { ...state.now, commitNumber: state.now.commitNumber + 1 }
    state
      .sql('INSERT INTO waiting VALUES (?, ?, ?, ?, ?)')
      .run(
        ...[keyOf(lane.id, state.now.commitNumber), state.ordinal, state.host.bootId],
        ...[to - from, bytes],
      )
    written += bytes.length
    from = to
  }
  lane.now = { ...lane.now, waiting: lane.now.waiting + columns.count() }
  return written
}

/** Inside a transaction: the oldest waiting points are given up for room. Returns the bytes freed. */
export const dropWaiting = (state: SpoolState, lane: LaneState, bytes: number): number => {
  const rows = state
    .sql(
      `SELECT key, points, length(bytes) AS size FROM waiting
       WHERE key >= ? AND key < ? ORDER BY key LIMIT 4096`,
    )
    .all(lane.id * seqSpan, (lane.id + 1) * seqSpan) as {
    key: number
    points: number
    size: number
  }[]
  let freed = 0
  let count = 0
  for (const row of rows) {
    if (freed >= bytes) break
    state.sql('DELETE FROM waiting WHERE key = ?').run(row.key)
    freed += row.size
    count += row.points
  }
  if (count === 0) return 0
  lane.now = { ...lane.now, waiting: lane.now.waiting - count }
  recordGap(state, lane, { reason: 'quota', count, source: '', timeUsMin: 0, timeUsMax: 0 })
  return freed
}

interface WaitingRow {
  readonly key: number
  readonly epoch: number
  readonly boot: string
  readonly points: number
  readonly bytes: Uint8Array
}

export const stamped = (
  points: PointBatch,
  offsetUs: number,
  flag: (q: number) => number,
): PointBatch => ({
  ...points,
  timeUs: points.timeUs.map((time) => Math.floor(time + offsetUs)),
  qualities: points.qualities.map(flag),
})
/** A sub-code that says more than "good" or "uncertain" is worth more than ours. */
export const rebased = (q: number): number => (q >> 2 === 0 ? q | because.clockRebased : q)
export const neverTrusted = (q: number): number =>
  (q & 3) === quality.bad ? q : quality.uncertain | because.clockNeverTrusted

/** Rows of one boot, at most a segment of points; null when nothing can be settled now. */
const settleable = (state: SpoolState, lane: LaneState): readonly WaitingRow[] | null => {
  const rows = state
    .sql(
      `SELECT key, epoch, boot, points, ${blob('bytes')} FROM waiting
       WHERE key >= ? AND key < ? ORDER BY key LIMIT ?`,
    )
    .all(lane.id * seqSpan, (lane.id + 1) * seqSpan, rowsPerStep) as WaitingRow[]
  const first = rows[0]
  if (first === undefined) return null
  if (first.boot === state.host.bootId && !state.clock.trusted) return null
  let points = 0
  const taken: WaitingRow[] = []
  for (const row of rows) {
    points += row.points
    if (row.boot !== first.boot || (taken.length > 0 && points > segmentPointsMax)) break
    taken.push(row)
  }
  return taken
}

/** Offset from a finished boot's monotonic time to the earliest wall time it can have been. */
const floorOffsetUs = (state: SpoolState, points: PointBatch): number =>
  Math.max(state.options.clockFloorUs, state.lastWallUs + 1) - (points.timeUs[0] ?? 0)

const settleRows = (state: SpoolState, lane: LaneState, rows: readonly WaitingRow[]) => {
  const known = state.dictionary.length()
  const columns = createOpenColumns()
  const same = rows[0]?.boot === state.host.bootId
  const nowOffsetUs = state.clock.nowUs - state.clock.monotonicUs
  let offsetUs: number | null = same
    ? nowOffsetUs
    : (state.stampedBoots.get(rows[0]?.boot ?? '') ?? null)
  for (const row of rows) {
    lane.now = { ...lane.now, waiting: lane.now.waiting - row.points }
    state.sql('DELETE FROM waiting WHERE key = ?').run(row.key)
    try {
      const points = decodeJournal(row.bytes)
      offsetUs ??= floorOffsetUs(state, points)
      columns.append(
        stamped(points, offsetUs, same ? rebased : neverTrusted),
        renumberFrom(state, row.epoch),
      )
    } catch (error) {
      state.host.log.warn('waiting points are damaged', { lane: lane.name, text: textOf(error) })
      const facts = { source: '', timeUsMin: 0, timeUsMax: 0 }
      recordGap(state, lane, { reason: 'damaged', count: row.points, ...facts })
    }
  }
  saveDictionary(state, known)
  const pointsMax = pointsMaxOf(lane)
  for (let from = 0; from < columns.count(); ) {
    const to = columns.fit(from, pointsMax, segmentTextCostMax)
    sealPoints(state, lane, columns.slice(from, to), same ? 'rebased' : 'untrusted')
    from = to
  }
  // Saved with these points: the next boot's, stamped after a crash, must not fall on the same times.
  const last = columns.slice(0, columns.count()).timeUs[columns.count() - 1] ?? 0
  if (!same) state.lastWallUs = Math.max(state.lastWallUs, last)
  return { boot: rows[0]?.boot ?? '', same, offsetUs }
}

/** Settles at most one segment's worth per lane. True when there is more to do now. */
export const settleWaiting = (state: SpoolState): boolean => {
  let more = false
  for (const lane of state.lanes.values()) {
    if (lane.now.waiting === 0) continue
    const rows = settleable(state, lane)
    if (rows === null) continue
    more = true
    const done = write(state, 'sync', () => settleRows(state, lane, rows))
    if (done.same || done.offsetUs === null) continue
    state.stampedBoots.set(done.boot, done.offsetUs)
  }
  return more
}

/** What the agent knows of the time now. */
export const setClock = (state: SpoolState, reading: ClockReading): void => {
  state.clock = reading
  if (reading.trusted) state.lastWallUs = Math.max(state.lastWallUs, Math.floor(reading.nowUs))
}
