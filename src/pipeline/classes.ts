/**
 * Classes of series: which points of a series leave (one rule), which windows are made of it, into which lanes.
 *
 * Invariants: a series belongs to the first class that matches its name, unit and tags, or to none; its entry alone
 * decides, so a restart decides alike; times are whole microseconds; what `problemsOf` passes, each stage takes.
 */
import type { Contract, SeriesEntry } from '../model.ts'
import { matchesGlob } from './globs.ts'

/** Every part given must match; of a list one is enough. `*` stands for any run of characters, `?` for one. */
export interface ClassMatch {
  /** Globs over the series' name. */
  readonly names?: readonly string[]
  /** Units as they are written. */
  readonly units?: readonly string[]
  /** Tag name to a glob over its value; a series without the tag does not match. */
  readonly tags?: Readonly<Record<string, string>>
}
/** In the series' unit, or percent of the class's range. */
export type Deviation = number | { readonly percentOfRange: number }
/** When a silence is a gap: longer than a time, or than so many times the series' usual distance of points. */
export type GapRule = { readonly afterUs: number } | { readonly times: number }

interface Common {
  /** Lane of the stage's own that the points go to. */
  readonly lane: string
  /** Points closer than this to the last one sent wait; suspends the bound. 0 unless given. */
  readonly minGapUs?: number
  /** While points come in, one is sent at least this often, marked `because.repeated`; null (never) unless given. */
  readonly heartbeatUs?: number | null
  /** `{ times: 10 }` unless given; `afterUs: Infinity` for never. */
  readonly gap?: GapRule
}
export type Reduce =
  /** No point leaves: windows only. */
  | { readonly method: 'none' }
  /** A point at least `intervalUs` after the last one sent; 0 (unless given) sends all. */
  | (Common & { readonly method: 'every'; readonly intervalUs?: number })
  /** The first point of each cell of a UTC grid. */
  | (Common & { readonly method: 'sample'; readonly intervalUs: number })
  /** A point whose value, quality or type differs from the last one sent. */
  | (Common & { readonly method: 'on_change' })
  /** A point further than `deviation` from the last one sent. */
  | (Common & { readonly method: 'deadband'; readonly deviation: Deviation })
  /** The corners of a line that no point left out lies further off than `deviation`. */
  | (Common & {
      readonly method: 'swinging_door'
      readonly deviation: Deviation
      /**
       * How long a corner may wait for a next point until `tick` sends it, never longer than the heartbeat; unless
       * given as long as that, without one 60 s.
       */
      readonly maxHoldUs?: number
    })

export const statistics = [
  'count',
  'good_count',
  'good_pct',
  'min',
  'min_at',
  'max',
  'max_at',
  'first',
  'last',
  'sum',
  'mean',
  'twa',
  'delta',
  'range',
  'stddev',
  'median',
  'p95',
  'changes',
  'time_in_state',
] as const
export type Statistic = (typeof statistics)[number]

export interface WindowSpec {
  /** Divides a day; a whole day is one of the site's time zone (23 to 25 hours). */
  readonly everyUs: number
  readonly statistics: readonly Statistic[]
  /** How long after its end (by the series' own time) a window still takes points. */
  readonly latenessUs: number
  readonly lane: string
  /** `delta` of a counter: below `modulus` values begin again at 0; null: they are only ever set back to 0. */
  readonly counter?: { readonly modulus: number | null }
}

export interface SeriesClass {
  readonly name: string
  readonly match: ClassMatch
  /** Engineering range of its series, in their unit. */
  readonly range?: { readonly low: number; readonly high: number }
  readonly reduce: Reduce
  readonly windows: readonly WindowSpec[]
}

/** What is wrong with a class: where in it, what, and what to do. */
export interface ClassProblem {
  readonly path: readonly (string | number)[]
  readonly text: string
  readonly hint: string
}

export const dayUs = 86_400_000_000
export const windowEveryUsMin = 1_000_000
export const windowsPerClassMax = 8
/** Medians and percentiles are exact: the window is read again from the raw lane, 36 M points at 10,000 a second. */
export const quantileEveryUsMax = 3_600_000_000
export const latenessUsMax = 7 * dayUs
/** Windows of a series that wait for late points: minutes of 7 days. What all of them take is bounded elsewhere. */
export const windowsWaitingMax = 10_080

/** One part of a match: what it asks for, what the series has of it. */
export interface MatchPart {
  readonly part: 'names' | 'units' | 'tags'
  /** The glob that fits where one does, else all that were asked for. */
  readonly asks: string
  readonly has: string
  readonly fits: boolean
}
export const matchParts = (match: ClassMatch, entry: SeriesEntry): readonly MatchPart[] => {
  const { names, units, tags } = match
  const parts: MatchPart[] = []
  const add = (
    part: MatchPart['part'],
    asked: readonly string[],
    fit: string | undefined,
    has: string,
  ) => parts.push({ part, asks: fit ?? asked.join(', '), has, fits: fit !== undefined })
  const { name, unit } = entry
  if (names !== undefined)
    add(
      'names',
      names,
      names.find((glob) => matchesGlob(glob, name)),
      name,
    )
  if (units !== undefined)
    add(
      'units',
      units,
      units.find((one) => one === unit),
      unit,
    )
  for (const [tag, glob] of Object.entries(tags ?? {})) {
    const value = entry.tags.find(([one]) => one === tag)?.[1]
    const fits = value !== undefined && matchesGlob(glob, value)
    const asks = `${tag}=${glob}`
    add('tags', [asks], fits ? asks : undefined, value === undefined ? '' : `${tag}=${value}`)
  }
  return parts
}
const matches = (match: ClassMatch, entry: SeriesEntry): boolean =>
  matchParts(match, entry).every(({ fits }) => fits)

export interface CompiledClasses {
  readonly classes: readonly SeriesClass[]
  /** Number of the series' class in `classes`, -1 for none. */
  readonly classOf: (entry: SeriesEntry) => number
}

/** Throws where `problemsOf` finds something: whoever reads a configuration asks that first. */
export const compileClasses = (classes: readonly SeriesClass[]): CompiledClasses => {
  for (const one of classes) {
    const [problem] = problemsOf(one)
    if (problem !== undefined) throw new Error(`class ${one.name}: ${problem.text}`)
  }
  return { classes, classOf: (entry) => classes.findIndex(({ match }) => matches(match, entry)) }
}

/** The bound in the series' unit; 0 for rules without one. */
export const deviationOf = ({ reduce, range }: SeriesClass): number => {
  if (reduce.method !== 'deadband' && reduce.method !== 'swinging_door') return 0
  const { deviation } = reduce
  if (typeof deviation === 'number') return deviation
  return range === undefined
    ? Number.NaN
    : (deviation.percentOfRange / 100) * (range.high - range.low)
}

/**
 * What the class promises of its series; undefined when every point is there, or none. Infinity: a rule that bounds no
 * error (`every`, `sample`), or one that `min_gap` may suspend.
 */
export const contractOf = (one: SeriesClass): Contract | undefined => {
  const { reduce } = one
  if (reduce.method === 'none') return undefined
  if (reduce.method === 'every' && (reduce.intervalUs ?? 0) === 0 && (reduce.minGapUs ?? 0) === 0) {
    return undefined
  }
  const bounded = reduce.method !== 'every' && reduce.method !== 'sample'
  return {
    method: reduce.method,
    deviation:
      bounded && (reduce.minGapUs ?? 0) === 0 ? deviationOf(one) : Number.POSITIVE_INFINITY,
    interpolation: reduce.method === 'swinging_door' ? 'linear' : 'step',
    heartbeatUs: reduce.heartbeatUs ?? null,
  }
}

const isSpan = (us: number, least = 0): boolean => Number.isSafeInteger(us) && us >= least

const reduceProblems = ({ reduce, range }: SeriesClass): ClassProblem[] => {
  const found: ClassProblem[] = []
  const add = (key: string, text: string, hint: string) =>
    found.push({ path: ['reduce', key], text, hint })
  if (reduce.method === 'none') return found
  if ('deviation' in reduce) {
    const { deviation } = reduce
    const size = typeof deviation === 'number' ? deviation : deviation.percentOfRange
    if (typeof deviation !== 'number' && range === undefined) {
      add(
        'deviation',
        'a percentage of the range needs a range',
        'Give the class `range: { low: …, high: … }`, or the deviation in the unit of its series.',
      )
    } else if (!(size > 0 && size < Number.POSITIVE_INFINITY)) {
      add('deviation', 'must be above 0', 'To send every change of a value use `on_change`.')
    }
  }
  const positive = 'Give a time above 0, such as "10s".'
  const interval = 'intervalUs' in reduce ? reduce.intervalUs : undefined
  if (interval !== undefined && !isSpan(interval, reduce.method === 'sample' ? 1 : 0)) {
    add('intervalUs', 'must be a time above 0', positive)
  }
  if (!isSpan(reduce.minGapUs ?? 0)) add('minGapUs', 'must be a time', positive)
  if (!isSpan(reduce.heartbeatUs ?? 1, 1)) add('heartbeatUs', 'must be a time above 0', positive)
  if ('maxHoldUs' in reduce && !isSpan(reduce.maxHoldUs ?? 1, 1)) {
    add('maxHoldUs', 'must be a time above 0', positive)
  }
  const gap = reduce.gap ?? { times: 10 }
  if ('afterUs' in gap) {
    if (!(gap.afterUs > 0)) add('gapAfterUs', 'must be a time above 0', positive)
  } else if (!(gap.times > 1 && gap.times <= 1e6)) {
    const hint = 'So many times the usual distance of its points, such as 10.'
    add('gapTimes', 'must be above 1, and at most 1000000', hint)
  }
  return found
}

const windowProblems = (spec: WindowSpec, at: number): ClassProblem[] => {
  const found: ClassProblem[] = []
  const add = (key: string, text: string, hint: string) =>
    found.push({ path: ['windows', at, key], text, hint })
  const { everyUs, latenessUs, counter } = spec
  const divides = isSpan(everyUs, windowEveryUsMin) && dayUs % everyUs === 0
  if (!divides) {
    const hint = 'Such as 1s, 10s, 1m, 15m, 1h, 8h, 1d.'
    add('everyUs', 'a window must last at least 1 s and divide a day', hint)
  }
  if (!isSpan(latenessUs) || latenessUs > latenessUsMax) {
    add(
      'latenessUs',
      'must be at most 7 days',
      'Later points stay in the raw lane and are counted.',
    )
  } else if (divides && latenessUs > everyUs * windowsWaitingMax) {
    add(
      'latenessUs',
      `must be at most ${windowsWaitingMax} times \`every\`: so many windows of each series wait for late points`,
      'Larger windows can wait longer, minutes for 7 days.',
    )
  }
  const unknown = spec.statistics.filter((one) => !statistics.includes(one))
  if (unknown.length > 0) {
    add('statistics', `no statistic "${unknown[0]}"`, `There are: ${statistics.join(' ')}.`)
  }
  const quantile = spec.statistics.find((one) => one === 'median' || one === 'p95')
  if (quantile !== undefined && everyUs > quantileEveryUsMax) {
    const text = `${quantile} cannot be of more than an hour`
    add('statistics', text, 'Ask for it in a window of 1h or less.')
  }
  if (spec.statistics.length === 0) add('statistics', 'name at least one', `Such as: mean max.`)
  if (counter !== undefined && counter.modulus !== null && !(counter.modulus > 0)) {
    add('counter', 'the modulus must be above 0', 'Such as 4294967296 for 32 bits.')
  }
  return found
}

export const problemsOf = (one: SeriesClass): readonly ClassProblem[] => {
  const found = [...reduceProblems(one), ...one.windows.flatMap(windowProblems)]
  const { range, windows } = one
  if (range !== undefined && !(range.high > range.low && Number.isFinite(range.high - range.low))) {
    const hint = 'Say what the instrument can show, such as `{ low: 0, high: 250 }`.'
    found.push({ path: ['range'], text: '`high` must be above `low`', hint })
  }
  windows.forEach(({ everyUs }, at) => {
    if (windows.findIndex((other) => other.everyUs === everyUs) === at) return
    const hint = 'One series has one window of each length: name all statistics in it.'
    found.push({ path: ['windows', at, 'everyUs'], text: 'a second window of this length', hint })
  })
  if (windows.length > windowsPerClassMax) {
    const text = `a class may have at most ${windowsPerClassMax} windows`
    found.push({ path: ['windows'], text, hint: 'Larger windows can be made from smaller ones.' })
  }
  return found
}
