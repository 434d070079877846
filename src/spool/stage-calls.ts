/**
 * What the spool asks of a stage, and what becomes of one that throws.
 *
 * Invariants: a stage that throws rests until the next opening and holds its lane; trouble of the disk or of the file
 * is the spool's own and goes on upwards.
 */
import { textOf } from '../errors.ts'
import type { Derived, PointBatch, Seq, StageInput } from '../model.ts'
import type { StageState } from './stages.ts'
import { type SpoolState, throwFatal } from './state.ts'

export const rest = (state: SpoolState, one: StageState, error: unknown) => {
  one.failed = true
  one.why = textOf(error)
  one.work = null
  const facts = { stage: one.reader, lane: one.lane.name, after: one.position }
  state.host.log.error('stage_failed', { ...facts, text: one.why })
}

/** What the stage answers; undefined when it throws. Trouble of the spool itself goes on upwards. */
export const asked = <T>(state: SpoolState, one: StageState, work: () => T): T | undefined => {
  try {
    return work()
  } catch (error) {
    throwFatal(state, error)
    rest(state, one, error)
    return undefined
  }
}
export const withPoints = (derived: readonly Derived[]) =>
  derived.filter(({ points }) => points.count > 0)

export const rawFor = ({ feed, hold, lane, reader }: StageState, through: Seq): StageInput['raw'] =>
  Object.assign(
    (fromUs: number, toUs: number) => feed.raw(lane, hold.firstFor(fromUs), through, fromUs, toUs),
    {
      lacks: (fromUs: number, toUs: number) => feed.lacks(lane, through, fromUs, toUs),
      missed: (fromUs: number, toUs: number) => feed.missed(lane, reader, through, fromUs, toUs),
    },
  )

const isOutside = (one: StageState, series: number): boolean => {
  if (series >= one.taken.length) {
    const grown = new Uint8Array(Math.max(series + 1, one.taken.length * 2))
    grown.set(one.taken)
    one.taken = grown
  }
  if (one.taken[series] === 0)
    one.taken[series] = (one.stage.takes?.(one.feed.entry(series)) ?? true) ? 1 : 2
  return one.taken[series] === 2
}
/** How many of these points are of series that it only passes over. They come series by series. */
export const outsideOf = (one: StageState, { series, count }: PointBatch): number => {
  if (one.stage.takes === undefined) return 0
  let [outside, last, isLast] = [0, -1, false]
  for (let at = 0; at < count; at++) {
    const number = series[at] as number
    if (number !== last) isLast = isOutside(one, number)
    last = number
    if (isLast) outside++
  }
  return outside
}
