/**
 * Windows made from the raw lane: those a point out of order broke, and those that ask for quantiles.
 *
 * Invariants: what is made is what points in time order would have made, the last accepted of each time standing; the
 * lane is read once for all windows of a turn whose spans touch, a piece at a time. What is gathered at once stays
 * about below `makeLimits`, whatever was expected of the windows: fewer are made at once then, and one of more points
 * a part of its span at a time. Of a window whose points came in order only the values are gathered, and all of them.
 */
import { type BatchBuilder, createBatchBuilder, emptyBatch } from '../batch.ts'
import { kinds, type Pieces, type PointBatch, type StageInput } from '../model.ts'
import { isAhead } from './quality.ts'
import type { StageSeries } from './stage-series.ts'
import { type Faces, facesOf, usedNumber } from './window-add.ts'

export interface MakeLimits {
  /** Points of one reading: 44 MiB of columns. What is left over is made in the next turn. */
  readonly points: number
  /** Points of one window that are sorted and added at once: some 50 ms. */
  readonly part: number
}
export const makeLimits: MakeLimits = { points: 2_000_000, part: 250_000 }
/** What a value takes of a point's columns. */
const valueShare = 8 / 22
/** What a job takes beside its points, in points. */
const jobShare = 16

export interface MakeJob {
  readonly at: number
  readonly own: number
  /** A window length of the series. */
  readonly owner: number
  /** The window's start, or that of the span before, for the value in force at the start. */
  readonly fromUs: number
  readonly startUs: number
  readonly toUs: number
  /** About how many points it has. */
  readonly estimate: number
  /** Its points came in order, and nothing but their values is asked for. */
  readonly inOrder: boolean
}
/** Of one job, each time once: its points in time order, or the values of those that are used. */
export type Gathered =
  | {
      readonly kind: 'points'
      /** The last point before the start, if it asked for that and there is one. */
      readonly before: PointBatch
      readonly points: PointBatch
      readonly order: Uint32Array
    }
  | { readonly kind: 'values'; readonly values: Float64Array }
/** A job may be taken in several parts, in the order of time and without another one in between. */
export type TakeMade = (job: MakeJob, gathered: Gathered, isLast: boolean) => void

/** As many jobs, from the first on, as one turn takes. */
export const jobsOfOneTurn = (jobs: readonly MakeJob[], { points: max } = makeLimits): number => {
  let points = 0
  let taken = 0
  while (taken < jobs.length && (taken === 0 || points < max)) {
    const { estimate, inOrder } = jobs[taken] as MakeJob
    points += jobShare + estimate * (inOrder ? valueShare : 1)
    taken++
  }
  return taken
}

/** Indexes in accept order by time; of equal times the last one. */
const orderOf = (timeUs: Float64Array, order: Uint32Array): Uint32Array => {
  let sorted = true
  for (let at = 1; at < order.length && sorted; at++) {
    sorted = (timeUs[order[at] as number] as number) > (timeUs[order[at - 1] as number] as number)
  }
  if (sorted) return order
  order.sort((a, b) => (timeUs[a] as number) - (timeUs[b] as number) || a - b)
  let kept = 0
  for (let at = 0; at < order.length; at++) {
    const one = order[at] as number
    if (at + 1 < order.length && timeUs[order[at + 1] as number] === timeUs[one]) continue
    order[kept++] = one
  }
  return order.subarray(0, kept)
}

const copy = ({ points, bits }: Faces, i: number, to: BatchBuilder, series: number): void => {
  const kind = points.kinds[i] as 0 | 1 | 2 | 3
  const [low, high] = [bits[i * 2] as number, bits[i * 2 + 1] as number]
  const [timeUs, quality] = [points.timeUs[i] as number, points.qualities[i] as number]
  if (kind === kinds.string) to.addText(series, timeUs, points.texts[low] as string, quality)
  else to.addWords(series, timeUs, kind, quality, low, high)
}

interface Gathering {
  readonly job: MakeJob
  /** Returns what it takes, in points. */
  readonly add: (faces: Faces, i: number) => number
  readonly take: () => Gathered
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
      if (time === lastUs) return 0
      lastUs = time
      const value = usedNumber(faces, i)
      if (Number.isNaN(value)) return 0
      if (count === values.length) {
        const larger = new Float64Array(count * 2)
        larger.set(values)
        values = larger
      }
      values[count++] = value
      return valueShare
    },
    take: () => ({ kind: 'values', values: values.subarray(0, count) }),
  }
}
/** Points of all jobs in one batch: a job's own are told by its number. */
const createShared = (estimate: number) => {
  const to = createBatchBuilder(Math.max(16, estimate))
  const counts: number[] = []
  let placed: { readonly points: PointBatch; readonly orders: Uint32Array[] } | undefined
  const place = () => {
    const points = to.take()
    const all = new Uint32Array(points.count)
    let from = 0
    const orders = counts.map((count) => {
      from += count
      return all.subarray(from - count, from)
    })
    const next = counts.map(() => 0)
    for (let i = 0; i < points.count; i++) {
      const job = points.series[i] as number
      ;(orders[job] as Uint32Array)[next[job] as number] = i
      next[job] = (next[job] as number) + 1
    }
    return { points, orders }
  }
  return (job: MakeJob): Gathering => {
    const number = counts.push(0) - 1
    let before: BatchBuilder | undefined
    let beforeUs = Number.NEGATIVE_INFINITY
    return {
      job,
      add: (faces, i) => {
        const time = faces.points.timeUs[i] as number
        if (time < job.startUs) {
          if (time < beforeUs) return 0
          beforeUs = time
          before ??= createBatchBuilder(1)
          before.truncate(0)
          copy(faces, i, before, number)
          return 0
        }
        copy(faces, i, to, number)
        counts[number] = (counts[number] as number) + 1
        return 1
      },
      take: () => {
        placed ??= place()
        const { points, orders } = placed
        const order = orderOf(points.timeUs, orders[number] as Uint32Array)
        return { kind: 'points', before: before?.take() ?? emptyBatch, points, order }
      },
    }
  }
}

/** Of one window length of a series, by time: ends and beginnings both rise. */
const firstBehind = (ones: readonly Gathering[], timeUs: number): number => {
  let [low, high] = [0, ones.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((ones[middle] as Gathering).job.toUs <= timeUs) low = middle + 1
    else high = middle
  }
  return low
}
/** By own number, and by window length. */
const byOwners = (all: readonly Gathering[]): ReadonlyMap<number, readonly Gathering[][]> => {
  const owners = new Map<number, Gathering[]>()
  const owns = new Map<number, Gathering[][]>()
  for (const one of all) {
    const { own, owner } = one.job
    const beside = owners.get(owner)
    if (beside !== undefined) {
      beside.push(one)
      continue
    }
    const mine = [one]
    owners.set(owner, mine)
    owns.set(own, [...(owns.get(own) ?? []), mine])
  }
  return owns
}

interface Making {
  readonly raw: StageInput['raw']
  readonly series: StageSeries
  readonly limits: MakeLimits
  readonly take: TakeMade
}
/** Reads what the jobs ask for, in order of time; null where that is more than `max` points. */
function* gather(
  { raw, series }: Making,
  jobs: readonly MakeJob[],
  max: number,
): Pieces<readonly Gathering[] | null> {
  let left = max
  let [fromUs, toUs, estimate] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0]
  for (const job of jobs) {
    fromUs = Math.min(fromUs, job.fromUs)
    toUs = Math.max(toUs, job.toUs)
    if (!job.inOrder) estimate += job.estimate
  }
  const shared = createShared(Math.min(estimate, max))
  const all = jobs.map((job) => (job.inOrder ? gatherValues(job) : shared(job)))
  const owners = byOwners(all)
  for (const batch of series.met(raw)(fromUs, toUs)) {
    const owns = series.owns()
    const faces = facesOf(batch)
    let number = -1
    let mine: readonly Gathering[][] | undefined
    for (let i = 0; i < batch.count; i++) {
      // A segment's points come series by series.
      if (batch.series[i] !== number) {
        number = batch.series[i] as number
        mine = owners.get(owns[number] ?? -1)
      }
      if (mine === undefined || isAhead(batch.qualities[i] as number)) continue
      const time = batch.timeUs[i] as number
      for (let k = 0; k < mine.length; k++) {
        const ones = mine[k] as readonly Gathering[]
        for (let next = firstBehind(ones, time); next < ones.length; next++) {
          const one = ones[next] as Gathering
          if (time < one.job.fromUs) break
          left -= one.add(faces, i)
        }
      }
    }
    yield batch.count
    if (left < 0) return null
  }
  return all
}

/** A window of more points than are made at once: what was in force before it, then parts of its span. */
function* makeLong(making: Making, job: MakeJob): Pieces<void> {
  const { take, limits } = making
  const { fromUs, startUs, toUs, estimate } = job
  if (fromUs < startUs) {
    const [before] = (yield* gather(making, [{ ...job, toUs: startUs, estimate: 0 }], 1)) ?? []
    if (before !== undefined) take(job, before.take(), false)
  }
  let spanUs = Math.ceil((toUs - startUs) * Math.min(1, limits.part / Math.max(1, estimate)))
  for (let nextUs = startUs; nextUs < toUs; ) {
    const endUs = Math.min(toUs, nextUs + spanUs)
    const part = { ...job, fromUs: nextUs, startUs: nextUs, toUs: endUs, estimate: 0 }
    const max = spanUs > 1 ? limits.part : Number.POSITIVE_INFINITY
    const [gathered] = (yield* gather(making, [part], max)) ?? []
    if (gathered === undefined) {
      spanUs = Math.floor(spanUs / 2)
      continue
    }
    const made = gathered.take()
    take(job, made, endUs === toUs)
    if (made.kind === 'points' && made.order.length < limits.part / 4) spanUs *= 2
    nextUs = endUs
  }
}
/** Reads the lane for jobs whose spans touch, and hands each job what it asked for. */
function* makeTouching(making: Making, jobs: readonly MakeJob[]): Pieces<void> {
  const { take, limits } = making
  const [first, second] = jobs
  if (first === undefined) return
  const alone = second === undefined
  if (alone && isLong(first, limits)) return yield* makeLong(making, first)
  const all = yield* gather(
    making,
    jobs,
    alone && first.inOrder ? Number.POSITIVE_INFINITY : limits.points * 1.25,
  )
  if (all === null) {
    // They hold more than was thought.
    if (alone) return yield* makeLong(making, first)
    const half = jobs.length >>> 1
    yield* makeTouching(making, jobs.slice(0, half))
    return yield* makeTouching(making, jobs.slice(half))
  }
  for (const one of all) {
    take(one.job, one.take(), true)
    yield one.job.estimate
  }
}
const isLong = ({ estimate, inOrder }: MakeJob, { part }: MakeLimits) => !inOrder && estimate > part

export function* makeAgain(making: Making, jobs: readonly MakeJob[]): Pieces<void> {
  const { limits } = making
  // Stable: of equal starts the order is the caller's, which row numbers have no part in.
  const sorted = [...jobs].sort((a, b) => a.fromUs - b.fromUs)
  for (let first = 0; first < sorted.length; ) {
    let { toUs } = sorted[first] as MakeJob
    let next = first + 1
    for (; next < sorted.length && !isLong(sorted[next - 1] as MakeJob, limits); next++) {
      const job = sorted[next] as MakeJob
      if (job.fromUs >= toUs || isLong(job, limits)) break
      toUs = Math.max(toUs, job.toUs)
    }
    yield* makeTouching(making, sorted.slice(first, next))
    first = next
  }
}
