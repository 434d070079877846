/**
 * Points that the books of a lane have and no row tells of: what became of them is damage.
 *
 * Invariant: never below zero; rows whose count cannot be read count as nothing, so what they held is missing.
 */
import type { Seq } from '../model.ts'
import { keyOf, type LaneState, pendingOf, type SpoolState } from './state.ts'

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
export const missingPoints = (
  state: SpoolState,
  lane: LaneState,
  after: Seq,
  seqLast: Seq,
): number => {
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
