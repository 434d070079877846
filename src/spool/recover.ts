/**
 * What opening a spool brings back: lanes, readers, the journal as the new epoch's open segments, and the answer to
 * "is this file as new as its anchor says?". Constant time whatever the backlog: nothing here scans segments.
 */
import { decodeJournal } from '../codec/journal.ts'
import { dictionaryHashStart } from '../codec/series-id.ts'
import { Failure, textOf } from '../errors.ts'
import { laneIdMax } from '../limits.ts'
import type { Seq } from '../model.ts'
import { createOpenColumns } from './columns.ts'
import { pruneEpochs, putBase, renumberFrom } from './epochs.ts'
import { recordGap } from './gaps.ts'
import { noCopies, noGaps } from './reader-gaps.ts'
import { blob, rowCrc } from './schema.ts'
import { saveDictionary } from './series-rows.ts'
import { keepsAfter, type StageRow, stageRows } from './stage-rows.ts'
import {
  acceptedOf,
  type EpochRow,
  type LaneOptions,
  type LaneState,
  type ReaderState,
  type SpoolState,
  seqSpan,
} from './state.ts'
import { write } from './write.ts'

type Sql = SpoolState['sql']

interface LaneRow {
  readonly id: number
  readonly name: string
  readonly head: number
  readonly floor: number
  readonly hash: string
  readonly accepted: number
  readonly bytes: number
  readonly waiting: number
  readonly seal_number: number
  readonly commit_number: number
  readonly uptime_ms: number
  readonly wall_us: number
  readonly crc: number
}
interface CursorRow {
  readonly lane: number
  readonly reader: string
  readonly backlog: number
  readonly live_start: number | null
  readonly live_up_to: number | null
  readonly delivered: number
  readonly lost: number
  readonly reduced: number
  readonly start: number
  readonly accepted_before: number
  readonly crc: number
}

/** In the order of the table, and by name: where a flipped bit has changed one, SQLite says so. */
const laneColumns = `id, name, head, floor, hash, accepted, bytes, waiting, seal_number, commit_number, uptime_ms,
  wall_us, crc`
const cursorColumns = `lane, reader, backlog, live_start, live_up_to, delivered, lost, reduced, start,
  accepted_before, crc`
const intact = (row: LaneRow | CursorRow): boolean =>
  rowCrc(Object.values(row).slice(0, -1)) === row.crc

const readerOf = (row: CursorRow, keepsAfter: Seq): ReaderState => {
  const live =
    row.live_start === null || row.live_up_to === null
      ? null
      : { start: row.live_start, upTo: row.live_up_to }
  const now = {
    backlog: row.backlog,
    live,
    delivered: row.delivered,
    lost: row.lost,
    reduced: row.reduced,
    start: row.start,
    acceptedBefore: row.accepted_before,
    keepsAfter,
    ...{ unsaved: noGaps, copies: noCopies },
  }
  return { name: row.reader, now, saved: now, merged: false }
}

const laneOf = (
  sql: Sql,
  row: LaneRow,
  options: LaneOptions | null,
  stages: readonly StageRow[],
): LaneState => {
  const range = [row.id * seqSpan, (row.id + 1) * seqSpan]
  if (!intact(row)) throw new Failure('HF-S005', `the row of lane ${row.id} is damaged`)
  const all = sql(`SELECT ${cursorColumns} FROM cursors WHERE lane = ?`).all(row.id) as CursorRow[]
  const cursors = all.filter(intact)
  for (const bad of all) {
    if (!cursors.includes(bad))
      sql('DELETE FROM cursors WHERE lane = ? AND reader = ?').run(row.id, bad.reader)
  }
  return {
    id: row.id,
    name: row.name,
    options,
    now: {
      head: row.head,
      floor: row.floor,
      hash: row.hash,
      accepted: row.accepted,
      bytes: row.bytes,
      waiting: row.waiting,
    },
    open: createOpenColumns(),
    spare: createOpenColumns(),
    readers: new Map(
      cursors.map((one) => [one.reader, readerOf(one, keepsAfter(stages, row.id, one.reader))]),
    ),
    readersLost: cursors.length < all.length,
    readThrough: row.head,
    heldAtMs:
      (sql('SELECT max(uptime_ms) FROM holds WHERE key >= ? AND key < ?')
        .pluck()
        .get(...range) as number | null) ?? -Infinity,
  }
}

/** Rows for configured lanes that are new; ids go up and are never reused. */
export const createLanes = (sql: Sql, lanes: readonly LaneOptions[]): void => {
  for (const { name } of lanes) {
    if (sql('SELECT id FROM lanes WHERE name = ?').get(name) !== undefined) continue
    const id = (sql('SELECT coalesce(max(id), 0) + 1 FROM lanes').pluck().get() as number) || 1
    if (id > laneIdMax) throw new Failure('HF-S012', `more than ${laneIdMax} lanes in the spool`)
    const values = [id, name, 0, 1, dictionaryHashStart, 0, 0, 0, 0, 0, 0, 0]
    sql('INSERT INTO lanes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)').run(
      ...values,
      rowCrc(values),
    )
  }
}

export const loadLanes = (sql: Sql, options: readonly LaneOptions[]) => {
  const rows = sql(`SELECT ${laneColumns} FROM lanes ORDER BY id`).all() as LaneRow[]
  const stages = stageRows(sql)
  const newestKey = (table: 'journal' | 'waiting', id: number) =>
    sql(`SELECT max(key) FROM ${table} WHERE key >= ? AND key < ?`)
      .pluck()
      .get(id * seqSpan, (id + 1) * seqSpan) as number | null
  const newest = rows.flatMap(({ id }) => [newestKey('journal', id), newestKey('waiting', id)])
  const most = (numbers: readonly number[]) => Math.max(0, ...numbers)
  return {
    lanes: new Map(
      rows.map((row) => [
        row.name,
        laneOf(sql, row, options.find((one) => one.name === row.name) ?? null, stages),
      ]),
    ),
    totals: {
      sealNumber: most(rows.map((row) => row.seal_number)),
      commitNumber: most([
        ...rows.map((row) => row.commit_number),
        ...newest.map((key) => (key ?? 0) % seqSpan),
      ]),
    },
    uptimeMs: most(rows.map((row) => row.uptime_ms)),
    wallUs: most(rows.map((row) => row.wall_us)),
  }
}

/** Lanes that a new configuration brought. */
export const addLanes = (state: SpoolState): void => {
  const { lanes } = state.options
  if (lanes.every(({ name }) => state.lanes.has(name))) return
  write(state, 'none', () => {
    createLanes(state.sql, lanes)
    const epoch = state.epochs[state.epochs.length - 1] as EpochRow
    for (const [name, lane] of loadLanes(state.sql, lanes).lanes) {
      if (state.lanes.has(name)) continue
      state.lanes.set(name, lane)
      putBase(state.sql, epoch, lane.id, lane.now)
    }
  })
}

const noFacts = { source: '', timeUsMin: 0, timeUsMax: 0 }

/** Inside the opening transaction: the journal's points go on as this epoch's open segment. */
const recoverJournal = (state: SpoolState, lane: LaneState) => {
  const rows = state
    .sql(
      `SELECT key, epoch, points, ${blob('bytes')} FROM journal WHERE key >= ? AND key < ? ORDER BY key`,
    )
    .all(lane.id * seqSpan, (lane.id + 1) * seqSpan) as {
    key: number
    epoch: number
    points: number
    bytes: Uint8Array
  }[]
  for (const row of rows) {
    const before = lane.open.count()
    try {
      lane.open.append(decodeJournal(row.bytes), renumberFrom(state, row.epoch))
    } catch (error) {
      lane.open.truncate(before)
      state.host.log.warn('journal row is damaged', { lane: lane.name, text: textOf(error) })
      state.sql('DELETE FROM journal WHERE key = ?').run(row.key)
      recordGap(state, lane, { reason: 'damaged', count: row.points, ...noFacts })
    }
  }
}

/**
 * Inside the opening transaction: what the anchor had seen accepted and the file does not have is a declared
 * loss.
 */
const declareAnchorLoss = (state: SpoolState, fresh: 'no' | 'new' | 'set-aside') => {
  const found = state.anchor.found
  if (found === null) return
  const sameSpool = found.spoolId === state.spoolId
  if (!sameSpool && fresh === 'no') return
  const first = state.lanes.values().next().value
  if (first === undefined) return
  const byId = new Map([...state.lanes.values()].map((lane) => [lane.id, lane]))
  for (const was of found.lanes) {
    const lane = byId.get(was.lane) ?? first
    const has = lane.id === was.lane ? acceptedOf(lane) : 0
    const count = sameSpool ? was.accepted - has : was.pending
    // What a stage gives out it gives out again from the lane it reads, which declares its own losses.
    if (count <= 0 || lane.options?.derived === true) continue
    const reason = fresh === 'set-aside' ? 'damaged' : 'anchor'
    state.host.log.error('the spool came back older than its anchor', {
      lane: lane.name,
      lost: count,
    })
    recordGap(state, lane, { reason, count, ...noFacts })
  }
  if (sameSpool) {
    const commitNumber = Math.max(state.now.commitNumber, found.commitNumber)
    state.now = { ...state.now, commitNumber }
  }
}

/** One transaction: the new epoch, what the journal held, what the anchor missed. */
export const beginEpoch = (state: SpoolState, row: EpochRow, fresh: 'no' | 'new' | 'set-aside') => {
  write(state, 'sync', () => {
    state.sql('INSERT INTO epochs VALUES (?, ?, ?)').run(row.ordinal, row.epoch, row.parent)
    for (const lane of state.lanes.values()) putBase(state.sql, row, lane.id, lane.now)
    pruneEpochs(state)
    for (const lane of state.lanes.values()) recoverJournal(state, lane)
    saveDictionary(state, 0)
    declareAnchorLoss(state, fresh)
  })
}
