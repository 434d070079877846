/**
 * A run of float64 values: whole numbers in the form that suits them (forms.ts), offsets beside them,
 * and the values that
 * have no such form (NaN, infinities, -0, one odd value among decimals) as their 64-bit patterns.
 * Invariant: every pattern that goes in comes out.
 */
import {
  choose,
  divisorOf,
  doubleBitsMode,
  formOf,
  found,
  singleBitsMode,
  singleOf,
} from './forms.ts'
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

export const modeMask = 63
const flag = { exceptions: 64, offsets: 128 } as const
/** Offsets have no memory. */
const noise: Choice = { predictor: 0, drift: 0 }

/** A float64 pattern in an order that follows the value: negative ones are turned round. Its own inverse. */
const turn = (run: Run, count: number): void => {
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
  const mode = choose({ values, words, xs: spare.values, count })
  const { oddCount, hasOffsets, offsets } = found
  putByte(modes, mode | (oddCount === 0 ? 0 : flag.exceptions) | (hasOffsets ? flag.offsets : 0))
  if (mode === doubleBitsMode) {
    for (let i = 0; i < count; i++) {
      spare.lo[i] = words[2 * i] as number
      spare.hi[i] = words[2 * i + 1] as number
    }
    turn(spare, count)
    putWides(out, spare.hi, spare.lo, count)
    return
  }
  putInts(out, spare.values, count)
  if (hasOffsets) putInts(out, offsets, count, noise)
  if (oddCount > 0) putExceptions(out, words)
}

const putExceptions = (out: IntSinks, words: Int32Array): void => {
  const { odd, oddCount } = found
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

/** Takes `count` values into `floats[at..]`, whose words (low first) are `words`. */
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
  const plain = mode & modeMask
  const form = formOf(plain)
  if (form !== undefined) {
    const divisor = divisorOf(form, plain - form.mode)
    const values = numbersOf(run, count)
    if (form.single) {
      for (let i = 0; i < count; i++) floats[at + i] = Math.fround((values[i] as number) / divisor)
    } else for (let i = 0; i < count; i++) floats[at + i] = (values[i] as number) / divisor
  } else if (plain === singleBitsMode) {
    const values = numbersOf(run, count)
    for (let i = 0; i < count; i++) floats[at + i] = singleOf(values[i] as number)
  } else if (plain === doubleBitsMode) {
    wordsOf(run, count)
    turn(run, count)
    putWords(run, words, at, count)
  } else throw malformed('a float mode has no meaning')
  if ((mode & flag.offsets) !== 0) takeOffsets(cursors, run, words, at, count)
  if ((mode & flag.exceptions) !== 0) takeExceptions(cursors, run, words, at, count)
}

const takeOffsets = (
  cursors: IntCursors,
  run: Run,
  words: Int32Array,
  at: number,
  count: number,
): void => {
  takeInts(cursors, run, count)
  const offsets = numbersOf(run, count)
  for (let i = 0; i < count; i++) {
    const place = 2 * (at + i)
    const low = ((words[place] as number) >>> 0) + (offsets[i] as number)
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
