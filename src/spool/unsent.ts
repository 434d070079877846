/**
 * How many points of a spool that nobody has open some reader still lacks: asked before such a file is deleted.
 *
 * Invariants: reads only; throws on a file it cannot vouch for; counts too many rather than too few (acks that had not
 * reached the file when the agent was killed, gap records not yet delivered).
 */
import type Database from 'better-sqlite3'
import { rowCrc, schemaVersion } from './schema.ts'
import { keyOf } from './state.ts'

type Row = Readonly<Record<string, number>>

const rowsOf = (db: Database.Database, table: 'lanes' | 'cursors'): readonly Row[] => {
  const rows = db.prepare(`SELECT * FROM ${table}`).all() as Row[]
  const damaged = rows.some((row) => rowCrc(Object.values(row).slice(0, -1)) !== row.crc)
  if (damaged) throw new Error(`the spool's ${table} are damaged`)
  return rows
}

/** With several readers the one furthest behind decides; points that no reader was ever there for are unsent. */
export const unsentPoints = (db: Database.Database): number => {
  const version = db.pragma('user_version', { simple: true }) as number
  // Older ones have the same lanes and cursors.
  if ((version & 0xffff) > schemaVersion || (version & 0xffff) === 0)
    throw new Error(`spool schema ${version & 0xffff}`)
  const cursors = rowsOf(db, 'cursors')
  const unsentOf = ({ id = 0, accepted = 0, waiting = 0 }: Row): number => {
    const sum = (table: 'journal' | 'segments') =>
      db
        .prepare(`SELECT total(points) FROM ${table} WHERE key >= ? AND key < ?`)
        .pluck()
        .get(keyOf(id, 0), keyOf(id + 1, 0)) as number
    const open = sum('journal') + waiting
    const readers = cursors.filter(({ lane }) => lane === id)
    if (readers.length === 0) return open + sum('segments')
    const behind = readers.map(
      ({ accepted_before = 0, delivered = 0, lost = 0, reduced = 0 }) =>
        accepted + open - accepted_before - delivered - lost - reduced,
    )
    return Math.max(...behind)
  }
  return rowsOf(db, 'lanes').reduce((total, lane) => total + unsentOf(lane), 0)
}
