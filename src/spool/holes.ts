/**
 * Seqs that nothing answers: rows that vanished with a damaged page, although SQLite sees no fault.
 *
 * Invariant: a hole becomes a `damaged` tombstone whose count is what the books miss, never silence.
 */
import type { Seq } from '../model.ts'
import { epochOfSeq } from './epochs.ts'
import { putGap } from './gaps.ts'
import { missingPoints } from './missing.ts'
import { keyOf, type LaneState, type SpoolState, seqSpan } from './state.ts'
import { write } from './write.ts'

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
