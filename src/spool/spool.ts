/**
 * The durable log: lanes of segments in one SQLite file, synchronous and free of threads and timers.
 *
 * Invariants: whoever calls owns the only connection; a call returns after its effect is flushed (acks excepted, see
 * readers.ts); after HF-S074 every call throws it. The rooms of this folder, in flow order: open, recover, epochs ·
 * commit (journal), seal, waiting · read, readers · retention, gaps, room, quarantine.
 */
import { Failure } from '../errors.ts'
import type {
  ClockReading,
  Cursor,
  EpochId,
  EpochLink,
  GapReason,
  Kept,
  LaneItem,
  RefusedPoints,
  Segment,
  Seq,
  SeriesEntry,
} from '../model.ts'
import type {
  Acked,
  GapRow,
  LaneStatus,
  QuarantineRow,
  RangeEstimate,
  RefusedRow,
  ResentAnswer,
  SpoolStats,
} from '../spool-port.ts'
import { commitWindows, type Handed, saveKept } from './commit.ts'
import { newest, sealsBeside, type TimeRange } from './copies.ts'
import { checkpointAll, derive, isUnderived, mayTick, type Turn, tick } from './derive.ts'
import { dictionaryEntries, epochLinks, seriesCount } from './epochs.ts'
import { openState, type SpoolParts } from './open.ts'
import { discard, quarantined, quarantineSegment } from './quarantine.ts'
import { estimate, listGaps, readItems } from './read.ts'
import { ack, closeReader, type HeldRanges, openReader, rewind, startLive } from './readers.ts'
import { addLanes } from './recover.ts'
import { countRefused, lookAtRefused, resendable, resent } from './resend.ts'
import { bytesUsed, type CommitResult, pagesMax, prepareBallast } from './room.ts'
import { sealOpen } from './seal.ts'
import { isLeaving } from './stage-changes.ts'
import {
  acceptedOf,
  alive,
  asFailure,
  die,
  isFatal,
  type LaneState,
  laneNamed,
  pendingOf,
  type SpoolOptions,
  type SpoolState,
} from './state.ts'
import { setClock, settleWaiting } from './waiting.ts'
import { write } from './write.ts'

export type { Handed } from './commit.ts'
export type { Turn } from './derive.ts'
export type { SpoolParts } from './open.ts'
export type { CommitResult } from './room.ts'
export type { StageReader } from './stages.ts'
export type { LaneOptions, SpoolOptions } from './state.ts'

/** Facts the port needs after any call, without asking again. */
export interface LaneHead {
  readonly lane: string
  readonly head: Seq
  readonly openCount: number
  readonly derived: boolean
  /** Stages have something to do here: call `derive`. */
  readonly underived: boolean
  /** Stages wait for the clock here: call `tick` about once a second. */
  readonly ticks: boolean
}
export interface Spool {
  readonly epoch: EpochId
  readonly spoolId: string
  readonly commit: (windows: readonly Handed[]) => CommitResult
  /** Seals what is open; nothing when nothing is. */
  readonly seal: (lanes: readonly string[]) => void
  readonly heads: () => readonly LaneHead[]
  /** A bounded piece of what stages have to do; again while it says `more`. */
  readonly derive: () => Turn
  /** Closes what the time alone closes. Nothing while points are still to be derived. */
  readonly tick: (nowUs: number) => Turn
  /** Writes acks taken since the last transaction. True when there were any. */
  readonly flush: () => boolean
  readonly openReader: (lane: string, reader: string, from: 'now' | 'oldest') => Cursor
  readonly closeReader: (lane: string, reader: string) => void
  readonly read: (lane: string, after: Seq, bytesMax: number, upTo?: Seq) => readonly LaneItem[]
  readonly startLive: (lane: string, reader: string) => Cursor
  readonly ack: (lane: string, reader: string, acked: Acked) => Cursor
  readonly rewind: (lane: string, reader: string, after: Seq, held?: HeldRanges) => Cursor
  readonly quarantine: (lane: string, seq: Seq, reason: GapReason, text: string) => void
  readonly lanes: () => readonly LaneStatus[]
  readonly epochs: () => readonly EpochLink[]
  readonly dictionary: (epoch: EpochId, first: number, max: number) => readonly SeriesEntry[]
  readonly kept: (key: string) => Uint8Array | null
  readonly keep: (kept: readonly Kept[]) => void
  readonly allowFormat: (version: number) => void
  readonly stats: () => Omit<SpoolStats, 'blockedReason'>
  readonly gaps: (limit: number) => readonly GapRow[]
  readonly quarantined: (limit: number) => readonly QuarantineRow[]
  readonly refused: (id: number) => RefusedRow | null
  readonly resendable: (id: number) => Segment | null
  readonly resent: (
    id: number,
    bytes: Uint8Array,
    refused: readonly RefusedPoints[],
  ) => ResentAnswer
  readonly discardQuarantined: (id: number) => boolean
  readonly sealsBeside: (
    lane: string,
    range: TimeRange,
    between: readonly [number, number],
  ) => readonly number[]
  readonly newest: (bytes: Uint8Array) => Uint8Array | null
  readonly estimate: (lane: string, fromUs: number, toUs: number) => RangeEstimate
  /** What the agent knows of the time; points waiting for it are settled. True while more remain to be. */
  readonly setClock: (reading: ClockReading) => boolean
  /** The last trusted wall time the spool remembers: part of the clock's floor. */
  readonly lastWallUs: () => number
  readonly configure: (options: Partial<SpoolOptions>) => void
  /** The durable image, in memory only (simulation). */
  readonly image: () => Uint8Array
  readonly close: () => void
}

const factsOf = (state: SpoolState, lane: LaneState, reader: string) => {
  const found = state.stages.find((one) => one.lane === lane && one.reader === reader)
  if (found === undefined) return {}
  const { acceptedBefore } = lane.readers.get(reader)?.now ?? { acceptedBefore: 0 }
  return {
    classes: found.stage.totals(),
    ...(acceptedBefore > 0 ? { passedOver: acceptedBefore } : {}),
    ...(found.failed ? { failed: found.why } : {}),
  }
}
const laneStatus = (state: SpoolState, lane: LaneState): LaneStatus => ({
  lane: lane.name,
  id: lane.id,
  derived: lane.options?.derived ?? false,
  head: lane.now.head,
  floor: lane.now.floor,
  accepted: acceptedOf(lane),
  bytes: lane.now.bytes,
  ...(state.stages.some(isLeaving) ? { unfinished: true } : {}),
  readers: [...lane.readers.values()].map(({ name, now }) => ({
    reader: name,
    cursor: { backlog: now.backlog, live: now.live },
    stage: now.keepsAfter !== Number.POSITIVE_INFINITY,
    delivered: now.delivered,
    reduced: now.reduced,
    declaredLost: now.lost,
    pending: pendingOf(lane, now),
    ...factsOf(state, lane, name),
  })),
})

const percentile = (sorted: readonly number[], share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0

const statsOf = (state: SpoolState): Omit<SpoolStats, 'blockedReason'> => {
  const sorted = [...state.commitMs].sort((a, b) => a - b)
  return {
    bytesUsed: bytesUsed(state),
    bytesMax: state.options.bytesMax,
    diskFreeBytes: state.diskFreeBytes(),
    commits: state.commits,
    commitMsP50: percentile(sorted, 0.5),
    commitMsP99: percentile(sorted, 0.99),
    bytesWritten: state.bytesWritten,
    seriesCount: seriesCount(state),
    fillBytesPerSecond: state.fill.perSecond,
    quarantined:
      (state.sql('SELECT count(*) FROM quarantine').pluck().get() as number) + countRefused(state),
    waitingForClock: [...state.lanes.values()].reduce((sum, lane) => sum + lane.now.waiting, 0),
  }
}

const seal = (state: SpoolState, names: readonly string[]) => {
  const lanes = names.map((name) => laneNamed(state, name)).filter((lane) => lane.open.count() > 0)
  if (lanes.length === 0) return
  write(state, 'sync', () => {
    for (const lane of lanes) sealOpen(state, lane, true)
  })
  prepareBallast(state)
}

const configure = (state: SpoolState, change: Partial<SpoolOptions>) => {
  // A series may go to another lane from here on.
  if (change.lanes !== undefined) seal(state, [...state.lanes.keys()])
  state.options = { ...state.options, ...change }
  state.db.pragma(`max_page_count = ${pagesMax(state.options.bytesMax)}`)
  addLanes(state)
  for (const lane of state.lanes.values()) {
    lane.options = state.options.lanes.find((one) => one.name === lane.name) ?? null
  }
}

const flush = (state: SpoolState): boolean => {
  const dirty = [...state.lanes.values()].some((lane) =>
    [...lane.readers.values()].some((reader) => reader.saved !== reader.now),
  )
  if (dirty) write(state, 'write', () => {})
  return dirty
}

const close = (state: SpoolState) => {
  if (!state.db.open) return
  try {
    if (state.dead === null) {
      checkpointAll(state)
      flush(state)
    }
  } finally {
    state.dead ??= new Failure('HF-S015', 'the spool is closed')
    state.anchor.close()
    state.db.close()
  }
}

/** Throws Failure HF-S001 (cannot open), S002 (locked), S003 (newer), S004 (read-only), S074 (disk). */
export const openSpool = (parts: SpoolParts): Spool => {
  const state = openState(parts)
  const lane = (name: string) => laneNamed(state, name)
  /** The lane, for a reader that is no stage. */
  const outside = (name: string, reader: string): LaneState => {
    const found = lane(name)
    if (!state.stages.some((one) => one.lane === found && one.reader === reader)) return found
    throw new Failure('HF-S017', `reader "${reader}" of lane "${name}" is a stage`)
  }
  /** Damage met on the way ends the spool and is noted, so that the next opening looks at the whole file. */
  const read = <T>(work: () => T): T => {
    alive(state)
    try {
      return work()
    } catch (error) {
      const failure = asFailure(state, error)
      throw isFatal(failure) ? die(state, failure) : failure
    }
  }
  return {
    epoch: state.epoch,
    spoolId: state.spoolId,
    commit: (windows) => commitWindows(state, windows),
    seal: (lanes) => seal(state, lanes),
    heads: () =>
      [...state.lanes.values()].map((one) => ({
        lane: one.name,
        head: one.now.head,
        openCount: one.open.count(),
        derived: one.options?.derived ?? false,
        underived: isUnderived(state, one),
        ticks: mayTick(state, one),
      })),
    derive: () => read(() => derive(state)),
    tick: (nowUs) => read(() => tick(state, nowUs)),
    flush: () => flush(state),
    openReader: (name, reader, from) =>
      read(() => openReader(state, outside(name, reader), reader, from)),
    closeReader: (name, reader) => closeReader(state, outside(name, reader), reader),
    read: (name, after, bytesMax, upTo) =>
      read(() => readItems(state, lane(name), after, bytesMax, upTo)),
    startLive: (name, reader) => startLive(outside(name, reader), reader),
    ack: (name, reader, acked) => read(() => ack(state, outside(name, reader), reader, acked)),
    rewind: (name, reader, after, held) =>
      rewind(state, outside(name, reader), reader, after, held),
    quarantine: (name, seq, reason, text) =>
      read(() => quarantineSegment(state, lane(name), seq, reason, text)),
    lanes: () => [...state.lanes.values()].map((one) => laneStatus(state, one)),
    epochs: () => epochLinks(state),
    dictionary: (epoch, first, max) => read(() => dictionaryEntries(state, epoch, first, max)),
    kept: (key) =>
      read(() => {
        const value = state.sql('SELECT value FROM kept WHERE key = ?').pluck().get(key)
        return (value as Uint8Array | undefined) ?? null
      }),
    keep: (kept) => {
      write(state, 'none', () => saveKept(state, kept))
    },
    allowFormat: (version) => {
      write(state, 'none', () =>
        state.sql("INSERT OR REPLACE INTO meta VALUES ('format', ?)").run(String(version)),
      )
    },
    stats: () => read(() => statsOf(state)),
    gaps: (limit) => read(() => listGaps(state, limit)),
    quarantined: (limit) =>
      read(() => {
        // Copies wait for a transaction with the cursor of their ack.
        flush(state)
        return quarantined(state, limit)
      }),
    refused: (id) => read(() => lookAtRefused(state, id)),
    resendable: (id) => read(() => resendable(state, id)),
    resent: (id, bytes, refused) => read(() => resent(state, id, bytes, refused)),
    discardQuarantined: (id) => read(() => discard(state, id)),
    sealsBeside: (name, range, between) =>
      read(() => sealsBeside(state, lane(name), range, between)),
    newest: (bytes) => read(() => newest(state, bytes)),
    estimate: (name, fromUs, toUs) => read(() => estimate(state, lane(name), fromUs, toUs)),
    setClock: (reading) => {
      setClock(state, reading)
      return read(() => settleWaiting(state))
    },
    lastWallUs: () => state.lastWallUs,
    configure: (change) => configure(state, change),
    image: () => state.db.serialize(),
    close: () => close(state),
  }
}
