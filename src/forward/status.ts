/**
 * What the forwarder knows of itself, for status, metrics and the log. It decides nothing.
 * Invariants: bounded (one entry a lane); trouble is logged when it changes, not at each attempt.
 */
import type { Host } from '../host.ts'
import type { LaneItem, PointsLost, Seq } from '../model.ts'
import type { LaneStatus } from '../spool-port.ts'
import type { Setback } from './backoff.ts'
import type { Breaker, BreakerState } from './breaker.ts'
import { pointsIn, wireBytesOf } from './pump.ts'

export interface ForwarderStatus {
  readonly destination: string
  readonly phase: 'starting' | 'greeting' | 'sending' | 'waiting' | 'blocked' | 'stopped'
  /** The last trouble in one line, '' since it is over. */
  readonly text: string
  readonly code: string
  readonly hint: string
  readonly breaker: BreakerState
  /** Setbacks since the last committed answer. */
  readonly failures: number
  /** Wall clock of the last committed answer, 0 when none yet. */
  readonly lastAckUs: number
  readonly retryInMs: number | null
  readonly pointsPerSecond: number
  readonly pointsSent: number
  readonly bytesSent: number
  readonly rewinds: number
  readonly lanes: readonly {
    readonly lane: string
    readonly pendingPoints: number
    /** Age of the newest point acked while something is pending; 0 when nothing is. */
    readonly backlogAgeMs: number
    /** At the present rate; null when nothing moves. */
    readonly etaMs: number | null
  }[]
}

/** Rate over about this long. */
const rateWindowMs = 10_000

const breakerNumber: Readonly<Record<BreakerState, number>> = { closed: 0, half_open: 1, open: 2 }

export const createProgress = (
  host: Pick<Host, 'clock' | 'log' | 'meter'>,
  reader: string,
  breaker: Breaker,
) => {
  const { clock, log, meter } = host
  const labels = { destination: reader }
  const lanes = new Map<string, { pendingPoints: number; ackedUs: number; heardMs: number }>()
  let phase: ForwarderStatus['phase'] = 'starting'
  let trouble = { text: '', code: '', hint: '' }
  /** Reached by a hello is not yet over when it was the sending that failed. */
  let troubleIn: ForwarderStatus['phase'] = phase
  let lastAckUs = 0
  let heardMs = clock.monotonicMs()
  let retryAtMs: number | null = null
  let rate = 0
  let rateAtMs = heardMs
  let [pointsSent, bytesSent, rewinds] = [0, 0, 0]

  const laneOf = (name: string) => {
    const known = lanes.get(name) ?? { pendingPoints: 0, ackedUs: 0, heardMs }
    lanes.set(name, known)
    return known
  }
  /** Exponential mean: `points` since the last call. */
  const moveRate = (points: number) => {
    const nowMs = clock.monotonicMs()
    const spanMs = Math.max(1, nowMs - rateAtMs)
    const keep = Math.exp(-spanMs / rateWindowMs)
    rate = rate * keep + (points / rateWindowMs) * 1000
    rateAtMs = nowMs
  }
  const showBreaker = () =>
    meter.gauge('holdfast_destination_breaker', breakerNumber[breaker.state()], labels)
  let logged = ''
  const wellAgain = () => {
    if (trouble.text === '') return
    breaker.close()
    showBreaker()
    logged = ''
    log.info('destination_reached', { ...labels, breaker: breaker.state() })
    trouble = { text: '', code: '', hint: '' }
  }
  return {
    phase: (next: ForwarderStatus['phase']) => {
      phase = next
      showBreaker()
      if (next !== 'waiting') retryAtMs = null
    },
    sending: () => {
      meter.gauge('holdfast_destination_up', 1, labels)
      if (troubleIn === 'greeting') wellAgain()
      phase = 'sending'
      retryAtMs = null
      heardMs = clock.monotonicMs()
    },
    heard: () => {
      heardMs = clock.monotonicMs()
    },
    /** Of the lane heard of longest ago: an ack says of its own lane alone what the far side holds. */
    sinceHeardMs: () => {
      const least = Math.min(...[...lanes.values()].map((lane) => lane.heardMs))
      return clock.monotonicMs() - Math.max(heardMs, Number.isFinite(least) ? least : 0)
    },
    stored: (lane: string, items: readonly LaneItem[], lost: readonly PointsLost[]) => {
      const known = laneOf(lane)
      const passed = pointsIn(items)
      const points = passed - lost.reduce((sum, { count }) => sum + count, 0)
      known.heardMs = clock.monotonicMs()
      wellAgain()
      lastAckUs = clock.nowUs()
      pointsSent += points
      bytesSent += wireBytesOf(items)
      known.pendingPoints = Math.max(0, known.pendingPoints - passed)
      for (const item of items)
        if (item.type === 'segment') known.ackedUs = Math.max(known.ackedUs, item.timeUsMax)
      moveRate(points)
      meter.count('holdfast_points_acked_total', points, labels)
      meter.count('holdfast_segments_acked_total', items.length, labels)
      meter.gauge('holdfast_destination_last_ack_timestamp_seconds', lastAckUs / 1e6, labels)
    },
    pending: (statuses: readonly LaneStatus[]) => {
      for (const status of statuses) {
        const mine = status.readers.find((one) => one.reader === reader)
        if (mine === undefined) continue
        laneOf(status.lane).pendingPoints = mine.pending
        meter.gauge('holdfast_points_pending', mine.pending, { ...labels, lane: status.lane })
      }
    },
    rewound: (lane: string, from: Seq, to: Seq) => {
      rewinds++
      log.warn('rewind', { ...labels, lane, from, to })
      meter.count('holdfast_destination_rewinds_total', 1, labels)
    },
    setback: (setback: Setback, text: string, waitMs: number) => {
      meter.gauge('holdfast_destination_up', 0, labels)
      troubleIn = phase
      phase = setback.kind === 'blocked' ? 'blocked' : 'waiting'
      retryAtMs = clock.monotonicMs() + waitMs
      const { code, hint } = setback.kind === 'blocked' ? setback : { code: '', hint: '' }
      showBreaker()
      const said = { ...labels, breaker: breaker.state(), text }
      if (logged !== `${said.breaker} ${text}`) {
        if (setback.kind === 'blocked') log.error('destination_blocked', { ...said, code, hint })
        else log.warn('destination_waiting', { ...said, waitMs: Math.round(waitMs) })
      }
      logged = `${said.breaker} ${text}`
      trouble = { text, code, hint }
      moveRate(0)
    },
    status: (): ForwarderStatus => {
      moveRate(0)
      return {
        destination: reader,
        phase,
        ...trouble,
        breaker: breaker.state(),
        failures: breaker.failures(),
        lastAckUs,
        retryInMs: retryAtMs === null ? null : Math.max(0, retryAtMs - clock.monotonicMs()),
        pointsPerSecond: rate,
        pointsSent,
        bytesSent,
        rewinds,
        lanes: [...lanes].map(([lane, { pendingPoints, ackedUs }]) => ({
          lane,
          pendingPoints,
          backlogAgeMs:
            pendingPoints === 0 || ackedUs === 0
              ? 0
              : Math.max(0, (clock.nowUs() - ackedUs) / 1000),
          etaMs: rate < 1 ? null : (pendingPoints / rate) * 1000,
        })),
      }
    },
  }
}
