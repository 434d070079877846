/** Signals that rules and windows must stand: made by fast-check, so that a failing one shrinks. */
import fc from 'fast-check'
import { because, quality, type Value } from '../../src/model.ts'
import type { Sample, Turn } from './harness.ts'

export const startUs = 1_760_000_000_000_000
const stepUs = fc.oneof(
  { weight: 20, arbitrary: fc.constant(1_000_000) },
  { weight: 4, arbitrary: fc.integer({ min: 1, max: 3_000_000 }) },
  { weight: 1, arbitrary: fc.integer({ min: 20_000_000, max: 900_000_000 }) },
)
type Maker = (values: readonly number[]) => number[]
/** Each from numbers in −1 … 1. */
const makers: Readonly<Record<string, Maker>> = {
  walk: (values) => {
    let level = 20
    return values.map((value) => (level += value))
  },
  grid: (values) => {
    let level = 20
    return values.map((value) => (level = Math.round(level * 10 + value * 4) / 10))
  },
  step: (values) => values.map((_, at) => Math.round((values[at - (at % 13)] as number) * 60)),
  ramp: (values) => values.map((value, at) => at * 0.3 + value / 4),
  spike: (values) => values.map((value) => (value > 0.9 ? value * 1e6 : 5)),
  noise: (values) => values.map((value) => 100 + value * 3),
  tiny: (values) => values.map((value) => 1e9 + value * 1e-6),
  huge: (values) => values.map((value) => value * 1.7e308),
}
export const signalNames = Object.keys(makers)

const special = fc.oneof(
  { weight: 60, arbitrary: fc.constant(undefined) },
  { weight: 1, arbitrary: fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, -0) },
  { weight: 1, arbitrary: fc.constantFrom<Value>(true, false, 'on', 'off', 7n, 1n << 60n) },
)
const qualities = fc.oneof(
  { weight: 60, arbitrary: fc.constant<number>(quality.good) },
  { weight: 1, arbitrary: fc.constantFrom(quality.uncertain, quality.bad | because.sensorFailure) },
)
/** How far back in accept order a point is moved, and whether it comes again with another value. */
const disorder = fc.oneof(
  { weight: 30, arbitrary: fc.constant({ back: 0, again: false }) },
  {
    weight: 1,
    arbitrary: fc.record({ back: fc.integer({ min: 1, max: 30 }), again: fc.boolean() }),
  },
)
const cellArb = fc.record({
  noise: fc.double({ min: -1, max: 1, noNaN: true }),
  stepUs,
  special,
  quality: qualities,
  disorder,
})
const flagged = (value: Value, given: number): number =>
  typeof value === 'number' && !Number.isFinite(value) ? quality.bad | because.notANumber : given

export interface SignalOptions {
  readonly ordered?: boolean
  readonly numbersOnly?: boolean
  readonly lengthMax?: number
}
/** One series' points in accept order. */
export const signal = (series: number, options: SignalOptions = {}): fc.Arbitrary<Sample[]> =>
  fc
    .tuple(
      fc.constantFrom(...signalNames),
      fc.array(cellArb, { minLength: 1, maxLength: options.lengthMax ?? 120, size: 'max' }),
    )
    .map(([name, cells]) => {
      const values = (makers[name] as Maker)(cells.map(({ noise }) => noise))
      let timeUs = startUs
      const points: Sample[] = cells.map((one, at) => {
        timeUs += one.stepUs
        const plain = values[at] as number
        const value = options.numbersOnly === true ? plain : (one.special ?? plain)
        return { series, timeUs, value, quality: flagged(value, one.quality) }
      })
      if (options.ordered === true) return points
      const sent: { readonly at: number; readonly point: Sample }[] = []
      points.forEach((point, at) => {
        const { back, again } = (cells[at] as (typeof cells)[number]).disorder
        const { noise } = cells[at] as (typeof cells)[number]
        if (back === 0 || again) sent.push({ at, point })
        if (back === 0) return
        const value = typeof point.value === 'number' && again ? point.value + noise : point.value
        sent.push({ at: at + back + 0.5, point: { ...point, value } })
      })
      return sent.sort((a, b) => a.at - b.at).map(({ point }) => point)
    })

/** Points cut into steps, in the same order, ticks and restarts in between. */
export const cut = (
  points: readonly Sample[],
  sizes: readonly number[],
  between: (at: number) => readonly Turn[] = () => [],
): Turn[] => {
  const turns: Turn[] = []
  for (let at = 0, step = 0; at < points.length; step++) {
    const size = sizes[step % sizes.length] as number
    turns.push({ kind: 'step', points: points.slice(at, at + size) }, ...between(step))
    at += size
  }
  return turns
}
