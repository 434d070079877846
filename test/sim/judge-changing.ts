/**
 * What each accepted point is owed by the configuration of its time, told from what lies in the region alone: it is
 * within the bound of the rule of then, and in the windows of then; whatever came before, after and in between.
 */
import { createEmbeddedReadBack } from '../../src/database/read-back.ts'
import type { Value } from '../../src/model.ts'
import type { SeriesClass } from '../../src/pipeline/classes.ts'
import type { Sample } from '../reduce/harness.ts'
import { agentName } from './agent.ts'
import type { Setup } from './changing.ts'
import { foundIn } from './judge-real.ts'
import type { Plan, Totals } from './plan.ts'
import type { Attempted, Publisher } from './publisher.ts'
import type { SimRegion } from './region.ts'

interface Point {
  readonly series: string
  readonly timeUs: number
  readonly value: number
  /** How many changes there had been. */
  readonly era: number
  readonly acked: boolean
}
const floats = new DataView(new ArrayBuffer(8))
const pointsOf = ({ points, era, state }: Attempted): readonly Point[] =>
  points.map(({ series, timeUs, bits }) => {
    floats.setBigUint64(0, bits)
    return { series, timeUs, value: floats.getFloat64(0), era, acked: state === 'acked' }
  })
const classIn = ({ classes }: Setup, series: string): SeriesClass | undefined =>
  classes.find(({ match }) => match.names?.includes(series))

/** How far off what is drawn through the points given, in order; NaN where nothing is. */
const errorAt = (given: readonly Sample[], { timeUs, value }: Point, linear: boolean): number => {
  const after = given.findIndex((one) => one.timeUs > timeUs)
  const from = given[(after < 0 ? given.length : after) - 1]
  if (from === undefined) return Number.NaN
  const start = Number(from.value)
  if (from.timeUs === timeUs || !linear) return Math.abs(start - value)
  const to = given[after]
  if (to === undefined) return Number.NaN
  const part = (timeUs - from.timeUs) / (to.timeUs - from.timeUs)
  return Math.abs(start + (Number(to.value) - start) * part - value)
}
const judgeRules = (
  setups: readonly Setup[],
  points: readonly Point[],
  found: ReadonlyMap<string, readonly Sample[]>,
  totals: Totals,
): readonly string[] => {
  const given = new Map([...found].map(([name, all]) => [name, inOrder(all)]))
  for (const point of points) {
    const setup = setups[point.era] as Setup
    const reduce = classIn(setup, point.series)?.reduce
    if (reduce?.method !== 'deadband' && reduce?.method !== 'swinging_door') continue
    if (!point.acked || !setup.takes.includes(reduce.lane)) continue
    const linear = reduce.method === 'swinging_door'
    const off = errorAt(given.get(point.series) ?? [], point, linear)
    if (!(off <= (reduce.deviation as number) + 1e-9))
      return [
        `rules: ${point.series} at ${point.timeUs}, after ${point.era} changes: off by ${off}`,
      ]
    totals.changedPoints++
  }
  return []
}
const inOrder = (samples: readonly Sample[]) => [...samples].sort((a, b) => a.timeUs - b.timeUs)

/** One window that is owed: at least so many points, at most those ever sent. */
interface Owed {
  readonly series: string
  readonly everyUs: number
  readonly startUs: number
  count: number
}
const owedOf = (setups: readonly Setup[], points: readonly Point[]): readonly Owed[] => {
  const owed = new Map<string, Owed>()
  for (const { series, timeUs, era, acked } of points) {
    const setup = setups[era] as Setup
    for (const { everyUs, lane } of classIn(setup, series)?.windows ?? []) {
      if (!acked || !setup.takes.includes(lane)) continue
      const startUs = timeUs - (timeUs % everyUs)
      const key = `${series} ${everyUs} ${startUs}`
      const one = owed.get(key) ?? { series, everyUs, startUs, count: 0 }
      one.count++
      owed.set(key, one)
    }
  }
  return [...owed.values()]
}
/** Read from its beginning to beyond its end by stages of one configuration alone. */
const isWhole = ({ everyUs, startUs }: Owed, own: readonly Point[]): boolean => {
  const endUs = startUs + everyUs
  const around = own.filter(({ timeUs }) => timeUs >= startUs - everyUs && timeUs < endUs)
  const after = own.find(({ timeUs, acked }) => acked && timeUs >= endUs)
  const [first] = around
  if (first === undefined || after === undefined || !first.acked) return false
  return first.timeUs < startUs && [...around, after].every(({ era }) => era === first.era)
}
const judgeWindows = (
  setups: readonly Setup[],
  points: readonly Point[],
  found: ReadonlyMap<string, ReadonlyMap<string, Value>>,
  totals: Totals,
): readonly string[] => {
  for (const one of owedOf(setups, points)) {
    const { series, everyUs, startUs, count } = one
    const key = `${series} ${everyUs} ${startUs}`
    const row = found.get(key)
    if (row === undefined) return [`windows: ${key} is missing`]
    const own = points.filter((point) => point.series === series)
    const most = own.filter(({ timeUs }) => timeUs - (timeUs % everyUs) === startUs).length
    const held = Number(row.get('count'))
    // One that was given out at a change, and begun anew by a later one, says that it is not whole.
    const partial = row.has('partial')
    if (held < (partial ? 1 : count) || held > most)
      return [`windows: ${key} has ${held} of ${count} to ${most}`]
    if (partial && isWhole(one, own)) return [`windows: ${key} is called partial`]
    totals.changedWindows++
    if (partial) totals.changedPartial++
  }
  return []
}

export const judgeChanging = async (
  { setups }: Plan,
  region: SimRegion,
  publisher: Publisher,
  totals: Totals,
): Promise<readonly string[]> => {
  const back = createEmbeddedReadBack(region.store().database)
  const gaps = await back.gapsOf(agentName)
  // Of what is declared lost nobody can say what it would have made.
  if (gaps.some(({ reason }) => reason !== 'malformed')) return []
  const found = await foundIn(region)
  const points = publisher.attempts().flatMap(pointsOf)
  return [
    ...judgeRules(setups, points, found.points, totals),
    ...judgeWindows(setups, points, found.windows, totals),
  ]
}
