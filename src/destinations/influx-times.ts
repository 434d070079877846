/**
 * Points whose time a product would not hold, without a word: older than it keeps, too far ahead, and all but one of a
 * series in one unit of its time.
 *
 * Invariants: of a segment's points in one unit the one accepted last is written; between segments the first that was
 * sent stands, and a segment sent again is looked at as before (of the last `rememberedMax`, since the agent started);
 * a point of the same microsecond is a correction, not a neighbour: it is replaced, and nothing is lost.
 */
import type { EpochId, PointBatch, Refusal, Seq } from '../model.ts'

/** Times that are held: from the first to before the second. */
export interface TimeLimits {
  readonly fromUs: number
  readonly toUs: number
}
interface Look {
  readonly epoch: EpochId
  readonly laneId: number
  readonly seq: Seq
  readonly points: PointBatch
  /** Whether anything could be written of a point. */
  readonly holds: (at: number) => boolean
  readonly leaveOut: (why: Refusal, at: number, text: string) => void
}
export interface TimeKeeper {
  /** Points that are not to be written. */
  readonly look: (look: Look) => ReadonlySet<number>
}
/** Segments whose first and last times of each series are remembered, and of how many series in all. */
const rememberedMax = 16
const endsMax = 200_000
type Ends = Map<number, readonly [firstUs: number, lastUs: number]>
interface Remembered {
  readonly epoch: EpochId
  readonly ends: Ends
}
const none: ReadonlySet<number> = new Set()

const tooFar = (timeUs: number, limit?: TimeLimits): [Refusal, string] | undefined => {
  if (limit === undefined) return undefined
  if (timeUs < 0) return ['time', 'it holds no time before 1970']
  if (timeUs < limit.fromUs) return ['retention', 'it is older than the server keeps']
  if (timeUs < limit.toUs) return undefined
  return ['time', 'it is more than two days ahead of the clock']
}
/** First and last of some times. */
const endsOf = (times: readonly number[]): readonly [number, number] =>
  times.reduce<[number, number]>(
    ([first, last], one) => [Math.min(first, one), Math.max(last, one)],
    [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
  )

export const createTimeKeeper = (
  unitUs: number,
  limits: () => TimeLimits | undefined,
): TimeKeeper => {
  const segments = new Map<string, Remembered>()
  const unitOf = (timeUs: number) => Math.floor(timeUs / unitUs)
  const forget = () => {
    let held = 0
    for (const { ends } of segments.values()) held += ends.size
    for (const [key, { ends }] of segments) {
      if (segments.size <= rememberedMax && held <= endsMax) return
      held -= ends.size
      segments.delete(key)
    }
  }
  /** Segments of the epoch that were sent before that one. */
  const before = (own: string, epoch: EpochId): readonly Ends[] => {
    const found: Ends[] = []
    for (const [key, one] of segments) {
      if (key === own) break
      if (one.epoch === epoch) found.push(one.ends)
    }
    return found
  }
  return {
    look: ({ epoch, laneId, seq, points, holds, leaveOut }) => {
      if (unitUs === 1) return none
      const passed = new Set<number>()
      const key = `${laneId}/${epoch}/${seq}`
      const others = before(key, epoch)
      const ends: Ends = new Map()
      const limit = limits()
      const pass = (at: number, why: Refusal | undefined, text = '') => {
        passed.add(at)
        if (why !== undefined) leaveOut(why, at, text)
      }
      const timeOf = (at: number) => points.timeUs[at] as number
      for (let at = 0; at < points.count; ) {
        const series = points.series[at] as number
        const standing = new Map<number, number>()
        for (; at < points.count && points.series[at] === series; at++) {
          const far = tooFar(timeOf(at), limit)
          if (far !== undefined) pass(at, ...far)
          else if (holds(at)) {
            const unit = unitOf(timeOf(at))
            const earlier = standing.get(unit)
            standing.set(unit, at)
            if (earlier === undefined) continue
            const replaced = timeOf(earlier) === timeOf(at)
            pass(earlier, replaced ? undefined : 'time', 'a later point has the same millisecond')
          }
        }
        for (const timeUs of new Set(others.flatMap((one) => one.get(series) ?? []))) {
          const mine = standing.get(unitOf(timeUs))
          if (mine === undefined || timeOf(mine) === timeUs) continue
          pass(mine, 'time', 'a point sent before has the same millisecond')
          standing.delete(unitOf(timeUs))
        }
        if (standing.size > 0) ends.set(series, endsOf([...standing.values()].map(timeOf)))
      }
      segments.set(key, { epoch, ends })
      forget()
      return passed
    },
  }
}
