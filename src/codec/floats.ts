/**
 * A run of float64 values as whole numbers, exactly: decimals (most sensors), decimals that went through a float32,
 * float32 patterns, or else the 64-bit patterns themselves in an order that follows the values.
 * Invariant: every value that does not come back bit for bit from its form (NaN, infinities, -0, one odd value among
 * decimals) is an exception, kept as its 64-bit pattern.
 */
import {
  type IntCursors,
  type IntSinks,
  numbersOf,
  putInts,
  putWides,
  putWords,
  type Run,
  takeInts,
  wordsOf,
} from './ints.ts'
import type { Choice } from './predict.ts'
import { malformed, putByte, putVarint, type Sink, takeVarint } from './streams.ts'

/** Modes: 0..22 decimal with that many places; 24..34 the same through float32; 35 float32; 36 float64 patterns. */
export const floatMode = {
  single: 24,
  singleBits: 35,
  doubleBits: 36,
  last: 36,
  exceptions: 64,
  offsets: 128,
} as const
const placesMax = 22
const singlePlacesMax = 10
export const powersOfTen = Float64Array.from({ length: placesMax + 1 }, (_, e) => Number(`1e${e}`))
const wholeMax = 2 ** 53
/** Nearly decimal: off by some 16 units in the last place, and few enough digits for that to be no chance. */
const nearMax = 2 ** 44
const nearRelative = 2 ** -49
/** Largest offset, in units of the last place, that is kept beside a decimal. */
const offsetMax = 255

const single = new Float32Array(1)
const singleWord = new Int32Array(single.buffer)

/**
 * Fewest decimal places that give `value` back exactly, or all but its last bits, as sums and conversions leave them
 * (3.1260000000000003); -1 when there are none.
 */
const placesOf = (value: number): number => {
  const magnitude = Math.abs(value)
  for (let places = 0; places <= placesMax; places++) {
    const power = powersOfTen[places] as number
    const whole = Math.round(magnitude * power)
    if (whole > wholeMax) return -1
    const off = Math.abs(whole / power - magnitude)
    if (off === 0 || (whole < nearMax && off <= magnitude * nearRelative)) return places
  }
  return -1
}
const singlePlacesOf = (value: number): number => {
  const magnitude = Math.abs(value)
  if (Math.fround(magnitude) !== magnitude) return -1
  for (let places = 0; places <= singlePlacesMax; places++) {
    const power = powersOfTen[places] as number
    const whole = Math.round(magnitude * power)
    // More digits than a float32 holds say nothing.
    if (whole > 2 ** 30) return -1
    if (Math.fround(whole / power) === magnitude) return places
  }
  return -1
}

const sampleMax = 24
const placesSeen = new Int32Array(placesMax + 2)

/** Least number of places that nearly all of a sample needs; -1 when too many have none. */
const commonPlaces = (
  values: Float64Array,
  count: number,
  places: (value: number) => number,
): number => {
  const size = Math.min(count, sampleMax)
  placesSeen.fill(0)
  let good = 0
  let most = -1
  for (let i = 0; i < size; i++) {
    const at = places(values[Math.floor((i * count) / size)] as number)
    if (at < 0) continue
    good++
    placesSeen[at] = (placesSeen[at] as number) + 1
    if (at > most) most = at
  }
  const enough = size - (size >> 3)
  if (good < enough) return -1
  let seen = 0
  let common = -1
  while (seen < enough) seen += placesSeen[++common] as number
  // A few values with many more digits are cheaper as exceptions than ten bits on every point.
  return most - common < 3 ? most : common
}

/** Positions of exceptions in the run being coded. */
let odd = new Float64Array(64)
let oddCount = 0
/** Where a form gave up. */
let failedAt = 0
const addOdd = (at: number): void => {
  if (oddCount === odd.length) {
    const grown = new Float64Array(odd.length * 2)
    grown.set(odd)
    odd = grown
  }
  odd[oddCount++] = at
}

const pair = new Float64Array(1)
const pairWords = new Int32Array(pair.buffer)
/** How far the pattern hi·2^32 + lo lies above that of `decimal`. */
const offsetOf = (hi: number, lo: number, decimal: number): number => {
  pair[0] = decimal
  return (hi - (pairWords[1] as number)) * 2 ** 32 + (lo >>> 0) - ((pairWords[0] as number) >>> 0)
}

/** Offsets have no memory. */
const noise: Choice = { predictor: 0, drift: 0 }
let offsets = new Float64Array(1024)
let hasOffsets = false

/** Decimals of `values` into `xs`, with their offsets; false when more than `oddMax` have none. */
const toDecimals = (
  values: Float64Array,
  words: Int32Array,
  xs: Float64Array,
  count: number,
  places: number,
  oddMax: number,
): boolean => {
  const power = powersOfTen[places] as number
  if (offsets.length < count) offsets = new Float64Array(xs.length)
  hasOffsets = false
  oddCount = 0
  let before = 0
  for (let i = 0; i < count; i++) {
    const value = values[i] as number
    const whole = Math.round(value * power)
    offsets[i] = 0
    if (Math.abs(whole) <= wholeMax && (whole !== 0 || 1 / value > 0)) {
      const decimal = whole / power
      const offset =
        decimal === value
          ? 0
          : offsetOf(words[2 * i + 1] as number, words[2 * i] as number, decimal)
      if (offset >= -offsetMax && offset <= offsetMax) {
        if (offset !== 0) hasOffsets = true
        offsets[i] = offset
        xs[i] = whole
        before = whole
        continue
      }
    }
    if (oddCount === oddMax) {
      failedAt = i
      return false
    }
    addOdd(i)
    xs[i] = before
  }
  return true
}
const toSingleDecimals = (
  values: Float64Array,
  xs: Float64Array,
  count: number,
  places: number,
  oddMax: number,
): boolean => {
  const power = powersOfTen[places] as number
  oddCount = 0
  let before = 0
  for (let i = 0; i < count; i++) {
    const value = values[i] as number
    const whole = Math.round(value * power)
    if (
      Math.fround(whole / power) === value &&
      Math.abs(whole) <= wholeMax &&
      (whole !== 0 || 1 / value > 0)
    ) {
      xs[i] = whole
      before = whole
    } else {
      if (oddCount === oddMax) {
        failedAt = i
        return false
      }
      addOdd(i)
      xs[i] = before
    }
  }
  return true
}
/** float32 patterns, turned so that they order as the values do. */
const toSingles = (
  values: Float64Array,
  xs: Float64Array,
  count: number,
  oddMax: number,
): boolean => {
  oddCount = 0
  let before = 0
  for (let i = 0; i < count; i++) {
    single[0] = values[i] as number
    if (single[0] === values[i]) {
      const word = singleWord[0] as number
      before = word < 0 ? word ^ 0x7fff_ffff : word
    } else {
      if (oddCount === oddMax) {
        failedAt = i
        return false
      }
      addOdd(i)
    }
    xs[i] = before
  }
  return true
}

const choose = (
  values: Float64Array,
  words: Int32Array,
  xs: Float64Array,
  count: number,
): number => {
  hasOffsets = false
  const oddMax = count >> 3
  // Each retry asks for more places, because a point outside the sample needed them.
  let places = commonPlaces(values, count, placesOf)
  for (let tries = 0; places >= 0 && places <= placesMax && tries < 3; tries++) {
    if (toDecimals(values, words, xs, count, places, tries === 2 ? oddMax : count >> 4)) {
      return hasOffsets ? places | floatMode.offsets : places
    }
    const needed = placesOf(values[failedAt] as number)
    if (needed <= places) break
    places = needed
  }
  places = commonPlaces(values, count, singlePlacesOf)
  if (places >= 0 && toSingleDecimals(values, xs, count, places, oddMax)) {
    return floatMode.single + places
  }
  if (toSingles(values, xs, count, oddMax)) return floatMode.singleBits
  return floatMode.doubleBits
}

/** A float64 pattern in an order that follows the value: negative ones are turned round. Its own inverse. */
const turn = (run: { hi: Int32Array; lo: Int32Array }, count: number): void => {
  for (let i = 0; i < count; i++) {
    if ((run.hi[i] as number) >= 0) continue
    run.hi[i] = (run.hi[i] as number) ^ 0x7fff_ffff
    run.lo[i] = ~(run.lo[i] as number)
  }
}

/** `words` are the same values as pairs of words (low first). `spare` is scratch of the same size. */
export const putFloats = (
  modes: Sink,
  out: IntSinks,
  values: Float64Array,
  words: Int32Array,
  count: number,
  spare: Run,
): void => {
  const mode = choose(values, words, spare.values, count)
  if (mode === floatMode.doubleBits) {
    putByte(modes, mode)
    for (let i = 0; i < count; i++) {
      spare.lo[i] = words[2 * i] as number
      spare.hi[i] = words[2 * i + 1] as number
    }
    turn(spare, count)
    putWides(out, spare.hi, spare.lo, count)
    return
  }
  putByte(modes, oddCount === 0 ? mode : mode | floatMode.exceptions)
  putInts(out, spare.values, count)
  if ((mode & floatMode.offsets) !== 0) putInts(out, offsets, count, noise)
  if (oddCount === 0) return
  putVarint(out.params, oddCount)
  const hi = new Int32Array(oddCount)
  const lo = new Int32Array(oddCount)
  for (let i = 0; i < oddCount; i++) {
    const at = odd[i] as number
    lo[i] = words[2 * at] as number
    hi[i] = words[2 * at + 1] as number
  }
  putInts(out, odd, oddCount)
  putWides(out, hi, lo, oddCount)
}

/** Takes `count` values into `floats[from..]`, whose words (low first) are `words`. */
export const takeFloats = (
  mode: number,
  cursors: IntCursors,
  run: Run,
  floats: Float64Array,
  words: Int32Array,
  at: number,
  count: number,
): void => {
  takeInts(cursors, run, count)
  const form = mode & 63
  if (form <= placesMax) {
    const power = powersOfTen[form] as number
    numbersOf(run, count)
    const { values } = run
    for (let i = 0; i < count; i++) floats[at + i] = (values[i] as number) / power
    if ((mode & floatMode.offsets) !== 0) takeOffsets(cursors, run, words, at, count)
  } else if (form >= floatMode.single && form < floatMode.singleBits) {
    const power = powersOfTen[form - floatMode.single] as number
    numbersOf(run, count)
    for (let i = 0; i < count; i++) floats[at + i] = Math.fround((run.values[i] as number) / power)
  } else if (form === floatMode.singleBits) {
    numbersOf(run, count)
    for (let i = 0; i < count; i++) {
      const word = (run.values[i] as number) | 0
      singleWord[0] = word < 0 ? word ^ 0x7fff_ffff : word
      floats[at + i] = single[0] as number
    }
  } else if (form === floatMode.doubleBits) {
    wordsOf(run, count)
    turn(run, count)
    putWords(run, words, at, count)
  } else throw malformed('a float mode has no meaning')
  if ((mode & floatMode.exceptions) !== 0) takeExceptions(cursors, run, words, at, count)
}

const takeOffsets = (
  cursors: IntCursors,
  run: Run,
  words: Int32Array,
  at: number,
  count: number,
): void => {
  takeInts(cursors, run, count)
  const { values } = run
  numbersOf(run, count)
  for (let i = 0; i < count; i++) {
    const place = 2 * (at + i)
    const low = ((words[place] as number) >>> 0) + (values[i] as number)
    words[place] = low
    words[place + 1] = (words[place + 1] as number) + Math.floor(low / 2 ** 32)
  }
}

const takeExceptions = (
  cursors: IntCursors,
  run: Run,
  words: Int32Array,
  at: number,
  count: number,
): void => {
  const exceptions = takeVarint(cursors.params)
  if (exceptions > count) throw malformed('more exceptions than points')
  takeInts(cursors, run, exceptions)
  const places = numbersOf(run, exceptions).slice(0, exceptions)
  takeInts(cursors, run, exceptions)
  wordsOf(run, exceptions)
  for (let i = 0; i < exceptions; i++) {
    const place = places[i] as number
    if (!(place >= 0 && place < count)) throw malformed('an exception lies outside its run')
    words[2 * (at + place)] = run.lo[i] as number
    words[2 * (at + place) + 1] = run.hi[i] as number
  }
}
