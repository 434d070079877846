/** `holdfast replay`: a range of time sent again on purpose; once in effect, so it can do no harm. */
import type { AgentStatus, ReplayAnswer } from '../control/view.ts'
import { timeText } from '../control/wire.ts'
import { exitCodes, Failure } from '../errors.ts'
import { systemClock } from '../host.ts'
import { parseDurationMs } from '../units.ts'
import type { CliContext } from './context.ts'
import { amountText, bytesText, countText, spanText, table } from './format.ts'

export interface ReplayOptions {
  readonly from?: string
  readonly to: string
  readonly lane?: string
  readonly destination?: string
  readonly series?: readonly string[]
  readonly dryRun?: boolean
}

/** RFC 3339 (UTC unless it says otherwise), a date, `now`, or a duration before now. Microseconds since 1970. */
export const parseTimeUs = (text: string, nowUs: number): number | undefined => {
  if (text === 'now') return nowUs
  const before = parseDurationMs(text.replace(/^-/, '').replace(/\s+ago$/, ''))
  if (before !== undefined) return nowUs - before * 1_000
  const match =
    /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?\s*(Z|[+-]\d\d:?\d\d)?)?$/i.exec(
      text.trim(),
    )
  if (match === null) return undefined
  const [, date, clock = '00:00', fraction = '', zone = 'Z'] = match
  const ms = Date.parse(`${date}T${clock}${zone.toUpperCase()}`)
  return Number.isNaN(ms) ? undefined : ms * 1_000 + Number(fraction.slice(0, 6).padEnd(6, '0'))
}
const timeOf = (name: string, text: string | undefined): number => {
  const timeUs = text === undefined ? undefined : parseTimeUs(text, systemClock.nowUs())
  if (timeUs !== undefined) return Math.floor(timeUs)
  throw new Failure(
    'HF-X002',
    text === undefined ? `${name} is missing` : `${name} is no time: "${text}"`,
    'write 2026-11-21T02:00:00Z, 2026-11-21, or 3h for three hours ago',
  )
}

const spanOf = (one: { readonly fromUs: number; readonly toUs: number }) =>
  `${timeText(one.fromUs)} .. ${timeText(one.toUs)}`
const lastsText = ({ points, seconds, rate }: ReplayAnswer['parts'][number]): string => {
  if (points === 0) return ''
  if (seconds === null) return 'for how long is unknown: no bandwidth is set, and nothing moves'
  const at = rate === 'bandwidth' ? "the link's bandwidth" : 'the present rate'
  return `about ${spanText(seconds * 1_000)} at ${at}`
}

export const replay = async (context: CliContext, options: ReplayOptions): Promise<number> => {
  const answer = await (await context.client()).post<ReplayAnswer>('/v1/replay', {
    from_us: timeOf('--from', options.from),
    to_us: timeOf('--to', options.to),
    lane: options.lane ?? null,
    destination: options.destination ?? null,
    series: options.series ?? [],
    dry_run: options.dryRun === true,
  })
  if (context.flags.json) {
    context.json(answer)
    return exitCodes.good
  }
  const held = answer.parts.some(({ segments }) => segments > 0)
  const lines = answer.parts.map((one) => [
    one.lane,
    one.destination,
    amountText(one.segments, 'segment'),
    amountText(one.points, 'point'),
    bytesText(one.bytes),
    lastsText(one),
  ])
  for (const line of table(lines)) context.out(line)
  const asked = options.series === undefined ? 'that range' : 'that range and those series'
  if (!held) context.say(`nothing of ${asked} is still held here`)
  else if (options.dryRun) context.say('nothing was sent: --dry-run')
  else if (answer.parts.every(({ points }) => points === 0))
    context.say(
      `samples met none of those series; replay ${answer.id} looks at all: holdfast replay list says what it found. ` +
        'For names: holdfast tap, or holdfast explain NAME, which knows the nearest',
    )
  else context.say(`replay ${answer.id} runs; end it with: holdfast replay cancel ${answer.id}`)
  return exitCodes.good
}

/** What `replay list` shows: all that are remembered, those that ended too. */
export const list = async (context: CliContext): Promise<number> => {
  const { replays, selections } = await (await context.client()).get<AgentStatus>('/v1/status')
  if (context.flags.json) {
    context.json({ replays, selections })
    return exitCodes.good
  }
  const lines = [
    ...selections.map((one) => [
      ...[`replay:${one.id}`, one.state, one.lane, spanOf(one)],
      `${countText(one.pointsCopied)} points of ${one.series.join(' ')}`,
      one.text,
    ]),
    ...replays.map((one) => [
      ...[`${one.destination}:${one.id}`, one.state, one.lane, spanOf(one)],
      `${countText(one.pointsSent)} of ${countText(one.points)} points`,
      one.text,
    ]),
  ]
  for (const line of table(lines)) context.out(line)
  if (lines.length === 0) context.say('no replay was asked for lately')
  return exitCodes.good
}

export const cancel = async (context: CliContext, _options: object, id = ''): Promise<number> => {
  await (await context.client()).post('/v1/replay/cancel', { id })
  if (context.flags.json) context.json({ cancelled: true, id })
  else context.say(`replay ${id} ended`)
  return exitCodes.good
}
