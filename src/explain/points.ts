/**
 * What became of each point, put together: what the lanes hold of it, and what the rule says. Pure.
 * Invariant: where lane and rule do not agree, the lane is right and the reason is unknown.
 */
import { stageReaders } from '../agent-stages.ts'
import { valueAt } from '../batch.ts'
import { seriesIdOf } from '../codec/series-id.ts'
import type { Config } from '../config/schema.ts'
import type { ExplainPoint } from '../control/explained.ts'
import { tapJson, timeText } from '../control/wire.ts'
import type { Cursor, Seq, SeriesEntry, SeriesKey } from '../model.ts'
import type { SeriesClass } from '../pipeline/classes.ts'
import { type Decision, tooLateFor } from '../pipeline/explain.ts'
import { isSentReason } from '../pipeline/rule-reasons.ts'
import { reasonText } from '../pipeline/rule-texts.ts'
import type { LaneStatus } from '../spool-port.ts'
import type { Knots, Tail } from './held.ts'

export interface Looked {
  readonly entry: SeriesEntry
  readonly lane: LaneStatus
  readonly one: SeriesClass | undefined
  readonly tail: Tail
  readonly ruleLane: LaneStatus | undefined
  readonly knots: Knots | undefined
  readonly decisions: ReadonlyMap<number, Decision>
}

const passed = ({ backlog, live }: Cursor, seq: Seq): boolean =>
  seq <= backlog || (live !== null && seq > live.start && seq <= live.upTo)
type Became = Pick<ExplainPoint, 'state' | 'reason' | 'text' | 'destinations'>

const destinationsAt = ({ destinations }: Config, of: LaneStatus, seq: Seq) =>
  of.readers
    .filter(({ reader, stage }) => !stage && destinations.some(({ name }) => name === reader))
    .map(({ reader, cursor }) => ({
      destination: reader,
      state: passed(cursor, seq) ? ('delivered' as const) : ('pending' as const),
    }))
/** Of a series that no rule thins. */
const asItCame = (config: Config, { one, lane }: Looked, seq: Seq): Became => {
  const destinations = destinationsAt(config, lane, seq)
  if (destinations.length > 0)
    return { state: 'sent', reason: '', text: 'sent as it came', destinations }
  const why = one === undefined ? 'no class takes it' : 'its class sends no points'
  return { state: 'stays', reason: '', text: `stays in lane "${lane.lane}": ${why}`, destinations }
}
const byRule = (
  config: Config,
  looked: Looked,
  one: SeriesClass,
  ruleLane: LaneStatus,
  knots: Knots,
) => {
  const { lane, decisions } = looked
  const cursor = lane.readers.find(({ reader }) => reader === stageReaders.rules)?.cursor
  return (timeUs: number, seq: Seq): Became => {
    const none = { destinations: [] }
    if (cursor !== undefined && seq > cursor.backlog)
      return { state: 'waits', reason: '', text: 'the rule has not read it yet', ...none }
    const decision = decisions.get(timeUs)
    const reason = decision?.reason ?? 'unknown'
    const text =
      decision === undefined ? 'why is not known: too little is held' : reasonText(one, decision)
    const ruleSeq = knots.seqs.get(timeUs)
    if (ruleSeq !== undefined)
      return {
        state: 'sent',
        reason,
        text,
        destinations: destinationsAt(config, ruleLane, ruleSeq),
      }
    if (decision === undefined || !isSentReason(decision.reason))
      return { state: 'reduced', reason, text, ...none }
    return timeUs >= knots.fromUs
      ? { state: 'waits', reason, text: `${text}; it waits for its segment to close`, ...none }
      : { state: 'sent', reason, text: `${text}; no longer held`, ...none }
  }
}
/** What the clock or the next point will do with the newest one. */
const dueText = ({ one, knots }: Looked): string => {
  const { reduce } = one ?? {}
  const heartbeatUs = reduce !== undefined && 'heartbeatUs' in reduce ? reduce.heartbeatUs : null
  if (heartbeatUs == null || knots === undefined || knots.seqs.size === 0) return ''
  const newestUs = [...knots.seqs.keys()].reduce((most, time) => Math.max(most, time))
  return `; a heartbeat is due from ${timeText(newestUs + heartbeatUs)} on`
}

export const pointsOf = (
  config: Config,
  looked: Looked,
  count: number,
): readonly ExplainPoint[] => {
  const { entry, one, tail, ruleLane, knots } = looked
  const { name, tags } = entry
  const idOf = (key: SeriesKey) => seriesIdOf(config.agent.name, key)
  const held = { entry, segments: tail.segments }
  const tooLate = (one?.windows ?? []).map((spec) => ({
    everyUs: spec.everyUs,
    times: tooLateFor({ class: one as SeriesClass, ...held }, spec, config.agent.time_zone, idOf),
  }))
  const became =
    one === undefined || ruleLane === undefined || knots === undefined
      ? (_: number, seq: Seq) => asItCame(config, looked, seq)
      : byRule(config, looked, one, ruleLane, knots)
  const all = tail.segments.flatMap(({ seq, points }) =>
    Array.from({ length: points.count }, (_, at) => ({ seq, points, at })),
  )
  const newestUs = all.reduce(
    (most, { points, at }) => Math.max(most, points.timeUs[at] as number),
    0,
  )
  return all.slice(-count).map(({ seq, points, at }): ExplainPoint => {
    const timeUs = points.timeUs[at] as number
    const point = {
      name,
      tags,
      timeUs,
      value: valueAt(points, at),
      quality: points.qualities[at] as number,
    }
    const { time, kind, value, quality } = tapJson(point)
    const said = became(timeUs, seq)
    const due = timeUs === newestUs && said.state === 'reduced' ? dueText(looked) : ''
    const late = tooLate.filter(({ times }) => times.has(timeUs)).map(({ everyUs }) => everyUs)
    const shown = { time, kind, value, quality, timeUs, seq }
    return { ...shown, ...said, text: `${said.text}${due}`, tooLateForUs: late }
  })
}
