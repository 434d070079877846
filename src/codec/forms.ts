/**
 * How a run of float64 values can be said in whole numbers: as decimals (most sensors), sixtieths of
 * decimals (means of
 * a few readings), decimals that went through a float32, or float32 patterns; each with the few units
 * in the last place
 * that sums, conversions and printing leave beside it (3.1260000000000003).
 * Invariant: `convert` says true only where every value but the listed exceptions is its form plus its
 * offset, bit for bit.
 */

export interface Form {
  /** Mode byte of no places; that of p places is `mode + p`. */
  readonly mode: number
  readonly placesMax: number
  readonly factor: number
  readonly single: boolean
  /** More digits than this say nothing in this form. */
  readonly wholeMax: number
}
const exactMax = 2 ** 53
export const decimals: Form = {
  mode: 0,
  placesMax: 22,
  factor: 1,
  single: false,
  wholeMax: exactMax,
}
export const singleDecimals: Form = {
  mode: 24,
  placesMax: 10,
  factor: 1,
  single: true,
  wholeMax: 2 ** 24,
}
export const singleBitsMode = 35
export const doubleBitsMode = 36
export const sixtieths: Form = {
  mode: 43,
  placesMax: 10,
  factor: 60,
  single: false,
  wholeMax: 2 ** 38,
}
export const lastFloatMode = 53
/** 40 to 42 are no float modes. */
export const isFloatMode = (mode: number): boolean =>
  mode <= lastFloatMode && !(mode > doubleBitsMode && mode < sixtieths.mode)

const powersOfTen = Float64Array.from({ length: 23 }, (_, e) => Number(`1e${e}`))
export const divisorOf = (form: Form, places: number): number =>
  form.factor * (powersOfTen[places] as number)
/** The form that a mode byte names, if it is one of decimals. */
export const formOf = (mode: number): Form | undefined =>
  [decimals, singleDecimals, sixtieths].find(
    (form) => mode >= form.mode && mode <= form.mode + form.placesMax,
  )

/** Decimals with more digits than this are looked at in every other form first. */
const longDecimal = 2 ** 36
/**
 * Nearness of a form: in relation to the value, as printing 15 digits leaves it; and in relation to
 * the form's step.
 */
const nearValue = 2 ** -46
const nearStep = 2 ** -9
/** Largest offset, in units of the last place, that is kept. */
const offsetMax = 255

/** What `choose` found, besides the whole numbers. */
export const found = {
  /** Offsets of all values, when there are any. */
  offsets: new Float64Array(1024),
  hasOffsets: false,
  /** Places of the values that have no such form. */
  odd: new Float64Array(64),
  oddCount: 0,
}
/** Where a form gave up. */
let failedAt = 0
/** Largest whole number in the sample of the form last asked for. */
let widest = 0

const pair = new Float64Array(1)
const pairWords = new Int32Array(pair.buffer)
const single = new Float32Array(1)
const singleWord = new Int32Array(single.buffer)

/** Fewest places that give `value` back, nearly or exactly; -1 when there are none. */
const placesOf = (value: number, form: Form): number => {
  const magnitude = Math.abs(value)
  const near = magnitude * nearValue
  if (form.single && !(Math.abs(Math.fround(magnitude) - magnitude) <= near)) return -1
  for (let places = 0; places <= form.placesMax; places++) {
    const divisor = divisorOf(form, places)
    const whole = Math.round(magnitude * divisor)
    if (!(whole <= form.wholeMax)) return -1
    const back = form.single ? Math.fround(whole / divisor) : whole / divisor
    const off = Math.abs(back - magnitude)
    if (off === 0 || (off <= near && (form.single || off * divisor <= nearStep))) return places
  }
  return -1
}

const sampleMax = 24
const placesSeen = new Int32Array(24)

/** Fewest places that nearly all of a sample needs; -1 when too many have none. */
const commonPlaces = (values: Float64Array, count: number, form: Form): number => {
  const size = Math.min(count, sampleMax)
  placesSeen.fill(0)
  widest = 0
  let good = 0
  let most = -1
  for (let i = 0; i < size; i++) {
    const value = values[Math.floor((i * count) / size)] as number
    const places = placesOf(value, form)
    if (places < 0) continue
    good++
    widest = Math.max(widest, Math.abs(value))
    placesSeen[places] = (placesSeen[places] as number) + 1
    if (places > most) most = places
  }
  const enough = size - (size >> 3)
  if (good < enough) return -1
  let seen = 0
  let common = -1
  while (seen < enough) seen += placesSeen[++common] as number
  // A few values with many more digits are cheaper as exceptions than ten bits on every point.
  const places = most - common < 3 ? most : common
  widest *= divisorOf(form, places)
  return places
}

const addOdd = (at: number): void => {
  if (found.oddCount === found.odd.length) {
    const grown = new Float64Array(found.odd.length * 2)
    grown.set(found.odd)
    found.odd = grown
  }
  found.odd[found.oddCount++] = at
}
/** How far the pattern hi·2^32 + lo lies above that of `near`. */
const offsetOf = (hi: number, lo: number, near: number): number => {
  pair[0] = near
  return (hi - (pairWords[1] as number)) * 2 ** 32 + (lo >>> 0) - ((pairWords[0] as number) >>> 0)
}
const startFound = (count: number): void => {
  if (found.offsets.length < count) found.offsets = new Float64Array(count * 2)
  found.hasOffsets = false
  found.oddCount = 0
}

/** The run to say: values, the same as pairs of words (low first), and room for the whole numbers. */
export interface Said {
  readonly values: Float64Array
  readonly words: Int32Array
  readonly xs: Float64Array
  readonly count: number
}

const convert = (run: Said, form: Form, places: number, oddMax: number): boolean => {
  const { values, words, xs, count } = run
  const divisor = divisorOf(form, places)
  startFound(count)
  const { offsets } = found
  let before = 0
  for (let i = 0; i < count; i++) {
    const value = values[i] as number
    const whole = Math.round(value * divisor)
    offsets[i] = 0
    if (Math.abs(whole) <= exactMax && (whole !== 0 || 1 / value > 0)) {
      const near = form.single ? Math.fround(whole / divisor) : whole / divisor
      const offset =
        near === value ? 0 : offsetOf(words[2 * i + 1] as number, words[2 * i] as number, near)
      if (offset >= -offsetMax && offset <= offsetMax) {
        if (offset !== 0) found.hasOffsets = true
        offsets[i] = offset
        xs[i] = whole
        before = whole
        continue
      }
    }
    if (found.oddCount === oddMax) {
      failedAt = i
      return false
    }
    addOdd(i)
    xs[i] = before
  }
  return true
}

/** float32 patterns, turned so that they order as the values do. */
const convertToSingles = ({ values, words, xs, count }: Said, oddMax: number): boolean => {
  startFound(count)
  const { offsets } = found
  let before = 0
  for (let i = 0; i < count; i++) {
    const value = values[i] as number
    single[0] = value
    const near = single[0] as number
    offsets[i] = 0
    const offset =
      near === value ? 0 : offsetOf(words[2 * i + 1] as number, words[2 * i] as number, near)
    // Which NaN a conversion makes is the machine's own affair: NaN is always an exception.
    if (!Number.isNaN(near) && offset >= -offsetMax && offset <= offsetMax) {
      const word = singleWord[0] as number
      before = turnSingle(word)
      offsets[i] = offset
      if (offset !== 0) found.hasOffsets = true
    } else {
      if (found.oddCount === oddMax) return false
      addOdd(i)
    }
    xs[i] = before
  }
  return true
}
export const turnSingle = (word: number): number => (word < 0 ? word ^ 0x7fff_ffff : word)
/** The float32 of a turned pattern. */
export const singleOf = (turned: number): number => {
  singleWord[0] = turnSingle(turned | 0)
  return single[0] as number
}

const chooseDecimals = (run: Said, common: number): number => {
  // Each retry asks for more places, because a value outside the sample needed them.
  let places = common
  for (let tries = 0; tries < 3; tries++) {
    if (convert(run, decimals, places, tries === 2 ? run.count >> 3 : run.count >> 4)) return places
    const needed = placesOf(run.values[failedAt] as number, decimals)
    if (needed <= places) break
    places = needed
  }
  return -1
}

/** The mode for a run (without flags); `xs` and `found` are filled, but for `doubleBitsMode`. */
export const choose = (run: Said): number => {
  const { values, count } = run
  const oddMax = count >> 3
  const common = commonPlaces(values, count, decimals)
  const long = widest > longDecimal
  if (common >= 0 && !long) {
    const places = chooseDecimals(run, common)
    if (places >= 0) return decimals.mode + places
  }
  for (const form of [sixtieths, singleDecimals]) {
    const places = commonPlaces(values, count, form)
    if (places >= 0 && convert(run, form, places, oddMax)) return form.mode + places
  }
  if (convertToSingles(run, oddMax)) return singleBitsMode
  if (common >= 0 && long) {
    const places = chooseDecimals(run, common)
    if (places >= 0) return decimals.mode + places
  }
  startFound(count)
  return doubleBitsMode
}
