/**
 * Rows of the `stages` table (a stage's state as of a checkpoint, and what of the lane that state may still ask for)
 * and of its log: what the clock decided since, so that the whole state need not be written again for it.
 *
 * Invariants: written in the transaction that moves the reader's cursor to the checkpoint, or to the log's place, or
 * beyond; a row whose checksum is wrong holds the whole lane until the stage has begun anew; a state whose checksum is
 * wrong, or whose log is not whole, is never loaded.
 */
import { constants, crc32, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import type { LaneId, Seq } from '../model.ts'
import { type HoldPlace, seqHeld } from './hold.ts'
import { blob, rowCrc } from './schema.ts'
import type { SpoolState } from './state.ts'

type Sql = SpoolState['sql']
/** Done by a tick when the stage had read this seq; empty where only the hold went back. */
export interface Decided {
  readonly seq: Seq
  readonly hold: readonly HoldPlace[] | null
  readonly bytes: Uint8Array
}
/** By its CRC the log knows the state it follows. */
export interface SavedState {
  readonly crc: number
  readonly bytes: number
}
export interface StageRow {
  readonly lane: LaneId
  readonly reader: string
  readonly checkpoint: Seq
  /** From where on that state, and what the log adds, may still ask for segments; its last place says so. */
  readonly hold: readonly HoldPlace[]
  /** Null when the row, the state in it or its log is damaged. */
  readonly state: Uint8Array | null
  /** Since the state, in order. */
  readonly log: readonly Decided[]
  /** Of the state as it is stored. */
  readonly saved: SavedState
  /** The numbers above are what was written. */
  readonly intact: boolean
}
interface Columns {
  readonly lane: number
  readonly reader: string
  readonly checkpoint: number
  readonly hold: string
  readonly state_crc: number
  readonly crc: number
  readonly state: Uint8Array
}
interface LogColumns {
  readonly lane: number
  readonly reader: string
  readonly number: number
  readonly seq: number
  readonly hold: string
  readonly state_crc: number
  readonly decided_crc: number
  readonly crc: number
  readonly decided: Uint8Array
}

const zstdMagic = 0xfd2fb528
/** Far above what 200,000 series with 8 windows each take. */
const stateBytesMax = 1024 * 1024 * 1024
const pack = (state: Uint8Array): Uint8Array =>
  zstdCompressSync(state, {
    pledgedSrcSize: state.length,
    params: { [constants.ZSTD_c_compressionLevel]: 1 },
  })
/** Checked by its CRC before. Null when it is none all the same. */
const unpack = (stored: Uint8Array): Uint8Array | null => {
  const view = new DataView(stored.buffer, stored.byteOffset, stored.length)
  if (stored.length < 4 || view.getUint32(0, true) !== zstdMagic) return stored
  try {
    return zstdDecompressSync(stored, { maxOutputLength: stateBytesMax })
  } catch {
    return null
  }
}

/** Null when a row is damaged or missing. */
const logOf = (rows: readonly LogColumns[]): readonly Decided[] | null => {
  const sound = rows.every(({ crc, decided, ...columns }, at) => {
    const { number, decided_crc } = columns
    return number === at && rowCrc(Object.values(columns)) === crc && crc32(decided) === decided_crc
  })
  if (!sound) return null
  return rows.map(({ seq, hold, decided }) => ({
    seq,
    hold: hold === '' ? null : (JSON.parse(hold) as HoldPlace[]),
    bytes: decided,
  }))
}

const rowOf = ({ crc, state, ...columns }: Columns, logRows: readonly LogColumns[]): StageRow => {
  const intact = rowCrc(Object.values(columns)) === crc
  const { lane, reader, checkpoint, state_crc } = columns
  const own = logRows.filter((one) => one.lane === lane && one.reader === reader)
  // A number that is damaged belongs to no state: only what says it belongs to another one is left out.
  const log = intact ? logOf(own.filter((one) => !isOthers(one, state_crc))) : null
  const last = log?.findLast(({ hold }) => hold !== null)?.hold
  const hold = log === null ? [] : (last ?? (JSON.parse(columns.hold) as HoldPlace[]))
  const whole = log !== null && crc32(state) === state_crc
  return {
    ...{ lane, reader, checkpoint, hold, intact, log: log ?? [] },
    state: whole ? unpack(state) : null,
    saved: { crc: state_crc, bytes: state.length },
  }
}
const isOthers = ({ crc, decided: _, ...columns }: LogColumns, stateCrc: number): boolean =>
  columns.state_crc !== stateCrc && rowCrc(Object.values(columns)) === crc

export const stageRows = (sql: Sql): readonly StageRow[] => {
  const columns = 'lane, reader, checkpoint, hold, state_crc, crc'
  const rows = sql(`SELECT ${columns}, ${blob('state')} FROM stages`).all() as Columns[]
  const logColumns = 'lane, reader, number, seq, hold, state_crc, decided_crc, crc'
  const log = sql(
    `SELECT ${logColumns}, ${blob('decided')} FROM stage_log ORDER BY lane, reader, number`,
  ).all() as LogColumns[]
  return rows.map((row) => rowOf(row, log))
}

const emptyLog = (sql: Sql, lane: LaneId, reader: string): void => {
  sql('DELETE FROM stage_log WHERE lane = ? AND reader = ?').run(lane, reader)
}
/** The state in place of the one before and of its log. */
export const saveStageRow = (
  sql: Sql,
  row: Pick<StageRow, 'lane' | 'reader' | 'checkpoint' | 'hold'> & { readonly state: Uint8Array },
): SavedState => {
  const state = pack(row.state)
  const crc = crc32(state)
  const values = [row.lane, row.reader, row.checkpoint, JSON.stringify(row.hold), crc]
  sql('INSERT OR REPLACE INTO stages VALUES (?, ?, ?, ?, ?, ?, ?)').run(
    ...values,
    rowCrc(values),
    state,
  )
  emptyLog(sql, row.lane, row.reader)
  return { crc, bytes: state.length }
}
/** One more row of the log. */
export const saveDecided = (
  sql: Sql,
  { lane, reader }: Pick<StageRow, 'lane' | 'reader'>,
  number: number,
  stateCrc: number,
  { seq, hold, bytes }: Decided,
): void => {
  const places = hold === null ? '' : JSON.stringify(hold)
  const values = [lane, reader, number, seq, places, stateCrc, crc32(bytes)]
  sql('INSERT OR REPLACE INTO stage_log VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)').run(
    ...values,
    rowCrc(values),
    bytes,
  )
}
export const deleteStageRow = (sql: Sql, lane: LaneId, reader: string): void => {
  sql('DELETE FROM stages WHERE lane = ? AND reader = ?').run(lane, reader)
  emptyLog(sql, lane, reader)
}

/** What lies above may not be trimmed for this reader's sake; Infinity for a reader that is no stage. */
export const keepsAfter = (rows: readonly StageRow[], lane: LaneId, reader: string): Seq => {
  const row = rows.find((one) => one.lane === lane && one.reader === reader)
  if (row === undefined) return Number.POSITIVE_INFINITY
  return row.intact ? Math.min(row.checkpoint, seqHeld(row.hold) - 1) : 0
}
