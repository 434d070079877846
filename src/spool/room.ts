/**
 * Quota, free-disk floor and what happens at them.
 *
 * Invariants: inserts stop `spoolReserveBytes` short of the quota, which only gaps, cursors and seals may use; held
 * segments that everyone has passed go first, then samples of the quarantine, then what a stage would step again after
 * a restart (it is saved first), then what open windows hold (they are given out first, as partial), then a
 * `drop_oldest` lane loses its oldest, never a `block` lane.
 */
import { existsSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { Failure, isFailure } from '../errors.ts'
import { spoolReserveBytes } from '../limits.ts'
import type { Seq } from '../model.ts'
import { catchUp, letGo } from './derive.ts'
import { segmentsToGaps } from './gaps.ts'
import { shedSamples } from './quarantine.ts'
import { passedByAll, passedByReaders, segmentRows, trimLane } from './retention.ts'
import { checkpointBefore, storeStages } from './stage-output.ts'
import { stagesOf } from './stage-work.ts'
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
const attemptsMax = 4
const oldestRowsMax = 256
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
export const requireRoom = (
  state: SpoolState,
  room: Room,
  bytes: number,
  reserveBytes = spoolReserveBytes,
): void => {
  const { file, used } = pages(state)
  room.neededBytes = bytes + slackBytes
  const over = used * pageBytes - (state.options.bytesMax - reserveBytes)
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

/** Inside a transaction: what everyone has passed goes though its hold is not over, at least `bytes` if there are. */
export const releasePassed = (state: SpoolState, bytes: number): boolean => {
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

/** One way of making room; false when there was none, or not even room for that. */
const attempt = (state: SpoolState, work: () => boolean): boolean => {
  try {
    return write(state, 'write', work)
  } catch (error) {
    if (!isFailure(error, 'HF-S020')) throw error
    dropBallast(state)
    return false
  }
}

/** What only a restart would ask for, to step it again: once states are saved it need not. */
const releaseStepped = (state: SpoolState, lane: LaneState, bytes: number): boolean => {
  const stages = stagesOf(state, lane)
  const held = stages.map(({ hold }) => hold.seq() - 1)
  const last = Math.min(passedByReaders(lane), ...held)
  if (last < lane.now.floor || stages.every(({ now }) => now.checkpoint >= last)) return false
  return attempt(state, () => {
    checkpointBefore(state, lane, last)
    return releasePassed(state, bytes)
  })
}

/** What open windows hold of a lane's oldest segments up to `last`: they are given out as they are. */
const releaseWindows = (state: SpoolState, lane: LaneState, last: Seq, bytes: number): boolean => {
  if (last < lane.now.floor) return false
  if (!letGo(state, lane, oldestThrough(state, lane, last, bytes))) return false
  return attempt(state, () => {
    storeStages(state, stagesOf(state, lane))
    return releasePassed(state, bytes)
  })
}

/** The last of the lane's oldest segments, none above `last`, that hold so many bytes. */
const oldestThrough = (state: SpoolState, lane: LaneState, last: Seq, bytes: number): Seq => {
  let size = 0
  for (const row of segmentRows(state, lane, lane.now.floor, last, oldestRowsMax)) {
    size += row.size
    if (size >= bytes) return seqOf(row.key)
  }
  return last
}

/** Makes room as the lanes that asked allow; false when only readers, or a person, can. */
const makeRoom = (
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
  const drops = (lane: LaneState) => lane.options?.policy === 'drop_oldest'
  const mayDrop = lanes.length > 0 && lanes.every(drops)
  const others = [...state.lanes.values()].filter((lane) => !lanes.includes(lane) && drops(lane))
  const droppable = mayDrop ? [...lanes, ...others] : []
  if (attempt(state, () => releasePassed(state, bytes) || shedSamples(state, bytes) > 0))
    return true
  for (const lane of state.lanes.values()) {
    if (releaseStepped(state, lane, bytes)) return true
    if (releaseWindows(state, lane, passedByReaders(lane), bytes)) return true
  }
  const drop = Math.max(bytes, Math.floor(bytesUsed(state) * dropShare))
  for (const lane of droppable) {
    const last = oldestThrough(state, lane, lane.now.head, drop)
    catchUp(state, lane, last)
    if (releaseWindows(state, lane, last, drop)) return true
    const dropped = () => dropOldest(state, lane, drop)
    const saved = () => {
      checkpointBefore(state, lane, last)
      return dropped()
    }
    if (attempt(state, saved) || attempt(state, dropped)) return true
  }
  return false
}

export type CommitResult =
  | { readonly kind: 'stored' }
  | { readonly kind: 'full'; readonly reason: string }

/**
 * One transaction; when it finds no room, room is made as the lanes that ask allow, and it is tried again.
 * `helpsItself`: from the second attempt on `store` lets go of something itself, and is asked to before others are.
 */
export const writeWithRoom = (
  state: SpoolState,
  asking: readonly { readonly lane: string }[],
  store: (room: Room, attempt: number) => void,
  helpsItself = false,
): CommitResult => {
  const room: Room = { neededBytes: 0, reason: '' }
  for (let attempt = 0; attempt < attemptsMax; attempt++) {
    room.reason = ''
    try {
      write(state, 'write', () => store(room, attempt))
      return { kind: 'stored' }
    } catch (error) {
      if (!isFailure(error, 'HF-S020')) throw error
      if (helpsItself && attempt === 0) continue
      if (!makeRoom(state, asking, room)) break
    }
  }
  return { kind: 'full', reason: room.reason }
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
    if (!enough && room) {
      // Made anew, as everything here that is written by its name: a link is replaced, not followed.
      rmSync(path, { force: true })
      writeFileSync(path, Buffer.alloc(ballastBytes), { flag: 'wx', flush: true })
    }
    state.ballast = enough || room
  } catch {
    rmSync(path, { force: true })
  }
}
