/**
 * One lane on its way to one destination: a backlog pump and, when far behind, a live pump ahead of it.
 *
 * States: following (one pump at the head) · far behind (backlog ≤ live.start, live > it; both at once) · merged (the
 * backlog reached live.start: the spool makes one cursor of two, the live pump goes on as the only one).
 * Invariants: the cursor moves only over what the far side said is committed, in order, one ack at a time; nothing is
 * dropped: what is rejected for good is replaced by a tombstone first, which is then sent in its place.
 */
import { aborted, type Host } from '../host.ts'
import type { LearnedLimit } from '../learned-limit.ts'
import type {
  Cursor,
  Destination,
  LaneId,
  LaneItem,
  Outcome,
  PointsLost,
  SendBatch,
  Seq,
} from '../model.ts'
import type { SpoolPort } from '../spool-port.ts'
import { firstSetback, follow, type Setback, settled } from './backoff.ts'
import type { Bandwidth } from './bandwidth.ts'
import type { Breaker } from './breaker.ts'
import { pointsIn, runPump, type Stretch, seqLastOf, type Verdict, wireBytesOf } from './pump.ts'
import type { Turns } from './turns.ts'

export interface LaneOptions {
  readonly requestsInFlight: number
  readonly bodyBytesMax: number
  readonly liveShare: number
}
/** What one destination's lanes share: what was learned of its limits, and whether it takes anything at all. */
export interface Learned {
  readonly limit: LearnedLimit
  /** Batches running that held something rejected for good. */
  rejecting: number
}
export interface LaneParts {
  readonly spool: SpoolPort
  readonly destination: Destination
  readonly bandwidth: Bandwidth
  readonly turns: Turns
  readonly host: Host
  readonly options: LaneOptions
  readonly learned: Learned
  readonly breaker: Pick<Breaker, 'state'>
  readonly onStored: (lane: string, batch: SendBatch, lost: readonly PointsLost[]) => void
}
export interface ForwardLane {
  readonly lane: string
  readonly laneId: LaneId
  readonly cursor: () => Cursor
  /** Only while `run` is not running. */
  readonly moveTo: (cursor: Cursor) => void
  readonly run: (stop: AbortSignal, cut: AbortSignal) => Promise<Setback | undefined>
}

/** So many batches in a row with a rejection look like a far side that is wrong, not like poison. */
export const rejectingBatchesMax = 3
/** A live pump is worth having from so many batches behind. */
const liveBehindSegments = 16

export interface LaneRoute {
  readonly lane: string
  readonly laneId: LaneId
  readonly cursor: Cursor
  /** 0 goes first. */
  readonly priority: number
  /** The lane is this destination's no more: what it had accepted until then is all that is sent. */
  readonly upTo?: Seq
}

export const createForwardLane = (parts: LaneParts, route: LaneRoute): ForwardLane => {
  const { lane, laneId } = route
  const { spool, destination, host, options, learned } = parts
  const reader = destination.name
  let cursor = route.cursor
  let left = false
  let acking: Promise<unknown> = Promise.resolve()

  /** One at a time: which cursor an ack moves depends on what the one before it did (the merge). */
  const ack = (front: boolean, upTo: Seq, lost: readonly PointsLost[]): Promise<void> => {
    const next = acking.then(async () => {
      const which = front && cursor.live !== null ? 'live' : 'backlog'
      cursor = await spool.ack(lane, reader, { which, upTo, lost })
    })
    acking = next.catch(() => undefined)
    return next
  }
  const bytesMax = () =>
    learned.rejecting >= rejectingBatchesMax
      ? 1
      : Math.min(learned.limit.bytesMax(), parts.bandwidth.bodyBytesMax())

  const quarantine = async (
    rejected: readonly { readonly seq: Seq; readonly text: string }[],
    after: Seq,
  ): Promise<Verdict<Setback>> => {
    for (const one of rejected) {
      await spool.quarantine(lane, one.seq, 'rejected', one.text)
      host.log.error('segment_rejected', { destination: reader, lane, ...one })
    }
    learned.rejecting++
    if (learned.rejecting <= rejectingBatchesMax) return { kind: 'again', after }
    // A segment a minute at most is given up while the far side refuses everything.
    const end: Setback = {
      kind: 'blocked',
      code: 'HF-F001',
      text: `${reader} rejected ${learned.rejecting} batches in a row: ${rejected[0]?.text ?? ''}`,
      hint: 'See "holdfast quarantine": is the far side of the right version and schema?',
    }
    return { kind: 'end', end }
  }
  const tooBig = async (batch: SendBatch, after: Seq, limit: number | undefined, text: string) => {
    const [only, second] = batch.items
    if (second === undefined && only?.type === 'segment')
      return await quarantine([{ seq: only.seq, text }], after)
    await learned.limit.tooBig(wireBytesOf(batch.items), limit)
    return { kind: 'again', after } as const
  }
  const settle =
    (front: boolean) =>
    async (batch: SendBatch, after: Seq, outcome: Outcome): Promise<Verdict<Setback>> => {
      switch (outcome.kind) {
        case 'stored': {
          // Sent again without the rejected ones: what stood beside them is only known to be stored
          // from a clean answer.
          if (outcome.rejected.length > 0) return quarantine(outcome.rejected, after)
          if (pointsIn(batch.items) > 0) learned.rejecting = 0
          const lost = outcome.lost ?? []
          await ack(front, seqLastOf(batch.items.at(-1) as LaneItem), lost)
          parts.onStored(lane, batch, lost)
          await learned.limit.taken()
          return { kind: 'taken' }
        }
        case 'smaller':
          return tooBig(batch, after, outcome.bytesMax, outcome.text)
        case 'rewind': {
          // Answers may overtake each other: only one behind what its own request knew as committed is believed.
          const end: Setback =
            outcome.after < batch.ackedThrough
              ? { kind: 'rewind', lane, after: outcome.after }
              : { kind: 'later', text: `a rewind to ${outcome.after}, which nothing has passed` }
          return { kind: 'end', end }
        }
        case 'later':
        case 'blocked':
          return { kind: 'end', end: outcome }
      }
    }

  const lagging = (sent: Seq, head: Seq) => head - sent > liveBehindSegments
  /** Fresh points first: a live cursor at the head, and anew where an outage left the old one behind. */
  const goLive = async (head: Seq) => {
    if (
      route.upTo !== undefined ||
      options.liveShare <= 0 ||
      !lagging(cursor.live?.upTo ?? cursor.backlog, head)
    )
      return
    if (cursor.live !== null) cursor = await spool.rewind(lane, reader, cursor.backlog)
    cursor = await spool.startLive(lane, reader)
  }
  const last = route.upTo === undefined ? {} : { upTo: route.upTo }
  const stretchOf = (front: boolean, head: Seq): Stretch<Setback> => {
    const { live } = cursor
    const mayGoLive =
      route.upTo === undefined &&
      options.liveShare > 0 &&
      (live !== null || !lagging(cursor.backlog, head))
    const shareNow = () =>
      cursor.live === null ? 1 : front ? options.liveShare : 1 - options.liveShare
    return {
      lane,
      pump: front ? 'live' : 'backlog',
      after: front && live !== null ? live.upTo : cursor.backlog,
      ...(front || live === null ? last : { upTo: live.start }),
      head,
      priority: route.priority,
      // A probe is one request: what is half open is not met with all that waits.
      requestsMax: () => (parts.breaker.state() === 'closed' ? options.requestsInFlight : 1),
      share: () => Math.max(shareNow(), 0.01),
      bytesMax,
      batchOf: (items) => ({
        lane,
        laneId,
        items,
        ackedThrough: cursor.backlog,
        replay: false,
      }),
      settle: settle(front),
      // Alone and falling behind a slow link: end, and come back as two.
      enough: (sent, seen) => mayGoLive && front && cursor.live === null && lagging(sent, seen),
    }
  }

  /** Everything is there: the reader holds nothing back any more. Rests, since a work that ends ends the session. */
  const leave = async (stop: AbortSignal): Promise<undefined> => {
    if (!left) await spool.closeReader(lane, reader)
    left = true
    host.log.info('lane_left', { destination: reader, lane })
    await aborted(stop)
    return undefined
  }
  const run = async (stop: AbortSignal, cut: AbortSignal): Promise<Setback | undefined> => {
    if (left) return await leave(stop)
    while (!stop.aborted) {
      const status = (await spool.lanes()).find((one) => one.lane === lane)
      const head = status?.head ?? 0
      await goLive(head)
      const stretches = cursor.live === null ? [true] : [false, true]
      const halt = follow(stop)
      const ends = await Promise.all(
        stretches.map(async (front) => {
          const end = await settled(runPump(parts, stretchOf(front, head), halt.signal, cut))
          if ('error' in end || end.value !== undefined) halt.abort()
          return end
        }),
      )
      halt.release()
      const setback = firstSetback(ends)
      if (setback !== undefined) return setback
      if (route.upTo !== undefined && cursor.backlog >= route.upTo) return await leave(stop)
    }
    return undefined
  }
  return {
    lane,
    laneId,
    cursor: () => cursor,
    moveTo: (moved) => {
      cursor = moved
    },
    run,
  }
}
