/**
 * The turns of stages: what was sealed is read, stepped and what comes of it stored, a bounded piece at a time.
 *
 * Invariants: a turn's output, cursor and books are one transaction; what is stepped again after a restart gives
 * nothing out twice; a segment is decoded once a turn for all stages of its lane; a stage that throws rests, and holds
 * up nobody else.
 */
import { isFailure, textOf } from '../errors.ts'
import { spoolReserveBytes } from '../limits.ts'
import type { LaneItem, PointBatch, Seq } from '../model.ts'
import { quarantineSegment } from './quarantine.ts'
import { readItems } from './read.ts'
import { type Room, releasePassed, requireRoom, writeWithRoom } from './room.ts'
import { asked, rawFor, rest, withPoints } from './stage-calls.ts'
import { endOf, giveWay, isLeaving, takeOvers } from './stage-changes.ts'
import { nameAhead } from './stage-names.ts'
import { storeStages } from './stage-output.ts'
import { goOn, redo, type Share, settle, stagesOf, step, tickOne, wake } from './stage-work.ts'
import { catchesUp, cursorOf, holdsMore, type StageNow, type StageState } from './stages.ts'
import { alive, keyOf, type LaneState, type SpoolState, throwFatal, uptimeMs } from './state.ts'

/** Whether there is more to do now, nothing, or no room for what was given out. */
export type Turn = 'more' | 'done' | 'full'

/**
 * About 10 ms of decoding and stepping, and as much again where a stage goes on with what it began: so long an ack may
 * wait, and besides for the transaction of what was given out (`bench -- reduce`: `wear_…_hold_ms_max`).
 */
const turnPointsMax = 60_000
const turnBytesMax = 256 * 1024
/** More than lies between two checkpoints; only a state that begins anew takes longer. */
const catchUpTurnsMax = 128
/** A restart steps again at most about this much. */
const checkpointSegmentsMax = 1_024
const checkpointPointsMax = 4_000_000
/** A state is saved about as often as it is small: 8 KiB/s, which a card bears for years. */
const checkpointMsMin = 60_000
const checkpointMsMax = 900_000
const savedBytesPerMs = 8
/** And a log is never much longer than the state it saves from being written. */
const logBytesMin = 256 * 1024

/** A stage has something to read here, or something to store. */
export const isUnderived = (state: SpoolState, lane: LaneState): boolean =>
  stagesOf(state, lane).some(
    (one) =>
      one.fresh ||
      one.work !== null ||
      isLeaving(one) ||
      one.position < lane.now.head ||
      one.now.ready.length > 0,
  )
/** All that is sealed is read: what is left is for the clock. */
export const mayTick = (state: SpoolState, lane: LaneState): boolean =>
  stagesOf(state, lane).length > 0 && !isUnderived(state, lane)

/** Null when the bytes or their dictionary are damaged: their place is then a tombstone. */
const opened = (state: SpoolState, stage: StageState, item: LaneItem): PointBatch | null => {
  if (item.type === 'tombstone') return null
  try {
    return stage.feed.open(item)
  } catch (error) {
    throwFatal(state, error)
    quarantineSegment(state, stage.lane, item.seq, 'damaged', textOf(error))
    return null
  }
}

const readOn = (state: SpoolState, lane: LaneState, all: readonly StageState[], share: Share) => {
  const stages = all.filter((one) => one.position < endOf(one))
  if (stages.length === 0) return
  const from = Math.min(...stages.map((one) => one.position))
  for (const item of readItems(state, lane, from, turnBytesMax)) {
    const seqLast = item.type === 'segment' ? item.seq : item.seqLast
    const here = stages.filter(
      (one) => !one.failed && one.work === null && one.position < seqLast && item.seq <= endOf(one),
    )
    const [first] = here
    if (first === undefined) continue
    const batch = opened(state, first, item)
    for (const one of here) {
      const passed = () => {
        one.position = seqLast
        redo(state, one)
        wake(state, one)
      }
      if (batch === null) passed()
      else step(state, one, item.seq, batch, passed)
      goOn(state, one, share)
    }
    share.points -= batch?.count ?? 0
    if (share.points <= 0 || here.some((one) => one.work !== null)) return
  }
}

const savedBytes = ({ saved }: StageNow): number => saved?.bytes ?? 0
const checkpointEveryMs = (now: StageNow): number =>
  Math.min(checkpointMsMax, Math.max(checkpointMsMin, savedBytes(now) / savedBytesPerMs))
const isDue = (state: SpoolState, { now }: StageState): boolean =>
  now.due ||
  now.segments >= checkpointSegmentsMax ||
  now.points >= checkpointPointsMax ||
  now.logBytes >= Math.max(logBytesMin, savedBytes(now)) ||
  ((now.segments > 0 || now.logRows > 0) &&
    uptimeMs(state) - now.checkpointMs >= checkpointEveryMs(now))

/** What was given out, cursors and checkpoints that are due, in one transaction. */
const store = (state: SpoolState, all: readonly StageState[], atOnce = false): Turn => {
  const stages = all.filter((one) => one.work === null)
  for (const one of stages) {
    asked(state, one, () => one.hold.move(one.stage.holdFromUs(), one.position))
    if (isDue(state, one)) one.now = { ...one.now, due: true }
  }
  const changed = stages.filter(
    (one) =>
      !one.failed &&
      (one.position > cursorOf(one) ||
        one.now.ready.length > 0 ||
        one.now.due ||
        one.now.decided.length > 0 ||
        holdsMore(one)),
  )
  if (changed.length === 0) return 'done'
  if (!atOnce && changed.some((one) => nameAhead(state, one))) return 'done'
  const lanes = new Set(changed.flatMap(({ now }) => now.ready.map(({ lane }) => lane)))
  const asking = [...lanes].map((lane) => ({ lane }))
  try {
    const storeInto = (room: Room, attempt: number) => {
      if (attempt > 0) for (const one of changed) one.now = { ...one.now, due: true }
      const { neededBytes } = room
      const bytes = storeStages(state, changed, () => {
        if (attempt > 0) releasePassed(state, neededBytes)
      })
      // A spool full of what stages have still to read goes on: what they give out lets more of it go.
      const reserveBytes = attempt > 0 ? spoolReserveBytes / 2 : spoolReserveBytes
      if (bytes > 0) requireRoom(state, room, bytes, reserveBytes)
    }
    const result = writeWithRoom(state, asking, storeInto, true)
    if (result.kind === 'stored') for (const one of changed) one.naming = null
    return result.kind === 'full' ? 'full' : 'done'
  } catch (error) {
    // A lane it may not write, a point without a time: its own fault alone, and no other stage's work is lost.
    if (!isFailure(error) || !ownFaults.includes(error.code)) throw error
    const [only] = changed
    if (changed.length === 1 && only !== undefined) rest(state, only, error)
    else for (const one of changed) store(state, [one], true)
    return 'done'
  }
}
const ownFaults = ['HF-S010', 'HF-S016', 'HF-S017']

/** One turn of every lane that stages read. */
export const derive = (state: SpoolState): Turn => {
  alive(state)
  let turn: Turn = 'done'
  for (const lane of new Set(state.stages.map((one) => one.lane))) {
    const stages = stagesOf(state, lane)
    if (!isUnderived(state, lane)) continue
    const share = { points: turnPointsMax }
    for (const one of stages) {
      goOn(state, one, share)
      if (one.work !== null || one.failed) continue
      redo(state, one)
      wake(state, one)
      goOn(state, one, share)
    }
    // One that has much to do holds up no other.
    const idle = stages.filter((one) => one.work === null && !one.failed)
    if (!idle.some(({ now }) => now.ready.length > 0))
      readOn(state, lane, idle, { points: turnPointsMax })
    for (const one of stages) giveWay(state, one)
    const result = store(state, stages)
    if (result === 'full' || !takeOvers(state, lane)) turn = 'full'
    else if (turn === 'done' && isUnderived(state, lane)) turn = 'more'
  }
  return turn
}

/** The clock says so late it is: what no point closed, it may close. Its output is saved with a checkpoint. */
export const tick = (state: SpoolState, nowUs: number): Turn => {
  alive(state)
  let turn: Turn = 'done'
  for (const lane of new Set(state.stages.map((one) => one.lane))) {
    const stages = stagesOf(state, lane).filter(
      (one) =>
        one.position === lane.now.head &&
        one.work === null &&
        !catchesUp(one) &&
        one.now.ready.length === 0,
    )
    const share = { points: turnPointsMax }
    for (const one of stages) {
      tickOne(state, one, nowUs, (derived) => {
        // An empty batch is no point, but a state that must be saved.
        if (derived.length === 0) return
        const bytes = one.now.saved === null ? undefined : one.stage.decided?.()
        if (bytes === undefined) one.now = { ...one.now, ready: withPoints(derived), due: true }
        else {
          const decided = [...one.now.decided, { seq: one.position, hold: null, bytes }]
          one.now = { ...one.now, ready: withPoints(derived), decided }
        }
      })
      goOn(state, one, share)
    }
    if (store(state, stages) === 'full') turn = 'full'
  }
  return turn
}

/** Before the spool closes: nothing need be stepped again at the next opening, but what is not done yet. */
export const checkpointAll = (state: SpoolState): void => {
  for (const one of state.stages) {
    const moved = one.now.segments > 0 || one.now.due || one.now.logRows > 0
    if (moved && !one.failed && one.work === null && one.again.length === 0)
      one.now = { ...one.now, due: true }
  }
  store(state, state.stages, true)
}

/** Before segments through `seq` go on purpose: what a restart left to step again of them is stepped while it can. */
export const catchUp = (state: SpoolState, lane: LaneState, seq: Seq): void => {
  const behind = () =>
    stagesOf(state, lane).filter((one) => one.position < Math.min(seq, cursorOf(one)))
  for (const one of stagesOf(state, lane)) {
    settle(state, one)
    redo(state, one)
  }
  for (let turns = 0; behind().length > 0; turns++) {
    if (turns === catchUpTurnsMax) {
      state.host.log.warn('stage_steps_missed', { lane: lane.name, seq })
      return
    }
    readOn(state, lane, behind(), { points: turnPointsMax })
    for (const one of stagesOf(state, lane)) settle(state, one)
  }
}

/**
 * The oldest segments of a lane, through this one, must make room: stages that may still ask for them give out what
 * they need them for. True when one did; it is stored with the next transaction of its stage.
 */
export const letGo = (state: SpoolState, lane: LaneState, through: Seq): boolean => {
  let any = false
  for (const one of stagesOf(state, lane)) {
    settle(state, one)
    if (one.failed || catchesUp(one) || one.hold.seq() > through) continue
    const last = Math.min(through, one.position)
    const beforeUs = endsUs(state, lane, last)
    const raw = rawFor(one, one.position)
    const derived = asked(state, one, () => {
      if (one.stage.holdFromUs() >= beforeUs) return undefined
      const given = one.stage.letGo(beforeUs, raw)
      one.hold.move(one.stage.holdFromUs(), one.position)
      return given
    })
    if (derived === undefined) continue
    one.now = { ...one.now, ready: [...one.now.ready, ...withPoints(derived)], due: true }
    any = true
  }
  return any
}
/** All segments through `seq` end before this. */
const endsUs = (state: SpoolState, lane: LaneState, seq: Seq): number =>
  ((state
    .sql('SELECT max(time_us_max) FROM segments WHERE key >= ? AND key <= ?')
    .pluck()
    .get(keyOf(lane.id, lane.now.floor), keyOf(lane.id, seq)) as number | null) ?? -1) + 1
