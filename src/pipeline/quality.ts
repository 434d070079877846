/**
 * What the intake adds to points before the spool: the time of arrival where a source knows none, the mark of a float
 * that is no number, and that of a time no clock can have shown.
 *
 * Invariants: arrival times of one series increase strictly, in each time base, whatever the wall clock does; a time
 * the source gave is never touched; a point with an arrival time taken from an untrusted clock is in a batch of its
 * own, in monotonic time; values keep every bit.
 */
import { because, type ClockReading, kinds, type PointBatch, quality } from '../model.ts'
import { createStamper } from './stamp.ts'

export type TimeBase = 'wall' | 'monotonic'
export interface Stamped {
  readonly points: PointBatch
  readonly timeBase: TimeBase
}
export interface ArrivalStamps {
  /** The points in one batch, or in two when only some wait for a trusted clock. The columns are changed in place. */
  readonly stamp: (points: PointBatch) => readonly Stamped[]
}

/** One for the whole agent: two sources may feed one series. */
export const createArrivalStamps = (clock: () => ClockReading): ArrivalStamps => {
  const stamper = createStamper(clock)
  const stampAll = ({ series, timeUs, count }: PointBatch): void => {
    for (let at = 0; at < count; at++) {
      if (Number.isNaN(timeUs[at])) timeUs[at] = stamper.stampUs(series[at] as number)
    }
  }
  return {
    stamp: (points) => {
      const waiting = countUntimed(points)
      if (waiting === 0) return [{ points, timeBase: 'wall' }]
      const trusted = stamper.look()
      if (trusted || waiting === points.count) {
        stampAll(points)
        return [{ points, timeBase: trusted ? 'wall' : 'monotonic' }]
      }
      const timed = pick(points, points.count - waiting, (timeUs) => !Number.isNaN(timeUs))
      const untimed = pick(points, waiting, Number.isNaN)
      stampAll(untimed)
      return [
        { points: timed, timeBase: 'wall' },
        { points: untimed, timeBase: 'monotonic' },
      ]
    },
  }
}

const countUntimed = ({ timeUs, count }: PointBatch): number => {
  let untimed = 0
  for (let at = 0; at < count; at++) if (Number.isNaN(timeUs[at])) untimed++
  return untimed
}

/** A copy of the points whose time passes; texts are shared, their indexes stay true. */
const pick = (from: PointBatch, count: number, wanted: (timeUs: number) => boolean): PointBatch => {
  const to: PointBatch = {
    count,
    series: new Uint32Array(count),
    timeUs: new Float64Array(count),
    kinds: new Uint8Array(count),
    qualities: new Uint8Array(count),
    bits: new BigUint64Array(count),
    texts: from.texts,
  }
  let next = 0
  for (let at = 0; at < from.count; at++) {
    if (!wanted(from.timeUs[at] as number)) continue
    to.series[next] = from.series[at] as number
    to.timeUs[next] = from.timeUs[at] as number
    to.kinds[next] = from.kinds[at] as number
    to.qualities[next] = from.qualities[at] as number
    to.bits[next] = from.bits[at] as bigint
    next++
  }
  return to
}

const severity = 3
/** Marks points later than `limitUs`, whatever their source said of them. Returns how many there are. */
export const flagAhead = ({ timeUs, qualities, count }: PointBatch, limitUs: number): number => {
  let ahead = 0
  for (let at = 0; at < count; at++) {
    if (!((timeUs[at] as number) > limitUs)) continue
    ahead++
    const given = (qualities[at] as number) & severity
    qualities[at] = Math.max(given, quality.uncertain) | because.ahead
  }
  return ahead
}
/** Whether a point was marked so. */
export const isAhead = (given: number): boolean => (given & ~severity) === because.ahead
/** Marks floats that are NaN or infinite as bad, unless the source already called them bad for its own reason. */
export const flagNotANumber = (points: PointBatch): void => {
  const { bits, kinds: kindOf, qualities, count } = points
  const words = new Uint32Array(bits.buffer, bits.byteOffset, count * 2)
  for (let at = 0; at < count; at++) {
    // All eleven bits of the exponent: the high word, as every platform Node runs on is little-endian.
    if (((words[at * 2 + 1] as number) & 0x7ff0_0000) !== 0x7ff0_0000) continue
    if (kindOf[at] !== kinds.float) continue
    if (((qualities[at] as number) & severity) < quality.bad) {
      qualities[at] = quality.bad | because.notANumber
    }
  }
}
