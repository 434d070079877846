/**
 * What a window gives out: its statistics as points of statistic series, and the series they belong to.
 *
 * Invariants: a statistic series is the series' own name and tags with `@every` and `@statistic` (in its unit, for
 * values); times are the window's start; the mean is not among them: it is `sum` / `good_count`, which travel
 * instead; every statistic a window once gave is in each later `rev` of it, as a bad
 * NaN where nothing is left to make it of.
 */
import type { BatchBuilder } from '../batch.ts'
import {
  because,
  type Kind,
  kinds,
  quality,
  type SeriesEntry,
  type SeriesKey,
  windowTags,
} from '../model.ts'
import { type Statistic, statistics, type WindowSpec } from './classes.ts'
import { addState, marks, type SlotTexts, slot, standing } from './window-slots.ts'

/** Beside what was asked for: which issue of the window this is, and whether points of the window may be missing. */
export type Given = Exclude<Statistic, 'mean'> | 'rev' | 'partial'

const given: readonly Given[] = [...statistics.filter((one) => one !== 'mean'), 'partial', 'rev']

/** What travels for what was asked for, in a fixed order. */
export const givenFor = (asked: readonly Statistic[]): readonly Given[] => {
  const wanted = new Set<string>([...asked, 'rev', 'partial'])
  if (wanted.has('mean')) wanted.add('sum').add('good_count')
  return given.filter((one) => wanted.has(one))
}

const without = new Set<string>([
  'count',
  'good_count',
  'changes',
  'time_in_state',
  'rev',
  'partial',
])
const unitOf = (statistic: Given, unit: string): string => {
  if (without.has(statistic)) return ''
  if (statistic === 'good_pct') return '%'
  return statistic === 'min_at' || statistic === 'max_at' ? 'us' : unit
}
type Tag = readonly [string, string]
/** One for all series: 10,000 of them with three windows have 330,000 statistic series. */
const statisticTags = new Map<Given, Tag>(given.map((one) => [one, [windowTags.statistic, one]]))
export const everyTagOf = (everyUs: number): Tag => [windowTags.every, String(everyUs)]

export const statisticEntry = (
  of: SeriesEntry,
  everyTag: Tag,
  statistic: Given,
  idOf: (key: SeriesKey) => bigint,
): SeriesEntry => {
  const added = [...of.tags, everyTag, statisticTags.get(statistic) as Tag]
  const tags = added.sort(([a], [b]) => (a < b ? -1 : 1))
  return {
    id: idOf({ name: of.name, tags }),
    name: of.name,
    tags,
    unit: unitOf(statistic, of.unit),
  }
}

export interface Issue {
  readonly cells: Float64Array
  readonly words: Uint32Array
  readonly row: number
  /** Up to where the value in force counts: the window's end, or the newest point's time of a partial one. */
  readonly untilUs: number
  readonly spec: WindowSpec
  readonly texts: SlotTexts | undefined
  /** Sorted, where the window asks for quantiles. */
  readonly values: Float64Array | undefined
}

/** Between the two nearest ranks, as SQL's percentile_cont. */
export const quantile = (sorted: Float64Array, share: number): number => {
  const at = (sorted.length - 1) * share
  const low = Math.floor(at)
  const [a, b] = [sorted[low] as number, sorted[Math.min(low + 1, sorted.length - 1)] as number]
  const part = at - low
  if (a === b || part === 0) return a
  // Halves of the range of doubles are further apart than it reaches.
  const apart = b - a
  return Number.isFinite(apart) ? a + apart * part : a * (1 - part) + b * part
}

const numbersOf = (issue: Issue, statistic: Given): number => {
  const { cells, words, row, untilUs, spec, values } = issue
  const at = (place: number) => cells[row + place] as number
  switch (statistic) {
    case 'count':
      return at(slot.count)
    case 'changes':
      return at(slot.changes)
    case 'rev':
      return at(slot.rev)
    case 'good_count':
      return at(slot.good)
    case 'good_pct':
      return (100 * at(slot.good)) / at(slot.count)
  }
  const good = at(slot.good)
  if (((words[(row + slot.meta) * 2] as number) & marks.text) !== 0) return Number.NaN
  if (statistic === 'twa') {
    const force = at(slot.force)
    const rest = Number.isNaN(force) ? 0 : Math.max(0, untilUs - at(slot.forceTime))
    const area = rest === 0 ? at(slot.area) : at(slot.area) + force * rest
    return area / (at(slot.covered) + rest)
  }
  if (good === 0) return Number.NaN
  switch (statistic) {
    case 'min':
      return at(slot.min)
    case 'max':
      return at(slot.max)
    case 'sum':
      return at(slot.sum)
    case 'min_at':
      return at(slot.minAt)
    case 'max_at':
      return at(slot.maxAt)
    case 'range':
      return at(slot.max) - at(slot.min)
    case 'delta':
      return spec.counter === undefined ? at(slot.previous) - at(slot.deltaFrom) : at(slot.gained)
    case 'stddev': {
      const sum = at(slot.sum1)
      return Math.sqrt(Math.max(0, (at(slot.sum2) - (sum * sum) / good) / (good - 1)))
    }
  }
  if (values === undefined || values.length === 0) return Number.NaN
  return quantile(values, statistic === 'median' ? 0.5 : 0.95)
}

const wholes = new Set<Given>(['count', 'good_count', 'changes', 'rev', 'min_at', 'max_at'])
const ofValues = new Set<Given>(['min', 'max', 'sum', 'delta', 'range'])

/** `first` and `last` as they came; false when no value was used. */
const putValue = (issue: Issue, which: 'first' | 'last', to: Put): boolean => {
  const { cells, words, row, texts } = issue
  if (cells[row + slot.good] === 0) return false
  const meta = words[(row + slot.meta) * 2] as number
  const kind = ((which === 'first' ? meta : meta >>> 2) & 3) as Kind
  const at = (row + (which === 'first' ? slot.firstBits : slot.lastBits)) * 2
  if (kind === kinds.string) to.out.addText(to.series, to.timeUs, texts?.[which] ?? '', to.quality)
  else {
    const [low, high] = [words[at] as number, words[at + 1] as number]
    to.out.addWords(to.series, to.timeUs, kind, to.quality, low, high)
  }
  return true
}
interface Put {
  readonly out: BatchBuilder
  readonly series: number
  readonly timeUs: number
  readonly quality: number
}

/** Seconds by state, as a JSON object. */
const statesOf = ({ cells, row, untilUs, texts }: Issue): string => {
  const states = new Map(texts?.states)
  const rest = untilUs - (cells[row + slot.forceTime] as number)
  if (texts?.force !== undefined) addState(states, texts.force, rest)
  return JSON.stringify(Object.fromEntries([...states].map(([state, us]) => [state, us / 1e6])))
}

/** One statistic out, if there is one; behind the first issue a bad NaN in its place. */
export const putStatistic = (
  issue: Issue,
  statistic: Given,
  out: BatchBuilder,
  series: number,
): void => {
  const { cells, words, row } = issue
  const timeUs = cells[row + slot.start] as number
  const mark = words[(row + slot.meta) * 2] as number
  const state = words[(row + slot.meta) * 2 + 1] as number
  const early = issue.untilUs < (cells[row + slot.end] as number)
  const partial = early || (state & standing.lacking) !== 0
  const doubt = (mark & marks.doubt) !== 0 || partial
  const to = { out, series, timeUs, quality: doubt ? quality.uncertain : quality.good }
  if (statistic === 'partial') {
    if ((state & standing.partial) !== 0) out.addBool(series, timeUs, partial, quality.good)
    return
  }
  if (statistic === 'time_in_state') {
    out.addText(series, timeUs, statesOf(issue), to.quality)
    return
  }
  if (statistic === 'first' || statistic === 'last') {
    if (putValue(issue, statistic, to)) return
  } else {
    const value = numbersOf(issue, statistic)
    const whole = wholes.has(statistic) || (ofValues.has(statistic) && (mark & marks.notInt) === 0)
    if (whole && Number.isSafeInteger(value)) {
      const standingOf = wholes.has(statistic) ? quality.good : to.quality
      out.addSafeInt(series, timeUs, value, standingOf)
      return
    }
    if (Number.isFinite(value)) {
      out.addFloat(series, timeUs, value, to.quality)
      return
    }
  }
  if ((cells[row + slot.rev] as number) < 2) return
  out.addFloat(series, timeUs, Number.NaN, quality.bad | because.notANumber)
}
