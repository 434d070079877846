/**
 * What the rules keep of a series, one row of numbers each, and what a class asks of it, compiled to numbers.
 *
 * Invariants: a value that must leave later lies here as its 64-bit pattern; NaN in a time cell means "none"; a row is
 * all of a rule's memory but for the text of a string, so rows saved and loaded go on alike.
 */
import { contractOf, deviationOf, type SeriesClass } from './classes.ts'

/** Knots remembered of each series, to mend what a point out of order breaks: the last ones, and some of the older. */
export const recentKnots = 16
export const knotsMax = recentKnots + 12
/** Cells of a row (floats, or two words each). */
export const cell = {
  /** Number of its class's first parameter. */
  params: 0,
  /** Newest time seen. */
  lastTime: 1,
  /** Usual distance of points, smoothed. */
  usual: 2,
  sentTime: 3,
  /** As a number; NaN of a string. */
  sentValue: 4,
  /** The 64-bit pattern of what was sent. */
  sentBits: 5,
  /** Newest point, while it was not sent. */
  heldTime: 6,
  heldBits: 7,
  /** Low word: kind and quality of the newest point; high word: flags. */
  meta: 8,
  /** Swinging door: slopes that no point left out forbids. Sample: `upper` is when the next cell begins. */
  upper: 9,
  lower: 10,
  /** Number of knots ever sent; the times of those remembered stand from `knots` on (`rule-knots.ts`). */
  knotCount: 11,
  /** A bit of each of them: nothing was left out between it and the one before that is remembered. */
  beside: 12,
  knots: 13,
} as const
export const stride = cell.knots + knotsMax
export const flags = {
  /** `min_gap` held it back: it leaves by `tick` if nothing follows. */
  withheld: 1,
} as const

export const methods = { every: 0, sample: 1, on_change: 2, deadband: 3, swinging_door: 4 } as const
export const param = {
  method: 0,
  /** Deviation, or for a swinging door what doubles leave of it. */
  deviation: 1,
  intervalUs: 2,
  minGapUs: 3,
  heartbeatUs: 4,
  gapAfterUs: 5,
  gapTimes: 6,
  maxHoldUs: 7,
} as const
export const paramStride = 8
/** Kept of each class: points in, points out, withheld, late, late and not mended. */
export const countsOfClass = 5
/** Weight of one distance in the usual one: 1 in so many. */
export const usualShare = 16
/** Rounding of a door's slopes and of the reader's own line, in parts of the values it lies between. */
export const doorRounding = 16 * Number.EPSILON
/** What the smallest doubles lose beside that. */
const doorUnderflow = 1e-300
const holdUsDefault = 60_000_000

const paramsOf = (one: SeriesClass): readonly number[] => {
  const { reduce } = one
  if (reduce.method === 'none') return Array.from({ length: paramStride }, () => 0)
  const { method, gap = { times: 10 }, minGapUs = 0 } = reduce
  const never = Number.POSITIVE_INFINITY
  const deviation = deviationOf(one)
  const heartbeatUs = reduce.heartbeatUs ?? never
  const holdUs = method === 'swinging_door' ? (reduce.maxHoldUs ?? reduce.heartbeatUs) : never
  return [
    methods[method],
    method === 'swinging_door' ? deviation * (1 - doorRounding) - doorUnderflow : deviation,
    'intervalUs' in reduce ? (reduce.intervalUs ?? 0) : 0,
    minGapUs,
    heartbeatUs,
    'afterUs' in gap ? gap.afterUs : never,
    'times' in gap ? gap.times : never,
    Math.min(heartbeatUs, holdUs ?? holdUsDefault),
  ]
}
export const compileParams = (classes: readonly SeriesClass[]): Float64Array =>
  Float64Array.from(classes.flatMap(paramsOf))

/** Two classes alike in this text treat a series alike: its state goes on. */
export const signatureOf = (one: SeriesClass): string =>
  JSON.stringify([paramsOf(one).map(String), contractOf(one)?.method ?? one.reduce.method])

export interface RuleTable {
  /** Replaced when they grow. */
  readonly cells: () => Float64Array
  readonly words: () => Uint32Array
  /** Text of the newest and of the last sent point, where they are strings. */
  readonly heldTexts: Map<number, string>
  readonly sentTexts: Map<number, string>
  /** A fresh row. */
  readonly add: (own: number, classNumber: number) => void
  /** As at the very beginning of the series, class and knots kept. */
  readonly clear: () => void
}

export const createRuleTable = (): RuleTable => {
  let cells = new Float64Array(stride * 64)
  let words = new Uint32Array(cells.buffer)
  const heldTexts = new Map<number, string>()
  const sentTexts = new Map<number, string>()
  return {
    cells: () => cells,
    words: () => words,
    heldTexts,
    sentTexts,
    add: (own, classNumber) => {
      const from = own * stride
      if (from + stride > cells.length) {
        const larger = new Float64Array(cells.length * 2)
        larger.set(cells)
        cells = larger
        words = new Uint32Array(cells.buffer)
      }
      cells.fill(Number.NaN, from, from + stride)
      cells[from + cell.params] = classNumber * paramStride
      cells[from + cell.knotCount] = 0
      cells[from + cell.beside] = 0
      words[(from + cell.meta) * 2] = 0
      words[(from + cell.meta) * 2 + 1] = 0
    },
    clear: () => {
      heldTexts.clear()
      sentTexts.clear()
    },
  }
}
