/** `holdfast explain`: why the last points of a series were sent or not. */
import type { ExplainAnswer, ExplainPoint, ExplainRule } from '../control/explained.ts'
import { exitCodes } from '../errors.ts'
import { printable } from '../observability/printable.ts'
import { seriesText } from '../pipeline/globs.ts'
import type { CliContext } from './context.ts'
import { amountText, countText, spanText, table } from './format.ts'

const span = (us: number) => spanText(us / 1000)
const ruleText = (rule: ExplainRule): string => {
  const { method, lane, deviation, interpolation, intervalUs, minGapUs, heartbeatUs } = rule
  const drawn = interpolation === 'linear' ? 'straight lines' : 'steps'
  const parts = [
    method,
    ...(intervalUs ? [`one in ${span(intervalUs)}`] : []),
    ...(deviation === null
      ? [`bounds nothing${minGapUs ? ' (min_gap)' : ''}`]
      : [`no point left out lies more than ${deviation} off, drawn by ${drawn}`]),
    ...(minGapUs ? [`at least ${span(minGapUs)} apart`] : []),
    ...(heartbeatUs ? [`heartbeat ${span(heartbeatUs)}`] : []),
    ...(rule.maxHoldUs ? [`waits ${span(rule.maxHoldUs)} at most`] : []),
  ]
  return `${parts.join(', ')}; into lane "${lane}"`
}
const stateText = ({ state, destinations }: ExplainPoint): string => {
  if (destinations.length === 0) return state
  const where = (which: 'delivered' | 'pending') =>
    destinations.filter((one) => one.state === which).map(({ destination }) => destination)
  const [delivered, pending] = [where('delivered'), where('pending')]
  const parts = [
    ...(delivered.length > 0 ? [`delivered to ${delivered.join(', ')}`] : []),
    ...(pending.length > 0 ? [`pending for ${pending.join(', ')}`] : []),
  ]
  return `${state}, ${parts.join(', ')}`
}
const pointRow = (one: ExplainPoint): string[] => {
  const value = one.kind === 'string' ? JSON.stringify(one.value) : String(one.value)
  const late = one.tooLateForUs.map(span).join(', ')
  const text = late === '' ? one.text : `${one.text}; too late for its window of ${late}`
  return [one.time, value, one.quality === 'good' ? '' : one.quality, stateText(one), text]
}
const headLines = (answer: ExplainAnswer): string[] => {
  const { series, tags, unit, lane, sources, classes, rule, windows, routes } = answer
  const name = seriesText({ name: series, tags: Object.entries(tags) })
  const chosen = classes.find((one) => one.chosen)
  const from = sources.length === 0 ? '' : ` (${sources.join(', ')})`
  return [
    `${name}${unit === '' ? '' : ` [${unit}]`} comes in by lane "${lane}"${from}`,
    ...classes
      .filter((one) => !one.chosen)
      .map((one) => `  not class ${one.class}: ${one.because}`),
    chosen === undefined
      ? '  no class takes it: it stays in its lane'
      : `  class ${chosen.class}: ${chosen.because}`,
    ...(rule === null ? [] : [`  rule: ${ruleText(rule)}`]),
    ...windows.map(({ everyUs, statistics, latenessUs, lane: to }) => {
      const made = `${statistics.join(' ')}, lateness ${span(latenessUs)}`
      return `  window of ${span(everyUs)}: ${made}; into lane "${to}"`
    }),
    ...routes.map((one) => {
      const to = one.destinations.length === 0 ? 'nobody takes it' : one.destinations.join(', ')
      return `  lane "${one.lane}" (${one.holds}), sealed each ${spanText(one.maxDelayMs)}: ${to}`
    }),
  ]
}

export const explain = async (
  context: CliContext,
  options: { readonly count: number },
  series: string,
): Promise<number> => {
  const client = await context.client(30_000)
  const query = `series=${encodeURIComponent(series)}&points=${options.count}`
  const answer = await client.get<ExplainAnswer>(`/v1/explain?${query}`)
  if (context.flags.json) {
    context.json(answer)
    return exitCodes.good
  }
  const out = (text: string) => context.out(printable(text))
  for (const line of headLines(answer)) out(line)
  if (answer.points.length > 0) {
    out('')
    for (const line of table(answer.points.map(pointRow))) out(line)
  }
  for (const one of answer.gaps) {
    const who = one.destination === '' ? '' : ` for ${one.destination}`
    const source = one.source === '' ? '' : ` (${one.source})`
    const where = `lane "${one.lane}" seq ${countText(one.seq)}`
    out(`lost${who}: ${amountText(one.count, 'point')}, ${one.reason}${source}, ${where}`)
  }
  for (const note of answer.notes) context.say(`note: ${note}`)
  return exitCodes.good
}
