/** What a rule promises, told from the points it left and those it was given, and nothing else. */
import type { Contract } from '../../src/model.ts'
import { type Sample, standing } from './harness.ts'

/** What a reader draws at `timeUs` from the points it has: the last one before, or the line to the next. */
const drawn = (have: readonly Sample[], timeUs: number, how: Contract['interpolation']) => {
  const after = have.findIndex((point) => point.timeUs > timeUs)
  const from = have[(after === -1 ? have.length : after) - 1]
  const to = after === -1 ? undefined : have[after]
  if (from === undefined) return undefined
  if (how === 'step' || from.timeUs === timeUs || to === undefined) return from.value
  // Between a bool or text and the same one nothing else can be drawn.
  if (!numeric(from) && from.value === to.value) return from.value
  const share = (timeUs - from.timeUs) / (to.timeUs - from.timeUs)
  const [a, b] = [Number(from.value), Number(to.value)]
  return a + (b - a) * share
}
const numeric = ({ value }: Sample) => typeof value === 'number' || typeof value === 'bigint'

/** The first accepted point, as it stands, further from what is drawn than the deviation; what has no distance, unequal. */
export const beyondBound = (
  accepted: readonly Sample[],
  given: readonly Sample[],
  { interpolation, deviation }: Pick<Contract, 'interpolation' | 'deviation'>,
): string | null => {
  const have = standing(given)
  for (const point of standing(accepted)) {
    const value = drawn(have, point.timeUs, interpolation)
    const text = `${String(point.value)} at ${point.timeUs}, drawn ${String(value)}`
    const exact = !numeric(point) || !Number.isFinite(Number(point.value))
    if (exact || typeof value === 'boolean' || typeof value === 'string') {
      if (!Object.is(value, point.value)) return text
    } else {
      const error = Math.abs(Number(value) - Number(point.value))
      if (!(error <= deviation)) return `${text}: ${error} > ${deviation}`
    }
  }
  return null
}

/**
 * The first time a rule must send whatever its value and did not: the first point, a change of quality or type, no
 * number, the last before a gap and the first after it. Points that were corrected or came late are not asked for.
 */
export const notSent = (
  accepted: readonly Sample[],
  given: readonly Sample[],
  gapAfterUs: number,
): string | null => {
  const sent = new Set(given.map(({ timeUs }) => timeUs))
  const times = new Map<number, number>()
  for (const { timeUs } of accepted) times.set(timeUs, (times.get(timeUs) ?? 0) + 1)
  const once = ({ timeUs }: Sample) => times.get(timeUs) === 1
  let last: Sample | undefined
  for (const point of accepted) {
    if (last !== undefined && point.timeUs <= last.timeUs) continue
    const gap = last !== undefined && point.timeUs - last.timeUs > gapAfterUs
    const change =
      last !== undefined &&
      once(last) &&
      (last.quality !== point.quality || typeof last.value !== typeof point.value)
    const odd = typeof point.value === 'number' && !Number.isFinite(point.value)
    const owed = last === undefined || gap || change || odd
    if (owed && once(point) && !sent.has(point.timeUs)) return `${point.timeUs} is owed`
    if (gap && last !== undefined && once(last) && !sent.has(last.timeUs))
      return `${last.timeUs}, the last before a gap, is owed`
    last = point
  }
  return null
}
