/** `holdfast status`: the verdict in the first line, its cause and remedy below, then the way of the points. */
import type { AgentStatus, ReloadAnswer } from '../control/view.ts'
import { exitCodes } from '../errors.ts'
import type { DestinationStatus, SourceStatus, Verdict } from '../observability/health.ts'
import { printable } from '../observability/printable.ts'
import { hasChanged } from './config-changed.ts'
import type { CliContext, Style } from './context.ts'
import { amountText, bytesText, countText, hoursText, spanText } from './format.ts'

const exitCodeOf: Readonly<Record<Verdict['state'], number>> = {
  ok: exitCodes.good,
  degraded: exitCodes.degraded,
  unhealthy: exitCodes.unhealthy,
}
const styleOf: Readonly<Record<Verdict['state'], Style>> = {
  ok: 'green',
  degraded: 'yellow',
  unhealthy: 'red',
}
const ago = (nowUs: number, thenUs: number) =>
  thenUs === 0 ? 'never' : `${spanText((nowUs - thenUs) / 1_000)} ago`

const sourceLines = (nowUs: number, sources: readonly SourceStatus[]): string[] => {
  const running = sources.filter(({ state }) => state === 'running').length
  const rate = sources.reduce((sum, one) => sum + one.pointsPerSecond, 0)
  return [
    `${running}/${sources.length} running   ${countText(rate)} points/s`,
    ...sources
      .filter(({ state }) => state !== 'running')
      .map(
        (one) =>
          `${one.name}: ${one.state}, last point ${ago(nowUs, one.lastPointUs)}${one.text ? `: ${one.text}` : ''}`,
      ),
    ...sources
      .filter(({ pointsAhead }) => pointsAhead > 0)
      .map((one) => `${one.name}: ${countText(one.pointsAhead)} points far ahead of the clock`),
  ]
}
const drainText = (one: DestinationStatus, inPerSecond: number): string => {
  const net = one.pointsPerSecond - inPerSecond
  if (one.pending < 1_000) return ''
  return net > 0 ? `   drained in about ${spanText((one.pending / net) * 1_000)}` : ''
}
const destinationLines = (status: AgentStatus): string[] => {
  const inPerSecond = status.sources.reduce((sum, one) => sum + one.pointsPerSecond, 0)
  return status.destinations.map((one) => {
    const backlog = one.pending > 0 ? `   pending ${countText(one.pending)} points` : ''
    const why = one.state === 'up' ? '' : `   ${one.text}`
    const last = `last ack ${ago(status.nowUs, one.lastAckUs)}`
    const tries = amountText(one.failures, 'failure')
    const breaker = one.breaker === 'closed' ? '' : `   breaker ${one.breaker} after ${tries}`
    return `${one.name} ${one.state}${breaker}   ${last}${backlog}${drainText(one, inPerSecond)}${why}`
  })
}
/** What runs or waits, and what was refused on its way; a replay that went well needs no line. */
const replayLines = ({ replays, selections }: AgentStatus): string[] => [
  ...selections
    .filter(({ state, text }) => state === 'running' || state === 'waiting' || text !== '')
    .map((one) => {
      const share = (one.seqDone - one.seqFirst + 1) / (one.seqLast - one.seqFirst + 1)
      const why = one.text === '' ? '' : `: ${one.text}`
      const what = `${one.series.join(' ')} of ${one.lane}, ${countText(one.pointsCopied)} points`
      return `replay:${one.id} ${one.state}   ${what}, ${Math.floor(share * 100)} % looked at${why}`
    }),
  ...replays
    .filter(
      ({ state, segmentsRefused }) =>
        state === 'running' || state === 'waiting' || segmentsRefused > 0,
    )
    .map((one) => {
      const refused =
        one.segmentsRefused > 0
          ? `, ${amountText(one.segmentsRefused, 'segment')} refused, see the log`
          : ''
      const sent = `${countText(one.pointsSent)} of ${countText(one.points)} points of ${one.lane}`
      const end = `; end it with: holdfast replay cancel ${one.destination}:${one.id}`
      const why = one.text === '' ? '' : `: ${one.text}${end}`
      return `${one.destination}:${one.id} ${one.state}   ${sent}${refused}${why}`
    }),
]
/** What rules leave in of a lane; windows are no share of it, they are other points. */
const reductionLines = ({ lanes }: AgentStatus): string[] =>
  lanes.flatMap(({ lane, readers }) =>
    readers
      .filter(({ stage, delivered, reduced }) => stage && delivered > 0 && reduced > 0)
      .map(({ reader, delivered, reduced }) => {
        const read = delivered + reduced
        const share = `${((100 * delivered) / read).toFixed(1)} % of ${lane}`
        return `${reader.replace('@', '')} pass on ${share}: ${countText(delivered)} of ${countText(read)} points`
      }),
  )
/** What came late, by class: said where a bound or a window suffered, or a rule held something back. */
const lateLines = ({ lanes }: AgentStatus): string[] =>
  lanes.flatMap(({ readers }) =>
    readers.flatMap(({ classes = [] }) =>
      classes.flatMap(({ class: name, lane, late, lateUnmended, withheld, tooLate }) => [
        ...(lateUnmended === 0
          ? []
          : [
              `${name}: ${countText(lateUnmended)} of ${countText(late)} late points not mended, ` +
                'the deviation may be exceeded there',
            ]),
        ...(withheld === 0 ? [] : [`${name}: ${countText(withheld)} points withheld by min_gap`]),
        ...(tooLate === 0
          ? []
          : [`${name}: ${countText(tooLate)} points too late for windows in ${lane}`]),
      ]),
    ),
  )
const lostPoints = ({ lanes }: AgentStatus) =>
  lanes.reduce(
    (sum, { readers }) => sum + Math.max(0, ...readers.map((one) => one.declaredLost)),
    0,
  )
/**
 * Whether "nothing lost" may be said: the spool has answered, no recent loss stands in the verdict, and of every lane
 * that took points somebody keeps books.
 */
const nothingLost = (status: AgentStatus): boolean =>
  status.spool !== null &&
  status.lanes.length > 0 &&
  lostPoints(status) === 0 &&
  status.verdict.issues.every(({ code }) => code !== 'HF-H003') &&
  status.lanes.every(({ readers, accepted }) => readers.length > 0 || accepted === 0)

const spoolText = ({ spool, verdict: { safeOfflineHours: hours } }: AgentStatus): string => {
  if (spool === null) return 'does not answer'
  const safe = hours === null ? '' : `   safe offline for ${hoursText(hours)}`
  const used = `${bytesText(spool.bytesUsed)} of ${bytesText(spool.bytesMax)}`
  return `${used}, disk ${bytesText(spool.diskFreeBytes)} free${safe}`
}
const clockText = ({ clock: { trusted, offsetUs } }: AgentStatus): string => {
  const offset =
    offsetUs === null ? '' : `, ${offsetUs < 0 ? '-' : '+'}${spanText(Math.abs(offsetUs) / 1_000)}`
  return `${trusted ? 'trusted' : 'not trusted'}${offset}`
}

/** Lines without colour, the verdict's word first. `changed`: the configuration's file is no longer what runs. */
export const statusLines = (status: AgentStatus, changed = false): string[] => {
  const { verdict, nowUs } = status
  const line = (label: string, texts: readonly string[]) =>
    texts.map((text, at) => `  ${(at === 0 ? label : '').padEnd(12)} ${printable(text)}`)
  const lost = lostPoints(status)
  const kept = nothingLost(status) ? ', nothing lost' : ''
  const others = verdict.issues.filter(({ reason }) => reason !== verdict.reason)
  return [
    `${verdict.state.toUpperCase()}  ${status.agent}  ${printable(verdict.reason)}${kept}`,
    ...(verdict.code ? line('why', [`${verdict.code} ${verdict.reason}`, ...verdict.effects]) : []),
    ...(verdict.fix ? line('fix', [verdict.fix]) : []),
    ...line(
      'also',
      others.map(({ code, reason, fix }) => `${code} ${reason}${fix ? `; ${fix}` : ''}`),
    ),
    ...line('sources', sourceLines(nowUs, status.sources)),
    ...line('spool', [spoolText(status)]),
    ...line('reduction', [...reductionLines(status), ...lateLines(status)]),
    ...line('destination', destinationLines(status)),
    ...line('replay', replayLines(status)),
    ...(lost > 0
      ? line('lost', [`${amountText(lost, 'point')} declared lost, see: holdfast gaps`])
      : []),
    ...line('clock', [clockText(status)]),
    ...line('config', [
      `${status.config.file}  ${status.config.digest.slice(0, 12)}`,
      ...(changed ? ['changed since the agent began: restart it to use it'] : []),
    ]),
    ...line('version', [`${status.version}, up ${spanText(status.upForUs / 1_000)}`]),
  ]
}

export const status = async (context: CliContext): Promise<number> => {
  const found = await (await context.client()).get<AgentStatus>('/v1/status')
  const { state } = found.verdict
  if (context.flags.json) context.json(found)
  else {
    const [first = '', ...rest] = statusLines(found, hasChanged(found.config))
    const word = state.toUpperCase()
    context.out(context.paint(styleOf[state], word) + first.slice(word.length))
    if (!context.flags.quiet) for (const line of rest) context.out(line)
  }
  return exitCodeOf[state]
}

export const reload = async (context: CliContext): Promise<number> => {
  const answer = await (await context.client()).post<ReloadAnswer>('/v1/reload')
  if (context.flags.json) context.json(answer)
  else context.out(answer.text)
  return exitCodes.good
}
