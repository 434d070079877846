/**
 * Rows of points into SQLite, bit for bit, many rows a statement.
 *
 * Invariant: a row is replaced only by one of a higher `ord`, so any order of arrival gives the same table.
 */
import type Database from 'better-sqlite3'
import { kinds } from '../model.ts'
import type { SegmentRows } from './rows.ts'

/** Rows of one statement: calls into SQLite cost more than binding. */
const rowsPerStatement = 64

const insertSql = (rows: number): string =>
  `insert into points (ord, series_id, time, kind, bits, value_text, quality) values ${Array(rows)
    .fill('(@ord, ?, ?, ?, ?, ?, ?)')
    .join(
      ',',
    )} on conflict (series_id, time) do update set ord = excluded.ord, kind = excluded.kind,
    bits = excluded.bits, value_text = excluded.value_text, quality = excluded.quality
    where excluded.ord > points.ord`

export const createPointWriter = (db: Database.Database): ((rows: SegmentRows) => void) => {
  const many = db.prepare(insertSql(rowsPerStatement))
  const one = db.prepare(insertSql(1))
  return ({ points, ids, ord, order, count }) => {
    const { series, timeUs, qualities, texts } = points
    const signed = new BigInt64Array(points.bits.buffer, points.bits.byteOffset, points.count)
    const values: unknown[] = []
    for (let row = 0; row < count; row++) {
      const at = order === null ? row : (order[row] as number)
      const kind = points.kinds[at] as number
      const text = kind === kinds.string
      values.push(
        ids[series[at] as number],
        timeUs[at],
        kind,
        text ? null : signed[at],
        text ? texts[Number(signed[at])] : null,
        qualities[at],
      )
      if (values.length < rowsPerStatement * 6 && row < count - 1) continue
      if (values.length === rowsPerStatement * 6) many.run(values, { ord })
      else
        for (let first = 0; first < values.length; first += 6)
          one.run(values.slice(first, first + 6), { ord })
      values.length = 0
    }
  }
}
