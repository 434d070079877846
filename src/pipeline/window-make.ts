/**
 * Windows made again from the raw lane: those a point out of order broke, and those that ask for quantiles.
 *
 * Invariants: what is made is what points in time order would have made, the last accepted of each time standing; the
 * lane is read once for all windows of a turn whose spans touch, and points gathered at once stay below `gatherMax`.
 */
import { type BatchBuilder, createBatchBuilder } from '../batch.ts'
import { kinds, type PointBatch, type StageInput } from '../model.ts'
import { isAhead } from './quality.ts'
import type { StageSeries } from './stage-series.ts'

/** Points of one reading: 44 MiB of columns. What is left over is made in the next turn. */
export const gatherMax = 2_000_000

export interface MakeJob {
  readonly at: number
  readonly own: number
  /** From the span before, for the value in force at the start. */
  readonly fromUs: number
  readonly toUs: number
  /** About how many points it has. */
  readonly estimate: number
}
/** Points of one job in time order, each time once. */
export interface Gathered {
  readonly points: PointBatch
  readonly order: Uint32Array
}

/** As many jobs, from the first on, as one turn takes. */
export const jobsOfOneTurn = (jobs: readonly MakeJob[]): number => {
  let points = 0
  let taken = 0
  while (taken < jobs.length && (taken === 0 || points < gatherMax)) {
    points += (jobs[taken] as MakeJob).estimate
    taken++
  }
  return taken
}

const copy = (from: PointBatch, bits: Uint32Array, i: number, to: BatchBuilder): void => {
  const kind = from.kinds[i] as 0 | 1 | 2 | 3
  const [low, high] = [bits[i * 2] as number, bits[i * 2 + 1] as number]
  const time = from.timeUs[i] as number
  const quality = from.qualities[i] as number
  if (kind === kinds.string) to.addText(0, time, from.texts[low] as string, quality)
  else to.addWords(0, time, kind, quality, low, high)
}

/** Indexes by time; of equal times the last one. */
export const orderOf = ({ timeUs, count }: PointBatch): Uint32Array => {
  const order = Uint32Array.from({ length: count }, (_, i) => i)
  let sorted = true
  for (let i = 1; i < count && sorted; i++) {
    sorted = (timeUs[i] as number) > (timeUs[i - 1] as number)
  }
  if (sorted) return order
  order.sort((a, b) => (timeUs[a] as number) - (timeUs[b] as number) || a - b)
  let kept = 0
  for (let i = 0; i < count; i++) {
    const one = order[i] as number
    if (i + 1 < count && timeUs[order[i + 1] as number] === timeUs[one]) continue
    order[kept++] = one
  }
  return order.subarray(0, kept)
}

/** Reads the lane for jobs whose spans touch, and hands each job its points. */
const makeTouching = (
  jobs: readonly MakeJob[],
  fromUs: number,
  toUs: number,
  raw: StageInput['raw'],
  series: StageSeries,
  take: (job: MakeJob, gathered: Gathered) => void,
): void => {
  const byOwn = new Map<number, { readonly job: MakeJob; readonly to: BatchBuilder }[]>()
  for (const job of jobs) {
    const beside = byOwn.get(job.own) ?? []
    byOwn.set(job.own, [...beside, { job, to: createBatchBuilder(Math.max(16, job.estimate)) }])
  }
  for (const batch of series.met(raw)(fromUs, toUs)) {
    const owns = series.owns()
    const bits = new Uint32Array(batch.bits.buffer, batch.bits.byteOffset, batch.count * 2)
    for (let i = 0; i < batch.count; i++) {
      const mine = byOwn.get(owns[batch.series[i] as number] ?? -1)
      if (mine === undefined || isAhead(batch.qualities[i] as number)) continue
      const time = batch.timeUs[i] as number
      for (const { job, to } of mine) {
        if (time >= job.fromUs && time < job.toUs) copy(batch, bits, i, to)
      }
    }
  }
  for (const mine of byOwn.values()) {
    for (const { job, to } of mine) {
      const points = to.take()
      take(job, { points, order: orderOf(points) })
    }
  }
}

export const makeAgain = (
  jobs: readonly MakeJob[],
  raw: StageInput['raw'],
  series: StageSeries,
  take: (job: MakeJob, gathered: Gathered) => void,
): void => {
  // Stable: of equal starts the order is the caller's, which row numbers have no part in.
  const sorted = [...jobs].sort((a, b) => a.fromUs - b.fromUs)
  for (let first = 0; first < sorted.length; ) {
    const { fromUs } = sorted[first] as MakeJob
    let { toUs } = sorted[first] as MakeJob
    let next = first
    while (next < sorted.length && (sorted[next] as MakeJob).fromUs < toUs) {
      toUs = Math.max(toUs, (sorted[next] as MakeJob).toUs)
      next++
    }
    makeTouching(sorted.slice(first, next), fromUs, toUs, raw, series, take)
    first = next
  }
}
