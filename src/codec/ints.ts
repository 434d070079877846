/**
 * A run of whole numbers as bytes: every column of a body is one of these in the end.
 * Invariants: what is put is what is taken, for any 64-bit numbers; the small path (span below 2^48, values within
 * 2^53) is exact in doubles, the wide path works modulo 2^64 in two words; a run of one has no shape,
 * only a first value.
 */
import {
  type Choice,
  choosePredictor,
  detrend,
  facts,
  type Predictor,
  residuals,
  restore,
  unzigzag,
  zigzag,
} from './predict.ts'
import {
  type BitCursor,
  type BitSink,
  type Cursor,
  malformed,
  putByte,
  putVarint,
  type Sink,
  takeByte,
  taken,
  takeVarint,
} from './streams.ts'
import { putTokens, putWide, shiftMax, takeTokens, takeWide } from './tokens.ts'

export interface IntSinks {
  readonly shapes: Sink
  readonly params: Sink
  readonly firsts: Sink
  readonly tokens: Sink
  readonly bits: BitSink
}
export interface IntCursors {
  readonly shapes: Cursor
  readonly params: Cursor
  readonly firsts: Cursor
  readonly tokens: Cursor
  readonly bits: BitCursor
}
/** Numbers of a run: in `values`, or (`wide`) in `hi` and `lo`. A run of one is in both where it fits. */
export interface Run {
  values: Float64Array
  hi: Int32Array
  lo: Int32Array
  wide: boolean
}
let spare: Run = createRun(1024)
function createRun(capacity: number): Run {
  return {
    values: new Float64Array(capacity),
    hi: new Int32Array(capacity),
    lo: new Int32Array(capacity),
    wide: false,
  }
}
/** The one run that is worked on, with room for `count`: coding is synchronous, so one is enough. */
export const scratchRun = (count: number): Run => {
  if (spare.values.length < count) spare = createRun(Math.max(count, 2 * spare.values.length))
  return spare
}

const shape = { predictor: 3, constant: 4, wide: 8, step: 16, drift: 32 } as const
const spanMax = 2 ** 48
const two32 = 2 ** 32

export const highOf = (value: number): number => Math.floor(value / two32) | 0
export const numberOf = (hi: number, lo: number): number => hi * two32 + (lo >>> 0)
const putFirst = (out: IntSinks, hi: number, lo: number): void => {
  const sign = hi >> 31
  putWide(out.firsts, out.bits, ((hi << 1) | (lo >>> 31)) ^ sign, (lo << 1) ^ sign, 0)
}
/** Into `taken`. */
const takeFirst = (from: IntCursors): void => {
  takeWide(from.firsts, from.bits, 0)
  const sign = -(taken.lo & 1)
  const lo = ((taken.lo >>> 1) | (taken.hi << 31)) ^ sign
  taken.hi = (taken.hi >>> 1) ^ sign
  taken.lo = lo
}

/** Largest number that divides every y. A remainder is slow, so a multiple is recognised by multiplying. */
const greatestCommonStep = (ys: Float64Array, count: number): number => {
  let step = 0
  let inverse = 0
  for (let i = 1; i < count && step !== 1; i++) {
    const y = ys[i] as number
    if (Math.round(y * inverse) * step === y) continue
    let a = Math.abs(y)
    while (a !== 0) {
      const b = step % a
      step = a
      a = b
    }
    inverse = 1 / step
  }
  return step
}
/** The shift that leaves most numbers a token of their own: 3 bits above the mean length's raw part. */
const shiftFor = (bits: number, count: number): number =>
  Math.min(24, Math.max(0, Math.round(bits / count) - 4))

let scratch = new Float64Array(1024)
const scratchFor = (count: number): Float64Array => {
  if (scratch.length < count) scratch = new Float64Array(Math.max(count, scratch.length * 2))
  return scratch
}

/** True when x_i = x_0 + i·d throughout. */
const isLine = (xs: Float64Array, count: number): boolean => {
  const start = xs[0] as number
  const step = (xs[1] as number) - start
  for (let i = 2; i < count; i++) if (xs[i] !== start + i * step) return false
  return true
}

/** `xs` are whole numbers within ±2^53; `choice` where the caller knows the best predictor. */
export const putInts = (out: IntSinks, xs: Float64Array, count: number, choice?: Choice): void => {
  if (count === 0) return
  const start = xs[0] as number
  if (count === 1) {
    putFirst(out, highOf(start), start | 0)
    return
  }
  let least = start
  let most = start
  for (let i = 1; i < count; i++) {
    const x = xs[i] as number
    if (x < least) least = x
    else if (x > most) most = x
  }
  if (most - least > spanMax) {
    putAsWide(out, xs, count)
    return
  }
  if (most === least || isLine(xs, count)) {
    const drift = (xs[1] as number) - start
    putByte(out.shapes, drift === 0 ? shape.constant : shape.constant | shape.drift)
    if (drift !== 0) putVarint(out.params, zigzag(drift))
    putFirst(out, highOf(start), start | 0)
    return
  }
  const ys = scratchFor(count)
  for (let i = 0; i < count; i++) ys[i] = (xs[i] as number) - start
  putRest(out, ys, count, start, choice)
}

const putRest = (
  out: IntSinks,
  ys: Float64Array,
  count: number,
  start: number,
  known?: Choice,
): void => {
  const step = greatestCommonStep(ys, count)
  if (step > 1) for (let i = 0; i < count; i++) ys[i] = (ys[i] as number) / step
  const choice = known ?? choosePredictor(ys, count)
  if (choice.drift !== 0) detrend(ys, count, choice.drift)
  const zCount = residuals(ys, ys, count, choice.predictor)
  const shift = shiftFor(facts.bits, zCount)
  putByte(
    out.shapes,
    choice.predictor | (step > 1 ? shape.step : 0) | (choice.drift === 0 ? 0 : shape.drift),
  )
  putByte(out.shapes, shift)
  if (step > 1) putVarint(out.params, step)
  if (choice.drift !== 0) putVarint(out.params, zigzag(choice.drift))
  const first = start + step * facts.least
  putFirst(out, highOf(first), first | 0)
  putTokens(out.tokens, out.bits, ys, zCount, shift, facts.largest)
}

const putAsWide = (out: IntSinks, xs: Float64Array, count: number): void => {
  const hi = new Int32Array(count)
  const lo = new Int32Array(count)
  for (let i = 0; i < count; i++) {
    hi[i] = highOf(xs[i] as number)
    lo[i] = xs[i] as number
  }
  putWides(out, hi, lo, count)
}

/** 64-bit numbers as two words each, coded as differences modulo 2^64. */
export const putWides = (out: IntSinks, hi: Int32Array, lo: Int32Array, count: number): void => {
  if (count === 0) return
  putFirst(out, hi[0] as number, lo[0] as number)
  if (count === 1) return
  let constant = true
  for (let i = 1; i < count && constant; i++) constant = hi[i] === hi[0] && lo[i] === lo[0]
  putByte(out.shapes, constant ? shape.constant | shape.wide : shape.wide | 1)
  if (constant) return
  putByte(out.shapes, 0)
  for (let i = 1; i < count; i++) {
    const low = ((lo[i] as number) - (lo[i - 1] as number)) | 0
    const borrow = (lo[i] as number) >>> 0 < (lo[i - 1] as number) >>> 0 ? 1 : 0
    const high = ((hi[i] as number) - (hi[i - 1] as number) - borrow) | 0
    const sign = high >> 31
    putWide(out.tokens, out.bits, ((high << 1) | (low >>> 31)) ^ sign, (low << 1) ^ sign, 0)
  }
}

const fillWide = (run: Run, hi: number, lo: number, count: number): void => {
  run.wide = true
  run.hi.fill(hi, 0, count)
  run.lo.fill(lo, 0, count)
}
const takeWides = (from: IntCursors, run: Run, count: number, shift: number): void => {
  run.wide = true
  let high = taken.hi
  let low = taken.lo
  run.hi[0] = high
  run.lo[0] = low
  for (let i = 1; i < count; i++) {
    takeWide(from.tokens, from.bits, shift)
    const sign = -(taken.lo & 1)
    const addLow = ((taken.lo >>> 1) | (taken.hi << 31)) ^ sign
    const sum = (low + addLow) | 0
    high = (high + ((taken.hi >>> 1) ^ sign) + (sum >>> 0 < low >>> 0 ? 1 : 0)) | 0
    low = sum
    run.hi[i] = high
    run.lo[i] = low
  }
}

/** Takes a run of `count` into `run`, which has room for it. */
export const takeInts = (from: IntCursors, run: Run, count: number): void => {
  if (count === 0) return
  const form = count === 1 ? shape.constant | shape.wide : takeByte(from.shapes)
  takeFirst(from)
  const first = numberOf(taken.hi, taken.lo)
  if ((form & shape.constant) !== 0 && (form & shape.wide) !== 0) {
    run.values[0] = first
    fillWide(run, taken.hi, taken.lo, count)
    return
  }
  if ((form & shape.constant) !== 0) {
    run.wide = false
    const drift = (form & shape.drift) === 0 ? 0 : unzigzag(takeVarint(from.params))
    for (let i = 0; i < count; i++) run.values[i] = first + i * drift
    return
  }
  const shift = takeByte(from.shapes)
  if (shift > shiftMax) throw malformed('a shift is too large')
  if ((form & shape.wide) !== 0) takeWides(from, run, count, shift)
  else takeSmall(from, run, count, form, shift, first)
}

const takeSmall = (
  from: IntCursors,
  run: Run,
  count: number,
  form: number,
  shift: number,
  first: number,
): void => {
  const predictor = (form & shape.predictor) as Predictor
  const step = (form & shape.step) === 0 ? 1 : takeVarint(from.params)
  const drift = (form & shape.drift) === 0 ? 0 : unzigzag(takeVarint(from.params))
  const { values } = run
  run.wide = false
  const zs = scratchFor(count)
  takeTokens(from.tokens, from.bits, zs, predictor === 0 ? count : count - 1, shift)
  restore(zs, values, count, predictor)
  if (step === 1 && drift === 0)
    for (let i = 0; i < count; i++) values[i] = first + (values[i] as number)
  else
    for (let i = 0; i < count; i++) values[i] = first + step * ((values[i] as number) + i * drift)
}

/** The run's numbers as doubles in `values`. */
export const numbersOf = (run: Run, count: number): Float64Array => {
  if (run.wide) {
    for (let i = 0; i < count; i++) {
      run.values[i] = numberOf(run.hi[i] as number, run.lo[i] as number)
    }
  }
  return run.values
}
/** The run's numbers as 64-bit patterns in `hi` and `lo`. */
export const wordsOf = (run: Run, count: number): void => {
  if (run.wide) return
  for (let i = 0; i < count; i++) {
    const value = run.values[i] as number
    run.hi[i] = highOf(value)
    run.lo[i] = value | 0
  }
}
export const putWords = (run: Run, words: Int32Array, at: number, count: number): void => {
  for (let i = 0; i < count; i++) {
    words[2 * (at + i)] = run.lo[i] as number
    words[2 * (at + i) + 1] = run.hi[i] as number
  }
}
