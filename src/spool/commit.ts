/**
 * A commit window becomes one transaction: points into the journal or, when they make a segment, sealed at once; kept
 * values and losses along with them.
 *
 * Invariants: after `stored` everything is flushed to disk; after `full` nothing of it is stored, in
 * memory or on disk.
 */
import { encodeJournal } from '../codec/journal.ts'
import { Failure } from '../errors.ts'
import { keptBytesMax, segmentPointsMax } from '../limits.ts'
import type { GapReason, Intake, Kept, Loss } from '../model.ts'
import { endContracts } from './contracts.ts'
import { sealCopies } from './copies.ts'
import { recordLosses } from './gaps.ts'
import { keepSample } from './quarantine.ts'
import { type CommitResult, type Room, requireRoom, writeWithRoom } from './room.ts'
import { pointsMaxOf, sealOpen, segmentTextCostMax } from './seal.ts'
import { saveDictionary } from './series-rows.ts'
import { keyOf, type LaneState, laneNamed, type SpoolState } from './state.ts'
import { addWaiting } from './waiting.ts'

/** Intakes of one lane, in order. */
export interface Handed {
  readonly lane: string
  readonly intakes: readonly Intake[]
  /** Its open segment is due: seal what is there with this commit. */
  readonly seal: boolean
}
export const saveKept = (state: SpoolState, kept: readonly Kept[]): number => {
  let bytes = 0
  for (const { key, value } of kept) {
    if (value === null) {
      state.sql('DELETE FROM kept WHERE key = ?').run(key)
      continue
    }
    if (value.length > keptBytesMax) {
      throw new Failure('HF-S013', `kept value "${key}" has ${value.length} bytes`)
    }
    bytes += value.length + key.length
    state.sql('INSERT OR REPLACE INTO kept VALUES (?, ?)').run(key, value)
  }
  return bytes
}

/**
 * So large a window makes a good segment by itself: journalled first, its points would be encoded twice, and
 * once in the journal's order, which costs twice as much.
 */
const sealAtOncePoints = segmentPointsMax / 2

/** Appends to the open columns, then journals or seals. Returns the bytes written. */
const storePoints = (state: SpoolState, lane: LaneState, handed: Handed): number => {
  const start = lane.open.count()
  let bytesWaiting = 0
  const waiting = handed.intakes.filter((intake) => intake.timeBase === 'monotonic')
  if (waiting.length > 0) bytesWaiting = addWaiting(state, lane, waiting)
  let bytesCopied = 0
  for (const { points, copyOf, timeBase } of handed.intakes) {
    if (copyOf !== undefined) bytesCopied += sealCopies(state, lane, points, copyOf)
    else if (timeBase !== 'monotonic') lane.open.append(points, state.dictionary.ofRefs)
  }
  endContracts(state, lane, start)
  return bytesCopied + bytesWaiting + journalOrSeal(state, lane, start, handed.seal)
}

/** Inside a transaction: the open columns' points from `start` on become durable. Returns the bytes written. */
export const journalOrSeal = (
  state: SpoolState,
  lane: LaneState,
  start: number,
  seal: boolean,
): number => {
  const bytesBefore = lane.now.bytes
  const end = lane.open.count()
  const full = end >= pointsMaxOf(lane) || lane.open.textBytes() >= segmentTextCostMax
  const all = seal || end - start >= sealAtOncePoints
  let from = start
  if (end > 0 && (full || all)) {
    sealOpen(state, lane, all)
    from = 0
  }
  const rest = lane.open.count()
  if (rest === from) return lane.now.bytes - bytesBefore
  const bytes = encodeJournal(lane.open.slice(from, rest))
  state
    .sql('INSERT INTO journal VALUES (?, ?, ?, ?)')
    .run(keyOf(lane.id, state.now.commitNumber), state.ordinal, rest - from, bytes)
  state.bytesWritten += bytes.length
  return bytes.length + lane.now.bytes - bytesBefore
}

const lossesOf = (intakes: readonly Intake[]): readonly Loss<GapReason>[] =>
  intakes.flatMap((intake) => intake.losses ?? [])

const store = (state: SpoolState, windows: readonly Handed[], room: Room) => {
  const known = state.dictionary.length()
  state.now = { ...state.now, commitNumber: state.now.commitNumber + 1 }
  let bytes = 0
  for (const handed of windows) {
    const lane = laneNamed(state, handed.lane)
    bytes += storePoints(state, lane, handed)
    const losses = lossesOf(handed.intakes)
    if (losses.length > 0) recordLosses(state, lane, losses)
    for (const loss of losses) if (loss.sample !== undefined) keepSample(state, lane, loss)
    for (const intake of handed.intakes) bytes += saveKept(state, intake.kept ?? [])
  }
  bytes += saveDictionary(state, known)
  requireRoom(state, room, bytes)
}

/** One transaction for all windows. Makes room as the lanes' policy allows; never blocks. */
export const commitWindows = (state: SpoolState, windows: readonly Handed[]): CommitResult => {
  for (const { lane } of windows) {
    const { options } = laneNamed(state, lane)
    if (options === null) {
      throw new Failure('HF-S010', `lane "${lane}" is no longer configured`)
    }
    if (options.derived === true && options.copies !== true) {
      throw new Failure('HF-S017', `lane "${lane}" is written by a stage alone`)
    }
  }
  const result = writeWithRoom(state, windows, (room) => store(state, windows, room))
  if (result.kind === 'stored') state.failpoint('before-ack')
  return result
}
