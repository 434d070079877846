/**
 * What stages give out, into the open segments of their lanes, together with the cursors it belongs to.
 *
 * Invariants: a lane gets at most one journal row a transaction; a series' id follows from its agent, name and tags,
 * whatever the stage says; a failed transaction leaves nothing of it, in memory or on disk, and `ready` as it was.
 */
import { Failure } from '../errors.ts'
import type { Derived, Seq } from '../model.ts'
import type { Renumber } from './columns.ts'
import { journalOrSeal } from './commit.ts'
import { book } from './readers.ts'
import { saveDictionary } from './series-rows.ts'
import { isLeaving } from './stage-changes.ts'
import { fullEntry, isNamed, nameIt, numbersFor } from './stage-names.ts'
import { cursorOf, keep, type StageState, saveCheckpoint, saveLog } from './stages.ts'
import { type LaneState, laneNamed, readerNamed, type SpoolState } from './state.ts'

/** The stage's own numbers into the epoch's. */
const renumbering =
  (state: SpoolState, one: StageState, { lane, entry, points }: Derived): Renumber =>
  (source, into) => {
    let map = numbersFor(one, lane, 0)
    source.forEach((series, at) => {
      if (series >= map.length) map = numbersFor(one, lane, series)
      if (!isNamed(map, series)) {
        const timeUs = points.timeUs[at] as number
        nameIt(state, map, series, { ...fullEntry(state, entry(series)), timeUs })
      }
      into[at] = map[series] as number
    })
  }

/** Inside a transaction: what waits in `ready` goes into its lanes. Returns the bytes. */
const append = (state: SpoolState, stages: readonly StageState[]): number => {
  const known = state.dictionary.length()
  const starts = new Map<LaneState, number>()
  for (const one of stages) {
    for (const derived of one.now.ready) {
      const lane = laneNamed(state, derived.lane)
      // What it wrote by an earlier configuration may be nobody's now, or even a source's.
      if (lane.options?.derived !== true && !isLeaving(one)) {
        const text = `stage "${one.reader}" writes lane "${lane.name}", which is not derived`
        throw new Failure('HF-S017', text)
      }
      if (!starts.has(lane)) starts.set(lane, lane.open.count())
      lane.open.append(derived.points, renumbering(state, one, derived))
    }
    one.now = { ...one.now, ready: [] }
  }
  let bytes = 0
  for (const [lane, start] of starts) bytes += journalOrSeal(state, lane, start, false)
  return bytes + saveDictionary(state, known)
}

/** The cursor moves to where the state stands, and the books with it. */
const advance = (state: SpoolState, one: StageState) => {
  const reader = readerNamed(one.lane, one.reader)
  const { backlog, delivered, lost, reduced, acceptedBefore } = reader.now
  const { outside } = one.now
  const given = one.stage.passesPoints
    ? one.now.ready.reduce((sum, { points }) => sum + points.count, 0)
    : 0
  if (given === 0 && one.position <= backlog) return
  const read = book(state, one.lane, backlog, Math.max(backlog, one.position))
  reader.now = {
    ...reader.now,
    backlog: Math.max(backlog, one.position),
    delivered: delivered + given,
    reduced: reduced + read.points - outside - given,
    lost: lost + read.lost,
    acceptedBefore: acceptedBefore + outside,
  }
  one.now = { ...one.now, outside: 0 }
}

/**
 * Inside a transaction: output, cursors and books of these stages, and the checkpoints that are due. `passed` runs
 * once the cursors stand and before anything is appended: what they have passed may make the room for it. Returns the
 * bytes appended.
 */
export const storeStages = (
  state: SpoolState,
  stages: readonly StageState[],
  passed = () => {},
): number => {
  state.now = { ...state.now, commitNumber: state.now.commitNumber + 1 }
  for (const one of stages) {
    advance(state, one)
    if (one.now.due) saveCheckpoint(state, one)
    else saveLog(state, one)
    keep(one)
  }
  passed()
  return append(state, stages)
}

/**
 * Inside a transaction: segments of the lane are about to go that a restart would step again. Their part in what was
 * given out is saved (`catchUp` has been there before).
 */
export const checkpointBefore = (state: SpoolState, lane: LaneState, seq: Seq): void => {
  const stages = state.stages.filter(
    (one) =>
      one.lane === lane &&
      !one.failed &&
      one.work === null &&
      one.now.checkpoint < seq &&
      one.position >= Math.min(seq, cursorOf(one)),
  )
  for (const one of stages) one.now = { ...one.now, due: true }
  if (stages.length > 0) storeStages(state, stages)
}
