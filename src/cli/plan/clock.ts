/**
 * When the points of a recording arrive: at their own time, or where they come late with the newest before them. Pure.
 *
 * Invariant: the clock never goes back, and no single wrong time moves it by more than an hour.
 */
import type { Clock } from '../../host.ts'

/** Further ahead than this, a time is believed once the next points agree. */
const leapUsMax = 3_600_000_000
const leapPoints = 3

export interface ArrivalClock {
  /** When a point of this time arrives. */
  readonly arrival: (timeUs: number) => number
  /** Points that came after a later one. */
  readonly behind: () => number
}
export const createArrivalClock = (): ArrivalClock => {
  let nowUs = Number.NaN
  let leaps = 0
  let behind = 0
  return {
    behind: () => behind,
    arrival: (timeUs) => {
      if (timeUs < nowUs) behind++
      else if (!(timeUs - nowUs > leapUsMax) || ++leaps >= leapPoints) nowUs = timeUs
      if (!(timeUs - nowUs > leapUsMax)) leaps = 0
      return nowUs
    },
  }
}

/** The clock of a rehearsal: it stands until it is set, and nothing waits for it. */
export interface SteppedClock extends Clock {
  readonly set: (nowUs: number) => void
}
export const createSteppedClock = (): SteppedClock => {
  let startUs = Number.NaN
  let nowUs = 0
  return {
    set: (to) => {
      if (Number.isNaN(startUs)) startUs = to
      nowUs = Math.max(nowUs, to)
    },
    nowUs: () => nowUs,
    monotonicMs: () => (Number.isNaN(startUs) ? 0 : (nowUs - startUs) / 1000),
    sleep: async () => {},
    after: () => () => {},
  }
}
