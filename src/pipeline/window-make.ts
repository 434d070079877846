/**
 * Windows made from the raw lane: those a point out of order broke, and those that ask for quantiles.
 *
 * Invariants: what is made is what points in time order would have made, the last accepted of each time standing; the
 * lane is read once for all windows of a turn whose spans touch, a piece at a time, and what is gathered at once stays
 * below `gatherMax`. Of a window whose points came in order only the values are gathered.
 */
import { type BatchBuilder, createBatchBuilder } from '../batch.ts'
import { kinds, type Pieces, type PointBatch, type StageInput } from '../model.ts'
import { isAhead } from './quality.ts'
import type { StageSeries } from './stage-series.ts'
import { type Faces, facesOf, usedNumber } from './window-add.ts'

/** Points of one reading: 44 MiB of columns. What is left over is made in the next turn. */
export const gatherMax = 2_000_000
/** What a value takes of a point's columns. */
const valueShare = 8 / 22

export interface MakeJob {
  readonly at: number
  readonly own: number
  /** From the span before, for the value in force at the start. */
  readonly fromUs: number
  readonly toUs: number
  /** About how many points it has. */
  readonly estimate: number
  /** Its points came in order, and nothing but their values is asked for. */
  readonly inOrder: boolean
}
/** Of one job, each time once: its points in time order, or the values of those that are used. */
export type Gathered =
  | { readonly kind: 'points'; readonly points: PointBatch; readonly order: Uint32Array }
  | { readonly kind: 'values'; readonly values: Float64Array }

/** As many jobs, from the first on, as one turn takes. */
export const jobsOfOneTurn = (jobs: readonly MakeJob[]): number => {
  let points = 0
  let taken = 0
  while (taken < jobs.length && (taken === 0 || points < gatherMax)) {
    const { estimate, inOrder } = jobs[taken] as MakeJob
    points += estimate * (inOrder ? valueShare : 1)
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

interface Gathering {
  readonly job: MakeJob
  readonly add: (faces: Faces, i: number) => void
  readonly take: () => Gathered
}
const gatherPoints = (job: MakeJob): Gathering => {
  const to = createBatchBuilder(Math.max(16, job.estimate))
  return {
    job,
    add: ({ points, bits }, i) => copy(points, bits, i, to),
    take: () => {
      const points = to.take()
      return { kind: 'points', points, order: orderOf(points) }
    },
  }
}
const gatherValues = (job: MakeJob): Gathering => {
  let values = new Float64Array(Math.max(16, job.estimate))
  let count = 0
  let lastUs = Number.NaN
  return {
    job,
    add: (faces, i) => {
      const time = faces.points.timeUs[i] as number
      // The newest point once more, as a broker that heard no ack sends it: all that may share its time here.
      if (time === lastUs) return
      lastUs = time
      const value = usedNumber(faces, i)
      if (Number.isNaN(value)) return
      if (count === values.length) {
        const larger = new Float64Array(count * 2)
        larger.set(values)
        values = larger
      }
      values[count++] = value
    },
    take: () => ({ kind: 'values', values: values.subarray(0, count) }),
  }
}

/** Reads the lane for jobs whose spans touch, and hands each job what it asked for. */
function* makeTouching(
  jobs: readonly MakeJob[],
  fromUs: number,
  toUs: number,
  raw: StageInput['raw'],
  series: StageSeries,
  take: (job: MakeJob, gathered: Gathered) => void,
): Pieces<void> {
  const all = jobs.map((job) => (job.inOrder ? gatherValues(job) : gatherPoints(job)))
  const byOwn = new Map<number, Gathering[]>()
  for (const one of all) {
    const beside = byOwn.get(one.job.own)
    if (beside === undefined) byOwn.set(one.job.own, [one])
    else beside.push(one)
  }
  for (const batch of series.met(raw)(fromUs, toUs)) {
    const owns = series.owns()
    const faces = facesOf(batch)
    let number = -1
    let mine: readonly Gathering[] | undefined
    for (let i = 0; i < batch.count; i++) {
      // A segment's points come series by series.
      if (batch.series[i] !== number) {
        number = batch.series[i] as number
        mine = byOwn.get(owns[number] ?? -1)
      }
      if (mine === undefined || isAhead(batch.qualities[i] as number)) continue
      const time = batch.timeUs[i] as number
      for (const one of mine) {
        if (time >= one.job.fromUs && time < one.job.toUs) one.add(faces, i)
      }
    }
    yield batch.count
  }
  for (const one of all) {
    take(one.job, one.take())
    yield one.job.estimate
  }
}

export function* makeAgain(
  jobs: readonly MakeJob[],
  raw: StageInput['raw'],
  series: StageSeries,
  take: (job: MakeJob, gathered: Gathered) => void,
): Pieces<void> {
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
    yield* makeTouching(sorted.slice(first, next), fromUs, toUs, raw, series, take)
    first = next
  }
}
