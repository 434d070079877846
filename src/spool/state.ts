/**
 * What the synchronous spool holds in memory while it is open, and the one way to write (`write`).
 *
 * Invariants: everything here is a bounded copy of what the file says; `now` objects are replaced, never
 * changed, so a
 * transaction that fails puts the old ones back; after SQLITE_IOERR* nothing is ever written again (HF-S074).
 */
import { rmSync, writeFileSync } from 'node:fs'
import type Database from 'better-sqlite3'
import type { Compressor } from '../codec/segment.ts'
import { Failure, isFailure, textOf } from '../errors.ts'
import type { Host } from '../host.ts'
import { seqBits } from '../limits.ts'
import type { ClockReading, EpochId, LaneId, Seq, SeriesId, SeriesTable } from '../model.ts'
import type { Anchor } from './anchor.ts'
import type { OpenColumns } from './columns.ts'
import type { Dictionary } from './dictionary.ts'
import type { ReaderGap } from './reader-gaps.ts'
import type { Copy } from './refused.ts'
import type { StageState } from './stages.ts'

export interface LaneOptions {
  readonly name: string
  readonly maxDelayMs: number
  readonly segmentPointsMax: number
  readonly policy: 'block' | 'drop_oldest'
  /** Written by a stage alone; adds nothing to what sources had accepted. */
  readonly derived?: boolean
  /** Derived, and written by appends all the same: copies of points of other lanes. */
  readonly copies?: boolean
}
export interface SpoolOptions {
  readonly agent: string
  readonly lanes: readonly LaneOptions[]
  /** Quota of the database file. */
  readonly bytesMax: number
  /** The file stops growing while the disk has less than this free. */
  readonly diskFreeBytesMin: number
  /** How long a committed segment is kept, in accumulated uptime. */
  readonly keepSentMs: number
  readonly compressor: Compressor
  readonly configRevision: number
  /** Of the whole configuration: with another one a series may go to another lane, so what is open is sealed first. */
  readonly configDigest?: string
  /** Points of boots that never trusted their clock are stamped from here on (or from the last saved wall time). */
  readonly clockFloorUs: number
}

/** The parts of a lane that a transaction may change. */
export interface LaneNow {
  readonly head: Seq
  readonly floor: Seq
  readonly hash: string
  readonly accepted: number
  readonly bytes: number
  /** Points in the `waiting` table. */
  readonly waiting: number
}
export interface ReaderNow {
  readonly backlog: Seq
  readonly live: { readonly start: Seq; readonly upTo: Seq } | null
  readonly delivered: number
  readonly lost: number
  /** Of a stage: points read and not given out; below zero when it gives out more than it reads. */
  readonly reduced: number
  /** The seq after which it began, and what is none of its concern: accepted up to there, or only passed over. */
  readonly start: Seq
  readonly acceptedBefore: number
  /** Of a stage: what lies above may not be trimmed, though the cursor has passed it. Infinity for others. */
  readonly keepsAfter: Seq
  /** Gap records of this reader alone that the file does not have yet. */
  readonly unsaved: readonly ReaderGap[]
  /** And copies of points in them, likewise. */
  readonly copies: readonly Copy[]
}
export interface ReaderState {
  readonly name: string
  now: ReaderNow
  /** What the file says; acks are written with the next transaction, whatever it is for. */
  saved: ReaderNow | null
  /** The live cursor has become part of the backlog: its acks still in flight go on there. Cleared by a rewind. */
  merged: boolean
}
export interface LaneState {
  readonly id: LaneId
  readonly name: string
  /** Null for a lane that is no longer configured: it drains, nothing is appended. */
  options: LaneOptions | null
  now: LaneNow
  open: OpenColumns
  spare: OpenColumns
  readonly readers: Map<string, ReaderState>
  /** A reader's row was damaged when the spool was opened: whoever asks now begins with the oldest. */
  readonly readersLost: boolean
  /** Highest seq ever handed to a reader: what lies above it may still change its shape. */
  readThrough: Seq
  /** Uptime of the newest row in `holds`, -Infinity when there is none. */
  heldAtMs: number
}
export interface EpochRow {
  readonly ordinal: number
  readonly epoch: EpochId
  readonly parent: EpochId | null
  readonly bases: Map<LaneId, { readonly base: Seq; readonly baseHash: string }>
}
export interface Totals {
  readonly sealNumber: number
  readonly commitNumber: number
}
export interface SpoolState {
  readonly db: Database.Database
  readonly path: string
  readonly host: Pick<Host, 'clock' | 'randomBytes' | 'bootId' | 'log'>
  readonly series: Pick<SeriesTable, 'entry'>
  readonly anchor: Anchor
  readonly spoolId: string
  readonly epoch: EpochId
  readonly ordinal: number
  readonly dictionary: Dictionary
  readonly lanes: Map<string, LaneState>
  readonly sql: (text: string) => Database.Statement
  readonly diskFreeBytes: () => number
  readonly failpoint: (name: string) => void
  /** Accumulated uptime before this opening, and the monotonic time at opening. */
  readonly uptimeBeforeMs: number
  readonly openedMs: number
  options: SpoolOptions
  now: Totals
  clock: ClockReading
  lastWallUs: number
  /** Offsets given to boots that ended untrusted, while their points are being settled. */
  readonly stampedBoots: Map<string, number>
  dead: Failure | null
  /** Pages the file had when the disk last had room enough: what commits may use without asking again. */
  pagesGranted: number
  readonly epochs: EpochRow[]
  /** Of older epochs' dictionaries, by ordinal: how far they were found to be what their segments say. */
  readonly dictionariesSeen: Map<number, { readonly length: number; readonly hash: string }>
  readonly commitMs: number[]
  commits: number
  bytesWritten: number
  fill: FillRate
  readonly stages: StageState[]
  /** Series whose contract ends with their next point, and the time it holds to at least. */
  ending: { readonly ids: ReadonlySet<SeriesId>; readonly afterUs: number }
  /** Whether the ballast file exists; made again once a full disk has room. */
  ballast: boolean
}
/** Stored bytes a second, smoothed over tens of seconds. */
export interface FillRate {
  readonly sinceMs: number
  readonly bytes: number
  readonly perSecond: number
}

export const seqSpan = 2 ** seqBits
export const keyOf = (lane: LaneId, seq: Seq): number => lane * seqSpan + seq
export const seqOf = (key: number): Seq => key % seqSpan

export const uptimeMs = (state: SpoolState): number =>
  Math.floor(state.uptimeBeforeMs + state.host.clock.monotonicMs() - state.openedMs)

export const laneNamed = (state: SpoolState, name: string): LaneState => {
  const lane = state.lanes.get(name)
  if (lane === undefined) throw new Failure('HF-S010', `the spool has no lane "${name}"`)
  return lane
}
export const laneOfId = (state: SpoolState, id: LaneId): LaneState => {
  for (const lane of state.lanes.values()) if (lane.id === id) return lane
  throw new Failure('HF-S010', `the spool has no lane number ${id}`)
}
export const readerNamed = (lane: LaneState, name: string): ReaderState => {
  const reader = lane.readers.get(name)
  if (reader === undefined) {
    throw new Failure('HF-S011', `lane "${lane.name}" has no reader "${name}"`, 'openReader first')
  }
  return reader
}

/** Points and losses of the lane, durable ones only: the left side of the equation. */
export const acceptedOf = (lane: LaneState): number =>
  lane.now.accepted + lane.open.count() + lane.now.waiting
export const pendingOf = (lane: LaneState, reader: ReaderNow): number =>
  acceptedOf(lane) - reader.acceptedBefore - reader.delivered - reader.lost - reader.reduced

const codeOf = (error: unknown): string =>
  typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : ''

/** The one place where SQLite's errors get their meaning. */
export const asFailure = (state: Pick<SpoolState, 'path'>, error: unknown): unknown => {
  const code = codeOf(error)
  if (code.startsWith('SQLITE_IOERR') || code === 'EIO') {
    return new Failure(
      'HF-S074',
      `the disk under ${state.path} failed (${code})`,
      'What was acknowledged is safe. The process must end (exit 74) and start again from the disk.',
      { cause: error },
    )
  }
  // A flipped bit in the schema's own text: our statements name nothing that was not made.
  const misnamed =
    code === 'SQLITE_ERROR' && /\bno such (column|table)|has no column/.test(textOf(error))
  if (misnamed || code.startsWith('SQLITE_CORRUPT') || code === 'SQLITE_NOTADB') {
    return new Failure('HF-S005', `spool ${state.path} is damaged: ${textOf(error)}`, '', {
      cause: error,
    })
  }
  if (code.startsWith('SQLITE_READONLY') || code === 'SQLITE_PERM' || code === 'EROFS') {
    return new Failure('HF-S004', `spool ${state.path} cannot be written`, 'Check the mount.', {
      cause: error,
    })
  }
  if (code.startsWith('SQLITE_FULL') || code === 'ENOSPC' || code === 'EDQUOT') {
    return new Failure('HF-S020', 'no room in the spool or on its disk', '', { cause: error })
  }
  return error
}

/** Damage found while running is beyond repair in place: only a restart sets the file aside. */
export const isFatal = (error: unknown): error is Failure =>
  isFailure(error, 'HF-S074') || isFailure(error, 'HF-S004') || isFailure(error, 'HF-S005')

/** Where an error is about to be somebody's own: one of the disk's or of the file is nobody's. */
export const throwFatal = (state: Pick<SpoolState, 'path'>, error: unknown): void => {
  const failure = asFailure(state, error)
  if (isFatal(failure)) throw failure
}

export const damageMark = (path: string): string => `${path}-damaged`

/** No further call is served. Damage is noted beside the file, so that the next opening looks at all of it. */
export const die = (state: SpoolState, failure: Failure): Failure => {
  if (state.dead !== null) return state.dead
  state.dead = failure
  if (isFailure(failure, 'HF-S005') && state.path !== '') {
    try {
      rmSync(damageMark(state.path), { force: true })
      writeFileSync(damageMark(state.path), failure.message, { flag: 'wx' })
    } catch {
      // The mark only saves a round of restarts.
    }
  }
  return failure
}

export const alive = (state: SpoolState): void => {
  if (state.dead !== null) throw state.dead
}
