/**
 * Where windows begin and end: a UTC grid, or the days of the site's time zone.
 *
 * Invariants: spans of one length touch and do not overlap; a time lies in exactly one; a day is what the calendar of
 * the zone says, 23 or 25 hours where clocks change.
 */
import { dayUs } from './classes.ts'

export interface Spans {
  /** First µs of the span that holds `timeUs`. */
  readonly startOf: (timeUs: number) => number
  /** First µs behind the span that begins at `startUs`. */
  readonly endOf: (startUs: number) => number
}

const grid = (everyUs: number): Spans => ({
  startOf: (timeUs) => {
    const rest = timeUs % everyUs
    return timeUs - (rest < 0 ? rest + everyUs : rest)
  },
  endOf: (startUs) => startUs + everyUs,
})

/** Days remembered: those of a month of late points. */
const daysMax = 64

/** What is ahead of UTC in the zone, at a time, in µs. */
const createOffset = (timeZone: string): ((timeUs: number) => number) => {
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone,
    calendar: 'gregory',
    numberingSystem: 'latn',
    hourCycle: 'h23',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    minute: 'numeric',
    second: 'numeric',
    era: 'short',
  })
  return (timeUs) => {
    const ms = Math.floor(timeUs / 1000)
    const parts = Object.fromEntries(
      format.formatToParts(ms).map(({ type, value }) => [type, value]),
    )
    const year = parts.era === 'BC' ? 1 - Number(parts.year) : Number(parts.year)
    const [month, day] = [Number(parts.month) - 1, Number(parts.day)]
    const local = Date.UTC(
      2000,
      month,
      day,
      Number(parts.hour),
      Number(parts.minute),
      Number(parts.second),
    )
    const whole = new Date(local).setUTCFullYear(year, month, day)
    return (whole - Math.floor(ms / 1000) * 1000) * 1000
  }
}

const days = (timeZone: string): Spans => {
  const offset = createOffset(timeZone)
  const ends = new Map<number, number>()
  let [start, end] = [0, 0]
  /** First instant of the zone's day whose midnight by its own calendar is `localUs` after 1970 there. */
  const midnight = (localUs: number): number => {
    // The offset just before and after a change differ: the first guess that maps back to the day or later stands.
    const early = localUs - offset(localUs - dayUs)
    const late = localUs - offset(localUs + dayUs)
    const [first, second] = early < late ? [early, late] : [late, early]
    for (const guess of [first, second]) if (guess + offset(guess) === localUs) return guess
    // Midnight itself is skipped by a change: the day begins at the change, found to the second.
    let [low, high] = [first - 2 * 3_600_000_000, second + 2 * 3_600_000_000]
    while (high - low > 1_000_000) {
      const middle = Math.floor((low + high) / 2_000_000) * 1_000_000
      if (middle <= low || middle >= high) break
      if (middle + offset(middle) >= localUs) high = middle
      else low = middle
    }
    return high
  }
  const find = (timeUs: number): void => {
    const local = grid(dayUs).startOf(timeUs + offset(timeUs))
    start = midnight(local)
    end = midnight(local + dayUs)
    if (ends.size >= daysMax) ends.clear()
    ends.set(start, end)
  }
  return {
    startOf: (timeUs) => {
      if (!(timeUs >= start && timeUs < end)) find(timeUs)
      return start
    },
    endOf: (startUs) => {
      const known = ends.get(startUs)
      if (known !== undefined) return known
      find(startUs)
      return end
    },
  }
}

/** Throws RangeError where the zone is unknown. */
export const createSpans = (everyUs: number, timeZone: string): Spans =>
  everyUs === dayUs && timeZone !== 'UTC' ? days(timeZone) : grid(everyUs)
