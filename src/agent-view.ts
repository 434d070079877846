/**
 * What the running agent shows of itself and lets a technician do (`control/view.ts`), put together from its parts.
 * Invariant: a spool that does not answer makes a red status, never a hanging one.
 */
import { resolve } from 'node:path'
import type { AgentSource } from './agent-sources.ts'
import type { Config, DestinationConfig } from './config/schema.ts'
import type {
  AgentStatus,
  AgentView,
  ForgetAnswer,
  ReloadAnswer,
  ReplayAnswer,
  ReplayPart,
  ReplayRequest,
} from './control/view.ts'
import { Failure } from './errors.ts'
import type { Forwarder, ForwarderStatus } from './forward/forwarder.ts'
import type { Host } from './host.ts'
import { dictionaryEntriesPerRequestMax, gapRowsMax } from './limits.ts'
import type { Destination } from './model.ts'
import type { CertificateStatus, DestinationStatus, LateStatus } from './observability/health.ts'
import { spoolSilentMsMax, verdict } from './observability/health.ts'
import type { AgentClock } from './pipeline/clock.ts'
import type { Salvage } from './pipeline/salvage.ts'
import { replayLane, type Selections } from './pipeline/selections.ts'
import { version } from './release.ts'
import type { SetAside } from './spool/set-aside.ts'
import type { GapRow, LaneStatus, SpoolPort, SpoolStats } from './spool-port.ts'

export interface AgentDestination {
  readonly config: DestinationConfig
  readonly destination: Destination
  readonly forwarder: Forwarder
}
export interface AgentViewParts {
  readonly host: Host
  readonly config: Config
  readonly spool: SpoolPort
  readonly salvage: Salvage
  /** Null without a lane for copies. */
  readonly selections: Selections | null
  readonly clock: AgentClock
  readonly sources: readonly AgentSource[]
  readonly destinations: readonly AgentDestination[]
  readonly metrics: () => Promise<string>
  readonly reload: () => Promise<ReloadAnswer>
  readonly importBlock: AgentView['importBlock']
  readonly explain: AgentView['explain']
  readonly certificates: () => readonly CertificateStatus[]
  /** Spool files that were set aside and stand beside this one. */
  readonly setAside: () => Promise<readonly SetAside[]>
}

/** Of one answer of `segments`: a few milliseconds of base64. */
const segmentsBytesMax = 512 * 1024

const stateOf: Readonly<Record<ForwarderStatus['phase'], DestinationStatus['state']>> = {
  starting: 'connecting',
  greeting: 'connecting',
  sending: 'up',
  waiting: 'retrying',
  blocked: 'blocked',
  stopped: 'connecting',
}

/** When each destination's state began: status says "since", the forwarder knows only "now". */
const createSince = (host: Pick<Host, 'clock'>) => {
  const seen = new Map<string, { state: DestinationStatus['state']; sinceUs: number }>()
  return (name: string, state: DestinationStatus['state']): number => {
    const before = seen.get(name)
    if (before?.state === state) return before.sinceUs
    const sinceUs = host.clock.nowUs()
    seen.set(name, { state, sinceUs })
    return sinceUs
  }
}

const destinationStatus = (
  { config, forwarder }: AgentDestination,
  lanes: readonly LaneStatus[],
  since: ReturnType<typeof createSince>,
): DestinationStatus => {
  const status = forwarder.status()
  const readers = lanes.flatMap((lane) => lane.readers.filter((one) => one.reader === config.name))
  const pending = readers.reduce((sum, one) => sum + one.pending, 0)
  const behindMs = Math.max(0, ...status.lanes.map((lane) => lane.backlogAgeMs))
  const state = stateOf[status.phase]
  return {
    name: config.name,
    type: config.type,
    state,
    breaker: status.breaker,
    failures: status.failures,
    code: status.code,
    text: status.text,
    hint: status.hint,
    sinceUs: since(config.name, state),
    lastAckUs: status.lastAckUs,
    points: status.pointsSent,
    pointsPerSecond: status.pointsPerSecond,
    pending,
    oldestUnackedUs: pending === 0 || behindMs === 0 ? 0 : status.lastAckUs - behindMs * 1000,
  }
}

interface Answer {
  readonly stats: SpoolStats
  readonly lanes: readonly LaneStatus[]
  readonly gaps: readonly GapRow[]
  readonly setAside: readonly SetAside[]
}

/** What a door cannot read or one destination cannot hold is recorded, and does not make the agent unwell. */
const isLoss = ({ reason, destination }: GapRow) =>
  reason !== 'malformed' && reason !== 'refused' && destination === ''

/** How much was added to a sum in the last hour, from looks a minute apart. */
const createHourMemory = (host: Pick<Host, 'clock'>) => {
  const hourMs = 3_600_000
  const samples: { atMs: number; sum: number }[] = []
  return (sum: number): number => {
    const atMs = host.clock.monotonicMs()
    if (atMs - (samples.at(-1)?.atMs ?? Number.NEGATIVE_INFINITY) >= 60_000)
      samples.push({ atMs, sum })
    while (samples.length > 1 && atMs - (samples[0]?.atMs ?? 0) > hourMs) samples.shift()
    // Delivered gap records are let go in time, which makes the sum smaller, not the loss undone.
    return Math.max(0, sum - (samples[0]?.sum ?? sum))
  }
}
/** Points that quotas, damage or a forgetful region cost. */
const lostIn = (gaps: readonly GapRow[]): number =>
  gaps.filter(isLoss).reduce((sum, gap) => sum + gap.count, 0)
/** What rules and windows could not keep in the last hour, of the classes where there is something. */
const createLateMemory = (host: Pick<Host, 'clock'>) => {
  const memories = new Map<string, ReturnType<typeof createHourMemory>>()
  const lastHour = (key: string, sum: number) => {
    const memory = memories.get(key) ?? createHourMemory(host)
    memories.set(key, memory)
    return memory(sum)
  }
  return (lanes: readonly LaneStatus[]): readonly LateStatus[] => {
    const all = lanes.flatMap(({ readers }) => readers.flatMap((one) => one.classes ?? []))
    const sumOf = (name: string, which: 'lateUnmended' | 'tooLate') =>
      all.reduce((sum, one) => sum + (one.class === name ? one[which] : 0), 0)
    return [...new Set(all.map((one) => one.class))]
      .map((name) => ({
        class: name,
        unmended: lastHour(`unmended ${name}`, sumOf(name, 'lateUnmended')),
        tooLate: lastHour(`too late ${name}`, sumOf(name, 'tooLate')),
      }))
      .filter(({ unmended, tooLate }) => unmended + tooLate > 0)
  }
}

export const createAgentView = (parts: AgentViewParts): AgentView => {
  const { host, config, spool, clock, sources, destinations } = parts
  const startedMs = host.clock.monotonicMs()
  const since = createSince(host)
  const lostLastHour = createHourMemory(host)
  const lateLastHour = createLateMemory(host)
  let answeredMs = startedMs

  /** The spool's word, or null when it takes longer than a status may. */
  const ask = async (): Promise<Answer | null> => {
    const waiting = new AbortController()
    const late = host.clock.sleep(spoolSilentMsMax, waiting.signal).then(() => null)
    const asked = [spool.stats(), spool.lanes(), spool.gaps(gapRowsMax), parts.setAside()] as const
    const answer = Promise.all(asked).then(
      ([stats, lanes, gaps, setAside]): Answer => ({ stats, lanes, gaps, setAside }),
      () => null,
    )
    const got = await Promise.race([answer, late])
    waiting.abort()
    if (got !== null) answeredMs = host.clock.monotonicMs()
    return got
  }
  const status = async (): Promise<AgentStatus> => {
    const answer = await ask()
    const lanes = answer?.lanes ?? []
    const nowUs = host.clock.nowUs()
    const upForUs = (host.clock.monotonicMs() - startedMs) * 1000
    const shared = {
      nowUs,
      upForUs,
      spool: answer?.stats ?? null,
      lanes,
      sources: sources.map((one) => one.status()),
      destinations: destinations.map((one) => destinationStatus(one, lanes, since)),
      clock: { trusted: clock.reading().trusted, offsetUs: clock.farOffsetUs() ?? null },
    }
    return {
      version,
      agent: config.agent.name,
      epoch: spool.epoch,
      spoolId: spool.spoolId,
      config: { file: resolve(config.file), digest: config.digest },
      verdict: verdict({
        ...shared,
        silentMs: answer === null ? host.clock.monotonicMs() - answeredMs : 0,
        certificates: parts.certificates(),
        lostLastHour: lostLastHour(lostIn(answer?.gaps ?? [])),
        ...(answer === null ? {} : { lateLastHour: lateLastHour(lanes) }),
        setAside: (answer?.setAside ?? []).filter((one) => !one.dealtWith),
      }),
      replays: destinations.flatMap(({ config: one, forwarder }) =>
        forwarder.replays().map((job) => ({ destination: one.name, ...job })),
      ),
      selections: parts.selections?.list() ?? [],
      ...shared,
    }
  }
  /** How long so many bytes take, at which rate. */
  const timeOf = (
    bytes: number,
    { forwarder }: (typeof destinations)[number],
  ): Pick<ReplayPart, 'seconds' | 'rate'> => {
    const limited = forwarder.secondsOf(bytes)
    if (limited !== null) return { seconds: limited, rate: 'bandwidth' }
    const { pointsPerSecond, bytesSent, pointsSent } = forwarder.status()
    const present = (pointsPerSecond * bytesSent) / Math.max(1, pointsSent)
    // It fades for long after the last answer: below this nothing moves.
    return present < 1
      ? { seconds: null, rate: 'unknown' }
      : { seconds: bytes / present, rate: 'present' }
  }
  const called = (name: string | null | undefined): readonly (typeof destinations)[number][] => {
    const chosen = destinations.filter(({ config: one }) => (name ?? one.name) === one.name)
    if (chosen.length > 0) return chosen
    throw new Failure(
      'HF-X404',
      `there is no destination "${name}"`,
      `there are: ${destinations.map((one) => one.config.name).join(', ')}`,
    )
  }
  /** Chosen series of a lane, through the lane for copies, to whoever takes that. */
  const select = async (request: ReplayRequest): Promise<ReplayAnswer> => {
    const chosen = called(request.destination)
    const takers = destinations.filter(({ config: { lanes } }) => lanes.includes(replayLane))
    const others = takers.filter((one) => !chosen.includes(one))
    if (others.length > 0)
      throw new Failure(
        'HF-X018',
        `copies of chosen series go to all that take lane "${replayLane}": ${others[0]?.config.name} does too`,
        'leave --destination out, or take that lane off the others',
      )
    if (parts.selections === null || takers.length === 0)
      throw new Failure(
        'HF-X018',
        `series are chosen by way of a lane named "${replayLane}", and no destination takes one`,
        `add "${replayLane}: {priority: 9}" to lanes, and to the lanes of the destination`,
      )
    const { fromUs, toUs, series } = request
    const answer: ReplayPart[] = []
    const ids: string[] = []
    for (const lane of await lanesToCopy(request)) {
      const selection = { lane, fromUs, toUs, series }
      const range = await parts.selections.estimate(selection)
      // Asked for by name, it is said of that lane that it holds nothing.
      if (range.segments === 0 && request.lane === null) continue
      for (const one of takers)
        answer.push({ lane, destination: one.config.name, ...range, ...timeOf(range.bytes, one) })
      if (!request.dryRun) ids.push(`${replayLane}:${(await parts.selections.start(selection)).id}`)
    }
    return { id: ids.join(','), parts: answer }
  }
  /** Whichever lane of sources holds raw points of the series, unless one is named. */
  const lanesToCopy = async ({ lane }: ReplayRequest): Promise<readonly string[]> => {
    const all = await spool.lanes()
    if (lane === null) return all.filter(({ derived }) => !derived).map((one) => one.lane)
    if (all.some((one) => one.lane === lane)) return [lane]
    const names = all.map((one) => one.lane).join(', ')
    throw new Failure('HF-X404', `there is no lane "${lane}"`, `there are: ${names}`)
  }
  /** Of a lane of sources the points leave by their series alone. */
  const unsent = async (chosen: typeof destinations, lane: string): Promise<Failure> => {
    const known = (await spool.lanes()).some((one) => one.lane === lane && !one.derived)
    const sent = [...new Set(chosen.flatMap(({ config: { lanes } }) => lanes))].join(', ')
    const hint = known
      ? "its points can be sent by their series: add --series '*', or narrower globs"
      : `lanes that are sent: ${sent}`
    return new Failure('HF-X404', `no destination sends lane "${lane}"`, hint)
  }
  const replay: AgentView['replay'] = async (request): Promise<ReplayAnswer> => {
    const { fromUs, toUs, dryRun } = request
    if (!(fromUs < toUs))
      throw new Failure('HF-X006', 'the range is empty', 'give --from before --to')
    if (request.series.length > 0) return await select(request)
    const chosen = called(request.destination)
    const wanted = chosen.flatMap((of) =>
      of.config.lanes
        .filter((lane) => (request.lane ?? lane) === lane)
        .map((lane) => ({ lane, destination: of.config.name, forwarder: of.forwarder, of })),
    )
    if (wanted.length === 0) throw await unsent(chosen, String(request.lane))
    const replays: ReplayPart[] = []
    const ids: string[] = []
    for (const { lane, destination, forwarder, of } of wanted) {
      const range = await spool.estimate(lane, fromUs, toUs)
      replays.push({ lane, destination, ...range, ...timeOf(range.bytes, of) })
      if (!dryRun) ids.push(`${destination}:${(await forwarder.replay(lane, fromUs, toUs)).id}`)
    }
    return { id: ids.join(','), parts: replays }
  }
  /** Its cursors go: trimming waits for it no more. Other destinations are not touched. */
  const forget = async (name: string): Promise<ForgetAnswer> => {
    if (destinations.some(({ config: one }) => one.name === name))
      throw new Failure(
        'HF-X015',
        `"${name}" is configured: it will get what waits for it`,
        'remove it from the configuration first, and restart',
      )
    const held = (await spool.lanes()).flatMap(({ lane, readers }) =>
      readers.filter((one) => one.reader === name).map(({ pending }) => ({ lane, pending })),
    )
    if (held.length === 0)
      throw new Failure('HF-X404', `nothing is held for a destination "${name}"`)
    for (const { lane } of held) await spool.closeReader(lane, name)
    const points = held.reduce((sum, one) => sum + one.pending, 0)
    host.log.warn('destination_forgotten', { destination: name, points })
    return { destination: name, points }
  }
  const discard = async (id: number): Promise<boolean> => {
    const row = await spool.refused(id)
    if (!(await spool.discardQuarantined(id))) return false
    if (row !== null) {
      const { destination, lane, points } = row
      host.log.warn('refused_discarded', { destination, lane, id, points })
    }
    return true
  }
  const resend: AgentView['resend'] = async (id) => {
    const row = await spool.refused(id)
    if (row === null) return null
    const found = destinations.find(({ config: one }) => one.name === row.destination)
    return (await found?.forwarder.resend(id)) ?? null
  }
  const cancelReplay = async (id: string): Promise<boolean> => {
    let cancelled = false
    for (const one of id.split(',')) {
      const [name, number] = one.split(':')
      if (name === replayLane && (await parts.selections?.cancel(Number(number)))) cancelled = true
      const found = destinations.find(({ config: { name: other } }) => other === name)
      if (found && (await found.forwarder.cancelReplay(Number(number)))) cancelled = true
    }
    return cancelled
  }
  const segments: AgentView['segments'] = async (lane, after, fromUs) => {
    const found = (await spool.lanes()).find((one) => one.lane === lane)
    if (found === undefined) throw new Failure('HF-X404', `there is no lane "${lane}"`)
    let from = after
    if (after === 0 && fromUs > 0) {
      const range = await spool.estimate(lane, fromUs, Number.MAX_SAFE_INTEGER)
      from = range.segments === 0 ? found.head : range.seqFirst - 1
    }
    const items = await spool.read(lane, from, segmentsBytesMax)
    return {
      head: found.head,
      items: items.map((item) =>
        item.type === 'segment'
          ? { seq: item.seq, seqLast: item.seq, epoch: item.epoch, bytes: item.bytes, lost: 0 }
          : {
              ...{ seq: item.seq, seqLast: item.seqLast, epoch: item.epoch },
              ...{ bytes: null, lost: item.gap.count },
            },
      ),
    }
  }
  return {
    status,
    explain: parts.explain,
    segments,
    dictionary: (epoch, first) => spool.dictionary(epoch, first, dictionaryEntriesPerRequestMax),
    lanes: spool.lanes,
    gaps: spool.gaps,
    quarantined: spool.quarantined,
    refused: spool.refused,
    resend,
    discard,
    metrics: parts.metrics,
    tap: spool.tap,
    replay,
    cancelReplay,
    forget,
    salvage: parts.salvage,
    reload: parts.reload,
    importBlock: parts.importBlock,
    seal: async () => {
      for (const lane of config.lanes) await spool.seal(lane.name)
    },
  }
}
