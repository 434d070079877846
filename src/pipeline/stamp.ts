/**
 * Times of arrival: points that bring no time of their own are stamped here.
 *
 * Invariants: the stamps of one series increase strictly, also when the clock stands still or steps back; wall and
 * monotonic stamps never mix.
 */
import type { ClockReading, SeriesRef } from '../model.ts'

export interface Stamper {
  /** Look at the clock: once per read, not once per point. True while the wall clock may be trusted. */
  readonly look: () => boolean
  readonly stampUs: (series: SeriesRef) => number
}

export const createStamper = (clock: () => ClockReading): Stamper => {
  let wallUs = new Float64Array(256)
  let monotonicUs = new Float64Array(256)
  let nowUs = 0
  let trusted = true
  const grown = (column: Float64Array, length: number) => {
    const larger = new Float64Array(Math.max(length, column.length * 2))
    larger.set(column)
    return larger
  }
  return {
    look: () => {
      const reading = clock()
      trusted = reading.trusted
      nowUs = Math.floor(trusted ? reading.nowUs : reading.monotonicUs)
      return trusted
    },
    stampUs: (series) => {
      if (series >= wallUs.length) {
        wallUs = grown(wallUs, series + 1)
        monotonicUs = grown(monotonicUs, series + 1)
      }
      const last = trusted ? wallUs : monotonicUs
      const next = Math.max(nowUs, (last[series] as number) + 1)
      last[series] = next
      return next
    },
  }
}
