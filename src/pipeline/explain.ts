/**
 * What a rule and windows decided of the points of one series, found again by the stages themselves. Pure.
 *
 * Invariants: the rule begins at a point that is known to have been sent, where its state is the agent's; what it
 * decides is believed only where the lane it writes says the same; of other points nothing is said.
 */
import { copyPoint, createBatchBuilder, wordsOf } from '../batch.ts'
import type { PointBatch, SeriesEntry, SeriesId, SeriesKey, Stage, StageInput } from '../model.ts'
import { compileClasses, type SeriesClass, type WindowSpec } from './classes.ts'
import { isSentReason, type RuleReason } from './rule-reasons.ts'
import { createRulesStage } from './rules.ts'
import { createWindowsStage } from './windows.ts'

/** Points of one series, by the segment they are in; `points.series` are all 0. */
export interface HeldSegment {
  readonly seq: number
  readonly points: PointBatch
}
export interface Decision {
  readonly reason: RuleReason
  /** From the last point sent, NaN where the rule asked for none. */
  readonly distance: number
}
export interface ExplainedSeries {
  readonly class: SeriesClass
  readonly entry: SeriesEntry
  readonly segments: readonly HeldSegment[]
}

/** Later than any clock: what `tick` owes, it gives. */
const tickTimesUs = [0, 9e18]

const rawOf = (segments: readonly HeldSegment[], through: number): StageInput['raw'] =>
  function* (fromUs, toUs) {
    for (const { seq, points } of segments) {
      if (seq > through) return
      const words = wordsOf(points)
      const part = createBatchBuilder()
      for (let at = 0; at < points.count; at++) {
        const time = points.timeUs[at] as number
        if (time >= fromUs && time < toUs) copyPoint(part, points, words, at)
      }
      if (part.count() > 0) yield part.take()
    }
  }

/**
 * By time, why each point was sent or not. `sentAt` says what the rule's lane holds: undefined where that is not known,
 * because it holds no more of that time, or nothing yet. `whole`: the segments are all there ever were.
 */
export const explainRule = (
  { class: one, entry, segments }: ExplainedSeries,
  sentAt: (timeUs: number) => boolean | undefined,
  whole: boolean,
): ReadonlyMap<number, Decision> => {
  let heard: [timeUs: number, Decision][] = []
  const classes = compileClasses([one])
  const create = (state: Uint8Array | null): Stage => {
    const decided = (_: number, timeUs: number, reason: RuleReason, distance: number) =>
      heard.push([timeUs, { reason, distance }])
    const stage = createRulesStage({ classes, decided })
    stage.load(state)
    return stage
  }
  const last = new Map<number, Decision>()
  const sent = new Set<number>()
  let stage: Stage | null = whole ? create(null) : null
  let newestUs = Number.NaN

  const step = ({ seq }: HeldSegment, points: PointBatch) => {
    stage?.step({ points, entry: () => entry, seq, raw: rawOf(segments, seq) })
  }
  const take = (segment: HeldSegment, points: PointBatch) => {
    const before = (stage as Stage).save()
    step(segment, points)
    const gaveNewest =
      sent.has(newestUs) ||
      heard.some(([time, { reason }]) => time === newestUs && isSentReason(reason))
    if (!gaveNewest && sentAt(newestUs) === true) {
      // No point made it leave: the clock did, before this one came.
      heard = []
      stage = create(before)
      for (const nowUs of tickTimesUs) stage.tick(nowUs, rawOf(segments, segment.seq))
      step(segment, points)
    }
    for (const [time, decision] of heard) {
      last.set(time, decision)
      if (isSentReason(decision.reason)) sent.add(time)
    }
    heard = []
    const time = points.timeUs[0] as number
    if (!(time < newestUs)) newestUs = time
  }
  for (const segment of segments) {
    const { points } = segment
    const words = wordsOf(points)
    for (let at = 0; at < points.count; at++) {
      if (stage === null) {
        if (sentAt(points.timeUs[at] as number) !== true) continue
        stage = create(null)
      }
      const single = createBatchBuilder(1)
      copyPoint(single, points, words, at)
      take(segment, single.take())
    }
  }
  // The clock may have sent the newest.
  for (const [time, decision] of [...last]) {
    const truth = sentAt(time)
    if (time === newestUs && truth === true && !sent.has(time))
      last.set(time, { reason: 'silence', distance: Number.NaN })
    else if (truth !== undefined && truth !== sent.has(time)) last.delete(time)
    else if (sent.has(time) && !isSentReason(decision.reason)) last.delete(time)
  }
  return last
}

/** Times of points too late for this window, as far as the points held tell how late it was for the series. */
export const tooLateFor = (
  { class: one, entry, segments }: ExplainedSeries,
  spec: WindowSpec,
  timeZone: string,
  idOf: (key: SeriesKey) => SeriesId,
): ReadonlySet<number> => {
  const classes = compileClasses([{ ...one, windows: [spec] }])
  const stage = createWindowsStage({ classes, timeZone, idOf })
  stage.load(null)
  const found = new Set<number>()
  let before = 0
  for (const { seq, points } of segments) {
    stage.step({ points, entry: () => entry, seq, raw: rawOf(segments, seq) })
    const now = stage.totals().reduce((sum, { tooLate }) => sum + tooLate, 0)
    // Those of the oldest windows: what is too late once is so for everything before it.
    const times = [...points.timeUs].sort((a, b) => a - b)
    for (const time of times.slice(0, now - before)) found.add(time)
    before = now
  }
  return found
}
