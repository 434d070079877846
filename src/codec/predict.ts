/**
 * Which predictor leaves the smallest residuals: measured on a sample of the run, before all of it is coded.
 * y_0 = 0 and everything is a whole number below 2^49, so every residual is exact in a double.
 */

/** 0: distance from the least; 1: from the one before; 2: from the straight line of two; 3: from a running mean. */
export type Predictor = 0 | 1 | 2 | 3
export interface Choice {
  readonly predictor: Predictor
  /** Taken away from each step first, as y_i - i * drift. */
  readonly drift: number
}
export const zigzag = (value: number): number => (value < 0 ? -2 * value - 1 : 2 * value)
export const unzigzag = (z: number): number => {
  // A double's remainder is slow; nearly all residuals are small.
  if (z < 2 ** 32) return (z >>> 1) ^ -(z & 1)
  return z % 2 === 0 ? z / 2 : -(z + 1) / 2
}
/** How fast the running mean of predictor 3 follows. */
export const smoothing = 0.25
/** A run's residuals as unsigned numbers, and what the coder wants to know about them. */
export const facts = { largest: 0, bits: 0, least: 0 }

/** Keeps i * drift exact beside a span of 2^48. */
const driftMax = 2 ** 49
/** Costs are measured on the points up to `lookMax`, every other 64 of them: rare steps need a long look. */
const lookMax = 4096
const lookBlock = 64
/** Something steady shows sooner. */
const steadyLookMax = 384

const bitLength = (z: number): number =>
  z < 2 ** 32 ? 32 - Math.clz32(z) : 64 - Math.clz32(z / 2 ** 32)

/** y_i - i * drift, in place of y_i. */
export const detrend = (ys: Float64Array, count: number, drift: number): void => {
  for (let i = 1; i < count; i++) ys[i] = (ys[i] as number) - i * drift
}

/** Distances above the least: unsigned, `count` of them. */
const aboveLeast = (ys: Float64Array, zs: Float64Array, count: number): number => {
  let least = 0
  for (let i = 1; i < count; i++) if ((ys[i] as number) < least) least = ys[i] as number
  let largest = 0
  let bits = 0
  for (let i = 0; i < count; i++) {
    const z = (ys[i] as number) - least
    zs[i] = z
    bits += bitLength(z)
    if (z > largest) largest = z
  }
  facts.least = least
  facts.largest = largest
  facts.bits = bits
  return count
}

/**
 * Residuals of `ys[0..count)` into `zs` (which may be `ys`) as unsigned numbers; returns how many: all
 * for predictor 0
 * (above `facts.least`), else those from 1 on, zigzag (2r, or -2r - 1 below zero).
 */
export const residuals = (
  ys: Float64Array,
  zs: Float64Array,
  count: number,
  predictor: Predictor,
): number => {
  if (predictor === 0) return aboveLeast(ys, zs, count)
  let largest = 0
  let bits = 0
  let before = 0
  let slope = 0
  for (let i = 1; i < count; i++) {
    const y = ys[i] as number
    let r: number
    if (predictor === 3) {
      r = y - Math.floor(before + 0.5)
      before += (y - before) * smoothing
    } else {
      r = y - before
      before = y
      if (predictor === 2) {
        const bend = r - slope
        slope = r
        r = bend
      }
    }
    const z = r < 0 ? -2 * r - 1 : 2 * r
    zs[i - 1] = z
    bits += bitLength(z)
    if (z > largest) largest = z
  }
  facts.least = 0
  facts.largest = largest
  facts.bits = bits
  return count - 1
}

const spare = new Float64Array(steadyLookMax)
const costs = new Float64Array(4)
/** Raw bits that each predictor would leave, without drift, in one pass. */
const measure = (ys: Float64Array, count: number): void => {
  let least = 0
  for (let i = 1; i < count; i++) if ((ys[i] as number) < least) least = ys[i] as number
  let before = 0
  let slope = 0
  let mean = 0
  let cost0 = 0
  let cost1 = 0
  let cost2 = 0
  let cost3 = 0
  for (let from = 1; from < count; from += 2 * lookBlock) {
    const end = Math.min(count, from + lookBlock)
    // The line and the mean go on from where they would be, near enough.
    before = ys[from - 1] as number
    mean = before
    for (let i = from; i < end; i++) {
      const y = ys[i] as number
      const step = y - before
      cost0 += bitLength(y - least)
      cost1 += bitLength(2 * Math.abs(step))
      cost2 += bitLength(2 * Math.abs(step - slope))
      cost3 += bitLength(2 * Math.abs(y - Math.floor(mean + 0.5)))
      mean += (y - mean) * smoothing
      slope = step
      before = y
    }
  }
  costs[0] = cost0
  costs[1] = cost1
  costs[2] = cost2
  costs[3] = cost3
}

const steps = new Float64Array(15)
/** Median of a few steps; 0 where it is small beside them, or too large to stay exact. */
const medianStep = (ys: Float64Array, count: number): number => {
  let size = 0
  for (let i = 0; i < steps.length; i++) {
    const at = 1 + Math.floor((i * (count - 1)) / steps.length)
    const step = (ys[at] as number) - (ys[at - 1] as number)
    steps[i] = step
    size += Math.abs(step)
  }
  const median = steps.sort()[steps.length >> 1] as number
  const matters = Math.abs(median) * steps.length * 4 > size
  return matters && Math.abs(median) * count <= driftMax ? median : 0
}

const plain: readonly Choice[] = [
  { predictor: 0, drift: 0 },
  { predictor: 1, drift: 0 },
  { predictor: 2, drift: 0 },
  { predictor: 3, drift: 0 },
]
export const choosePredictor = (ys: Float64Array, count: number): Choice => {
  measure(ys, Math.min(count, lookMax))
  let best = 0
  for (let c = 1; c < 4; c++) if ((costs[c] as number) < (costs[best] as number)) best = c
  const choice = plain[best] as Choice
  const drift = medianStep(ys, count)
  if (drift === 0) return choice
  // Something steady, such as a counter or a clock: along a straight line, or step after step.
  const mean = Math.round((ys[count - 1] as number) / (count - 1))
  const look = Math.min(count, steadyLookMax)
  residuals(ys, spare, look, choice.predictor)
  let least = facts.bits
  let drifting = choice
  for (const candidate of [
    { predictor: 1, drift },
    { predictor: 0, drift: Math.abs(mean) * count <= driftMax ? mean : drift },
  ] as const) {
    for (let i = 0; i < look; i++) spare[i] = (ys[i] as number) - i * candidate.drift
    residuals(spare, spare, look, candidate.predictor)
    if (facts.bits >= least) continue
    least = facts.bits
    drifting = candidate
  }
  return drifting
}
/**
 * The way back: `zs` holds `count` residuals (predictor 0) or count - 1; `ys` gets what they were made
 * of, before the
 * drift and the least are put back.
 */
export const restore = (
  zs: Float64Array,
  ys: Float64Array,
  count: number,
  predictor: Predictor,
): void => {
  if (predictor === 0) {
    for (let i = 0; i < count; i++) ys[i] = zs[i] as number
    return
  }
  ys[0] = 0
  let before = 0
  if (predictor === 1) {
    for (let i = 1; i < count; i++) {
      before += unzigzag(zs[i - 1] as number)
      ys[i] = before
    }
  } else if (predictor === 2) {
    let slope = 0
    for (let i = 1; i < count; i++) {
      slope += unzigzag(zs[i - 1] as number)
      before += slope
      ys[i] = before
    }
  } else {
    for (let i = 1; i < count; i++) {
      const y = Math.floor(before + 0.5) + unzigzag(zs[i - 1] as number)
      before += (y - before) * smoothing
      ys[i] = y
    }
  }
}
