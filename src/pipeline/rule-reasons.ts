/**
 * Why a rule let a point leave or stay, in words: what `explain` shows, said by the step that decides.
 * Invariant: one word for each decision of `rule-step.ts`.
 */
import { methods } from './rule-table.ts'

/** Why a point left, at once or later. */
export const sentReasons = [
  'first', // of its series, or of a rule that is new to it
  'after_gap',
  'before_gap',
  'changed', // quality or type
  'before_change',
  'special', // NaN, infinity, an int beyond 2^53
  'beyond', // the deviation
  'differs',
  'interval', // is over
  'cell', // the first of its interval of the clock
  'corner', // of the line: the next point lies outside the corridor
  'heartbeat',
  'late', // and no line covers it
  'around_late', // the line around a late point is drawn anew
  'silence', // nothing followed it
] as const
/** Why it did not, so far. */
export const reducedReasons = [
  'within', // the deviation
  'corridor', // the line drawn so far may pass it
  'same',
  'interval_runs',
  'cell_taken',
  'min_gap',
  'late_covered',
  'repetition', // of the newest point, at its very time
] as const
export type RuleReason = (typeof sentReasons)[number] | (typeof reducedReasons)[number]
/**
 * Hears each decision: a point is named by its time, and decided once more where it is sent later. `distance` is from
 * the last point sent, NaN where the rule asks for none.
 */
export type RuleListener = (
  own: number,
  timeUs: number,
  reason: RuleReason,
  distance: number,
) => void

/** Of a point that a rule of a stepped line was asked for. */
export const wantedReason = (method: number, numeric: boolean, wanted: boolean): RuleReason => {
  if (method === methods.every) return wanted ? 'interval' : 'interval_runs'
  if (method === methods.sample) return wanted ? 'cell' : 'cell_taken'
  if (method === methods.deadband && numeric) return wanted ? 'beyond' : 'within'
  return wanted ? 'differs' : 'same'
}
export const isSentReason = (reason: RuleReason): boolean =>
  (sentReasons as readonly RuleReason[]).includes(reason)
