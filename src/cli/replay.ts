/** `holdfast replay`: a range of time sent again on purpose; once in effect, so it can do no harm. */
import type { ReplayAnswer } from '../control/view.ts'
import { exitCodes, Failure } from '../errors.ts'
import { systemClock } from '../host.ts'
import { parseDurationMs } from '../units.ts'
import type { CliContext } from './context.ts'
import { bytesText, countText, spanText, table } from './format.ts'

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
  const total = answer.parts.reduce((sum, { points }) => sum + points, 0)
  const lines = answer.parts.map((one) => [
    one.lane,
    one.destination,
    `${countText(one.segments)} segments`,
    `${countText(one.points)} points`,
    bytesText(one.bytes),
    ...(one.seconds === null
      ? []
      : [`about ${spanText(one.seconds * 1_000)} at the link's bandwidth`]),
  ])
  for (const line of table(lines)) context.out(line)
  const asked = options.series === undefined ? 'that range' : 'that range and those series'
  if (total === 0) context.say(`nothing of ${asked} is still held here`)
  else if (options.dryRun) context.say('nothing was sent: --dry-run')
  else context.say(`replay ${answer.id} runs; end it with: holdfast replay cancel ${answer.id}`)
  return exitCodes.good
}

export const cancel = async (context: CliContext, _options: object, id = ''): Promise<number> => {
  await (await context.client()).post('/v1/replay/cancel', { id })
  if (context.flags.json) context.json({ cancelled: true, id })
  else context.say(`replay ${id} ended`)
  return exitCodes.good
}
