/**
 * How a stage begins, and how another configuration takes its place: what was accepted before goes its way by the
 * definition of then, which the file keeps, through the seq that was the head when the change came.
 *
 * Invariants: a stage that leaves reads nothing beyond that seq; its last output, its cursor and its state are one
 * transaction, and only a later one lets the next definition stand in the file, so a crash anywhere begins the leaving
 * once more; one that fails, or finds no room, holds its lane until it can.
 */
import { crc32 } from 'node:zlib'
import { isFailure, textOf } from '../errors.ts'
import type { LaneId, Seq, Stage } from '../model.ts'
import { findEnding } from './contracts.ts'
import { sealOpen } from './seal.ts'
import { asked, rawFor, withPoints } from './stage-calls.ts'
import { createFeed, type Feed } from './stage-input.ts'
import { deleteStageRow, type StageRow, stageRows } from './stage-rows.ts'
import { attach, catchesUp, cursorOf, type StageReader, type StageState } from './stages.ts'
import { type LaneState, laneNamed, laneOfId, pendingOf, type SpoolState } from './state.ts'
import { write } from './write.ts'

/** A stage as an earlier definition made it, told which one takes its place; null: none does. */
export type Remake = (definition: string, next: string | null) => Stage

type Sql = SpoolState['sql']
const keyOf = (lane: LaneId, reader: string) => `stage/${lane}/${reader}`

/** Null where there is none, or none that can be believed. */
const definitionOf = (sql: Sql, lane: LaneId, reader: string): string | null => {
  const value = sql('SELECT value FROM kept WHERE key = ?').pluck().get(keyOf(lane, reader))
  const bytes = value as Buffer | undefined
  if (bytes === undefined || bytes.length < 4) return null
  const text = bytes.subarray(4)
  return crc32(text) === bytes.readUInt32LE(0) ? text.toString() : null
}
const saveDefinition = (sql: Sql, lane: LaneId, { reader, definition }: StageReader): void => {
  if (definition === undefined || definition === definitionOf(sql, lane, reader)) return
  const text = Buffer.from(definition)
  const crc = Buffer.alloc(4)
  crc.writeUInt32LE(crc32(text))
  const value = Buffer.concat([crc, text])
  sql('INSERT OR REPLACE INTO kept VALUES (?, ?)').run(keyOf(lane, reader), value)
}

/** Inside a transaction: nothing of it stays that would hold its lane. */
const detach = (state: SpoolState, lane: LaneState, reader: string): void => {
  deleteStageRow(state.sql, lane.id, reader)
  state.sql('DELETE FROM cursors WHERE lane = ? AND reader = ?').run(lane.id, reader)
  state.sql('DELETE FROM kept WHERE key = ?').run(keyOf(lane.id, reader))
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

const takeOver = (state: SpoolState, one: StageState, next: StageReader | null): boolean => {
  const { lane, reader, feed } = one
  const others = state.stages.filter((other) => other !== one)
  try {
    const taken = write(state, 'none', () => {
      // Whoever leaves its lanes is owed what is sealed now, after whatever crash.
      for (const one of state.lanes.values()) if (one.open.count() > 0) sealOpen(state, one, true)
      if (next === null) detach(state, lane, reader)
      else saveDefinition(state.sql, lane.id, next)
      return next === null ? [] : [attach(state, next, rowFor(state, lane, reader), feed)]
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
    room = takeOver(state, one, leaving.next) && room
    if (room) findEnding(state)
  }
  return room
}

const remade = (
  state: SpoolState,
  row: StageRow,
  next: StageReader | undefined,
  remake: Remake | undefined,
): StageReader | null => {
  const definition = definitionOf(state.sql, row.lane, row.reader)
  if (remake === undefined || definition === null || definition === next?.definition) return null
  const { name: lane } = laneOfId(state, row.lane)
  try {
    const stage = remake(definition, next?.definition ?? null)
    return { reader: row.reader, lane, stage, definition }
  } catch (error) {
    const facts = { stage: row.reader, lane, text: textOf(error) }
    state.host.log.error('stage_definition_refused', facts)
    return null
  }
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
  const leave = (row: StageRow, old: StageReader, next: StageReader | null): StageState => {
    const one = attach(state, old, row, feed)
    one.leaving = { upTo: one.lane.now.head, next, ended: false }
    return one
  }
  const gone = rows.flatMap((row) => {
    if (wanted.some((one) => isOf(one)(row))) return []
    const old = remade(state, row, undefined, remake)
    if (old === null) detachUnread(state, row)
    return old === null ? [] : [leave(row, old, null)]
  })
  const stay = wanted.map((one) => {
    const row = rows.find(isOf(one))
    const old = row === undefined ? null : remade(state, row, one, remake)
    if (row !== undefined && old !== null) return leave(row, old, one)
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
