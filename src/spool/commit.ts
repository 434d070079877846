/**
 * A commit window becomes one transaction: points into the journal or, when they make a segment, sealed at once; kept
 * values and losses along with them.
 *
 * Invariants: after `stored` everything is flushed to disk; after `full` nothing of it is stored, in
 * memory or on disk.
 */
import { encodeJournal } from '../codec/journal.ts'
import { Failure, isFailure } from '../errors.ts'
import { keptBytesMax, segmentPointsMax } from '../limits.ts'
import type { Intake, Kept, Loss } from '../model.ts'
import { recordLosses } from './gaps.ts'
import { keepSample } from './quarantine.ts'
import { makeRoom, type Room, requireRoom } from './room.ts'
import { pointsMaxOf, sealOpen, segmentTextCostMax } from './seal.ts'
import { saveSeries } from './series-rows.ts'
import { keyOf, type LaneState, laneNamed, type SpoolState } from './state.ts'
import { addWaiting } from './waiting.ts'
import { write } from './write.ts'

/** Intakes of one lane, in order. */
export interface Handed {
  readonly lane: string
  readonly intakes: readonly Intake[]
  /** Its open segment is due: seal what is there with this commit. */
  readonly seal: boolean
}
export type CommitResult =
  | { readonly kind: 'stored' }
  | { readonly kind: 'full'; readonly reason: string }

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

/** New entries of the dictionary since `from`, and their series. */
export const saveDictionary = (state: SpoolState, from: number): number => {
  const entries = state.dictionary.entries(from)
  entries.forEach((entry, at) => {
    saveSeries(state, entry)
    state
      .sql('INSERT INTO dictionary VALUES (?, ?)')
      .run(state.ordinal * 2 ** 24 + from + at, entry.id)
  })
  return entries.length * 96
}

/**
 * So large a window makes a good segment by itself: journalled first, its points would be encoded twice, and
 * once in the journal's order, which costs twice as much.
 */
const sealAtOncePoints = segmentPointsMax / 2

/** Appends to the open columns, then journals or seals. Returns the bytes written. */
const storePoints = (state: SpoolState, lane: LaneState, handed: Handed): number => {
  const start = lane.open.count()
  const bytesBefore = lane.now.bytes
  let bytesWaiting = 0
  const waiting = handed.intakes.filter((intake) => intake.timeBase === 'monotonic')
  if (waiting.length > 0) bytesWaiting = addWaiting(state, lane, waiting)
  for (const intake of handed.intakes) {
    if (intake.timeBase !== 'monotonic') lane.open.append(intake.points, state.dictionary.ofRefs)
  }
  const end = lane.open.count()
  const full = end >= pointsMaxOf(lane) || lane.open.textBytes() >= segmentTextCostMax
  const all = handed.seal || end - start >= sealAtOncePoints
  let from = start
  if (end > 0 && (full || all)) {
    sealOpen(state, lane, all)
    from = 0
  }
  const rest = lane.open.count()
  if (rest === from) return bytesWaiting + lane.now.bytes - bytesBefore
  const bytes = encodeJournal(lane.open.slice(from, rest))
  state
    .sql('INSERT INTO journal VALUES (?, ?, ?, ?)')
    .run(keyOf(lane.id, state.now.commitNumber), state.ordinal, rest - from, bytes)
  state.bytesWritten += bytes.length
  return bytesWaiting + bytes.length + lane.now.bytes - bytesBefore
}

const lossesOf = (intakes: readonly Intake[]): readonly Loss[] =>
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
    if (laneNamed(state, lane).options === null) {
      throw new Failure('HF-S010', `lane "${lane}" is no longer configured`)
    }
  }
  const room: Room = { neededBytes: 0, reason: '' }
  for (let attempt = 0; attempt < 4; attempt++) {
    room.reason = ''
    try {
      write(state, 'write', () => store(state, windows, room))
      state.failpoint('before-ack')
      return { kind: 'stored' }
    } catch (error) {
      if (!isFailure(error, 'HF-S020')) throw error
      if (!makeRoom(state, windows, room)) break
    }
  }
  return { kind: 'full', reason: room.reason }
}
