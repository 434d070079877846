/**
 * Which points of a series were sent, as far as that is remembered: the last ones each, older ones further apart the
 * older they are. What a point out of order breaks is mended between the two around it.
 *
 * Invariants: every time here was sent; whatever lies between two neighbours was read, and `beside` says of the later
 * one that nothing of it was left out; an older one is forgotten only when both its neighbours are known, or when it
 * is the oldest of all.
 */
import { cell, knotsMax, recentKnots, stride } from './rule-table.ts'

/** Older knots: of every 16th one for each power of two the last that it divides, and two of the highest. */
const levels = knotsMax - recentKnots - 2
const topStep = 2 ** levels
const placeOfOld = (number: number): number => {
  const level = number === 0 ? levels : Math.min(levels, 31 - Math.clz32(number & -number))
  if (level < levels) return recentKnots + level
  return recentKnots + levels + ((number / topStep) & 1)
}

/** Both sides of `at` are one now: nothing was left out there if nothing was on either. */
const drop = (bits: number, at: number, next: number): number =>
  (bits & (1 << at)) === 0 ? bits & ~(1 << next) : bits

/** The recent knot `time` moves to the older ones; it is their newest. */
const keepOld = (cells: Float64Array, row: number, number: number, bits: number): number => {
  const from = row + cell.knots
  const place = placeOfOld(number)
  const level = Math.min(place - recentKnots, levels)
  const step = 2 ** level
  let left = bits
  // What stood there is older by two steps, and what follows it by one.
  if (number >= 2 * step && !Number.isNaN(cells[from + place] as number))
    left = drop(left, place, placeOfOld(number - step))
  cells[from + place] = cells[from] as number
  return (left & 1) === 0 ? left & ~(1 << place) : left | (1 << place)
}

/** One more was sent; `beside`: nothing was left out since the one before. */
export const addKnot = (
  cells: Float64Array,
  row: number,
  timeUs: number,
  beside: boolean,
): void => {
  const count = cells[row + cell.knotCount] as number
  const place = count % recentKnots
  let bits = cells[row + cell.beside] as number
  if (count >= recentKnots) {
    if (place > 0) bits = drop(bits, place, (place + 1) % recentKnots)
    else if (!Number.isNaN(cells[row + cell.knots] as number))
      bits = keepOld(cells, row, count / recentKnots - 1, bits)
  }
  cells[row + cell.beside] = beside ? bits | (1 << place) : bits & ~(1 << place)
  cells[row + cell.knots + place] = timeUs
  cells[row + cell.knotCount] = count + 1
}

/** Those that others may not have sent. */
export const forgetKnots = (cells: Float64Array, row: number): void => {
  cells.fill(Number.NaN, row + cell.knots, row + cell.knots + knotsMax)
  // As many as are never remembered all: what lies before the next one is not the beginning.
  cells[row + cell.knotCount] = recentKnots
  cells[row + cell.beside] = 0
}

/** Whether the very first one is still known: nothing was left out before it. */
const knowsFirst = (cells: Float64Array, row: number): boolean => {
  const count = cells[row + cell.knotCount] as number
  if (count <= recentKnots) return true
  const olds = Math.ceil(count / recentKnots) - 1
  return olds <= 2 * topStep && !Number.isNaN(cells[row + cell.knots + placeOfOld(0)] as number)
}

/** Raw points of this much time are read again at most. */
export const mendSpanUsMax = 7_200_000_000

/** Both exclusive. */
export interface KnotRange {
  readonly fromUs: number
  readonly toUs: number
}

/**
 * Between which knots raw points are to be sent for one that came late at `timeUs`; null when the knots are forgotten,
 * or too far apart to read. Of a stepped line only what follows is drawn otherwise; where nothing was left out between
 * two knots there is nothing to send.
 */
export const rangeAround = (
  cells: Float64Array,
  own: number,
  timeUs: number,
  stepped: boolean,
): KnotRange | null => {
  const row = own * stride
  const beside = cells[row + cell.beside] as number
  const never = Number.POSITIVE_INFINITY
  let [fromUs, toUs] = [-never, never]
  /** Whether there is a knot at this very time, and whether nothing was left out before it, or before the next. */
  let [here, besideHere, besideNext] = [false, false, false]
  let recent = true
  for (let i = 0; i < knotsMax; i++) {
    const time = cells[row + cell.knots + i] as number
    const isBeside = (beside & (1 << i)) !== 0
    if (time < timeUs && time > fromUs) fromUs = time
    else if (time === timeUs) [here, besideHere] = [true, isBeside]
    else if (time > timeUs && time < toUs) {
      ;[toUs, besideNext] = [time, isBeside]
      recent = i < recentKnots
    }
  }
  if (fromUs === -never && !knowsFirst(cells, row)) return null
  // Before the very first point there is nothing left out. Far back all between two knots is sent, of a stepped line
  // too: then it is known that nothing is missing there, and the next late point need not send it again.
  const before = fromUs === -never || (here ? besideHere : besideNext)
  if (before || (stepped && (recent || here))) fromUs = timeUs
  if (toUs === never || besideNext) toUs = timeUs
  return toUs - fromUs > mendSpanUsMax ? null : { fromUs, toUs }
}

/** All raw points between two knots were sent: noted where they are still neighbours. */
export const noteMended = (cells: Float64Array, own: number, { fromUs, toUs }: KnotRange): void => {
  const row = own * stride
  let [before, at] = [Number.NEGATIVE_INFINITY, -1]
  for (let i = 0; i < knotsMax; i++) {
    const time = cells[row + cell.knots + i] as number
    if (time < toUs && time > before) before = time
    else if (time === toUs) at = i
  }
  if (at < 0 || before !== fromUs) return
  cells[row + cell.beside] = (cells[row + cell.beside] as number) | (1 << at)
}
