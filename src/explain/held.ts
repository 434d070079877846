/**
 * The points of one series that lanes still hold: backwards from the head of the lane it came in, and what its rule's
 * lane has of the same time.
 *
 * Invariants: a look: no cursor moves, nothing is written; a budget of segments and points bounds what is read, in
 * pieces between which the agent goes on.
 */
import { type BatchBuilder, copyPoint, createBatchBuilder, wordsOf } from '../batch.ts'
import { openSegment } from '../codec/segment.ts'
import type { ExplainGap } from '../control/explained.ts'
import type { EpochId, PointBatch, Segment, Seq, SeriesEntry } from '../model.ts'
import type { HeldSegment } from '../pipeline/explain.ts'
import type { LaneStatus, SpoolPort } from '../spool-port.ts'
import { entriesPerCall } from './series.ts'

export type HeldSpool = Pick<SpoolPort, 'read' | 'dictionary' | 'estimate'>
const readBytesMax = 1 << 20

export interface Budget {
  segments: number
  points: number
}
/** The points of one series, out of segments. */
export const createPicker = (spool: HeldSpool, wanted: SeriesEntry) => {
  const numbers = new Map<EpochId, number>()
  const read = new Map<EpochId, number>()
  const numberIn = async (epoch: EpochId, length: number): Promise<number> => {
    let first = read.get(epoch) ?? 0
    while (!numbers.has(epoch) && first < length) {
      const some = await spool.dictionary(epoch, first, entriesPerCall)
      if (some.length === 0) break
      const at = some.findIndex(({ id }) => id === wanted.id)
      if (at >= 0) numbers.set(epoch, first + at)
      first += some.length
    }
    read.set(epoch, first)
    return numbers.get(epoch) ?? -1
  }
  return async ({ bytes }: Segment): Promise<PointBatch> => {
    const { header, points } = openSegment(bytes)
    const number = await numberIn(header.epoch, header.dictionaryLength)
    const words = wordsOf(points)
    const out: BatchBuilder = createBatchBuilder(16)
    // Series stand in ascending order.
    for (
      let at = number < 0 ? -1 : points.series.indexOf(number);
      at >= 0 && at < points.count;
      at++
    ) {
      if (points.series[at] !== number) break
      copyPoint(out, points, words, at)
    }
    const taken = out.take()
    return { ...taken, series: taken.series.fill(0) }
  }
}
type Picker = ReturnType<typeof createPicker>

export interface Tail {
  readonly segments: HeldSegment[]
  readonly gaps: ExplainGap[]
  /** Nothing of the lane lies before it. */
  readonly whole: boolean
}
/** Beside those that are asked for: what rules and windows step again, one by one, in the agent's main thread. */
const moreMax = 4_000
/** The newest points; of a fast series a segment alone may hold more than a look may take. */
const newestOf = (segments: readonly HeldSegment[], max: number): HeldSegment[] => {
  let left = max
  return segments
    .toReversed()
    .flatMap(({ seq, points }) => {
      const count = Math.min(left, points.count)
      left -= count
      return count === 0 ? [] : [{ seq, points: lastOf(points, count) }]
    })
    .reverse()
}
const lastOf = (points: PointBatch, count: number): PointBatch => {
  const { series, timeUs, kinds, qualities, bits, texts } = points
  const [first, last] = [points.count - count, points.count]
  return {
    count,
    series: series.slice(first, last),
    timeUs: timeUs.slice(first, last),
    kinds: kinds.slice(first, last),
    qualities: qualities.slice(first, last),
    bits: bits.slice(first, last),
    texts,
  }
}
const countOf = (segments: readonly HeldSegment[]) =>
  segments.reduce((sum, { points }) => sum + points.count, 0)

/** Backwards from the head, until `enough` points are found or the budget is spent; few more than that. */
export const readTail = async (
  spool: HeldSpool,
  lane: LaneStatus,
  pick: Picker,
  enough: number,
  budget: Budget,
): Promise<Tail> => {
  const segments: HeldSegment[] = []
  const gaps: ExplainGap[] = []
  let upTo = lane.head
  for (let span = 16; upTo >= lane.floor && budget.segments > 0 && budget.points > 0; ) {
    const after = Math.max(lane.floor - 1, upTo - span)
    const piece: HeldSegment[] = []
    for (let at = after; at < upTo; ) {
      const items = await spool.read(lane.lane, at, readBytesMax, upTo)
      if (items.length === 0) break
      for (const item of items) {
        budget.segments--
        if (item.type === 'segment') {
          budget.points -= item.pointCount
          const points = await pick(item)
          if (points.count > 0) piece.push({ seq: item.seq, points })
          at = item.seq
        } else {
          const { seq, seqLast, gap } = item
          const { reason, count, source } = gap
          gaps.push({ lane: lane.lane, seq, seqLast, reason, count, source, destination: '' })
          at = seqLast
        }
      }
    }
    segments.unshift(...piece)
    upTo = after
    span = Math.min(span * 2, 1_024)
    if (countOf(segments) >= enough) break
  }
  const newest = newestOf(segments, enough + moreMax)
  return { segments: newest, gaps, whole: upTo < 1 && countOf(newest) === countOf(segments) }
}

export interface Knots {
  /** Newest seq of the lane that holds a point of this time. */
  readonly seqs: ReadonlyMap<number, Seq>
  /** Of what lies before, the lane holds nothing any more. */
  readonly fromUs: number
  /** Of the point that stands last in the lane, NaN when there is none. */
  readonly lastUs: number
}
export const readKnots = async (
  spool: HeldSpool,
  lane: LaneStatus,
  pick: Picker,
  fromUs: number,
  budget: Budget,
): Promise<Knots> => {
  const seqs = new Map<number, Seq>()
  const range = await spool.estimate(lane.lane, fromUs, Number.MAX_SAFE_INTEGER)
  let heldUs = Number.NEGATIVE_INFINITY
  let lastUs = Number.NaN
  if (range.segments === 0)
    return { seqs, fromUs: lane.floor > 1 ? Number.POSITIVE_INFINITY : heldUs, lastUs }
  if (lane.floor > 1 && range.seqFirst <= lane.floor) heldUs = Number.NaN
  for (let at = range.seqFirst - 1; at < range.seqLast && budget.segments > 0; ) {
    const items = await spool.read(lane.lane, at, readBytesMax, range.seqLast)
    if (items.length === 0) break
    for (const item of items) {
      budget.segments--
      at = item.type === 'segment' ? item.seq : item.seqLast
      if (item.type !== 'segment') continue
      if (Number.isNaN(heldUs)) heldUs = item.timeUsMin
      for (const time of (await pick(item)).timeUs) {
        seqs.set(time, item.seq)
        lastUs = time
      }
    }
  }
  return { seqs, fromUs: heldUs, lastUs }
}
