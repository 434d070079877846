/**
 * The open segment becomes a stored one: encoded once, chained to the one before, its journal rows gone in the same
 * transaction.
 */

import type { SegmentHeader } from '../codec/segment.ts'
import { readHeader, sealSegment, segmentDigest } from '../codec/segment.ts'
import { segmentPointsMax } from '../limits.ts'
import type { PointBatch, SealOrder } from '../model.ts'
import { asTheyAre } from './columns.ts'
import { keyOf, type LaneState, type SpoolState, seqSpan } from './state.ts'

/** Leaves room for 60 k points of numbers below `segmentBytesMax`, even if the text does not compress. */
export const segmentTextCostMax = 2 * 1024 * 1024

/** Never more than a segment can hold, whatever the configuration says. */
export const pointsMaxOf = (lane: LaneState): number =>
  Math.min(lane.options?.segmentPointsMax ?? segmentPointsMax, segmentPointsMax)

const fillWindowMs = 10_000
const countFill = (state: SpoolState, bytes: number) => {
  const { sinceMs, perSecond } = state.fill
  const total = state.fill.bytes + bytes
  const elapsedMs = state.host.clock.monotonicMs() - sinceMs
  if (elapsedMs < fillWindowMs) {
    state.fill = { ...state.fill, bytes: total }
    return
  }
  const latest = (total * 1000) / elapsedMs
  const smoothed = perSecond === 0 ? latest : perSecond * 0.7 + latest * 0.3
  state.fill = { sinceMs: sinceMs + elapsedMs, bytes: 0, perSecond: smoothed }
}

/** Inside a transaction: one segment with these points at the lane's next seq; copies keep the order they had. */
export const sealPoints = (
  state: SpoolState,
  lane: LaneState,
  points: PointBatch,
  clockState: SegmentHeader['clockState'],
  copyOf?: SealOrder,
): void => {
  const seq = lane.now.head + 1
  const sealNumber = state.now.sealNumber + 1
  const bytes = sealSegment(
    {
      epoch: state.epoch,
      lane: lane.id,
      seq,
      sealNumber,
      previousHash: lane.now.hash,
      configRevision: state.options.configRevision,
      dictionaryLength: state.dictionary.length(),
      dictionaryHash: state.dictionary.hash(),
      bootId: state.host.bootId,
      monotonicUs: Math.floor(state.host.clock.monotonicMs() * 1000),
      clockState,
      ...(copyOf === undefined ? {} : { copyOf }),
    },
    points,
    state.options.compressor,
  )
  // What the region will read is what the row says; far cheaper than another look at every point.
  const { timeUsMin, timeUsMax } = readHeader(bytes)
  state
    .sql('INSERT INTO segments VALUES (?, ?, ?, ?, ?, ?)')
    .run(keyOf(lane.id, seq), state.ordinal, points.count, timeUsMin, timeUsMax, bytes)
  state.now = { ...state.now, sealNumber }
  lane.now = {
    ...lane.now,
    head: seq,
    hash: segmentDigest(bytes),
    accepted: lane.now.accepted + points.count,
    bytes: lane.now.bytes + bytes.length,
  }
  state.bytesWritten += bytes.length
  countFill(state, bytes.length)
}

/**
 * Inside a transaction, once a lane: seals the open columns from their start, whole segments only unless
 * `all`, which spreads the points evenly: two halves cost less than a whole and a scrap. Returns how many points.
 */
export const sealOpen = (state: SpoolState, lane: LaneState, all: boolean): number => {
  const { open } = lane
  const whole = pointsMaxOf(lane)
  const segments = Math.max(1, Math.ceil(open.count() / whole))
  const pointsMax = all ? Math.ceil(open.count() / segments) : whole
  let from = 0
  if (open.count() > 0) {
    // Journal rows first: their pages make room for the segment.
    state
      .sql('DELETE FROM journal WHERE key >= ? AND key < ?')
      .run(lane.id * seqSpan, (lane.id + 1) * seqSpan)
  }
  const clockState = state.clock.trusted ? 'trusted' : 'untrusted'
  while (from < open.count()) {
    const to = open.fit(from, pointsMax, segmentTextCostMax)
    if (!all && to === open.count() && to - from < pointsMax) break
    sealPoints(state, lane, open.slice(from, to), clockState)
    from = to
  }
  // Two sets of columns take turns: the old points stay until the transaction stands.
  const rest = lane.spare
  rest.truncate(0)
  if (from < open.count()) rest.append(open.slice(from, open.count()), asTheyAre)
  lane.open = rest
  lane.spare = open
  return from
}
