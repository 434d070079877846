/**
 * Windows as one would compute them with all points in hand: no state, no order, no haste. Shares nothing with the stage
 * but the words; UTC lengths only.
 */
import { quality, type Value } from '../../src/model.ts'
import type { Statistic } from '../../src/pipeline/classes.ts'
import { type Sample, standing } from './harness.ts'

export interface NaiveWindow {
  readonly series: number
  readonly startUs: number
  readonly statistics: ReadonlyMap<string, Value>
  /** Its series came to its end, or the clock closed it: it must have been given out. */
  readonly due: boolean
  /** Its first point came behind a later one of its series: what it asks for may have been let go of by then. */
  readonly late: boolean
}
/** Points of one segment; or the clock said that the series' time has come so far. */
export type NaiveStep = readonly Sample[] | { readonly reachedUs: number }
export interface NaiveSpec {
  readonly everyUs: number
  readonly latenessUs: number
  readonly modulus?: number | null
  /** All unless given. */
  readonly statistics?: readonly Statistic[]
}
const spanOf = (timeUs: number, everyUs: number) => Math.floor(timeUs / everyUs)
const isUsed = ({ value, quality: given }: Sample) =>
  (given & 3) !== quality.bad && (typeof value !== 'number' || Number.isFinite(value))

const percentile = (sorted: readonly number[], share: number): number => {
  const at = (sorted.length - 1) * share
  const low = sorted[Math.floor(at)] as number
  const high = sorted[Math.ceil(at)] as number
  return low + (high - low) * (at - Math.floor(at))
}
const increment = (from: number, to: number, modulus: number | null): number => {
  if (to >= from) return to - from
  if (modulus === null || from > modulus) return to
  const over = modulus - from + to
  return over > modulus / 2 ? to : over
}

/** Value and µs of each stretch in which a used point was in force. */
const stretches = (
  before: Sample | undefined,
  inside: readonly Sample[],
  startUs: number,
  endUs: number,
) => {
  const marks = [...(before === undefined ? [] : [{ ...before, timeUs: startUs }]), ...inside]
  return marks.flatMap((point, at) => {
    const us = (marks[at + 1]?.timeUs ?? endUs) - point.timeUs
    return isUsed(point) ? [{ value: point.value, us }] : []
  })
}

/** Seconds by state; beyond 31 of them the rest is one, and long texts are cut, never in the midst of a character. */
const statesOf = (areas: readonly { readonly value: Value; readonly us: number }[]): string => {
  const states: Record<string, number> = Object.create(null)
  for (const { value, us } of areas) {
    const text = [...String(value)].reduce(
      (cut, one) => (cut.length + one.length > 64 ? cut : cut + one),
      '',
    )
    const name = text in states || Object.keys(states).length < 31 ? text : 'other'
    if (us > 0) states[name] = (states[name] ?? 0) + us
  }
  return JSON.stringify(states)
}
/** By name, in seconds. */
const statesIn = (text: Value | undefined, perSecond = 1): string =>
  JSON.stringify(
    Object.entries(JSON.parse(String(text ?? '{}')) as Record<string, number>)
      .map(([state, time]) => [state, time / perSecond] as const)
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  )

const statisticsOf = (
  before: Sample | undefined,
  inside: readonly Sample[],
  startUs: number,
  spec: NaiveSpec,
): Map<string, Value> => {
  const used = inside.filter(isUsed)
  const out = new Map<string, Value>([
    ['count', BigInt(inside.length)],
    ['good_count', BigInt(used.length)],
    ['good_pct', (100 * used.length) / inside.length],
    ['time_in_state', statesOf(stretches(before, inside, startUs, startUs + spec.everyUs))],
  ])
  const carried = before !== undefined && isUsed(before) ? [before] : []
  const chain = [...carried, ...used]
  const changes = chain.filter(({ value }, at) => at > 0 && value !== chain[at - 1]?.value).length
  const areas = stretches(before, inside, startUs, startUs + spec.everyUs)
  const first = used[0]
  const last = used.at(-1)
  if (first !== undefined && last !== undefined) {
    out.set('first', first.value)
    out.set('last', last.value)
  }
  if (chain.every(({ value }) => typeof value === typeof chain[0]?.value)) {
    out.set('changes', BigInt(changes))
  }
  if (used.some(({ value }) => typeof value === 'string')) return out
  const covered = areas.filter(({ value }) => typeof value !== 'string')
  const time = covered.reduce((sum, { us }) => sum + us, 0)
  const area = covered.reduce((sum, { value, us }) => sum + Number(value) * us, 0)
  if (time > 0) out.set('twa', area / time)
  const numbers = used.map(({ value }) => Number(value))
  if (numbers.length === 0) return out
  const sorted = [...numbers].sort((a, b) => a - b)
  const [min, max] = [sorted[0] as number, sorted.at(-1) as number]
  out.set('min', min)
  out.set('max', max)
  out.set('range', max - min)
  out.set('min_at', used[numbers.indexOf(min)]?.timeUs as number)
  out.set('max_at', used[numbers.indexOf(max)]?.timeUs as number)
  out.set(
    'sum',
    numbers.reduce((sum, value) => sum + value, 0),
  )
  const steps = chain
    .filter(({ value }) => typeof value !== 'string')
    .map(({ value }) => Number(value))
  if (spec.modulus === undefined) out.set('delta', (steps.at(-1) as number) - (steps[0] as number))
  else {
    const { modulus } = spec
    const gained = steps.reduce(
      (sum, value, at) => (at === 0 ? 0 : sum + increment(steps[at - 1] as number, value, modulus)),
      0,
    )
    out.set('delta', gained)
  }
  if (numbers.length > 1) {
    const mean = numbers.reduce((sum, value) => sum + value, 0) / numbers.length
    const squares = numbers.reduce((sum, value) => sum + (value - mean) ** 2, 0)
    out.set('stddev', Math.sqrt(squares / (numbers.length - 1)))
  }
  out.set('median', percentile(sorted, 0.5))
  out.set('p95', percentile(sorted, 0.95))
  return out
}

/** A point, and what was over when its step began. */
interface Seen {
  readonly point: Sample
  readonly beforeUs: number
  readonly closedUs: number
  readonly inOrder: boolean
}
/**
 * Of one series, step by step in accept order. A point counts for a window unless the series was beyond its lateness
 * before the step, or the clock had closed the window.
 */
export const naiveWindows = (
  steps: readonly NaiveStep[],
  spec: NaiveSpec,
): { readonly windows: NaiveWindow[]; readonly tooLate: number } => {
  const { everyUs, latenessUs } = spec
  let newestUs = Number.NEGATIVE_INFINITY
  let closedUs = Number.NEGATIVE_INFINITY
  let tooLate = 0
  const seen: Seen[] = []
  const endOf = (span: number) => (span + 1) * everyUs
  const timely = (span: number, of: number) =>
    standing(
      seen
        .filter((one) => spanOf(one.point.timeUs, everyUs) === span)
        .filter((one) => endOf(of) + latenessUs > one.beforeUs && endOf(of) > one.closedUs)
        .map(({ point }) => point),
    )
  const close = (reachedUs: number) => {
    for (const { point } of seen) {
      const span = spanOf(point.timeUs, everyUs)
      const over = endOf(span) + latenessUs <= reachedUs && endOf(span) > closedUs
      if (over && timely(span, span).length > 0) closedUs = endOf(span)
    }
  }
  for (const step of steps) {
    if (!('length' in step)) {
      close(step.reachedUs)
      continue
    }
    const beforeUs = newestUs
    for (const point of step) {
      const again = seen.findLast(({ point: one }) => one.timeUs === newestUs)?.point
      const same =
        again?.timeUs === point.timeUs &&
        Object.is(again.value, point.value) &&
        again.quality === point.quality
      const endUs = endOf(spanOf(point.timeUs, everyUs))
      if (!same && (endUs + latenessUs <= beforeUs || endUs <= closedUs)) tooLate++
      seen.push({ point, beforeUs, closedUs, inOrder: point.timeUs > newestUs })
      newestUs = Math.max(newestUs, point.timeUs)
    }
  }
  const spans = [...new Set(seen.map(({ point }) => spanOf(point.timeUs, everyUs)))].sort(
    (a, b) => a - b,
  )
  const windows = spans.flatMap((span) => {
    const inside = timely(span, span)
    if (inside.length === 0) return []
    const before = timely(span - 1, span).at(-1)
    const all = [...statisticsOf(before, inside, span * everyUs, spec)]
    const asked = (name: string) => spec.statistics?.includes(name as Statistic) ?? true
    const statistics = new Map(all.filter(([name]) => asked(name)))
    const due = endOf(span) <= newestUs || endOf(span) <= closedUs
    const first = seen.find(({ point }) => spanOf(point.timeUs, everyUs) === span)
    const late = first?.inOrder === false
    return [{ series: inside[0]?.series ?? 0, startUs: span * everyUs, statistics, due, late }]
  })
  return { windows, tooLate }
}

const near = (a: number, b: number, scale: number): boolean =>
  Math.abs(a - b) <= 1e-9 * Math.max(Math.abs(a), Math.abs(b), scale) || Object.is(a, b)

/** What differs between a window's statistics as they were given out and as they should be; null for nothing. */
export const windowDiffers = (
  found: ReadonlyMap<string, Value>,
  { statistics }: NaiveWindow,
): string | null => {
  const scale = Math.max(
    ...['min', 'max'].map((name) => Math.abs(Number(statistics.get(name) ?? 0))),
  )
  for (const [name, wanted] of statistics) {
    const value = found.get(name)
    if (name === 'time_in_state') {
      const [is, should] = [statesIn(value), statesIn(wanted, 1e6)]
      if (is !== should) return `time_in_state is ${is}, not ${should}`
      continue
    }
    const loose = ['twa', 'stddev', 'median', 'p95'].includes(name)
    const exact = typeof wanted === 'number' ? Number(value) === wanted : value === wanted
    // Squares leave the range of doubles long before values do.
    const overflown =
      (typeof wanted === 'number' && !Number.isFinite(wanted)) ||
      (name === 'stddev' && (scale > 1e100 || Number(wanted) < 1e-100))
    const same = loose ? near(Number(value), Number(wanted), name === 'stddev' ? scale : 0) : exact
    if (!same && !overflown) return `${name} is ${String(value)}, not ${String(wanted)}`
  }
  for (const [name, value] of found) {
    const known = statistics.has(name) || name === 'rev' || name === 'partial' || name === 'changes'
    const nothing = Number.isNaN(value) || value === 0
    if (!known && !nothing) return `${name} is ${String(value)}, there should be none`
  }
  return null
}

export const allStatistics: readonly Statistic[] = [
  'count',
  'good_count',
  'min',
  'min_at',
  'max',
  'max_at',
  'first',
  'last',
  'sum',
  'twa',
  'delta',
  'range',
  'stddev',
  'median',
  'p95',
  'changes',
  'good_pct',
  'mean',
  'time_in_state',
]
