/**
 * Segments' rows into `points`: plain binary COPY for new data, or through a staging table where rows may be there
 * already.
 *
 * Invariant: merged rows replace others only by a higher `ord`, so any order of arrival gives the same table.
 */
import { once } from 'node:events'
import type pg from 'pg'
import { from as copyFrom } from 'pg-copy-streams'
import { copyHeader, copyTrailer, encodeRows, pointColumns } from './postgres-copy.ts'
import type { SegmentRows } from './rows.ts'

const copy = async (
  client: pg.ClientBase,
  table: string,
  segments: readonly SegmentRows[],
): Promise<void> => {
  const stream = client.query(
    copyFrom(`copy ${table} (${pointColumns}) from stdin (format binary)`),
  )
  const finished = once(stream, 'finish')
  // The error is taken from `finished`; a second listener keeps a late one from being unhandled.
  finished.catch(() => {})
  stream.on('error', () => {})
  stream.write(copyHeader)
  let before: Promise<void> = Promise.resolve()
  for (const rows of segments) {
    const written = new Promise<void>((resolve) => stream.write(encodeRows(rows), () => resolve()))
    // At most two segments' rows (4 MB each) are held: one on its way, one made meanwhile.
    await Promise.race([before, finished])
    before = written
  }
  stream.end(copyTrailer)
  await finished
}

export const copyPoints = (
  client: pg.ClientBase,
  segments: readonly SegmentRows[],
): Promise<void> => copy(client, 'points', segments)

const merge = `insert into points (${pointColumns})
  select distinct on (series_id, time) ${pointColumns} from points_staged
  order by series_id, time, ord desc
  on conflict (series_id, time) do update set kind = excluded.kind, value = excluded.value,
    value_int = excluded.value_int, value_text = excluded.value_text,
    quality = excluded.quality, ord = excluded.ord
  where excluded.ord > points.ord`

export const mergePoints = async (
  client: pg.ClientBase,
  segments: readonly SegmentRows[],
): Promise<void> => {
  // TimescaleDB bounds how many compressed rows one statement may touch; without it the name means nothing.
  await client.query('set local timescaledb.max_tuples_decompressed_per_dml_transaction = 0')
  await client.query(
    'create temp table points_staged (like points including defaults) on commit drop',
  )
  await copy(client, 'pg_temp.points_staged', segments)
  await client.query(merge)
}
