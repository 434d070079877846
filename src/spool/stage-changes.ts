/**
 * How a stage begins, and how another configuration takes its place: what was accepted before goes its way by the
 * definition of then, which the file keeps, through the seq that was the head when the change came.
 *
 * Invariants: a stage that leaves reads nothing beyond that seq, which is kept: what is accepted while it still leaves
 * is for the next one, over whatever crashes and further changes (`Ending`); its last output, its cursor and its state
 * are one transaction, and only a later one lets the next definition stand in the file, so a crash anywhere goes on
 * with the leaving; one that fails, or finds no room, holds its lane until it can.
 */
import { crc32 } from 'node:zlib'
import { isFailure, textOf } from '../errors.ts'
import type { LaneId, Seq, Stage } from '../model.ts'
import { findEnding } from './contracts.ts'
import { sealOpen } from './seal.ts'
import { asked, rawFor, withPoints } from './stage-calls.ts'
import { createFeed, type Feed } from './stage-input.ts'
import { deleteStageRow, type StageRow, stageRows } from './stage-rows.ts'
import {
  attach,
  catchesUp,
  cursorOf,
  type Leaving,
  type LeavingEnd,
  type StageReader,
  type StageState,
} from './stages.ts'
import { type LaneState, laneNamed, laneOfId, pendingOf, type SpoolState } from './state.ts'
import { write } from './write.ts'

/** A stage as an earlier definition made it, told which one takes its place; null: none does. */
export type Remake = (definition: string, next: string | null) => Stage

type Sql = SpoolState['sql']
const keyOf = (lane: LaneId, reader: string) => `stage/${lane}/${reader}`

const endingsKey = (lane: LaneId, reader: string) => `${keyOf(lane, reader)}/endings`

/** Null where there is none, or none that can be believed. */
const textAt = (sql: Sql, key: string): string | null => {
  const value = sql('SELECT value FROM kept WHERE key = ?').pluck().get(key)
  const bytes = value as Buffer | undefined
  if (bytes === undefined || bytes.length < 4) return null
  const text = bytes.subarray(4)
  return crc32(text) === bytes.readUInt32LE(0) ? text.toString() : null
}
const saveText = (sql: Sql, key: string, saved: string): void => {
  const text = Buffer.from(saved)
  const crc = Buffer.alloc(4)
  crc.writeUInt32LE(crc32(text))
  const value = Buffer.concat([crc, text])
  sql('INSERT OR REPLACE INTO kept VALUES (?, ?)').run(key, value)
}
const definitionOf = (sql: Sql, lane: LaneId, reader: string) => textAt(sql, keyOf(lane, reader))
const saveDefinition = (sql: Sql, lane: LaneId, { reader, definition }: StageReader): void => {
  if (definition === undefined || definition === definitionOf(sql, lane, reader)) return
  saveText(sql, keyOf(lane, reader), definition)
}

/** A definition reads no further than this: what comes then is for the next; null: for nobody. */
interface Ending {
  readonly upTo: Seq
  readonly next: string | null
}
/** Changes that came while a stage was still leaving; of too many the middle ones count as part of those before. */
const endingsMax = 16
const endingsOf = (sql: Sql, lane: LaneId, reader: string): readonly Ending[] => {
  const text = textAt(sql, endingsKey(lane, reader))
  return text === null ? [] : JSON.parse(text)
}
const saveEndings = (sql: Sql, lane: LaneId, reader: string, endings: readonly Ending[]) => {
  const key = endingsKey(lane, reader)
  if (endings.length === 0) sql('DELETE FROM kept WHERE key = ?').run(key)
  else saveText(sql, key, JSON.stringify(endings))
}
/** Those known, and that of now: the definition in the file is the first that ends. */
const withEnding = (
  definition: string,
  known: readonly Ending[],
  now: Ending,
): readonly Ending[] => {
  // Nobody has read anything by the definition that stood in between: it never was.
  const before = known.at(-1)?.upTo === now.upTo ? known.slice(0, -1) : known
  const all = [...before, now].filter(
    ({ next }, at) => next !== (at === 0 ? definition : before[at - 1]?.next),
  )
  return all.length > endingsMax ? [...all.slice(0, endingsMax - 1), now] : all
}

/** Inside a transaction: nothing of it stays that would hold its lane. */
const detach = (state: SpoolState, lane: LaneState, reader: string): void => {
  deleteStageRow(state.sql, lane.id, reader)
  state.sql('DELETE FROM cursors WHERE lane = ? AND reader = ?').run(lane.id, reader)
  state.sql('DELETE FROM kept WHERE key = ?').run(keyOf(lane.id, reader))
  saveEndings(state.sql, lane.id, reader, [])
  lane.readers.delete(reader)
}

export const isLeaving = ({ leaving }: StageState): boolean => leaving !== null
/** The last seq it reads. */
export const endOf = ({ leaving }: StageState): Seq => leaving?.upTo ?? Number.MAX_SAFE_INTEGER

const hasRead = (one: StageState): boolean =>
  !one.failed && one.work === null && one.position >= endOf(one) && !one.fresh && !catchesUp(one)

/** What it owes, and what takes its place would not know of, is given out: once all before the change is read. */
export const giveWay = (state: SpoolState, one: StageState): void => {
  const { leaving } = one
  if (leaving === null || leaving.ended || !hasRead(one) || one.now.ready.length > 0) return
  const raw = rawFor(one, one.position)
  const derived = asked(state, one, () => one.stage.letGo(Number.POSITIVE_INFINITY, raw))
  if (derived === undefined) return
  one.leaving = { ...leaving, ended: true }
  one.now = { ...one.now, ready: withPoints(derived), due: true }
}

/** Inside a transaction: what comes after it reads on, from where it ended or from where it was put back. */
const follow = (state: SpoolState, one: StageState, leaving: Leaving): readonly StageState[] => {
  const { lane, reader, feed } = one
  const { next, further } = leaving
  const [after, ...rest] = further
  if (next !== null) {
    saveDefinition(state.sql, lane.id, next)
    saveEndings(state.sql, lane.id, reader, further.map(textOfEnding))
    const taken = attach(state, next, rowFor(state, lane, reader), feed)
    if (after !== undefined) taken.leaving = { ...after, ended: false, further: rest }
    return [taken]
  }
  detach(state, lane, reader)
  if (after === undefined || after.next === null) return []
  const back = { ...after.next, from: after.upTo }
  saveDefinition(state.sql, lane.id, back)
  saveEndings(state.sql, lane.id, reader, rest.map(textOfEnding))
  const taken = attach(state, back, undefined, feed)
  const [end, ...others] = rest
  if (end !== undefined) taken.leaving = { ...end, ended: false, further: others }
  return [taken]
}
const textOfEnding = ({ upTo, next }: LeavingEnd): Ending => ({
  upTo,
  next: next?.definition ?? null,
})
const takeOver = (state: SpoolState, one: StageState, leaving: Leaving): boolean => {
  const { lane, reader } = one
  const { next } = leaving
  const others = state.stages.filter((other) => other !== one)
  try {
    const taken = write(state, 'none', () => {
      // Whoever leaves its lanes is owed what is sealed now, after whatever crash.
      for (const one of state.lanes.values()) if (one.open.count() > 0) sealOpen(state, one, true)
      return follow(state, one, leaving)
    })
    state.stages.splice(0, state.stages.length, ...others, ...taken)
  } catch (error) {
    if (!isFailure(error, 'HF-S020')) throw error
    return false
  }
  const facts = { stage: reader, lane: lane.name, after: one.position }
  state.host.log.info(next === null ? 'stage_left' : 'stage_changed', facts)
  return true
}
const rowFor = (state: SpoolState, lane: LaneState, reader: string) =>
  stageRows(state.sql).find((row) => row.lane === lane.id && row.reader === reader)

/** Of this lane, those that have left; false where there was no room to say so. */
export const takeOvers = (state: SpoolState, lane: LaneState): boolean => {
  let room = true
  for (const one of state.stages.filter((other) => other.lane === lane)) {
    const { leaving, failed, now } = one
    if (leaving === null) continue
    const left = leaving.ended && hasRead(one) && now.ready.length === 0 && !now.due
    // What threw reads no further: the next one does, from where its cursor stands. Nobody else would.
    const gaveUp = failed && leaving.next !== null
    if (!gaveUp && !(left && one.position === cursorOf(one))) continue
    room = takeOver(state, one, leaving) && room
    if (room) findEnding(state)
  }
  return room
}

/** A stage of this definition, as it ends where `next` begins; null where nobody can make it. */
const made = (
  state: SpoolState,
  { lane: id, reader }: StageRow,
  definition: string,
  next: string | null,
  remake: Remake,
): StageReader | null => {
  const { name: lane } = laneOfId(state, id)
  try {
    return { reader, lane, stage: remake(definition, next), definition }
  } catch (error) {
    const facts = { stage: reader, lane, text: textOf(error) }
    state.host.log.error('stage_definition_refused', facts)
    return null
  }
}
/** Inside a transaction: the stage that has to leave before `next` stands here, and its way there; null: none has. */
const leaver = (
  state: SpoolState,
  row: StageRow,
  next: StageReader | undefined,
  remake: Remake | undefined,
): { readonly old: StageReader; readonly ends: readonly LeavingEnd[] } | null => {
  const { sql } = state
  const { lane: id, reader } = row
  const definition = definitionOf(sql, id, reader)
  if (remake === undefined || definition === null) return null
  const now = { upTo: laneOfId(state, id).now.head, next: next?.definition ?? null }
  const endings = withEnding(definition, endingsOf(sql, id, reader), now)
  const [first] = endings
  const old = first && made(state, row, definition, first.next, remake)
  saveEndings(sql, id, reader, old ? endings : [])
  if (!old) return null
  const ends = endings.map((ending, at): LeavingEnd => {
    const following = endings[at + 1]
    if (following === undefined) return { upTo: ending.upTo, next: next ?? null }
    const stage =
      ending.next === null ? null : made(state, row, ending.next, following.next, remake)
    return { upTo: ending.upTo, next: stage }
  })
  return { old, ends }
}

/** Nobody can say how what it has not read was to be treated (a file of an older program): at least it is said. */
const detachUnread = (state: SpoolState, { lane: id, reader }: StageRow): void => {
  const lane = laneOfId(state, id)
  const now = lane.readers.get(reader)?.now
  const points = now === undefined ? 0 : pendingOf(lane, now)
  if (points > 0)
    state.host.log.error('stage_left_unread', { stage: reader, lane: lane.name, points })
  detach(state, lane, reader)
}

/** Inside a transaction. */
const begin = (
  state: SpoolState,
  wanted: readonly StageReader[],
  rows: readonly StageRow[],
  feed: Feed,
  remake: Remake | undefined,
): readonly StageState[] => {
  const isOf = (one: StageReader) => (row: StageRow) =>
    row.reader === one.reader && row.lane === laneNamed(state, one.lane).id
  const leave = (row: StageRow, next: StageReader | undefined): StageState | null => {
    const found = leaver(state, row, next, remake)
    const [end, ...further] = found?.ends ?? []
    if (found === null || end === undefined) return null
    const one = attach(state, found.old, row, feed)
    one.leaving = { ...end, ended: false, further }
    return one
  }
  const gone = rows.flatMap((row) => {
    if (wanted.some((one) => isOf(one)(row))) return []
    const leaving = leave(row, undefined)
    if (leaving === null) detachUnread(state, row)
    return leaving === null ? [] : [leaving]
  })
  const stay = wanted.map((one) => {
    const row = rows.find(isOf(one))
    const leaving = row === undefined ? null : leave(row, one)
    if (leaving !== null) return leaving
    saveDefinition(state.sql, laneNamed(state, one.lane).id, one)
    return attach(state, one, row, feed)
  })
  return [...gone, ...stay]
}

/** At the end of opening. */
export const attachStages = (
  state: SpoolState,
  wanted: readonly StageReader[],
  remake: Remake | undefined,
): void => {
  const rows = stageRows(state.sql)
  if (wanted.length === 0 && rows.length === 0) return
  const feed = createFeed(state)
  state.stages.push(...write(state, 'none', () => begin(state, wanted, rows, feed, remake)))
}

/** About 2 s of reading: who is further behind leaves while the agent runs. */
const turnsMax = 128
/**
 * Before anybody else reads or writes: destinations find in their old lanes all that they are still owed, sealed, and
 * begin in new ones behind it.
 */
export const leaveAtOpening = (state: SpoolState, derive: () => 'more' | 'done' | 'full'): void => {
  if (!state.stages.some(isLeaving)) return
  for (let turns = 0; turns < turnsMax && state.stages.some(isLeaving); turns++)
    if (derive() === 'full') return
}
