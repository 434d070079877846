/**
 * From one decoded segment to the rows that are written: which of its points stand, in (series, time) order.
 *
 * Invariant: of several points of one (series, time) the last accepted stands. Points come grouped by series, in
 * accept order within; order that is already strict costs one pass and no memory.
 */
import type { PointBatch, SeriesId } from '../model.ts'

export interface SegmentRows {
  readonly points: PointBatch
  readonly ids: readonly SeriesId[]
  readonly ord: bigint
  /** Positions to write, in order; null means all of them as they stand. */
  readonly order: Uint32Array | null
  readonly count: number
}

const ordinalShift = 40n
export const ordOf = (ordinal: number, sealNumber: number): bigint =>
  (BigInt(ordinal) << ordinalShift) | BigInt(sealNumber)

const isStrict = ({ series, timeUs, count }: PointBatch): boolean => {
  for (let at = 1; at < count; at++) {
    const a = series[at - 1] as number
    const b = series[at] as number
    if (b < a || (b === a && (timeUs[at] as number) <= (timeUs[at - 1] as number))) return false
  }
  return true
}

const standing = ({ series, timeUs, count }: PointBatch): Uint32Array => {
  const order = new Uint32Array(count)
  for (let at = 0; at < count; at++) order[at] = at
  order.sort(
    (a, b) =>
      (series[a] as number) - (series[b] as number) ||
      (timeUs[a] as number) - (timeUs[b] as number) ||
      a - b,
  )
  let kept = 0
  for (let at = 0; at < count; at++) {
    const here = order[at] as number
    const next = order[at + 1]
    const replaced =
      next !== undefined && series[next] === series[here] && timeUs[next] === timeUs[here]
    if (!replaced) order[kept++] = here
  }
  return order.subarray(0, kept)
}

export const rowsOf = (points: PointBatch, ids: readonly SeriesId[], ord: bigint): SegmentRows => {
  const order = isStrict(points) ? null : standing(points)
  return { points, ids, ord, order, count: order?.length ?? points.count }
}
