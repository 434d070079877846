/**
 * How much one request may hold: less after one got stuck (a slow link, a path that eats large packets), more again
 * once some that were as large as that have arrived.
 *
 * Invariants: never below `least` nor above `most`, whatever the unit; an outage that swallows everything ends at
 * `least`, from where it grows again; where more does not get through, it is tried more and more rarely, so that a
 * batch of many requests gets through between two tries.
 */
export interface StallLimit {
  readonly max: () => number
  /** A request of this size was not answered in time. */
  readonly stalled: (size: number) => void
  readonly arrived: (size: number) => void
}
export interface StallLimitOptions {
  readonly most: number
  readonly least?: number
  /** So many arrive at first, more than half as large as the limit, before twice as much is tried. */
  readonly arrivalsBetweenTries?: number
}

const neededMost = 2_048

export const createStallLimit = (options: StallLimitOptions): StallLimit => {
  const { most, least = 1, arrivalsBetweenTries = 1 } = options
  let max = most
  let [arrivals, needed] = [0, arrivalsBetweenTries]
  let grown = false
  return {
    max: () => max,
    stalled: (size) => {
      max = Math.max(least, Math.min(max, Math.floor(size / 2)))
      if (grown && arrivalsBetweenTries > 1) needed = Math.min(neededMost, needed * 2)
      arrivals = 0
      grown = false
    },
    arrived: (size) => {
      if (max >= most || size * 2 <= max || ++arrivals < needed) return
      max = Math.min(most, max * 2)
      arrivals = 0
      if (grown) needed = arrivalsBetweenTries
      grown = true
    },
  }
}
