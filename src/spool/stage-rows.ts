/**
 * Rows of the `stages` table: a stage's state as of a checkpoint, and what of the lane that state may still ask for.
 *
 * Invariants: written in the transaction that moves the reader's cursor to the checkpoint or beyond; a row whose
 * checksum is wrong holds the whole lane until the stage has begun anew; a state whose checksum is wrong is never
 * loaded.
 */
import { crc32 } from 'node:zlib'
import type { LaneId, Seq } from '../model.ts'
import { type HoldPlace, seqHeld } from './hold.ts'
import { blob, rowCrc } from './schema.ts'
import type { SpoolState } from './state.ts'

type Sql = SpoolState['sql']
export interface StageRow {
  readonly lane: LaneId
  readonly reader: string
  readonly checkpoint: Seq
  /** From where on that state may still ask for segments; its last place says so. */
  readonly hold: readonly HoldPlace[]
  /** Null when the row or the state in it is damaged. */
  readonly state: Uint8Array | null
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

const rowOf = ({ crc, state, ...columns }: Columns): StageRow => {
  const intact = rowCrc(Object.values(columns)) === crc
  const { lane, reader, checkpoint } = columns
  const hold = intact ? (JSON.parse(columns.hold) as HoldPlace[]) : []
  const whole = intact && crc32(state) === columns.state_crc
  return { lane, reader, checkpoint, hold, state: whole ? state : null, intact }
}

export const stageRows = (sql: Sql): readonly StageRow[] => {
  const columns = 'lane, reader, checkpoint, hold, state_crc, crc'
  return (sql(`SELECT ${columns}, ${blob('state')} FROM stages`).all() as Columns[]).map(rowOf)
}

export const saveStageRow = (sql: Sql, row: Omit<StageRow, 'intact'>): void => {
  const state = row.state ?? new Uint8Array(0)
  const values = [row.lane, row.reader, row.checkpoint, JSON.stringify(row.hold), crc32(state)]
  sql('INSERT OR REPLACE INTO stages VALUES (?, ?, ?, ?, ?, ?, ?)').run(
    ...values,
    rowCrc(values),
    state,
  )
}
export const deleteStageRow = (sql: Sql, lane: LaneId, reader: string): void => {
  sql('DELETE FROM stages WHERE lane = ? AND reader = ?').run(lane, reader)
}

/** What lies above may not be trimmed for this reader's sake; Infinity for a reader that is no stage. */
export const keepsAfter = (rows: readonly StageRow[], lane: LaneId, reader: string): Seq => {
  const row = rows.find((one) => one.lane === lane && one.reader === reader)
  if (row === undefined) return Number.POSITIVE_INFINITY
  return row.intact ? Math.min(row.checkpoint, seqHeld(row.hold) - 1) : 0
}
