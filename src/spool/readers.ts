/**
 * Readers: two cursors a (lane, reader), and the books that go with them.
 *
 * Invariants: accepted = accepted before + delivered + lost + pending for every reader at every moment; an ack books
 * exactly the rows it passes, a rewind un-books exactly what had been booked; acks become durable with the next
 * transaction (one that a crash forgets is only sent again), rewinds at once.
 */
import { Failure } from '../errors.ts'
import type { Cursor, Gap, PointsLost, Seq } from '../model.ts'
import type { Acked } from '../spool-port.ts'
import { putGap, readersPast } from './gaps.ts'
import {
  acceptLost,
  dropReaderGaps,
  noCopies,
  noGaps,
  type ReaderGap,
  saveReaderGaps,
  takeBackLost,
  withCopies,
  withUnsaved,
} from './reader-gaps.ts'
import { copyRefused } from './refused.ts'
import { stubRows } from './retention.ts'
import {
  keyOf,
  type LaneState,
  type ReaderNow,
  type ReaderState,
  readerNamed,
  type SpoolState,
  seqOf,
} from './state.ts'
import { write } from './write.ts'

const readersMax = 64

const cursorOf = ({ now }: ReaderState): Cursor => ({ backlog: now.backlog, live: now.live })

interface Booked {
  readonly points: number
  readonly lost: number
}
/** Points in segments and counts of tombstones whose last seq lies in (after, to]. */
export const book = (state: SpoolState, lane: LaneState, after: Seq, to: Seq): Booked => {
  const range = [keyOf(lane.id, after), keyOf(lane.id, to)]
  const sum = (column: string, table: string) =>
    state
      .sql(`SELECT total(${column}) FROM ${table} WHERE key > ? AND key <= ?`)
      .pluck()
      .get(...range) as number
  return { points: sum('points', 'segments'), lost: sum('count', 'gaps') }
}

export const openReader = (
  state: SpoolState,
  lane: LaneState,
  name: string,
  from: 'now' | 'oldest',
): Cursor => {
  const known = lane.readers.get(name)
  if (known !== undefined) return cursorOf(known)
  if (lane.readers.size >= readersMax) {
    throw new Failure('HF-S012', `lane "${lane.name}" has ${readersMax} readers already`)
  }
  const backlog = from === 'now' && !lane.readersLost ? lane.now.head : lane.now.floor - 1
  return write(state, 'none', () => cursorOf(addReader(state, lane, name, backlog)))
}

/** Inside a transaction: a reader that has nothing to do with seqs up to `backlog`. */
export const addReader = (
  state: SpoolState,
  lane: LaneState,
  name: string,
  backlog: Seq,
): ReaderState => {
  const held = book(state, lane, backlog, lane.now.head)
  const now: ReaderNow = {
    backlog,
    live: null,
    ...{ delivered: 0, lost: 0, reduced: 0 },
    start: backlog,
    acceptedBefore: lane.now.accepted - held.points - held.lost,
    keepsAfter: Number.POSITIVE_INFINITY,
    ...{ unsaved: noGaps, copies: noCopies },
  }
  dropReaderGaps(state, lane, name)
  const reader: ReaderState = { name, now, saved: null, merged: false }
  lane.readers.set(name, reader)
  return reader
}

export const closeReader = (state: SpoolState, lane: LaneState, name: string): void => {
  if (!lane.readers.has(name)) return
  write(state, 'none', () => {
    lane.readers.delete(name)
    dropReaderGaps(state, lane, name)
    state.sql('DELETE FROM cursors WHERE lane = ? AND reader = ?').run(lane.id, name)
  })
}

export const startLive = (lane: LaneState, name: string): Cursor => {
  const reader = readerNamed(lane, name)
  const { head } = lane.now
  if (reader.now.live === null && reader.now.backlog < head) {
    reader.now = { ...reader.now, live: { start: head, upTo: head } }
    reader.merged = false
  }
  return cursorOf(reader)
}

/** Of what an answer said, that which the books took. */
const booked = (lost: readonly PointsLost[] = [], gaps: readonly ReaderGap[]) =>
  lost.filter(({ seq, reason }) => gaps.some((one) => one.seq === seq && one.reason === reason))
/** In memory; written with the next transaction. */
export const ack = (state: SpoolState, lane: LaneState, name: string, acked: Acked): Cursor => {
  const reader = readerNamed(lane, name)
  const { now } = reader
  if (acked.upTo > lane.now.head) {
    throw new Failure('HF-S014', `ack of ${acked.upTo} beyond the head ${lane.now.head}`)
  }
  lane.readThrough = Math.max(lane.readThrough, acked.upTo)
  const { live } = now
  const onLive = acked.which === 'live'
  if (onLive && live === null && !reader.merged) return cursorOf(reader)
  const after = onLive && live !== null ? live.upTo : now.backlog
  const to = !onLive && live !== null ? Math.min(acked.upTo, live.start) : acked.upTo
  if (to <= after) return cursorOf(reader)
  const { points, lost } = book(state, lane, after, to)
  const gaps = acceptLost(state, lane, acked.lost ?? [], after, to)
  const partly = gaps.reduce((sum, { count }) => sum + count, 0)
  const passed = {
    ...now,
    delivered: now.delivered + points - partly,
    lost: now.lost + lost + partly,
    unsaved: withUnsaved(reader, gaps),
    copies: withCopies(reader, copyRefused(state, lane, booked(acked.lost, gaps))),
  }
  if (onLive && live !== null) reader.now = { ...passed, live: { start: live.start, upTo: to } }
  else if (live !== null && to >= live.start) {
    reader.now = { ...passed, backlog: live.upTo, live: null }
    reader.merged = true
  } else reader.now = { ...passed, backlog: to }
  return cursorOf(reader)
}

/** Inside a transaction: takes back what (after, to] had been booked as, tombstone by tombstone. */
const unbook = (
  state: SpoolState,
  lane: LaneState,
  reader: ReaderState,
  after: Seq,
  to: Seq,
): void => {
  const sums = book(state, lane, after, to)
  let { points, lost } = sums
  const rows = state
    .sql(
      `SELECT key, count, delivered_to AS deliveredTo FROM gaps
       WHERE key > ? AND key <= ? AND delivered_to <> '[]'`,
    )
    .all(keyOf(lane.id, after), keyOf(lane.id, to)) as {
    key: number
    count: number
    deliveredTo: string
  }[]
  for (const row of rows) {
    const names = JSON.parse(row.deliveredTo) as string[]
    if (!names.includes(reader.name)) continue
    points += row.count
    lost -= row.count
    state
      .sql('UPDATE gaps SET delivered_to = ? WHERE key = ?')
      .run(JSON.stringify(names.filter((name) => name !== reader.name)), row.key)
  }
  const partly = takeBackLost(state, lane, reader.name, after, to)
  const { now } = reader
  const delivered = now.delivered - points + partly
  reader.now = { ...now, delivered, lost: now.lost - lost - partly }
}

/** Inside a transaction: the far side asks for what came before the reader began; that becomes its concern. */
const reachBack = (state: SpoolState, lane: LaneState, reader: ReaderState, after: Seq): void => {
  const { points, lost } = book(state, lane, after, reader.now.start)
  const acceptedBefore = reader.now.acceptedBefore - points - lost
  reader.now = { ...reader.now, acceptedBefore }
}

interface Run {
  readonly seq: Seq
  readonly seqLast: Seq
  readonly epoch: number
  readonly gap: Gap
}
export type HeldRanges = readonly (readonly [Seq, Seq])[]
const rangeWith = (held: HeldRanges, seq: Seq): number =>
  held.findIndex(([first, last]) => first <= seq && seq <= last)

/** Neighbouring stubs of one epoch are one loss, unless the far side holds one of them and not the other. */
const addRun = (runs: Run[], next: Run, held: HeldRanges): void => {
  const last = runs[runs.length - 1]
  if (
    last === undefined ||
    last.seqLast !== next.seq - 1 ||
    last.epoch !== next.epoch ||
    rangeWith(held, last.seqLast) !== rangeWith(held, next.seq)
  ) {
    runs.push(next)
    return
  }
  const gap: Gap = {
    ...last.gap,
    count: last.gap.count + next.gap.count,
    timeUsMin: Math.min(last.gap.timeUsMin, next.gap.timeUsMin),
    timeUsMax: Math.max(last.gap.timeUsMax, next.gap.timeUsMax),
  }
  runs[runs.length - 1] = { ...last, seqLast: next.seqLast, gap }
}

/** Inside a transaction: stubs above `after` become `forgotten` tombstones, their counts leave the reader's books. */
const forget = (
  state: SpoolState,
  lane: LaneState,
  reader: ReaderState,
  after: Seq,
  held: HeldRanges,
): void => {
  const runs: Run[] = []
  for (const stub of stubRows(state, lane, after, lane.now.floor - 1)) {
    const seqLast = seqOf(stub.key)
    const seq = Math.max(stub.seq, after + 1)
    const share = (seqLast - seq + 1) / (seqLast - stub.seq + 1)
    const points = Math.round(stub.points * share)
    const lost = Math.round(stub.lost * share)
    state.sql('DELETE FROM stubs WHERE key = ?').run(stub.key)
    if (seq > stub.seq) {
      state
        .sql('INSERT INTO stubs VALUES (?, ?, ?, ?, ?, ?, ?)')
        .run(
          ...[keyOf(lane.id, after), stub.seq, stub.epoch, stub.points - points],
          ...[stub.lost - lost, stub.min, stub.max],
        )
    }
    const { now } = reader
    reader.now =
      seqLast <= now.start
        ? { ...now, acceptedBefore: now.acceptedBefore - points - lost }
        : { ...now, delivered: now.delivered - points, lost: now.lost - lost }
    const times = { timeUsMin: stub.min, timeUsMax: stub.max }
    const gap: Gap = { reason: 'forgotten', count: points + lost, source: '', ...times }
    addRun(runs, { seq, seqLast, epoch: stub.epoch, gap }, held)
  }
  for (const run of runs) {
    const others = readersPast(lane, run.seqLast).filter((name) => name !== reader.name)
    putGap(state, lane, { ...run, deliveredTo: others }, run.gap)
  }
}

/** The far side forgot everything above `after` but `held`: both cursors go back, the books with them. */
export const rewind = (
  state: SpoolState,
  lane: LaneState,
  name: string,
  after: Seq,
  held: HeldRanges = [],
): Cursor => {
  const reader = readerNamed(lane, name)
  const to = Math.min(after, reader.now.backlog)
  if (to === reader.now.backlog && reader.now.live === null) return cursorOf(reader)
  return write(state, 'write', () => {
    saveReaderGaps(state, lane, reader)
    const { backlog, live, start } = reader.now
    unbook(state, lane, reader, Math.max(to, start), backlog)
    if (to < start) reachBack(state, lane, reader, to)
    if (live !== null) unbook(state, lane, reader, live.start, live.upTo)
    if (to < lane.now.floor - 1) {
      forget(state, lane, reader, to, held)
      lane.now = { ...lane.now, floor: to + 1 }
    }
    reader.now = { ...reader.now, backlog: to, live: null, start: Math.min(to, start) }
    reader.merged = false
    // What is passed again is held again from then on.
    state
      .sql('DELETE FROM holds WHERE key > ? AND key <= ?')
      .run(keyOf(lane.id, to), keyOf(lane.id, lane.now.head))
    lane.heldAtMs = -Infinity
    return cursorOf(reader)
  })
}
