/**
 * What a point out of order breaks, mended: between the two knots around it every point of the raw lane is sent.
 *
 * Invariants: a job's range lies strictly between two points already sent, so whatever was left out beyond it is drawn
 * as before; ranges are read from the raw lane once a step, and none is longer than `mendSpanUsMax`.
 */
import type { PointBatch, StageInput } from '../model.ts'
import { cell, knotsMax, stride } from './rule-table.ts'
import type { StageSeries } from './stage-series.ts'

/** Raw points of this much time are read again at most. */
export const mendSpanUsMax = 7_200_000_000

export interface MendJob {
  readonly own: number
  /** Exclusive. */
  readonly fromUs: number
  readonly toUs: number
  /** Time of the point that came late: its newest value is sent after all others. */
  readonly timeUs: number
}

/**
 * Between which knots raw points are to be sent for one that came late at `timeUs`; null when the knots are forgotten,
 * or too far apart to read. Of a stepped line only what follows is drawn otherwise; where nothing was left out between
 * two knots there is nothing to send.
 */
export const rangeAround = (
  cells: Float64Array,
  own: number,
  timeUs: number,
  stepped: boolean,
): { readonly fromUs: number; readonly toUs: number } | null => {
  const row = own * stride
  const count = cells[row + cell.knotCount] as number
  const beside = cells[row + cell.beside] as number
  const never = Number.POSITIVE_INFINITY
  let [fromUs, toUs] = [-never, never]
  /** Whether there is a knot at this very time, and whether nothing was left out before it, or before the next. */
  let [here, besideHere, besideNext] = [false, false, false]
  for (let i = 0; i < Math.min(count, knotsMax); i++) {
    const time = cells[row + cell.knots + i] as number
    const isBeside = (beside & (1 << i)) !== 0
    if (time < timeUs && time > fromUs) fromUs = time
    else if (time === timeUs) [here, besideHere] = [true, isBeside]
    else if (time > timeUs && time < toUs) [toUs, besideNext] = [time, isBeside]
  }
  if (fromUs === -never && count > knotsMax) return null
  // Before the very first point there is nothing left out.
  if (fromUs === -never || stepped || (here ? besideHere : besideNext)) fromUs = timeUs
  if (toUs === never || besideNext) toUs = timeUs
  return toUs - fromUs > mendSpanUsMax ? null : { fromUs, toUs }
}

/**
 * Calls `send` with every raw point inside a job's range, but for those at its own time, and `lacking` with each
 * job some of whose raw points may be gone.
 */
export const mend = (
  jobs: readonly MendJob[],
  raw: StageInput['raw'],
  series: StageSeries,
  send: (own: number, batch: PointBatch, i: number) => void,
  lacking: (job: MendJob) => void,
): void => {
  const sorted = jobs
    .filter(({ fromUs, toUs }) => toUs > fromUs)
    .sort((a, b) => a.fromUs - b.fromUs)
  for (let first = 0; first < sorted.length; ) {
    let { fromUs, toUs } = sorted[first] as MendJob
    const group = new Map<number, MendJob[]>()
    let next = first
    for (; next < sorted.length && (sorted[next] as MendJob).fromUs <= toUs; next++) {
      const job = sorted[next] as MendJob
      toUs = Math.max(toUs, job.toUs)
      group.set(job.own, [...(group.get(job.own) ?? []), job])
    }
    for (const batch of series.met(raw)(fromUs + 1, toUs)) {
      const owns = series.owns()
      for (let i = 0; i < batch.count; i++) {
        const own = owns[batch.series[i] as number] ?? -1
        if (own < 0) continue
        const time = batch.timeUs[i] as number
        const inside = group
          .get(own)
          ?.some((job) => time > job.fromUs && time < job.toUs && time !== job.timeUs)
        if (inside) send(own, batch, i)
      }
    }
    first = next
  }
  // What is damaged is known once it was read.
  for (const job of sorted) if (raw.lacks?.(job.fromUs + 1, job.toUs) === true) lacking(job)
}
