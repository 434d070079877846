/**
 * Rules and windows against what they read: exactly what the same stages give when nothing interrupts them, and what a
 * naive recomputation says of the raw points alone.
 */
import { pointsOf } from '../../src/batch.ts'
import { createEmbeddedReadBack } from '../../src/database/read-back.ts'
import { kinds, type PointBatch, type SeriesEntry, type Value } from '../../src/model.ts'
import {
  type CompiledClasses,
  compileClasses,
  contractOf,
  type WindowSpec,
} from '../../src/pipeline/classes.ts'
import { isAhead } from '../../src/pipeline/quality.ts'
import type { StageTotals } from '../../src/stage-facts.ts'
import type { Sample } from '../reduce/harness.ts'
import { beyondBound, notSent } from '../reduce/naive-rules.ts'
import {
  type NaiveSpec,
  type NaiveStep,
  type NaiveWindow,
  naiveWindows,
  windowDiffers,
} from '../reduce/naive-windows.ts'
import { type AgentProcess, agentName, derivedPrefix } from './agent.ts'
import { gapAfterUs, settlesUs } from './classes.ts'
import { derivedOf } from './judge.ts'
import type { Plan, Totals } from './plan.ts'
import type { Archive, StageEvent } from './recorded.ts'
import type { SimRegion } from './region.ts'
import { keyOf, replay, type Told } from './replay-real.ts'

const samplesOf = (points: PointBatch): readonly Omit<Sample, 'series'>[] =>
  [...pointsOf(points, BigInt)].map(({ timeUs, value, quality }) => ({ timeUs, value, quality }))

interface OfSeries {
  readonly steps: NaiveStep[]
  /** How many of the steps were before the change of the configuration. */
  before: number
  newestUs: number
  /** What the last ticks saw, as `createWindowsStage` tells silence. */
  quietUs: number
  sinceUs: number
  /** How many of the steps were before its state was lost for the last time. */
  anew: number
}
/** Of each series (by name): what the stage read, step by step, and how far the clock said its time had come. */
const seriesOf = (history: readonly StageEvent[], changedAfter = Number.POSITIVE_INFINITY) => {
  const found = new Map<string, OfSeries>()
  let changed = false
  history.forEach((event) => {
    if (event.kind === 'open')
      for (const one of found.values()) {
        one.quietUs = Number.NaN
        if (event.anew) one.anew = one.steps.length
      }
    // Until then the second classes only stepped again what the first had given out.
    if (event.kind === 'step' && !changed && event.seq >= changedAfter) {
      changed = event.seq > changedAfter || event.points.count === 0
      if (changed) for (const one of found.values()) one.before = one.steps.length
    }
    if (event.kind === 'tick')
      for (const one of found.values()) {
        if (one.quietUs !== one.newestUs || event.nowUs < one.sinceUs) {
          one.quietUs = one.newestUs
          one.sinceUs = event.nowUs
        }
        one.steps.push({ reachedUs: one.newestUs + event.nowUs - one.sinceUs })
      }
    if (event.kind !== 'step') return
    const bySeries = new Map<string, Sample[]>()
    samplesOf(event.points).forEach((sample, at) => {
      // No line and no window has it.
      if (isAhead(sample.quality)) return
      const { name } = event.entry(event.points.series[at] as number)
      const list = bySeries.get(name) ?? []
      bySeries.set(name, list)
      list.push({ ...sample, series: 0 })
    })
    for (const [name, points] of bySeries) {
      const none = {
        steps: [],
        newestUs: Number.NEGATIVE_INFINITY,
        quietUs: Number.NaN,
        sinceUs: 0,
        anew: 0,
      }
      const one = found.get(name) ?? {
        ...none,
        before: changed ? 0 : Number.POSITIVE_INFINITY,
      }
      found.set(name, one)
      one.steps.push(points)
      for (const { timeUs } of points) one.newestUs = Math.max(one.newestUs, timeUs)
    }
  })
  return found
}
/** By series: times where one marked as far ahead came last. What a line had there stands no more, in raw neither. */
const markedOf = (history: readonly StageEvent[]): ReadonlyMap<string, ReadonlySet<number>> => {
  const marked = new Map<string, Set<number>>()
  for (const event of history) {
    if (event.kind !== 'step') continue
    const { series, timeUs, qualities } = event.points
    timeUs.forEach((us, at) => {
      const { name } = event.entry(series[at] as number)
      const times = marked.get(name) ?? new Set()
      marked.set(name, times)
      if (isAhead(qualities[at] as number)) times.add(us)
      else times.delete(us)
    })
  }
  return marked
}
const pointsIn = (steps: readonly NaiveStep[]): readonly Sample[] =>
  steps.flatMap((step) => ('length' in step ? step : []))

/** What the region has: points by series, and statistics by series, length and start. */
interface Found {
  readonly exact: Told
  readonly points: ReadonlyMap<string, readonly Sample[]>
  readonly windows: ReadonlyMap<string, ReadonlyMap<string, Value>>
}
const floats = new DataView(new ArrayBuffer(8))
const decoded = (kind: number, bits: bigint | string): Value => {
  if (typeof bits === 'string') return bits
  if (kind === kinds.bool) return bits === 1n
  if (kind === kinds.int) return BigInt.asIntN(64, bits)
  floats.setBigUint64(0, bits)
  return floats.getFloat64(0)
}
export const foundIn = async (region: SimRegion): Promise<Found> => {
  const exact = new Map<string, string>()
  const points = new Map<string, Sample[]>()
  const windows = new Map<string, Map<string, Value>>()
  const back = createEmbeddedReadBack(region.store().database)
  for await (const row of back.readBack(agentName)) {
    if (!row.name.startsWith(derivedPrefix)) continue
    const { timeUs, kind, bits, quality, tags } = row
    const bare = kind === kinds.string ? bits : BigInt.asUintN(64, bits as bigint)
    exact.set(keyOf(row.name, Object.entries(tags), timeUs), `${kind}:${bare}:${quality}`)
    const name = row.name.slice(derivedPrefix.length)
    const statistic = tags['@statistic']
    const value = decoded(kind, bits)
    if (statistic === undefined) {
      const list = points.get(name) ?? []
      points.set(name, list)
      list.push({ series: 0, timeUs, value, quality })
    } else {
      const key = `${name} ${tags['@every']} ${timeUs}`
      const row = windows.get(key) ?? new Map<string, Value>()
      windows.set(key, row.set(statistic, value))
    }
  }
  return { exact, points, windows }
}

const compiled = (plan: Plan): readonly CompiledClasses[] => plan.classes.map(compileClasses)
const entryNamed = (name: string): SeriesEntry => ({ id: 0n, name, tags: [], unit: '' })

/** One length of windows of one series: what it was made of, and from when on all of its windows are owed. */
interface Length {
  readonly name: string
  readonly spec: NaiveSpec
  readonly steps: readonly NaiveStep[]
  /** The same to a stage that lost its state: what the clock had closed before is not known any more. */
  readonly untold: readonly NaiveStep[]
  readonly fromUs: number
}
/**
 * What was given out behind the place where a disk lost what came after, and not once more by those that went on from
 * there. How much of it had reached the region nobody knows: of a point given twice the first may stand.
 */
interface Stray {
  readonly points: ReadonlyMap<string, ReadonlySet<string>>
  readonly windows: ReadonlySet<string>
  readonly series: ReadonlySet<string>
}
const strayOf = (
  plan: Plan,
  { abandoned }: Archive,
  histories: readonly (readonly StageEvent[])[],
): Stray => {
  const points = new Map<string, ReadonlySet<string>>()
  const windows = new Set<string>()
  const series = new Set<string>()
  for (const each of abandoned)
    each.forEach((history, which) => {
      const shared = history.findIndex((event, at) => event !== histories[which]?.[at])
      const from = shared < 0 ? history.length : shared
      const again = replay(plan, which, histories[which] ?? [], from).since
      for (const [key, texts] of replay(plan, which, history, from).since) {
        if (again.has(key)) continue
        points.set(key, texts)
        const cut = key.lastIndexOf(' ')
        const [name, tags] = JSON.parse(key.slice(0, cut)) as [string, [string, string][]]
        const every = tags.find(([tag]) => tag === '@every')?.[1]
        const own = name.slice(derivedPrefix.length)
        if (every === undefined) series.add(own)
        else windows.add(`${own} ${every}${key.slice(cut)}`)
      }
    })
  return { points, windows, series }
}
function* lengthsOf(
  plan: Plan,
  history: readonly StageEvent[],
  { changedAfter }: Archive,
): Generator<Length> {
  const [before, after] = compiled(plan) as [CompiledClasses, CompiledClasses]
  const specsOf = (of: CompiledClasses, name: string) =>
    of.classes[of.classOf(entryNamed(name))]?.windows ?? []
  for (const [name, one] of seriesOf(history, changedAfter.get('windows'))) {
    const changed = Math.min(one.before, one.steps.length)
    const [first, second] = [specsOf(before, name), specsOf(after, name)]
    const isIn = (specs: readonly WindowSpec[], { everyUs }: WindowSpec) =>
      specs.some((other) => other.everyUs === everyUs)
    const naive = ({ everyUs, latenessUs, statistics, counter }: WindowSpec): NaiveSpec => ({
      everyUs,
      latenessUs,
      statistics,
      ...(counter === undefined ? {} : { modulus: counter.modulus }),
    })
    const ever = Number.NEGATIVE_INFINITY
    for (const spec of first) {
      // A length that is gone is judged by what came before.
      const steps = isIn(second, spec) ? one.steps : one.steps.slice(0, changed)
      const untold = steps.filter((step, at) => at >= one.anew || 'length' in step)
      yield { name, spec: naive(spec), steps, untold, fromUs: ever }
    }
    if (one.before === Number.POSITIVE_INFINITY) continue
    const times = pointsIn(one.steps.slice(0, changed)).map(({ timeUs }) => timeUs)
    const fromUs = Math.max(ever, ...times)
    for (const spec of second.filter((other) => !isIn(first, other)))
      yield { name, spec: naive(spec), steps: one.steps, untold: one.steps, fromUs }
  }
}

/** Given out anew without what was known: of statistics that it does not have those given out before still stand. */
const rowOf = (
  row: ReadonlyMap<string, Value>,
  anew: NaiveWindow,
  before: NaiveWindow,
): ReadonlyMap<string, Value> =>
  new Map([...row].filter(([name]) => anew.statistics.has(name) || !before.statistics.has(name)))

/** Windows as they stand in the region, against those of the raw points. */
const judgeWindows = (
  plan: Plan,
  history: readonly StageEvent[],
  { windows: found }: Found,
  /** Whether raw points were let go of under pressure, and whether any were trimmed at all. */
  { cut, gone }: { readonly cut: boolean; readonly gone: boolean },
  stray: Stray,
  archive: Archive,
  totals: Totals,
): readonly string[] => {
  const cutUs = Math.max(
    Number.NEGATIVE_INFINITY,
    ...history.flatMap((event) => (event.kind === 'letGo' ? [event.beforeUs] : [])),
  )
  const left = new Set(found.keys())
  const anew = archive.damaged.has('windows')
  for (const { name, spec, steps, untold, fromUs } of lengthsOf(plan, history, archive)) {
    const naive = naiveWindows(steps, spec)
    const others = anew ? naiveWindows(untold, spec).windows : []
    for (const { startUs } of others)
      if (!naive.windows.some((one) => one.startUs === startUs))
        left.delete(`${name} ${spec.everyUs} ${startUs}`)
    totals.realLate += naive.tooLate
    for (const window of naive.windows) {
      const key = `${name} ${spec.everyUs} ${window.startUs}`
      const row = found.get(key)
      left.delete(key)
      if (stray.windows.has(key)) continue
      const partial = row?.get('partial')
      const began = window.late || window.startUs < fromUs
      // A trimmed segment stands for all times between its first and its last: with one far ahead, for nearly all.
      const coarse = began || anew || totals.ahead > 0
      if (partial !== undefined && !cut && !(coarse && gone))
        return [`windows: ${key} is called partial`]
      if (partial !== undefined) totals.realPartial++
      if (partial === true || window.startUs < Math.max(cutUs, fromUs)) continue
      if (row === undefined && window.due) return [`windows: ${key} is missing`]
      if (row === undefined) continue
      if (!window.due) return [`windows: ${key} is there before its end`]
      const differs = windowDiffers(row, window)
      const other = others.find(({ startUs }) => startUs === window.startUs)
      if (
        differs !== null &&
        (other === undefined || windowDiffers(rowOf(row, other, window), other) !== null)
      )
        return [`windows: ${key}: ${differs}`]
      totals.realWindows++
      if (Number(row.get('rev')) > 1) totals.realRevs++
    }
  }
  // Without the newest point of before nothing tells a stage that begins anew that what comes now is too late.
  const timeless = archive.unknown.get('windows') ?? new Set<string>()
  const extra = [...left].find((key) => {
    const [name = ''] = key.split(' ')
    return !stray.windows.has(key) && !timeless.has(name)
  })
  return extra === undefined ? [] : [`windows: ${extra} is one too many`]
}

/** The clock had its time to send what nothing followed: ticks come only while the wall clock is trusted. */
const settled = (history: readonly StageEvent[]): boolean => {
  const after = history.slice(
    history.findLastIndex(({ kind }) => kind === 'step' || kind === 'open'),
  )
  const times = after.flatMap((event) => (event.kind === 'tick' ? [event.nowUs] : []))
  const back = times.findLastIndex((us, at) => us < (times[at - 1] ?? us))
  const [first = 0] = times.slice(Math.max(0, back))
  return (times.at(-1) ?? 0) - first > settlesUs
}

const judgeRules = (
  plan: Plan,
  { changedAfter, unmended, unknown }: Archive,
  history: readonly StageEvent[],
  { points: found }: Found,
  ruleTotals: readonly StageTotals[],
  stray: Stray,
  totals: Totals,
): readonly string[] => {
  const [before, after] = compiled(plan) as [CompiledClasses, CompiledClasses]
  const marked = markedOf(history)
  for (const [name, { steps, before: changed }] of seriesOf(history, changedAfter.get('rules'))) {
    const at = before.classOf(entryNamed(name))
    const one = (changed > 0 ? before : after).classes[at]
    if (one === undefined || unmended.has(one.name) || stray.series.has(name)) continue
    if (unknown.get('rules')?.has(name)) continue
    // Too far back for the knots remembered: beyond the promise.
    if (ruleTotals.find((each) => each.class === one.name)?.lateUnmended !== 0) continue
    const contract = contractOf(one)
    const all = found.get(name) ?? []
    const given = all.filter(({ quality }) => !isAhead(quality))
    const isReplaced = ({ timeUs }: Sample) => marked.get(name)?.has(timeUs) === true
    const sent = all.filter((point) => !isAhead(point.quality) || isReplaced(point))
    const lastUs = settled(history) ? Number.POSITIVE_INFINITY : (given.at(-1)?.timeUs ?? 0)
    const accepted = pointsIn(steps).filter(({ timeUs }) => timeUs <= lastUs)
    if (contract === undefined) continue
    const standing = accepted.filter((point) => !isReplaced(point))
    const wrong = beyondBound(standing, given, contract) ?? notSent(accepted, sent, gapAfterUs)
    if (wrong !== null) return [`rules: ${name}: ${wrong}`]
    totals.realBounds += accepted.length
  }
  return []
}

export const judgeReal = async (
  plan: Plan,
  region: SimRegion,
  agent: AgentProcess,
  archive: Archive,
  totals: Totals,
): Promise<readonly string[]> => {
  const back = createEmbeddedReadBack(region.store().database)
  const { accepted, ids } = derivedOf(agent)
  const histories = agent.real.map((stage) => stage.history())
  for (const event of histories.flat()) if (event.kind === 'tick') totals.realTicks++
  const given = histories.map((history, at) => replay(plan, at, history))
  const wrong = given.flatMap((one) => one.wrong)
  if (wrong.length > 0) return wrong.slice(0, 1)
  if ((await back.gapsOf(agentName)).some(({ lane }) => ids.has(lane))) return []
  const found = await foundIn(region)
  const ruleTotals = agent.real[0]?.totals() ?? []
  const unmended = ruleTotals.some(({ lateUnmended }) => lateUnmended > 0)
  const told = new Map(given.flatMap((one) => [...one.told]))
  const stray = strayOf(plan, archive, histories)
  const [rules = [], windows = []] = histories
  const cut = windows.some(({ kind }) => kind === 'letGo')
  const gone = agent.spool.lanes().some(({ derived, floor }) => !derived && floor > 1)
  const partial = [...found.windows.values()].some((row) => row.has('partial'))
  const count = given.reduce((sum, one) => sum + one.count, 0)
  // Where raw points were missing, what was made of them is judged by itself alone.
  if (!unmended && !partial && totals.reclassed === 0 && archive.damaged.size === 0) {
    if (accepted !== count) return [`windows: ${accepted} points in the lanes, not ${count}`]
    for (const [key, text] of found.exact)
      if (told.get(key) !== text && stray.points.get(key)?.has(text) !== true)
        return [`derived: ${key} is ${text}, not ${told.get(key)}`]
    for (const key of told.keys()) if (!found.exact.has(key)) return [`derived: ${key} is missing`]
  }
  return [
    ...judgeWindows(plan, windows, found, { cut, gone }, stray, archive, totals),
    ...judgeRules(plan, archive, rules, found, ruleTotals, stray, totals),
  ]
}
