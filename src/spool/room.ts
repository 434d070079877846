/**
 * Quota, free-disk floor and what happens at them.
 *
 * Invariants: inserts stop `spoolReserveBytes` short of the quota, which only gaps, cursors and seals may use; held
 * segments that everyone has passed go first, then samples of the quarantine, then a `drop_oldest` lane loses its
 * oldest, never a `block` lane.
 */
import { existsSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { Failure, isFailure } from '../errors.ts'
import { spoolReserveBytes } from '../limits.ts'
import { segmentsToGaps } from './gaps.ts'
import { shedSamples } from './quarantine.ts'
import { passedByAll, segmentRows, trimLane } from './retention.ts'
import { type LaneState, laneNamed, type SpoolState, seqOf } from './state.ts'
import { dropWaiting } from './waiting.ts'
import { write } from './write.ts'

export const pageBytes = 4_096
/** SQLite's own stop, far behind ours. Never below what an empty spool needs. */
export const pagesMax = (bytesMax: number): number =>
  Math.max(256, Math.floor(bytesMax / pageBytes))
/** What the last attempt lacked. */
export interface Room {
  neededBytes: number
  reason: string
}
const slackBytes = 64 * 1024
/** One event of dropping frees at least this share of the quota, so that tombstones stay few. */
const dropShare = 1 / 128

const pages = (state: SpoolState): { readonly file: number; readonly used: number } => {
  const file = state.sql('PRAGMA page_count').pluck().get() as number
  return { file, used: file - (state.sql('PRAGMA freelist_count').pluck().get() as number) }
}
export const bytesUsed = (state: SpoolState): number => pages(state).used * pageBytes

/** While the ballast is gone its room belongs to the write-ahead log: the file may not grow into it. */
const growthFloor = ({ ballast, path, options }: SpoolState): number =>
  options.diskFreeBytesMin + (ballast || path === '' ? 0 : 2 * ballastBytes)

/** Inside a transaction, after its inserts: throws HF-S020 when they may not stand. */
export const requireRoom = (state: SpoolState, room: Room, bytes: number): void => {
  const { file, used } = pages(state)
  room.neededBytes = bytes + slackBytes
  const over = used * pageBytes - (state.options.bytesMax - spoolReserveBytes)
  if (over > 0) {
    room.reason = 'quota'
    room.neededBytes = over + slackBytes
    throw new Failure('HF-S020', 'the spool is at its quota')
  }
  // Used pages, not the file's: what a seal added unasked counts against the next commit, what a trim freed for it.
  if (used <= state.pagesGranted) return
  if (state.diskFreeBytes() < growthFloor(state)) {
    room.reason = 'disk'
    throw new Failure('HF-S020', 'the disk is at its free-space floor')
  }
  state.pagesGranted = file
}

const releaseHold = (state: SpoolState, bytes: number): boolean => {
  let freed = 0
  for (const lane of state.lanes.values()) {
    const passed = passedByAll(lane)
    while (freed < bytes && passed >= lane.now.floor) freed += trimLane(state, lane, passed)
  }
  return freed > 0
}

/** Inside a transaction: the oldest unpassed segments of the lane, at least `bytes` of them if there are. */
const dropOldest = (state: SpoolState, lane: LaneState, bytes: number): boolean => {
  let freed = 0
  while (freed < bytes) {
    const rows = segmentRows(state, lane, lane.now.floor, lane.now.head, 64)
    const first = rows[0]
    if (first === undefined) return freed + dropWaiting(state, lane, bytes - freed) > 0
    let size = 0
    let last = seqOf(first.key)
    for (const row of rows) {
      if (freed + size >= bytes) break
      size += row.size
      last = seqOf(row.key)
    }
    freed += segmentsToGaps(state, lane, lane.now.floor, last, 'quota')
  }
  return freed > 0
}

/** Makes room as the lanes that asked allow; false when only readers, or a person, can. */
export const makeRoom = (
  state: SpoolState,
  asking: readonly { readonly lane: string }[],
  room: Room,
): boolean => {
  if (room.reason === '') {
    // SQLite itself found the disk full: its log needs room before anything can be deleted.
    room.reason = 'disk'
    dropBallast(state)
  }
  const bytes = Math.max(room.neededBytes, slackBytes)
  const lanes = asking.map(({ lane }) => laneNamed(state, lane))
  const mayDrop = lanes.every((lane) => lane.options?.policy === 'drop_oldest')
  try {
    return write(state, 'write', () => {
      if (releaseHold(state, bytes)) return true
      if (shedSamples(state, bytes) > 0) return true
      if (!mayDrop) return false
      const drop = Math.max(bytes, Math.floor(bytesUsed(state) * dropShare))
      const others = [...state.lanes.values()].filter(
        (lane) => !lanes.includes(lane) && lane.options?.policy === 'drop_oldest',
      )
      return [...lanes, ...others].some((lane) => dropOldest(state, lane, drop))
    })
  } catch (error) {
    if (!isFailure(error, 'HF-S020')) throw error
    dropBallast(state)
    return false
  }
}

/** Larger than the write-ahead log's cap: deleting it lets a full disk delete again. */
export const ballastBytes = 4 * 1024 * 1024
export const ballastPath = (path: string): string => `${path}-ballast`

const dropBallast = (state: SpoolState) => {
  if (!state.ballast) return
  state.ballast = false
  rmSync(ballastPath(state.path), { force: true })
}

/** Makes the ballast where it is missing and the disk has plenty; without it the spool only lacks its last resort. */
export const prepareBallast = (state: SpoolState): void => {
  if (state.ballast || state.path === '') return
  const path = ballastPath(state.path)
  const enough = existsSync(path) && statSync(path).size === ballastBytes
  const room = state.diskFreeBytes() > growthFloor(state)
  try {
    if (!enough && room) writeFileSync(path, Buffer.alloc(ballastBytes), { flush: true })
    state.ballast = enough || room
  } catch {
    rmSync(path, { force: true })
  }
}
