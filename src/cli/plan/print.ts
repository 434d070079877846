/** A plan as people read it: classes, lanes, how long the spool lasts; both configurations and the difference. */
import type { CliContext } from '../context.ts'
import { amountText, bytesText, countText, spanText, table } from '../format.ts'
import type { Plan, Report, ReportClass, ReportLane } from './report.ts'

const share = (part: number, whole: number) =>
  whole === 0 ? '' : ` (${((part / whole) * 100).toFixed(1)} %)`
const aDay = (bytes: number | null) => (bytes === null ? '?' : bytesText(bytes))
/** What the change makes of a figure. */
const change = (now: number | null, then: number | null): string => {
  if (now === null || then === null || now === 0) return ''
  const percent = (then / now - 1) * 100
  return `${percent > 0 ? '+' : ''}${percent.toFixed(0)} %`
}
const figure = (value: number) => Number(value.toPrecision(3)).toString()
const errorText = ({ greatestError, deviation, unmeasured }: ReportClass) => {
  if (greatestError === null) return '-'
  const bound = deviation === null ? ' (unbounded)' : ` of ${figure(deviation)}`
  return `${figure(greatestError)}${bound}${unmeasured > 0 ? '*' : ''}`
}
const daysText = (days: number | null) => (days === null ? '?' : spanText(days * 86_400_000))

const classCells = (one: ReportClass) => [
  one.method,
  countText(one.pointsIn),
  `${countText(one.pointsOut)}${share(one.pointsOut, one.pointsIn)}`,
  countText(one.windowPoints),
  aDay(one.bytesPerDayIn),
  aDay(one.rawBytesPerDayOut),
  aDay(one.bytesPerDayOut),
  errorText(one),
]
const classHead = [
  'CLASS',
  '',
  'RULE',
  'POINTS IN',
  'OUT',
  'WINDOW POINTS',
  'A DAY: IN',
  'OUT, ENCODED',
  'COMPRESSED',
  'GREATEST ERROR',
]
const named = (one: { readonly class: string | null }) => one.class ?? '(no class)'

const classRows = ({ now, changed }: Plan): string[][] => {
  if (changed === null) return now.classes.map((one) => [named(one), '', ...classCells(one)])
  const names = [...new Set([...now.classes, ...changed.classes].map(named))]
  return names.flatMap((name) => {
    const [one, other] = [now, changed].map(({ classes }) =>
      classes.find((each) => named(each) === name),
    )
    const rows = [
      ...(one === undefined ? [] : [[name, 'now', ...classCells(one)]]),
      ...(other === undefined ? [] : [[name, 'changed', ...classCells(other)]]),
    ]
    if (one === undefined || other === undefined) return rows
    const differs = [
      ...['', 'difference', '', change(one.pointsIn, other.pointsIn)],
      ...[change(one.pointsOut, other.pointsOut), change(one.windowPoints, other.windowPoints)],
      change(one.bytesPerDayIn, other.bytesPerDayIn),
      change(one.rawBytesPerDayOut, other.rawBytesPerDayOut),
      ...[change(one.bytesPerDayOut, other.bytesPerDayOut), ''],
    ]
    return [...rows, differs]
  })
}
const laneRow = (label: string, lane: ReportLane) => [
  lane.lane,
  label,
  spanText(lane.maxDelayMs),
  countText(lane.segments),
  countText(lane.segments === 0 ? 0 : lane.points / lane.segments),
  aDay(lane.bytesPerDay),
  lane.sent ? 'to destinations' : 'stays here',
]
const laneRows = ({ now, changed }: Plan): string[][] =>
  [
    { label: changed === null ? '' : 'now', report: now },
    ...(changed === null ? [] : [{ label: 'changed', report: changed }]),
  ]
    .flatMap(({ label, report }) => report.lanes.map((lane) => laneRow(label, lane)))
    .sort(([a = ''], [b = '']) => a.localeCompare(b))

const totalLine = (label: string, one: Report): string => {
  const { sentBytesPerDay, autonomyDays, quotaBytes } = one
  const lasts = `the quota of ${bytesText(quotaBytes)} lasts ${daysText(autonomyDays)} offline`
  return `${label}${aDay(sentBytesPerDay)} a day to destinations; ${lasts}`
}

export const printPlan = (context: CliContext, plan: Plan): void => {
  const { out } = context
  const { recording, now, changed, lane } = plan
  const span = spanText((now.toUs - now.fromUs) / 1000)
  const what = [amountText(recording.points, 'point'), `${countText(recording.series)} series`]
  out(`${what.join(' of ')}, ${span} of lane "${lane}"`)
  out('')
  for (const line of table([classHead, ...classRows(plan)])) out(line)
  out('')
  const head = ['LANE', '', 'MAX DELAY', 'SEGMENTS', 'POINTS EACH', 'BYTES A DAY', '']
  for (const line of table([head, ...laneRows(plan)])) out(line)
  out('')
  if (changed === null) out(totalLine('', now))
  else {
    out(totalLine('now:        ', now))
    out(totalLine('changed:    ', changed))
    const sent = change(now.sentBytesPerDay, changed.sentBytesPerDay)
    out(
      `difference: ${sent || '?'} to send, ${change(now.autonomyDays, changed.autonomyDays) || '?'} of time offline`,
    )
  }
  for (const text of plan.warnings) context.warn(`note: ${text}`)
}
