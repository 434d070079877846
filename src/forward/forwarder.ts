/**
 * The log on its way to one destination: the one loop that waits, splits, rewinds, quarantines and gives up nothing.
 * The destination only classifies (`Outcome`); a destination *is its name*, which is also its
 * reader's name in every lane.
 *
 * ## greeting
 * Ask the far side where it stands. Known: cursors go back to it (rewind) or on to it (an answer was lost). Then:
 * ## sending
 * Every lane runs its pumps (`lane.ts`), replays run behind them (`replay.ts`), and after a minute without an answer
 * about some lane the far side is asked again, so that a failover is found with nothing left to send. The first
 * setback ends the session:
 * nothing more is sent, what is out has a moment to be answered, the rest is let go.
 * ## waiting / blocked
 * How long, and whether with one request or many afterwards, says the breaker (`breaker.ts`). Nothing is dropped.
 * Rewind: at once to greeting, where the cursor goes back.
 * ## stopped
 * The signal fired. What was out and not answered is sent again at the next start: harmless.
 */
import { aborted, type Host } from '../host.ts'
import { createLearnedLimit } from '../learned-limit.ts'
import { helloIdleMs } from '../limits.ts'
import type {
  Destination,
  LaneStanding,
  PointsLost,
  SendBatch,
  Seq,
  Service,
  Standing,
} from '../model.ts'
import type { LaneStatus, SpoolPort } from '../spool-port.ts'
import {
  firstSetback,
  follow,
  type Setback,
  sessionsUntil,
  settled,
  textOfSetback,
} from './backoff.ts'
import { createBandwidth } from './bandwidth.ts'
import { createBreaker } from './breaker.ts'
import { createForwardLane, type ForwardLane, type LaneOptions } from './lane.ts'
import { withNewest } from './newest.ts'
import { createReplays, type ReplayStatus, type Replays } from './replay.ts'
import { createResends, type ResendAnswer } from './resend.ts'
import { lanesLeft } from './routes.ts'
import { createProgress, type ForwarderStatus } from './status.ts'
import { createTurns } from './turns.ts'

export type { ForwarderStatus, ReplayStatus, ResendAnswer }

export interface ForwarderOptions extends LaneOptions {
  /** Where a destination that was never seen before starts. */
  readonly from: 'now' | 'oldest'
  readonly bandwidthBytesPerSecond?: number
}
export interface ForwarderLane {
  readonly lane: string
  /** 0 goes first. */
  readonly priority: number
}
export interface ForwarderParts {
  readonly spool: SpoolPort
  readonly destination: Destination
  readonly lanes: readonly ForwarderLane[]
  readonly options: ForwarderOptions
  readonly host: Host
}
export interface Forwarder extends Service {
  readonly status: () => ForwarderStatus
  /** Send what is still held of `fromUs <= time < toUs` again, once in effect. */
  readonly replay: (lane: string, fromUs: number, toUs: number) => Promise<ReplayStatus>
  readonly replays: () => readonly ReplayStatus[]
  readonly cancelReplay: (id: number) => Promise<boolean>
  /** How long so many bytes of the spool take to send; null without a ceiling. */
  readonly secondsOf: (bytes: number) => number | null
  /** Points that it refused, once more; undefined when the quarantine has no such row of this destination. */
  readonly resend: (id: number) => Promise<ResendAnswer | undefined>
}

interface LanePlace {
  readonly contiguous: Seq
  readonly above: readonly (readonly [Seq, Seq])[]
}
/** How long requests that are out may still be answered once a session ends. */
const answerGraceMs = 2_000

/** What it sends is counted, whatever comes of it. */
const counted = (destination: Destination, meter: Host['meter']): Destination => {
  const { name, bytesSent } = destination
  if (bytesSent === undefined) return destination
  let told = 0
  const telling = async <T>(asked: Promise<T>): Promise<T> => {
    try {
      return await asked
    } finally {
      const sent = bytesSent()
      meter.count('holdfast_destination_bytes_sent_total', sent - told, { destination: name })
      told = sent
    }
  }
  return {
    ...destination,
    standing: (...given) => telling(destination.standing(...given)),
    send: (...given) => telling(destination.send(...given)),
  }
}

export const createForwarder = (parts: ForwarderParts): Forwarder => {
  const { spool, host, options } = parts
  const destination = counted(withNewest(parts.destination, spool), host.meter)
  const reader = destination.name
  const lanes = new Map<string, ForwardLane>()
  const breaker = createBreaker(host.random)
  const progress = createProgress(host, reader, breaker)
  const turns = createTurns()
  const bandwidth = createBandwidth({
    clock: host.clock,
    bytesPerSecond: options.bandwidthBytesPerSecond,
    bytesSent: destination.bytesSent,
    wireBytesPerByte: destination.wireBytesPerByte,
  })
  const limit = createLearnedLimit({
    ...{ spool, key: `forward/${reader}/limit`, endpoint: destination.endpoint ?? '' },
    bytesMax: options.bodyBytesMax,
    onLearned: (bytesMax) => {
      host.log.info('request_limit_learned', { destination: reader, bytesMax })
    },
  })
  const learned = { limit, rejecting: 0 }
  const replays: Replays = createReplays({
    spool,
    destination,
    bandwidth,
    turns,
    host,
    lane: (name) => lanes.get(name),
    bytesMax: limit.bytesMax,
    share: Math.max(0.01, 1 - options.liveShare),
  })
  /** What an answer said is forgotten; the next hello says more exactly what, where the far side keeps books. */
  const told = new Map<ForwardLane, Seq>()
  let running: AbortSignal = AbortSignal.abort()
  const resend = createResends({
    ...{ spool, destination, host },
    lane: (name) => {
      const lane = lanes.get(name)
      return lane === undefined ? undefined : { laneId: lane.laneId, acked: lane.cursor().backlog }
    },
    trouble: () => {
      const { phase, text, hint } = progress.status()
      if (phase === 'sending' && breaker.state() === 'closed') return undefined
      return { text: text || `${reader} is ${phase}`, hint }
    },
  })

  const onStored = (lane: string, batch: SendBatch, lost: readonly PointsLost[]) => {
    breaker.stored()
    progress.stored(lane, batch.items, lost)
  }
  const openLanes = async () => {
    await limit.load()
    const shared = { spool, destination, bandwidth, turns, host, options }
    const laneParts = { ...shared, learned, breaker, onStored }
    for (const { lane, priority } of parts.lanes) {
      const cursor = await spool.openReader(lane, reader, options.from)
      const { id: laneId } = await laneNamed(spool, lane)
      lanes.set(lane, createForwardLane(laneParts, { lane, laneId, cursor, priority }))
    }
    const names = parts.lanes.map(({ lane }) => lane)
    for (const route of await lanesLeft(spool, reader, names))
      lanes.set(route.lane, createForwardLane(laneParts, route))
    await replays.load()
  }

  const ask = async (statuses: readonly LaneStatus[], signal: AbortSignal): Promise<Standing> => {
    const standings = [...lanes.values()].map(
      (one): LaneStanding => ({
        lane: one.lane,
        laneId: one.laneId,
        cursor: one.cursor(),
        floor: statuses.find((status) => status.id === one.laneId)?.floor ?? 0,
      }),
    )
    return await destination.standing(standings, signal)
  }
  /** The far side was asked with nothing in flight: its word stands, in both directions. */
  const greet = async (signal: AbortSignal): Promise<Setback | undefined> => {
    const statuses = await spool.lanes()
    progress.pending(statuses)
    const standing = await ask(statuses, signal)
    if (standing.kind === 'later' || standing.kind === 'blocked') return standing
    if (standing.kind === 'unknown') {
      for (const [lane, after] of told) await goBack(lane, after, [])
      told.clear()
      return undefined
    }
    told.clear()
    for (const lane of lanes.values()) {
      const far = standing.lanes.get(lane.laneId)
      const head = statuses.find((one) => one.id === lane.laneId)?.head ?? 0
      if (far !== undefined) await agree(lane, far, head)
    }
    return undefined
  }
  const goBack = async (lane: ForwardLane, after: Seq, above: LanePlace['above']) => {
    progress.rewound(lane.lane, lane.cursor().backlog, after)
    lane.moveTo(await spool.rewind(lane.lane, reader, after, above))
  }
  const agree = async (lane: ForwardLane, { contiguous, above }: LanePlace, head: Seq) => {
    let cursor = lane.cursor()
    if (contiguous < cursor.backlog) return await goBack(lane, contiguous, above)
    if (contiguous > head)
      host.log.warn('far_side_ahead', { destination: reader, lane: lane.lane, contiguous, head })
    const known = Math.min(contiguous, head)
    while (cursor.backlog < known) {
      const upTo = Math.min(known, cursor.live?.start ?? known)
      cursor = await spool.ack(lane.lane, reader, { which: 'backlog', upTo })
      lane.moveTo(cursor)
    }
  }
  /** With nothing to send nobody would notice a failover: ask once a minute. */
  const heartbeat = async (stop: AbortSignal): Promise<Setback | undefined> => {
    while (!stop.aborted) {
      const idleMs = progress.sinceHeardMs()
      if (idleMs < helloIdleMs) {
        await host.clock.sleep(Math.ceil(helloIdleMs - idleMs), stop)
        continue
      }
      const statuses = await spool.lanes()
      progress.pending(statuses)
      const before = new Map([...lanes.values()].map((one) => [one.laneId, one.cursor().backlog]))
      const standing = await ask(statuses, stop)
      if (stop.aborted) return undefined
      if (standing.kind === 'later' || standing.kind === 'blocked') return standing
      progress.heard()
      if (standing.kind === 'unknown') continue
      for (const lane of lanes.values()) {
        const far = standing.lanes.get(lane.laneId)
        if (far !== undefined && far.contiguous < (before.get(lane.laneId) ?? 0))
          return { kind: 'rewind', lane: lane.lane, after: far.contiguous }
      }
    }
    return undefined
  }

  const session = async (signal: AbortSignal): Promise<Setback | undefined> => {
    progress.phase('greeting')
    const refused = await greet(signal)
    if (refused !== undefined || signal.aborted) return refused
    progress.sending()
    const stop = follow(signal)
    const cut = follow()
    const works = [
      ...[...lanes.values()].map((one) => () => one.run(stop.signal, cut.signal)),
      () => replays.run(stop.signal, cut.signal),
      () => heartbeat(stop.signal),
    ]
    const ended = Promise.all(
      works.map(async (work) => {
        const end = await settled(work())
        stop.abort()
        return end
      }),
    )
    await aborted(stop.signal)
    const grace = new AbortController()
    await Promise.race([ended, host.clock.sleep(answerGraceMs, grace.signal)])
    grace.abort()
    cut.abort()
    const ends = await ended
    stop.release()
    const setback = firstSetback(ends)
    const lane = setback?.kind === 'rewind' ? lanes.get(setback.lane) : undefined
    if (setback?.kind === 'rewind' && lane !== undefined && setback.after < lane.cursor().backlog)
      told.set(lane, setback.after)
    return setback
  }
  const pause = async (setback: Setback, signal: AbortSignal): Promise<void> => {
    const waitMs = breaker.failed(setback)
    progress.setback(setback, textOfSetback(setback), waitMs)
    progress.pending(await spool.lanes())
    await host.clock.sleep(waitMs, signal)
    breaker.trying()
  }

  return {
    name: `forwarder ${reader}`,
    run: async (signal) => {
      await openLanes()
      running = signal
      await sessionsUntil(
        signal,
        () => session(signal),
        (setback) => pause(setback, signal),
      )
      progress.phase('stopped')
    },
    status: progress.status,
    replay: replays.start,
    replays: replays.list,
    cancelReplay: replays.cancel,
    secondsOf: bandwidth.secondsOf,
    resend: (id) => resend(id, running),
  }
}

const laneNamed = async (spool: SpoolPort, name: string): Promise<LaneStatus> => {
  const found = (await spool.lanes()).find((one) => one.lane === name)
  if (found === undefined) throw new Error(`the spool has no lane "${name}"`)
  return found
}
