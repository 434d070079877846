/**
 * `holdfast top`: a live view of what moves and what stands still: per source, lane and destination, spool and health.
 * On a terminal a screen that is drawn anew; elsewhere a line each interval; `--once` and `--json` for programs.
 *
 * Invariants: it only asks for the status; an agent that goes away while it looks is said, and looked for again; the
 * terminal is left as it was found.
 */
import type { ControlClient } from '../control/client.ts'
import type { AgentStatus } from '../control/view.ts'
import { exitCodes, isFailure, textOf } from '../errors.ts'
import { systemClock } from '../host.ts'
import { printable } from '../observability/printable.ts'
import type { CliContext, Style } from './context.ts'
import { bytesText, countText, hoursText, spanText, table } from './format.ts'

interface TopOptions {
  readonly interval: number
  readonly once?: boolean
}
export interface Moved {
  readonly status: AgentStatus
  /** Points a second, from this look and the one before; by lane, and by `lane reader`. */
  readonly acceptedPerSecond: ReadonlyMap<string, number>
  readonly ackedPerSecond: ReadonlyMap<string, number>
}
const styleOf: Readonly<Record<AgentStatus['verdict']['state'], Style>> = {
  ok: 'green',
  degraded: 'yellow',
  unhealthy: 'red',
}

const countsOf = (status: AgentStatus) => ({
  accepted: new Map(status.lanes.map(({ lane, accepted }) => [lane, accepted])),
  acked: new Map(
    status.lanes.flatMap(({ lane, readers }) =>
      readers.map(({ reader, delivered }) => [`${lane} ${reader}`, delivered] as const),
    ),
  ),
})
/** Rates between two looks; nothing where the agent was started again in between, or a count went back. */
export const movedBetween = (before: AgentStatus | null, status: AgentStatus): Moved => {
  const none = { status, acceptedPerSecond: new Map(), ackedPerSecond: new Map() }
  if (before === null || before.epoch !== status.epoch) return none
  const seconds = (status.upForUs - before.upForUs) / 1e6
  if (!(seconds > 0)) return none
  const [was, is] = [countsOf(before), countsOf(status)]
  const rates = (old: ReadonlyMap<string, number>, now: ReadonlyMap<string, number>) =>
    new Map(
      [...now].map(([key, count]) => [key, Math.max(0, count - (old.get(key) ?? count)) / seconds]),
    )
  return {
    status,
    acceptedPerSecond: rates(was.accepted, is.accepted),
    ackedPerSecond: rates(was.acked, is.acked),
  }
}

const sum = (rates: ReadonlyMap<string, number>) => [...rates.values()].reduce((a, b) => a + b, 0)
const ago = (nowUs: number, thenUs: number) =>
  thenUs === 0 ? 'never' : spanText((nowUs - thenUs) / 1_000)
const perSecond = (rate: number | undefined) => (rate === undefined ? '' : `${countText(rate)}/s`)

const sourceRows = ({ status: { sources, nowUs } }: Moved) =>
  sources.map((one) => [
    one.name,
    one.lane,
    one.state,
    perSecond(one.pointsPerSecond),
    ago(nowUs, one.lastPointUs),
    printable(one.text),
  ])
const laneRows = ({ status, acceptedPerSecond, ackedPerSecond }: Moved) =>
  status.lanes.flatMap((lane) => [
    [lane.lane, perSecond(acceptedPerSecond.get(lane.lane)), '', bytesText(lane.bytes)],
    ...lane.readers.map((one) => [
      `  ${one.reader}`,
      perSecond(ackedPerSecond.get(`${lane.lane} ${one.reader}`)),
      countText(one.pending),
      '',
    ]),
  ])
const destinationRows = ({ status: { destinations, nowUs } }: Moved) =>
  destinations.map((one) => [
    one.name,
    one.state,
    perSecond(one.pointsPerSecond),
    countText(one.pending),
    ago(nowUs, one.lastAckUs),
    one.oldestUnackedUs === 0 ? '' : ago(nowUs, one.oldestUnackedUs),
    printable(one.state === 'up' ? '' : `${one.code} ${one.text}`.trim()),
  ])
const spoolLine = ({ status: { spool, verdict } }: Moved): string => {
  if (spool === null) return 'spool does not answer'
  const hours = verdict.safeOfflineHours
  return [
    `spool ${bytesText(spool.bytesUsed)} of ${bytesText(spool.bytesMax)}`,
    `disk ${bytesText(spool.diskFreeBytes)} free`,
    `flush ${spool.commitMsP50.toFixed(1)} ms, 99 % within ${spool.commitMsP99.toFixed(1)} ms`,
    ...(hours === null ? [] : [`safe offline for ${hoursText(hours)}`]),
    ...(spool.blockedReason === null ? [] : [`INTAKE WAITS: ${printable(spool.blockedReason)}`]),
  ].join('   ')
}

/** The whole view; colours only where `paint` gives some. */
export const screenLines = (moved: Moved, paint: CliContext['paint']): string[] => {
  const { status } = moved
  const { verdict } = status
  const head = paint(styleOf[verdict.state], verdict.state.toUpperCase())
  const clock = status.clock.trusted ? '' : '   clock not trusted'
  const part = (names: readonly string[], rows: readonly (readonly string[])[]) => {
    const [title = '', ...lines] = table([names, ...rows])
    return ['', paint('bold', title), ...lines]
  }
  return [
    `${head}  ${status.agent}  ${printable(verdict.reason)}${clock}`,
    ...(verdict.fix === '' ? [] : [`  = ${printable(verdict.fix)}`]),
    spoolLine(moved),
    ...part(['SOURCE', 'LANE', 'STATE', 'POINTS', 'LAST', ''], sourceRows(moved)),
    ...part(['LANE, READER', 'POINTS', 'BACKLOG', 'HELD'], laneRows(moved)),
    ...part(
      ['DESTINATION', 'STATE', 'POINTS', 'BACKLOG', 'ACK', 'OLDEST', ''],
      destinationRows(moved),
    ),
  ]
}
/** One line of everything, for a pipe or a log. */
export const plainLine = (moved: Moved): string => {
  const { status, acceptedPerSecond, ackedPerSecond } = moved
  const { verdict, destinations, spool, nowUs } = status
  const pending = destinations.map((one) => `${one.name} ${one.state} ${one.pending}`).join(', ')
  const blocked = spool?.blockedReason ? `  blocked ${printable(spool.blockedReason)}` : ''
  return (
    `${new Date(nowUs / 1_000).toISOString()}  ${verdict.state}${verdict.code && ` ${verdict.code}`}` +
    `  in ${Math.round(sum(acceptedPerSecond))}/s  acked ${Math.round(sum(ackedPerSecond))}/s` +
    `  pending ${pending || 'none'}${blocked}`
  )
}
const jsonOf = ({ status, acceptedPerSecond, ackedPerSecond }: Moved) => ({
  ...status,
  acceptedPerSecond: Object.fromEntries(acceptedPerSecond),
  ackedPerSecond: Object.fromEntries(ackedPerSecond),
})

const alternateScreen = '\x1b[?1049h\x1b[?25l'
const normalScreen = '\x1b[?25h\x1b[?1049l'
const homeAndClear = '\x1b[H\x1b[J'
// biome-ignore lint/suspicious/noControlCharactersInRegex: colours are what it looks for
const colours = /\x1b\[[\d;]*m/g
/** As much of a line as fits: colour codes take no room, all of them stay, and so none is left on. */
export const cutTo = (line: string, columns: number): string => {
  if (line.replace(colours, '').length <= columns) return line
  let left = columns - 1
  let [out, from] = ['', 0]
  const take = (text: string) => {
    out += text.slice(0, left)
    left -= Math.min(left, text.length)
  }
  for (const { 0: code, index } of line.matchAll(colours)) {
    take(line.slice(from, index))
    out += code
    from = index + code.length
  }
  take(line.slice(from))
  return `${out}…`
}
/** Lines do not wrap, and none pushes the top out: the rest is what a larger window shows. */
const draw = (lines: readonly string[]) => {
  // A terminal that does not say how large it is says 0.
  const [columns, rows] = [process.stdout.columns || 80, process.stdout.rows || 24]
  const shown = lines.slice(0, rows - 1).map((line) => cutTo(line, columns))
  process.stdout.write(homeAndClear + shown.join('\n'))
}

/** Looks until the signal, or `looks` times; what cannot be reached after the first look is said and tried again. */
const follow = async (
  context: CliContext,
  options: TopOptions,
  show: (moved: Moved) => void,
  missing: (text: string) => void,
): Promise<void> => {
  const client: ControlClient = await context.client()
  let before: AgentStatus | null = null
  for (let look = 0; !context.signal.aborted; look++) {
    try {
      const status = await client.get<AgentStatus>('/v1/status')
      // A rate needs two looks: the first one alone says nothing but where things stand.
      if (look > 0 || !options.once) show(movedBetween(before, status))
      before = status
    } catch (error) {
      if (!isFailure(error) || before === null) throw error
      missing(textOf(error))
    }
    if (options.once && look > 0) return
    await systemClock.sleep(options.interval, context.signal)
  }
}

export const top = async (context: CliContext, options: TopOptions): Promise<number> => {
  const { json, out, warn, paint } = context
  if (context.flags.json) await follow(context, options, (moved) => json(jsonOf(moved)), warn)
  else if (options.once) {
    const show = (moved: Moved) => {
      for (const line of screenLines(moved, paint)) out(line)
    }
    await follow(context, options, show, warn)
  } else if (process.stdout.isTTY !== true)
    await follow(context, options, (moved) => out(plainLine(moved)), warn)
  else {
    process.stdout.write(alternateScreen)
    try {
      const show = (moved: Moved) => draw(screenLines(moved, paint))
      await follow(context, options, show, (text) => draw([paint('red', text), 'looking again …']))
    } finally {
      process.stdout.write(normalScreen)
    }
  }
  return exitCodes.good
}
