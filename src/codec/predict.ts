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
const windowPoints = 32
const sampleMax = 3 * windowPoints
const sample = new Float64Array(sampleMax)
const scratch = new Float64Array(sampleMax)

const bitLength = (z: number): number =>
  z < 2 ** 32 ? 32 - Math.clz32(z) : 64 - Math.clz32(z / 2 ** 32)

/**
 * Residuals of `ys[0..count)` into `zs`: all of them for predictor 0 (above `facts.least`, unsigned), else those from
 * 1 on, zigzag (2r, or -2r - 1 below zero). Returns how many. `zs` may be `ys`.
 */
export const residuals = (
  ys: Float64Array,
  zs: Float64Array,
  count: number,
  { predictor, drift }: Choice,
): number => {
  let largest = 0
  let bits = 0
  if (predictor === 0) {
    let least = 0
    for (let i = 1; i < count; i++) {
      const y = (ys[i] as number) - i * drift
      if (y < least) least = y
    }
    for (let i = 0; i < count; i++) {
      const z = (ys[i] as number) - i * drift - least
      zs[i] = z
      bits += bitLength(z)
      if (z > largest) largest = z
    }
    facts.least = least
    facts.largest = largest
    facts.bits = bits
    return count
  }
  let before = ys[0] as number
  let slope = 0
  for (let i = 1; i < count; i++) {
    const y = (ys[i] as number) - i * drift
    let r: number
    if (predictor === 1) {
      r = y - before
      before = y
    } else if (predictor === 2) {
      r = y - before - slope
      slope = y - before
      before = y
    } else {
      r = y - Math.floor(before + 0.5)
      before += (y - before) * smoothing
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

const takeSample = (ys: Float64Array, from: number, size: number): void => {
  const base = ys[from] as number
  for (let i = 0; i < size; i++) sample[i] = (ys[from + i] as number) - base
}

const candidatesOf = (ys: Float64Array, count: number): Choice[] => {
  const candidates: Choice[] = [
    { predictor: 0, drift: 0 },
    { predictor: 1, drift: 0 },
    { predictor: 2, drift: 0 },
    { predictor: 3, drift: 0 },
  ]
  const mean = Math.round((ys[count - 1] as number) / (count - 1))
  if (mean !== 0 && Math.abs(mean) * count <= driftMax)
    candidates.push({ predictor: 0, drift: mean })
  const steps = new Float64Array(Math.min(15, count - 1))
  for (let i = 0; i < steps.length; i++) {
    const at = 1 + Math.floor((i * (count - 1)) / steps.length)
    steps[i] = (ys[at] as number) - (ys[at - 1] as number)
  }
  const median = steps.sort()[steps.length >> 1] as number
  if (median !== 0 && Math.abs(median) * count <= driftMax)
    candidates.push({ predictor: 1, drift: median })
  return candidates
}

export const choosePredictor = (ys: Float64Array, count: number): Choice => {
  const candidates = candidatesOf(ys, count)
  const costs = new Float64Array(candidates.length)
  const windows = count <= sampleMax ? 1 : 3
  const size = windows === 1 ? count : windowPoints
  for (let w = 0; w < windows; w++) {
    takeSample(ys, Math.floor((w * (count - size)) / 2), size)
    for (let c = 0; c < candidates.length; c++) {
      residuals(sample, scratch, size, candidates[c] as Choice)
      costs[c] = (costs[c] as number) + facts.bits
    }
  }
  let best = 0
  for (let c = 1; c < costs.length; c++) {
    if ((costs[c] as number) < (costs[best] as number)) best = c
  }
  return candidates[best] as Choice
}

/**
 * The way back: `zs` holds `count` residuals (predictor 0) or count - 1; `ys` gets what they were made of, before the
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
