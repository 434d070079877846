/**
 * One stretch of a lane, sent in seq order with several requests in flight, their answers taken in order.
 * Invariants: an answer is used only when every earlier one of this pump was; nothing is handed out twice while it is
 * in flight; when the pump ends none of its requests is running; at most `requestsMax` requests are held.
 */
import { Failure } from '../errors.ts'
import type { Host } from '../host.ts'
import { relayFramesMax } from '../limits.ts'
import type { Destination, LaneItem, Outcome, SendBatch, Seq } from '../model.ts'
import type { SpoolPort } from '../spool-port.ts'
import { follow, type Settled, settled } from './backoff.ts'
import type { Bandwidth } from './bandwidth.ts'
import type { Turns } from './turns.ts'

/** What became of one answer: taken, or to be sent again from `after`, or the pump must end. */
export type Verdict<End> =
  | { readonly kind: 'taken' }
  | { readonly kind: 'again'; readonly after: Seq }
  | { readonly kind: 'end'; readonly end: End }

export interface PumpParts {
  readonly spool: Pick<SpoolPort, 'read' | 'whenPast'>
  readonly destination: Destination
  readonly bandwidth: Bandwidth
  readonly host: Pick<Host, 'clock' | 'meter'>
  readonly turns: Turns
}
export interface Stretch<End> {
  readonly lane: string
  /** Names the pump's share of the bandwidth, within its lane. */
  readonly pump: string
  readonly after: Seq
  /** Last seq of the stretch; without it the pump follows the lane's head for ever. */
  readonly upTo?: Seq
  readonly head: Seq
  readonly requestsMax: () => number
  readonly share: () => number
  /** Of its lane: 0 goes first. */
  readonly priority: number
  readonly bytesMax: () => number
  /** What of the items read is to be sent (a replay leaves some out). */
  readonly batchOf: (items: readonly LaneItem[]) => SendBatch
  readonly settle: (batch: SendBatch, after: Seq, outcome: Outcome) => Promise<Verdict<End>>
  /** Asked before each read: true ends the pump once its requests are answered. */
  readonly enough?: (sent: Seq, head: Seq) => boolean
}

interface Flight {
  readonly batch: SendBatch
  readonly after: Seq
  readonly answer: Promise<Settled<Outcome>>
  answered: boolean
}

export const seqLastOf = (item: LaneItem): Seq =>
  item.type === 'segment' ? item.seq : item.seqLast
/** Bytes of the spool, with what frames add to them on the way to a region. */
export const wireBytesOf = (items: readonly LaneItem[]): number =>
  items.reduce((sum, item) => sum + (item.type === 'segment' ? item.bytes.length + 8 : 256), 0)
/** The first items that fit into one request; always at least one. */
const fitting = (items: readonly LaneItem[], bytesMax: number): readonly LaneItem[] => {
  let bytes = 0
  const past = items.findIndex((item, at) => {
    bytes += wireBytesOf([item])
    return at > 0 && (bytes > bytesMax || at >= relayFramesMax)
  })
  return past < 0 ? items : items.slice(0, past)
}
export const pointsIn = (items: readonly LaneItem[]): number =>
  items.reduce((sum, item) => sum + (item.type === 'segment' ? item.pointCount : 0), 0)

/** `stop`: send nothing more, take the answers still out. `cut`: let go of everything. */
export const runPump = async <End>(
  parts: PumpParts,
  stretch: Stretch<End>,
  stop: AbortSignal,
  cut: AbortSignal,
): Promise<End | undefined> => {
  let flights: Flight[] = []
  let sent = stretch.after
  let head = stretch.head
  let closing = false
  let round = follow(cut)
  const turn = parts.turns.take(stretch.priority)
  const exhausted = () => stretch.upTo !== undefined && sent >= stretch.upTo
  const full = () =>
    closing || stop.aborted || exhausted() || flights.length >= stretch.requestsMax()

  const timed = async (destination: Destination, batch: SendBatch, signal: AbortSignal) => {
    const startMs = parts.host.clock.monotonicMs()
    const outcome = await destination.send(batch, signal)
    if (signal.aborted) return outcome
    const labels = { destination: destination.name }
    const seconds = (parts.host.clock.monotonicMs() - startMs) / 1000
    parts.host.meter.observe('holdfast_destination_send_duration_seconds', seconds, labels)
    const sends = { ...labels, outcome: outcome.kind }
    parts.host.meter.count('holdfast_destination_sends_total', 1, sends)
    return outcome
  }
  /** Lets go of every request that is still out, and waits until none is. */
  const abandon = async () => {
    round.abort()
    round.release()
    await Promise.all(flights.map((one) => one.answer))
    flights = []
    round = follow(cut)
  }
  const launch = async () => {
    const read = await parts.spool.read(stretch.lane, sent, stretch.bytesMax(), stretch.upTo)
    const items = fitting(read, stretch.bytesMax())
    const last = items.at(-1)
    if (last === undefined) {
      // Nothing up to `head` (trimmed meanwhile): there is nothing to wait for before it.
      sent = Math.max(sent, Math.min(head, stretch.upTo ?? head))
      return
    }
    const wish = { pump: `${stretch.lane}/${stretch.pump}`, bytes: wireBytesOf(items) }
    const done = await parts.bandwidth.take(
      { ...wish, share: stretch.share(), priority: stretch.priority },
      stop,
    )
    if (stop.aborted) return done()
    const batch = stretch.batchOf(items)
    const answer =
      batch.items.length === 0
        ? Promise.resolve<Settled<Outcome>>({ value: { kind: 'stored', rejected: [] } })
        : settled(timed(parts.destination, batch, round.signal))
    const flight: Flight = { batch, after: sent, answer, answered: false }
    void answer.then(() => {
      flight.answered = true
      done()
    })
    flights.push(flight)
    sent = seqLastOf(last)
  }
  /** Until the oldest request is answered or there is something new to send. */
  const wait = async () => {
    const oldest = flights[0]
    if (oldest !== undefined && full()) return void (await oldest.answer)
    const past = follow(stop)
    if (head > sent && !full()) {
      const mine = turn.changed(past.signal)
      await Promise.race(oldest === undefined ? [mine] : [mine, oldest.answer])
      past.abort()
      past.release()
      return
    }
    const grown = parts.spool.whenPast(stretch.lane, sent, past.signal).then(
      (seq) => {
        head = Math.max(head, seq)
      },
      (error: unknown) => {
        if (!past.signal.aborted) throw error
      },
    )
    try {
      await Promise.race(oldest === undefined ? [grown] : [grown, oldest.answer])
    } finally {
      past.abort()
      past.release()
      // A spool in trouble says so again at the next call.
      grown.catch(() => undefined)
    }
  }

  try {
    for (;;) {
      closing ||= stretch.enough?.(sent, head) ?? false
      turn.busy(flights.length > 0 || (head > sent && !exhausted()))
      while (!full() && head > sent && turn.mine()) await launch()
      const oldest = flights[0]
      if (oldest === undefined && (closing || stop.aborted || exhausted())) return undefined
      if (oldest?.answered !== true) await wait()
      if (oldest?.answered !== true) continue
      flights.shift()
      const answer = await oldest.answer
      if (cut.aborted) return undefined
      if ('error' in answer) throw answer.error
      const verdict = await stretch.settle(oldest.batch, oldest.after, answer.value)
      if (verdict.kind === 'end') return verdict.end
      if (verdict.kind === 'again') {
        await abandon()
        sent = verdict.after
        // The same answer again and again would spin: whoever settles must have changed something.
        if (sent > oldest.after) throw new Failure('HF-F002', 'sent again from beyond the batch')
      }
    }
  } finally {
    turn.leave()
    await abandon()
    round.release()
  }
}
