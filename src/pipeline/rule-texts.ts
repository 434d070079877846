/** What a rule's reason says to a person. Pure. */
import { deviationOf, type SeriesClass } from './classes.ts'
import type { Decision } from './explain.ts'
import type { RuleReason } from './rule-reasons.ts'

const figure = (value: number) => String(Number(value.toPrecision(6)))
const spanText = (us: number) => {
  if (us >= 3_600e6) return `${figure(us / 3_600e6)} h`
  if (us >= 60e6) return `${figure(us / 60e6)} min`
  return `${figure(us / 1e6)} s`
}

export const reasonText = (one: SeriesClass, { reason, distance }: Decision): string => {
  const { reduce } = one
  const [deviation, away] = [figure(deviationOf(one)), figure(distance)]
  const minGap = 'minGapUs' in reduce ? spanText(reduce.minGapUs ?? 0) : ''
  const heartbeat = 'heartbeatUs' in reduce ? spanText(reduce.heartbeatUs ?? 0) : ''
  const everyPoint = !('intervalUs' in reduce && reduce.intervalUs)
  const interval = 'intervalUs' in reduce ? spanText(reduce.intervalUs ?? 0) : ''
  const texts: Readonly<Record<RuleReason, string>> = {
    first: 'the first point, for this rule',
    after_gap: 'the first point after a gap',
    before_gap: 'the last point before a gap',
    changed: 'its quality or type differs from the point before',
    before_change: 'the last point before a change of quality or type',
    special: 'NaN, infinity, or an int beyond 2^53: always sent',
    beyond: `${away} from the last point sent, more than the deviation of ${deviation}`,
    differs: 'another value than the last point sent',
    interval: everyPoint
      ? 'the rule sends every point'
      : `the last point sent is ${interval} old or older`,
    cell: `the first point of its ${interval}`,
    corner: `a corner: no straight line past it stays within ${deviation} of every point`,
    heartbeat: `heartbeat: nothing was sent for ${heartbeat}`,
    late: 'it came late, and the line drawn did not pass it',
    around_late: 'a point beside it came late: the line is drawn anew',
    silence: 'nothing followed it for so long that it was sent',
    within: `within the deviation: ${away} of ${deviation} from the last point sent`,
    corridor: `within the deviation of ${deviation} of a straight line so far; the next points decide`,
    same: 'the same value as the last point sent',
    interval_runs: `less than ${interval} after the last point sent`,
    cell_taken: `a point of its ${interval} was sent already`,
    min_gap: `less than min_gap (${minGap}) after the last point sent`,
    late_covered: 'it came late, and the line drawn passes it well enough',
    repetition: 'the newest point once more',
  }
  return texts[reason]
}
