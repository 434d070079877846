/**
 * Seqs that nothing answers: rows that vanished with a damaged page, although SQLite sees no fault.
 *
 * Invariant: a hole becomes a `damaged` tombstone whose count is what the books miss, never silence.
 */
import type { Seq } from '../model.ts'
import { epochOfSeq } from './epochs.ts'
import { putGap } from './gaps.ts'
import { keyOf, type LaneState, pendingOf, type SpoolState, seqSpan } from './state.ts'
import { write } from './write.ts'

type Sum = (column: string, table: string) => number
/** Over the rows of (after, to]. */
const sumOver = (state: SpoolState, lane: LaneState, after: Seq, to: Seq): Sum => {
  const range = [keyOf(lane.id, after), keyOf(lane.id, to)]
  return (column, table) =>
    state
      .sql(`SELECT total(${column}) FROM ${table} WHERE key > ? AND key <= ?`)
      .pluck()
      .get(...range) as number
}
/** Points that were let go on purpose: the far side still holds them after a rewind. */
const stubPoints = (sum: Sum) => sum('points + lost', 'stubs')
const knownPoints = (sum: Sum) => sum('points', 'segments') + sum('count', 'gaps') + stubPoints(sum)
/**
 * What the books miss in (after, seqLast]: by the reader that stands there, else by the lane. Of the hole itself only
 * stubs count: a segment's row that no search finds may still turn up in a scan.
 */
const missingPoints = (state: SpoolState, lane: LaneState, after: Seq, seqLast: Seq): number => {
  const above =
    stubPoints(sumOver(state, lane, after, seqLast)) +
    knownPoints(sumOver(state, lane, seqLast, lane.now.head))
  for (const { now } of lane.readers.values()) {
    if (now.backlog !== after || now.live !== null) continue
    const sealed = pendingOf(lane, now) - lane.open.count() - lane.now.waiting
    return Math.max(0, sealed - above)
  }
  return Math.max(0, lane.now.accepted - knownPoints(sumOver(state, lane, 0, after)) - above)
}

/** Nothing answers `after + 1` though the lane goes on: rows vanished with a damaged page. Fills up to `to` at most. */
export const fillHole = (state: SpoolState, lane: LaneState, after: Seq, to: Seq): void => {
  const range = [keyOf(lane.id, after), keyOf(lane.id, lane.now.head)]
  const next = state
    .sql(
      `SELECT min(seq) FROM (SELECT min(key) % ? AS seq FROM segments WHERE key > ? AND key <= ?
       UNION ALL SELECT min(seq) FROM gaps WHERE key > ? AND key <= ?)`,
    )
    .pluck()
    .get(seqSpan, ...range, ...range) as number | null
  const seqLast = Math.min(to, (next ?? lane.now.head + 1) - 1)
  const count = missingPoints(state, lane, after, seqLast)
  state.host.log.warn('segments_vanished', { lane: lane.name, after, seqLast, count })
  const epoch = epochOfSeq(state, lane, after + 1)
  write(state, 'write', () => {
    const gap = { reason: 'damaged', count, source: '', timeUsMin: 0, timeUsMax: 0 } as const
    putGap(state, lane, { seq: after + 1, seqLast, epoch, deliveredTo: [] }, gap)
  })
}
