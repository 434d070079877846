/**
 * One transaction of the spool: what `work` changed in the file and in memory stands or falls together.
 *
 * Invariants: acks taken since are written along; the anchor is written after the commit, never before; on failure
 * memory is what it was; an I/O error or damage ends the spool (`state.dead`), a full disk does not.
 */

import { isFailure } from '../errors.ts'
import { saveReaderGaps } from './reader-gaps.ts'
import { trimPassed } from './retention.ts'
import { rowCrc } from './schema.ts'
import {
  acceptedOf,
  alive,
  asFailure,
  die,
  isFatal,
  type LaneState,
  pendingOf,
  type SpoolState,
  uptimeMs,
} from './state.ts'

type AnchorNeed = 'none' | 'write' | 'sync'
const commitSamples = 1_024

const snapshot = (state: SpoolState) => {
  const totals = state.now
  const dictionary = state.dictionary.length()
  const { ending } = state
  const lanes = [...state.lanes.values()].map((lane) => ({
    lane,
    now: lane.now,
    open: lane.open,
    openCount: lane.open.count(),
    spare: lane.spare,
    heldAtMs: lane.heldAtMs,
    readers: [...lane.readers.values()].map((reader) => ({ reader, now: reader.now })),
  }))
  const stages = state.stages.map((stage) => ({ stage, now: stage.now }))
  return {
    lanes,
    sealNumber: totals.sealNumber,
    restore: () => {
      state.now = totals
      state.dictionary.truncate(dictionary)
      state.ending = ending
      for (const { stage, now } of stages) {
        stage.now = now
        stage.numbers.clear()
      }
      for (const was of lanes) {
        was.lane.now = was.now
        was.lane.open = was.open
        was.lane.open.truncate(was.openCount)
        was.lane.spare = was.spare
        was.lane.heldAtMs = was.heldAtMs
        was.lane.readers.clear()
        for (const { reader, now } of was.readers) {
          reader.now = now
          was.lane.readers.set(reader.name, reader)
        }
      }
    },
  }
}

const saveLane = (state: SpoolState, lane: LaneState) => {
  const { head, floor, hash, accepted, bytes, waiting } = lane.now
  const { sealNumber, commitNumber } = state.now
  const { id, name } = lane
  const values = [
    ...[id, name, head, floor, hash, accepted, bytes, waiting, sealNumber, commitNumber],
    ...[uptimeMs(state), state.lastWallUs],
  ]
  state
    .sql('INSERT OR REPLACE INTO lanes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)')
    .run(...values, rowCrc(values))
}

const saveReaders = (state: SpoolState, lane: LaneState) => {
  for (const reader of lane.readers.values()) {
    if (reader.saved === reader.now) continue
    saveReaderGaps(state, lane, reader)
    const { backlog, live, delivered, lost, reduced, start, acceptedBefore } = reader.now
    const values = [
      ...[lane.id, reader.name, backlog, live?.start ?? null, live?.upTo ?? null],
      ...[delivered, lost, reduced, start, acceptedBefore],
    ]
    state
      .sql('INSERT OR REPLACE INTO cursors VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)')
      .run(...values, rowCrc(values))
  }
}

const writeAnchor = (state: SpoolState, need: AnchorNeed) => {
  if (need === 'none') return
  state.anchor.write({
    spoolId: state.spoolId,
    epoch: state.epoch,
    commitNumber: state.now.commitNumber,
    lanes: [...state.lanes.values()].map((lane) => ({
      lane: lane.id,
      accepted: acceptedOf(lane),
      pending: [...lane.readers.values()].reduce(
        (most, reader) => Math.max(most, pendingOf(lane, reader.now)),
        lane.readers.size === 0 ? acceptedOf(lane) : 0,
      ),
    })),
  })
  if (need === 'sync') state.anchor.sync()
}

const rollBack = (state: SpoolState) => {
  try {
    if (state.db.inTransaction) state.sql('ROLLBACK').run()
  } catch {
    // SQLite has rolled back by itself, or the disk is gone and the first error tells it.
  }
}

/** Throws a Failure: HF-S020 (no room, nothing changed), HF-S074 and others that end the spool. */
export const write = <T>(state: SpoolState, anchor: AnchorNeed, work: () => T): T => {
  alive(state)
  const before = snapshot(state)
  const startedMs = state.host.clock.monotonicMs()
  let result: T
  try {
    state.sql('BEGIN IMMEDIATE').run()
    result = work()
    trimPassed(state)
    for (const was of before.lanes) {
      if (was.lane.now !== was.now) saveLane(state, was.lane)
      saveReaders(state, was.lane)
    }
    state.failpoint('before-commit')
    state.sql('COMMIT').run()
  } catch (error) {
    rollBack(state)
    before.restore()
    const failure = asFailure(state, error)
    throw isFatal(failure) ? die(state, failure) : failure
  }
  for (const lane of state.lanes.values()) {
    for (const reader of lane.readers.values()) reader.saved = reader.now
  }
  state.commitMs[state.commits % commitSamples] = state.host.clock.monotonicMs() - startedMs
  state.commits++
  state.failpoint('after-commit')
  try {
    // A seal is worth a flush of its own, wherever it happened.
    const sealed = state.now.sealNumber !== before.sealNumber
    writeAnchor(state, sealed ? 'sync' : anchor)
  } catch (error) {
    const failure = asFailure(state, error)
    // An anchor that lags behind the database is only less sharp; one that met a failing disk says what comes next.
    if (!isFailure(failure, 'HF-S020')) throw isFailure(failure) ? die(state, failure) : failure
  }
  state.failpoint('after-anchor')
  return result
}
