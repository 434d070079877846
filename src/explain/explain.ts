/**
 * Why the last points of a series were sent or not: what became of them is read from the lanes, why from the stages.
 *
 * Invariants: a look; at most `readSegmentsMax` segments and `readPointsMax` points are read for a lane; what is not
 * known is said to be unknown.
 */
import type { Config } from '../config/schema.ts'
import type {
  ExplainAnswer,
  ExplainClass,
  ExplainPoint,
  ExplainRoute,
  ExplainRule,
} from '../control/explained.ts'
import { Failure } from '../errors.ts'
import type { Seq, SeriesEntry, SeriesTable } from '../model.ts'
import { compileClasses, contractOf, matchParts, type SeriesClass } from '../pipeline/classes.ts'
import { type Decision, explainRule } from '../pipeline/explain.ts'
import type { LaneStatus, SpoolPort } from '../spool-port.ts'
import { createPicker, type Knots, readKnots, readTail, type Tail } from './held.ts'
import { type Looked, pointsOf } from './points.ts'
import { createFinder } from './series.ts'

export interface ExplainParts {
  readonly config: Config
  readonly spool: Pick<SpoolPort, 'read' | 'dictionary' | 'epochs' | 'lanes' | 'gaps' | 'estimate'>
  readonly series: SeriesTable
}
/** The last so many points. Rejects with Failure HF-X404 or HF-X034 where the name is not that of one series. */
export type Explain = (series: string, points: number) => Promise<ExplainAnswer>

const readSegmentsMax = 20_000
const readPointsMax = 8_000_000
/** Beside those asked for, so that the rule has where to begin; and where it has not, once more. */
const earlierPoints = [60, 2_000] as const
const gapRowsMax = 1_000

const ruleOf = (one: SeriesClass | undefined): ExplainRule | null => {
  if (one === undefined || one.reduce.method === 'none') return null
  const { reduce } = one
  const contract = contractOf(one)
  const deviation = contract?.deviation ?? Number.POSITIVE_INFINITY
  return {
    method: reduce.method,
    lane: reduce.lane,
    deviation: Number.isFinite(deviation) ? deviation : null,
    interpolation: contract?.interpolation ?? null,
    intervalUs: 'intervalUs' in reduce ? (reduce.intervalUs ?? null) : null,
    minGapUs: reduce.minGapUs ?? null,
    heartbeatUs: reduce.heartbeatUs ?? null,
    maxHoldUs: 'maxHoldUs' in reduce ? (reduce.maxHoldUs ?? null) : null,
  }
}
const becauseOf = (one: SeriesClass, entry: SeriesEntry): { fits: boolean; because: string } => {
  const parts = matchParts(one.match, entry)
  const missing = parts.find(({ fits }) => !fits)
  const part = missing ?? null
  if (part !== null) {
    const has = part.has === '' ? 'it has none' : `it is ${part.has}`
    return { fits: false, because: `${part.part}: ${part.asks} (${has})` }
  }
  const text = parts.map(({ part: which, asks }) => `${which}: ${asks}`).join(', ')
  return { fits: true, because: text === '' ? 'it matches every series' : text }
}
const classesOf = (list: readonly SeriesClass[], entry: SeriesEntry): ExplainClass[] => {
  const found: ExplainClass[] = []
  for (const one of list) {
    const { fits, because } = becauseOf(one, entry)
    found.push({ class: one.name, chosen: fits, because })
    if (fits) break
  }
  return found
}

const look = async (
  { config, spool }: ExplainParts,
  statuses: readonly LaneStatus[],
  entry: SeriesEntry,
  lane: LaneStatus,
  points: number,
): Promise<Looked> => {
  const list = config.classes.find((one) => one.lane === lane.lane)?.classes ?? []
  const one = list[compileClasses(list).classOf(entry)]
  const rule = ruleOf(one)
  const ruleLane = statuses.find((status) => status.lane === rule?.lane)
  const pick = createPicker(spool, entry)
  let tail: Tail = { segments: [], gaps: [], whole: true }
  let knots: Knots | undefined
  for (const earlier of earlierPoints) {
    const budget = { segments: readSegmentsMax, points: readPointsMax }
    tail = await readTail(spool, lane, pick, points + earlier, budget)
    const times = tail.segments.flatMap((held) => [...held.points.timeUs])
    if (ruleLane === undefined || times.length === 0) break
    const fromUs = times.reduce((least, time) => Math.min(least, time))
    knots = await readKnots(spool, ruleLane, pick, fromUs, budget)
    const { seqs } = knots
    const first = times.findIndex((time) => seqs.has(time))
    if (tail.whole || (first >= 0 && first <= times.length - points)) break
  }
  const { segments, whole } = tail
  const decisions =
    one === undefined || knots === undefined
      ? new Map<number, Decision>()
      : explainRule({ class: one, entry, segments }, sentAt(knots, tail), whole)
  return { entry, lane, one, tail, ruleLane, knots, decisions }
}
/**
 * Whether the rule's lane holds a point; undefined where it cannot say: it holds no more of that time, or what the rule
 * gave out from there on may wait in its open segment.
 */
const sentAt = ({ seqs, fromUs, lastUs }: Knots, { segments }: Tail) => {
  const seqOf = new Map<number, Seq>()
  for (const { seq, points } of segments) for (const time of points.timeUs) seqOf.set(time, seq)
  // The rule gives out in the order it reads: what it made of earlier segments is sealed.
  const sealed = seqOf.get(lastUs) ?? 0
  return (timeUs: number): boolean | undefined => {
    if (seqs.has(timeUs)) return true
    return timeUs < fromUs || (seqOf.get(timeUs) ?? sealed) >= sealed ? undefined : false
  }
}

const routesOf = (
  { config }: ExplainParts,
  lane: string,
  one: SeriesClass | undefined,
): readonly ExplainRoute[] => {
  const rule = ruleOf(one)
  const lanes = new Map<string, ExplainRoute['holds']>([[lane, 'raw']])
  if (rule !== null) lanes.set(rule.lane, 'reduced')
  for (const spec of one?.windows ?? []) lanes.set(spec.lane, 'windows')
  return [...lanes].map(([name, holds]) => ({
    lane: name,
    holds,
    maxDelayMs: config.lanes.find((each) => each.name === name)?.max_delay ?? 0,
    destinations: config.destinations.flatMap((each) =>
      each.lanes.includes(name) ? [each.name] : [],
    ),
  }))
}
/** Gap records of the lanes its points went through, among the points shown. */
const gapsOf = async (
  { spool }: ExplainParts,
  { tail, lane, ruleLane }: Looked,
  points: readonly ExplainPoint[],
): Promise<ExplainAnswer['gaps']> => {
  const firstSeq = points[0]?.seq ?? lane.head
  const firstUs = points.reduce((least, { timeUs }) => Math.min(least, timeUs), Number.MAX_VALUE)
  const rows = (await spool.gaps(gapRowsMax)).filter(
    (row) =>
      (row.lane === lane.lane && row.destination !== '' && row.seqLast >= firstSeq) ||
      (row.lane === ruleLane?.lane && row.timeUsMax >= firstUs),
  )
  const own = tail.gaps.filter(({ seqLast }) => seqLast >= firstSeq)
  return [
    ...own,
    ...rows.map(({ lane: of, seq, seqLast, reason, count, source, destination }) => {
      return { lane: of, seq, seqLast, reason, count, source, destination }
    }),
  ]
}
const notesOf = ({ config }: ExplainParts, { lane, tail, ruleLane }: Looked, points: number) => {
  const notes: string[] = []
  const delayMs = config.lanes.find(({ name }) => name === lane.lane)?.max_delay ?? 0
  notes.push(
    `points of the last ${delayMs / 1_000} s may wait in the open segment and are not shown`,
  )
  if (points === 0)
    notes.push(
      tail.whole ? 'none of its points was sealed yet' : 'no point of it is among the newest',
    )
  if (ruleLane === undefined && config.classes.some((one) => one.lane === lane.lane))
    notes.push(`its points leave lane "${lane.lane}" by its destinations alone, or on request`)
  return notes
}

export const createExplain = (parts: ExplainParts): Explain => {
  const find = createFinder(parts)
  const { config, spool } = parts
  return async (asked, count) => {
    const entry = await find(asked)
    const statuses = await spool.lanes()
    const lanes = statuses.filter(({ lane, derived }) => {
      return !derived && config.lanes.some(({ name }) => name === lane)
    })
    let looked: Looked | undefined
    for (const lane of lanes) {
      const found = await look(parts, statuses, entry, lane, count)
      // The lane where its newest points are.
      const newest = ({ tail }: Looked) =>
        tail.segments.reduce(
          (most, { points }) => points.timeUs.reduce((one, time) => Math.max(one, time), most),
          0,
        )
      if (looked === undefined || newest(found) > newest(looked)) looked = found
    }
    if (looked === undefined)
      throw new Failure('HF-X404', 'this agent has no lane that sources write')
    const { lane, one } = looked
    const list = config.classes.find((each) => each.lane === lane.lane)?.classes ?? []
    const points = pointsOf(config, looked, count)
    return {
      series: entry.name,
      tags: Object.fromEntries(entry.tags),
      unit: entry.unit,
      lane: lane.lane,
      sources: config.sources.flatMap((each) => (each.lane === lane.lane ? [each.name] : [])),
      classes: classesOf(list, entry),
      rule: ruleOf(one),
      windows: (one?.windows ?? []).map(({ everyUs, statistics, latenessUs, lane: to }) => {
        return { everyUs, statistics, latenessUs, lane: to }
      }),
      routes: routesOf(parts, lane.lane, one),
      points,
      gaps: await gapsOf(parts, looked, points),
      notes: notesOf(parts, looked, points.length),
    }
  }
}
