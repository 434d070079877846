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
}
export interface NaiveSpec {
  readonly everyUs: number
  readonly latenessUs: number
  readonly modulus?: number | null
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

/**
 * Of one series, step by step in accept order. A point counts for a window unless the series was beyond its lateness
 * before the step.
 */
export const naiveWindows = (
  steps: readonly (readonly Sample[])[],
  spec: NaiveSpec,
): { readonly windows: NaiveWindow[]; readonly tooLate: number } => {
  const { everyUs, latenessUs } = spec
  let newestUs = Number.NEGATIVE_INFINITY
  let tooLate = 0
  const seen: { readonly point: Sample; readonly beforeUs: number }[] = []
  let beforeUs = newestUs
  for (const [at, point] of steps.flatMap((points) => [...points.entries()])) {
    if (at === 0) beforeUs = newestUs
    const again = seen.findLast(({ point: one }) => one.timeUs === newestUs)?.point
    const same =
      again?.timeUs === point.timeUs &&
      Object.is(again.value, point.value) &&
      again.quality === point.quality
    const endUs = (spanOf(point.timeUs, everyUs) + 1) * everyUs
    if (!same && endUs + latenessUs <= beforeUs) tooLate++
    seen.push({ point, beforeUs })
    newestUs = Math.max(newestUs, point.timeUs)
  }
  const timely = (span: number, of: number) =>
    standing(
      seen
        .filter((one) => spanOf(one.point.timeUs, everyUs) === span)
        .filter((one) => (of + 1) * everyUs + latenessUs > one.beforeUs)
        .map(({ point }) => point),
    )
  const accepted = steps.flat()
  const spans = [...new Set(accepted.map(({ timeUs }) => spanOf(timeUs, everyUs)))].sort(
    (a, b) => a - b,
  )
  const windows = spans.flatMap((span) => {
    const inside = timely(span, span)
    if (inside.length === 0) return []
    const before = timely(span - 1, span).at(-1)
    const statistics = statisticsOf(before, inside, span * everyUs, spec)
    return [{ series: accepted[0]?.series ?? 0, startUs: span * everyUs, statistics }]
  })
  return { windows, tooLate }
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
]
