/**
 * Stages (decision 0007): readers of a lane that write lanes of their own. What the spool holds of each while it is
 * open, and how they are found again when it opens.
 *
 * Invariants: the reader's cursor is the output cursor: everything <= it was read and what came of it is durable; the
 * checkpoint is never above it; `position`, where the state in memory stands, may be below the cursor (what is given
 * out until then is thrown away) or above (what was given out waits in `ready`).
 */
import { textOf } from '../errors.ts'
import type { Derived, Pieces, Seq, Stage } from '../model.ts'
import { createHold, type Hold, seqHeld } from './hold.ts'
import { addReader } from './readers.ts'
import type { Feed } from './stage-input.ts'
import type { Naming } from './stage-names.ts'
import {
  type Decided,
  type SavedState,
  type StageRow,
  saveDecided,
  saveStageRow,
} from './stage-rows.ts'
import { type LaneState, laneNamed, readerNamed, type SpoolState, uptimeMs } from './state.ts'

export interface StageReader {
  /** Its name in the books of the lane; a stage of another name begins anew. */
  readonly reader: string
  /** The lane it reads. */
  readonly lane: string
  readonly stage: Stage
  /** Where a new one begins, or behind which seq; `oldest` when not said. */
  readonly from?: 'now' | 'oldest' | Seq
  /** All that makes it what it is; where that changes, what stood before ends in good order (`stage-changes.ts`). */
  readonly definition?: string
}
/** What a transaction may change: replaced, never altered, so that one that fails puts the old back. */
export interface StageNow {
  /** Given out and not yet in a lane. */
  readonly ready: readonly Derived[]
  /** A checkpoint belongs to the next transaction. */
  readonly due: boolean
  readonly checkpoint: Seq
  readonly holdSeq: Seq
  readonly checkpointMs: number
  /** Since the checkpoint. */
  readonly segments: number
  readonly points: number
  /** Read since the books were last moved, and of series that it only passes over. */
  readonly outside: number
  /** Decided by ticks and not yet in the log. */
  readonly decided: readonly Decided[]
  /** The state in the file that a log may follow; null where that is damaged. */
  readonly saved: SavedState | null
  /** Of the log in the file. */
  readonly logRows: number
  readonly logBytes: number
}
export interface StageWork {
  readonly pieces: Pieces<readonly Derived[]>
  readonly finish: (derived: readonly Derived[]) => void
}
export interface StageState {
  readonly reader: string
  readonly lane: LaneState
  readonly stage: Stage
  readonly feed: Feed
  readonly hold: Hold
  /** By lane it writes: its own numbers to the epoch's dictionary. Empty after a transaction that failed. */
  readonly numbers: Map<string, Uint32Array>
  /** Of what waits in `ready`; null before that is looked at. */
  naming: Naming | null
  position: Seq
  /** The log's decisions that lie ahead of `position`, to be done again on the way. */
  again: readonly Decided[]
  /** Not asked yet, in this life, for what its state owes. */
  fresh: boolean
  now: StageNow
  /** What it was asked and has not done yet (`stage-work.ts`). */
  work: StageWork | null
  /** By kind and class: when a warning was logged, and how many points there were since. */
  readonly warned: Map<string, { readonly atMs: number; readonly unsaid: number }>
  /** It threw: it rests until the next opening, and its lane keeps what it has not read. */
  failed: boolean
  why: string
  /** By number of the feed: 0 not asked yet, 1 it takes the series, 2 it does not. */
  taken: Uint8Array
  leaving: Leaving | null
}
/** Another definition takes its place, or nobody does, once it has read through `upTo`. */
export interface LeavingEnd {
  readonly upTo: Seq
  readonly next: StageReader | null
}
export interface Leaving extends LeavingEnd {
  /** It has given out what that lacks. */
  readonly ended: boolean
  /** Changes that came meanwhile: where that one ends in its turn. */
  readonly further: readonly LeavingEnd[]
}

/** About what a row of the log takes beside what was decided. */
const logRowBytes = 128

export const cursorOf = ({ lane, reader }: StageState): Seq => readerNamed(lane, reader).now.backlog
/** Steps again what a checkpoint did not hold; what it gives out is in its lanes already. */
export const catchesUp = (one: StageState): boolean =>
  one.position < cursorOf(one) || one.again.length > 0

/** Inside a transaction: the state as it is now, if no durable output is missing for it. */
export const saveCheckpoint = (state: SpoolState, one: StageState): void => {
  const saved = saveStageRow(state.sql, {
    lane: one.lane.id,
    reader: one.reader,
    checkpoint: one.position,
    hold: one.hold.places(),
    state: one.stage.save(),
  })
  one.now = {
    ...one.now,
    ...{ checkpointMs: uptimeMs(state), segments: 0, points: 0, due: false },
    ...{ checkpoint: one.position, holdSeq: one.hold.seq() },
    // What is still to be done again follows this state now.
    ...{ saved, logRows: 0, logBytes: 0, decided: one.again },
  }
  saveLog(state, one)
  keep(one)
}

/** A window of an older time has opened than the saved state tells: a restart must find what it needs. */
export const holdsMore = ({ hold, now }: StageState): boolean => hold.seq() < now.holdSeq

/** Inside a transaction: what ticks decided since the state was saved, in place of the state. */
export const saveLog = (state: SpoolState, one: StageState): void => {
  const { saved, decided } = one.now
  const moved = holdsMore(one)
  if (saved === null || (decided.length === 0 && !moved)) return
  const place = { seq: one.position, hold: one.hold.places(), bytes: new Uint8Array(0) }
  const rows = moved ? [...decided, place] : decided
  rows.forEach((row, at) => {
    const key = { lane: one.lane.id, reader: one.reader }
    saveDecided(state.sql, key, one.now.logRows + at, saved.crc, row)
  })
  one.now = {
    ...one.now,
    decided: [],
    holdSeq: Math.min(one.now.holdSeq, one.hold.seq()),
    logRows: one.now.logRows + rows.length,
    logBytes: rows.reduce((sum, { bytes }) => sum + logRowBytes + bytes.length, one.now.logBytes),
  }
}

/** What the checkpoint in the file and the state in memory may ask for is not trimmed. */
export const keep = (one: StageState): void => {
  const keepsAfter = Math.min(one.now.checkpoint, one.now.holdSeq - 1, one.hold.seq() - 1)
  const reader = readerNamed(one.lane, one.reader)
  if (reader.now.keepsAfter !== keepsAfter) reader.now = { ...reader.now, keepsAfter }
}

/** The saved state, or the beginning where there is none that can be read. */
const loadState = (state: SpoolState, one: StageReader, row: StageRow | undefined): boolean => {
  if (row?.state != null) {
    try {
      one.stage.load(row.state)
      return true
    } catch (error) {
      const facts = { stage: one.reader, text: textOf(error) }
      state.host.log.warn('stage_state_refused', facts)
    }
  }
  one.stage.load(null)
  return false
}

/** Inside a transaction: its reader, made where there is none or where its row was damaged. */
const readerFor = (
  state: SpoolState,
  lane: LaneState,
  one: StageReader,
  row: StageRow | undefined,
) => {
  const found = lane.readers.get(one.reader)
  if (found !== undefined) return found
  const oldest = lane.now.floor - 1
  // A damaged cursor: what came after the checkpoint is given out once more, the same points.
  if (row?.intact) return addReader(state, lane, one.reader, Math.max(row.checkpoint, oldest))
  const { from } = one
  if (typeof from === 'number') return addReader(state, lane, one.reader, Math.max(from, oldest))
  const begin = from === 'now' && !lane.readersLost ? lane.now.head : oldest
  return addReader(state, lane, one.reader, begin)
}

/** Inside a transaction. */
export const attach = (
  state: SpoolState,
  one: StageReader,
  row: StageRow | undefined,
  feed: Feed,
): StageState => {
  const lane = laneNamed(state, one.lane)
  const known = lane.readers.has(one.reader)
  const { now: cursor } = readerFor(state, lane, one, row)
  const sound =
    row?.state != null &&
    row.checkpoint <= cursor.backlog &&
    row.log.every(({ seq }) => seq <= lane.now.head)
  const loaded = loadState(state, one, sound ? row : undefined)
  // Nothing below the floor is there to be read.
  const begin = Math.max(loaded ? (row?.checkpoint ?? 0) : cursor.start, lane.now.floor - 1)
  if (!loaded && (known || row !== undefined)) {
    const facts = { stage: one.reader, lane: lane.name, after: begin, cursor: cursor.backlog }
    state.host.log.warn('stage_begins_anew', facts)
  }
  const places = loaded ? (row?.hold ?? []) : []
  const log = loaded ? (row?.log ?? []) : []
  const attached: StageState = {
    reader: one.reader,
    lane,
    stage: one.stage,
    feed,
    hold: createHold(state, lane, places),
    numbers: new Map(),
    naming: null,
    position: begin,
    again: log.filter(({ bytes }) => bytes.length > 0),
    fresh: true,
    now: {
      ready: [],
      due: false,
      checkpoint: begin,
      holdSeq: seqHeld(places),
      checkpointMs: uptimeMs(state),
      segments: 0,
      points: 0,
      outside: 0,
      decided: [],
      saved: loaded ? (row?.saved ?? null) : null,
      logRows: log.length,
      logBytes: log.reduce((sum, { bytes }) => sum + logRowBytes + bytes.length, 0),
    },
    work: null,
    warned: new Map(),
    failed: false,
    why: '',
    taken: new Uint8Array(512),
    leaving: null,
  }
  // A damaged state stays where it is until all is stepped again: a crash before that begins anew once more.
  if (loaded || (row !== undefined && begin < cursor.backlog)) keep(attached)
  else saveCheckpoint(state, attached)
  return attached
}
