/** First, plain body: columns as they are, series sorted. */
import { Failure } from '../errors.ts'
import { segmentPointsMax } from '../limits.ts'
import type { PointBatch } from '../model.ts'
import type { SegmentHeader } from './header.ts'
import { readColumns, writeColumns } from './plain.ts'

export const sortBySeries = (points: PointBatch): PointBatch => {
  const order = Uint32Array.from({ length: points.count }, (_, at) => at)
  order.sort((a, b) => (points.series[a] as number) - (points.series[b] as number) || a - b)
  return {
    count: points.count,
    series: Uint32Array.from(order, (at) => points.series[at] as number),
    timeUs: Float64Array.from(order, (at) => points.timeUs[at] as number),
    kinds: Uint8Array.from(order, (at) => points.kinds[at] as number),
    qualities: Uint8Array.from(order, (at) => points.qualities[at] as number),
    bits: BigUint64Array.from(order, (at) => points.bits[at] as bigint),
    texts: points.texts,
  }
}

export const encodeBody = (points: PointBatch) => {
  if (points.count > segmentPointsMax) {
    throw new Failure('HF-K005', `${points.count} points in a segment`)
  }
  const sorted = sortBySeries(points)
  let timeUsMin = points.count === 0 ? 0 : Infinity
  let timeUsMax = points.count === 0 ? 0 : -Infinity
  for (const time of sorted.timeUs) {
    if (time < timeUsMin) timeUsMin = time
    if (time > timeUsMax) timeUsMax = time
  }
  return {
    raw: writeColumns(sorted),
    seriesCount: new Set(sorted.series).size,
    timeUsMin,
    timeUsMax,
  }
}

export const decodeBody = (raw: Uint8Array, header: SegmentHeader): PointBatch => {
  const points = readColumns(raw)
  if (points.count !== header.pointCount) throw new Failure('HF-K006', 'segment body is malformed')
  return points
}
