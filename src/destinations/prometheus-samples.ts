/**
 * Segments as samples: milliseconds and float64.
 *
 * Invariants: what cannot be held is told to the caller, and never written almost right; the
 * samples of a series come in the order of their time, one for each millisecond, the later point standing.
 */
import { valueAt } from '../batch.ts'
import type { PointBatch, Refusal } from '../model.ts'
import type { Labels, Sample } from '../protocol/remote-write.ts'

export interface SampledSeries {
  readonly name: string
  /** Undefined when its labels cannot be said. */
  readonly labels: Labels | undefined
}

const numberOf = (points: PointBatch, at: number): number | string => {
  const value = valueAt(points, at)
  if (typeof value === 'number') return value
  if (typeof value === 'boolean') return value ? 1 : 0
  if (typeof value === 'string') return 'Prometheus holds no strings'
  const exact = BigInt(Number(value)) === value
  return exact ? Number(value) : `Prometheus holds no integer as large as ${value}`
}
/** With its place in the segment. */
export interface PlacedSample extends Sample {
  readonly at: number
}
/** Says that a point, at this place in the segment, is not sent. */
export type LeaveOut = (why: Refusal, at: number, name: string, text: string) => void

/** Series by series, as they stand in the segment. */
export const samplesOf = (
  points: PointBatch,
  series: readonly SampledSeries[],
  leaveOut: LeaveOut,
): readonly PlacedSample[] => {
  const all: PlacedSample[] = []
  for (let at = 0; at < points.count; ) {
    const ref = points.series[at] as number
    const { name, labels } = series[ref] as SampledSeries
    const run: PlacedSample[] = []
    for (; at < points.count && points.series[at] === ref; at++) {
      const value = labels === undefined ? 'two of its labels have one name' : numberOf(points, at)
      if (labels !== undefined && typeof value === 'number') {
        const ms = Math.floor((points.timeUs[at] as number) / 1_000)
        run.push({ labels, ms, value, at })
      } else leaveOut(labels === undefined ? 'name' : 'value', at, name, String(value))
    }
    // Stable: of one millisecond, the point accepted last stands last.
    run.sort((one, other) => one.ms - other.ms)
    run.forEach((sample, nth) => {
      if (run[nth + 1]?.ms !== sample.ms) all.push(sample)
      else leaveOut('time', sample.at, name, 'a later point has the same millisecond')
    })
  }
  return all
}
