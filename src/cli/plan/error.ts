/**
 * How far raw points lie off what is drawn through the points that were sent. Knows nothing of rules. Pure.
 *
 * Invariants: between two knots the line is the contract's (steps, or straight); a later point at the same time stands
 * in the earlier one's place; memory a series is `waitingMax` points and a convex hull; a raw point behind what was
 * measured already is counted as `unmeasured`.
 */
import type { Contract } from '../../model.ts'

export interface ErrorMeasure {
  /** A raw point, in accept order. */
  readonly raw: (timeUs: number, value: number) => void
  /** A point that was sent. */
  readonly knot: (timeUs: number, value: number) => void
  /** What is due is measured: all of it with `all`. */
  readonly settle: (all?: boolean) => void
  readonly greatest: () => number
  readonly unmeasured: () => number
}

/** Points kept back for what may still come late. */
const lateRoom = 64
const waitingMax = 4_096

/** Points by time, one a time. */
interface Track {
  readonly times: number[]
  readonly values: number[]
}
/** First place whose time is not below `timeUs`. */
const placeOf = ({ times }: Track, timeUs: number): number => {
  let [low, high] = [0, times.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if ((times[middle] as number) < timeUs) low = middle + 1
    else high = middle
  }
  return low
}
const put = (track: Track, timeUs: number, value: number): void => {
  const { times, values } = track
  const at =
    timeUs > (times.at(-1) ?? Number.NEGATIVE_INFINITY) ? times.length : placeOf(track, timeUs)
  const here = times[at] === timeUs ? 1 : 0
  times.splice(at, here, timeUs)
  values.splice(at, here, value)
}
const drop = ({ times, values }: Track, count: number): void => {
  times.splice(0, count)
  values.splice(0, count)
}
/** Of points by time, those that may lie furthest from some straight line: both chains of their convex hull. */
export const hullOf = (track: Track): Track => {
  const { times, values } = track
  const kept = new Set<number>()
  for (const side of [1, -1]) {
    const chain: number[] = []
    times.forEach((time, at) => {
      const value = (values[at] as number) * side
      for (; chain.length > 1; chain.pop()) {
        const [a, b] = chain.slice(-2) as [number, number]
        const [timeA, timeB] = [times[a] as number, times[b] as number]
        const [valueA, valueB] = [(values[a] as number) * side, (values[b] as number) * side]
        if ((valueB - valueA) * (time - timeA) > (value - valueA) * (timeB - timeA)) break
      }
      chain.push(at)
    })
    for (const at of chain) kept.add(at)
  }
  const order = [...kept].sort((a, b) => a - b)
  return {
    times: order.map((at) => times[at] as number),
    values: order.map((at) => values[at] as number),
  }
}

export const createErrorMeasure = (interpolation: Contract['interpolation']): ErrorMeasure => {
  let waiting: Track = { times: [], values: [] }
  const knots: Track = { times: [], values: [] }
  let measuredUs = Number.NEGATIVE_INFINITY
  let greatest = 0
  let unmeasured = 0

  /** What a reader draws at a time, from the knot at `at` on. */
  const drawn = (at: number, timeUs: number): number => {
    const [fromUs, from] = [knots.times[at] as number, knots.values[at] as number]
    const [toUs, to] = [knots.times[at + 1], knots.values[at + 1] as number]
    if (interpolation === 'step' || toUs === undefined || timeUs === fromUs) return from
    return from + (to - from) * ((timeUs - fromUs) / (toUs - fromUs))
  }
  /** Points up to `throughUs` are measured against the knots there are. */
  const measure = (throughUs: number): void => {
    let knot = 0
    let done = 0
    for (; done < waiting.times.length; done++) {
      const time = waiting.times[done] as number
      if (time > throughUs) break
      while ((knots.times[knot + 1] ?? Number.POSITIVE_INFINITY) <= time) knot++
      const isDrawn = (knots.times[knot] ?? Number.POSITIVE_INFINITY) <= time
      const error = isDrawn
        ? Math.abs((waiting.values[done] as number) - drawn(knot, time))
        : Number.POSITIVE_INFINITY
      if (error > greatest) greatest = error
      measuredUs = time
    }
    drop(waiting, done)
    drop(knots, Math.max(0, placeOf(knots, measuredUs + 1) - 1))
  }
  const settle = (all = false): void => {
    if (all) {
      measure(Number.POSITIVE_INFINITY)
      return
    }
    const { times } = waiting
    if (times.length <= lateRoom * 2) return
    const oldEnough = times[times.length - lateRoom - 1] as number
    const last = knots.times.at(-1) ?? Number.NEGATIVE_INFINITY
    // A step holds until the next knot; a straight line is known up to the last one.
    const known = interpolation === 'step' && knots.times.length > 0 ? oldEnough : last
    measure(Math.min(oldEnough, known))
    if (waiting.times.length > waitingMax) waiting = hullOf(waiting)
  }
  return {
    raw: (timeUs, value) => {
      if (!Number.isFinite(value)) return
      if (timeUs <= measuredUs) unmeasured++
      else put(waiting, timeUs, value)
    },
    knot: (timeUs, value) => {
      if (Number.isFinite(value)) put(knots, timeUs, value)
    },
    settle,
    greatest: () => greatest,
    unmeasured: () => unmeasured,
  }
}
