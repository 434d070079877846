/**
 * A look into a spool file that nobody has open: to check it, to count, to rescue what it holds.
 *
 * Invariants: reads only, and refuses a file that a process has open; damage is an answer, never an exception: each
 * seq is asked for alone, so that one unreadable page hides no other; points are given out only whose checksum holds
 * and whose series are the ones they were sealed with.
 */
import Database from 'better-sqlite3'
import { decodeJournal } from '../codec/journal.ts'
import { openSegment, type SegmentHeader } from '../codec/segment.ts'
import { dictionaryHashStart, extendDictionaryHash } from '../codec/series-id.ts'
import { Failure, textOf } from '../errors.ts'
import type { GapReason, LaneId, PointBatch, Seq, SeriesEntry } from '../model.ts'
import { blob, integer, refuseNewer, rowCrc } from './schema.ts'
import { entryOfRow, type SeriesRow, seriesColumns } from './series-rows.ts'
import { asFailure, keyOf, seqOf } from './state.ts'

export interface LaneLook {
  readonly id: LaneId
  /** '' when its row is damaged. */
  readonly name: string
  readonly head: Seq
  readonly floor: Seq
  readonly accepted: number
  readonly bytes: number
  readonly waiting: number
  readonly readers: readonly ReaderLook[]
  /** What the rows of the lane and of its readers say can be believed. */
  readonly intact: boolean
}
export interface ReaderLook {
  readonly reader: string
  readonly backlog: Seq
  readonly live: { readonly start: Seq; readonly upTo: Seq } | null
  readonly delivered: number
  readonly lost: number
  readonly acceptedBefore: number
}
export interface GapLook {
  readonly seq: Seq
  readonly seqLast: Seq
  readonly reason: GapReason
  readonly count: number
  readonly source: string
}
/** Points with their own table of series: `points.series` indexes `entries`. */
export interface Found {
  readonly points: PointBatch
  readonly entries: readonly (SeriesEntry | undefined)[]
}
export interface FoundSegment extends Found {
  readonly bytes: Uint8Array
  readonly header: SegmentHeader
}
export type Answer<T> = T | { readonly problem: string; readonly points: number }
export interface JournalRow {
  readonly key: number
  readonly commit: number
  /** Of points that wait for a clock: the boot whose monotonic time they carry. */
  readonly boot: string | null
  readonly found: Answer<Found>
}
export interface SpoolLook extends Disposable {
  readonly path: string
  readonly spoolId: string
  readonly fileBytes: number
  readonly epochs: number
  readonly lastWallUs: number
  readonly lanes: readonly LaneLook[]
  /** Null: no segment stands there. */
  readonly segment: (lane: LaneId, seq: Seq) => Answer<FoundSegment> | null
  readonly gaps: (lane: LaneId) => readonly GapLook[]
  /** In accept order; those that wait for a clock after the others. */
  readonly journal: (lane: LaneId) => Generator<JournalRow>
  /** Series rows, and how many of them cannot be read. */
  readonly series: () => { readonly count: number; readonly damaged: number }
  /** What SQLite itself says of the file; empty when nothing is wrong. */
  readonly quickCheck: () => readonly string[]
}

type Row = Readonly<Record<string, number | string | null>>
const dictionarySpan = 2 ** 24

const open = (path: string): Database.Database => {
  refuseNewer(path)
  let db: Database.Database | undefined
  try {
    db = new Database(path, { readonly: true, fileMustExist: true, timeout: 0 })
    db.pragma('query_only = ON')
    db.prepare('SELECT count(*) FROM meta').get()
    return db
  } catch (error) {
    db?.close()
    const code = (error as { code?: string }).code ?? ''
    if (code === 'SQLITE_BUSY' || code === 'SQLITE_LOCKED')
      throw new Failure(
        'HF-S002',
        `a process has the spool ${path} open`,
        'A running agent answers for its own spool: holdfast status. Stop it to look at the file.',
      )
    const failure = asFailure({ path }, error)
    if (failure instanceof Failure) throw failure
    throw new Failure('HF-S001', `${path} cannot be read: ${textOf(error)}`, 'Name a spool file.')
  }
}
/** What a query that damage may stop gives, as far as it got. */
const rowsOf = (db: Database.Database, sql: string, ...values: unknown[]): Row[] => {
  const rows: Row[] = []
  try {
    for (const row of db.prepare(sql).iterate(...values)) rows.push(row as Row)
  } catch {
    // The rest is what a check reports.
  }
  return rows
}
const one = (db: Database.Database, sql: string, ...values: unknown[]): unknown => {
  try {
    return db
      .prepare(sql)
      .pluck()
      .get(...values)
  } catch {
    return undefined
  }
}
const intact = (row: Row) => rowCrc(Object.values(row).slice(0, -1)) === row.crc

const readersOf = (rows: readonly Row[]): ReaderLook[] =>
  rows.map((row) => ({
    reader: String(row.reader),
    backlog: Number(row.backlog),
    live:
      row.live_start === null || row.live_up_to === null
        ? null
        : { start: Number(row.live_start), upTo: Number(row.live_up_to) },
    delivered: Number(row.delivered),
    lost: Number(row.lost),
    acceptedBefore: Number(row.accepted_before),
  }))
const lanesOf = (db: Database.Database): LaneLook[] => {
  const rows = rowsOf(db, 'SELECT * FROM lanes')
  const cursors = rowsOf(db, 'SELECT * FROM cursors')
  // A lane whose row is gone still has its segments.
  const ids = new Set([...rows.map((row) => Number(row.id)), ...lanesWithSegments(db)])
  return [...ids]
    .sort((a, b) => a - b)
    .map((id): LaneLook => {
      const row = rows.find((found) => found.id === id)
      const mine = cursors.filter(({ lane }) => lane === id)
      const whole = row !== undefined && intact(row)
      const range = [keyOf(id, 0), keyOf(id + 1, 0)]
      const edge = (which: 'min' | 'max') =>
        seqOf(
          Number(
            one(db, `SELECT ${which}(key) FROM segments WHERE key > ? AND key < ?`, ...range) ?? 0,
          ),
        )
      return {
        id,
        name: whole ? String(row.name) : '',
        head: whole ? Number(row.head) : edge('max'),
        floor: whole ? Number(row.floor) : edge('min'),
        accepted: whole ? Number(row.accepted) : 0,
        bytes: whole ? Number(row.bytes) : 0,
        waiting: whole ? Number(row.waiting) : 0,
        readers: readersOf(mine.filter(intact)),
        intact: whole && mine.every(intact),
      }
    })
}
const lanesWithSegments = (db: Database.Database): number[] => {
  const found: number[] = []
  for (let key = 0; found.length < 512; ) {
    const next = one(db, 'SELECT min(key) FROM segments WHERE key > ?', key)
    if (typeof next !== 'number') break
    const id = Math.floor(next / keyOf(1, 0))
    found.push(id)
    key = keyOf(id + 1, 0) - 1
  }
  return found
}

interface Dictionary {
  readonly entries: readonly (SeriesEntry | undefined)[]
  /** Hash after as many entries; up to the first that cannot be read. */
  readonly hashes: readonly string[]
}
const dictionaryOf = (db: Database.Database, ordinal: number): Dictionary => {
  const entries: (SeriesEntry | undefined)[] = []
  const hashes = [dictionaryHashStart]
  const rows = db
    .prepare(
      `SELECT d.key, ${seriesColumns} FROM dictionary d JOIN series s ON s.id = d.series
       WHERE d.key >= ? AND d.key < ? ORDER BY d.key`,
    )
    .safeIntegers()
  try {
    const range = [ordinal * dictionarySpan, (ordinal + 1) * dictionarySpan]
    for (const row of rows.iterate(...range) as Iterable<SeriesRow & { readonly key: bigint }>) {
      const index = Number(row.key) - ordinal * dictionarySpan
      const entry = entryOfRow(row)
      entries[index] = entry
      if (entry !== undefined && hashes.length === index + 1)
        hashes.push(extendDictionaryHash(hashes[index] as string, entry.id))
    }
  } catch {
    // Entries behind an unreadable page stay unknown.
  }
  return { entries, hashes }
}
const namesAll = ({ points, entries }: Found) => {
  for (const index of points.series) if (entries[index] === undefined) return false
  return true
}

/** Throws HF-S001 (not there), HF-S002 (in use), HF-S003 (newer), HF-S005 (no database). */
export const lookInto = (path: string): SpoolLook => {
  const db = open(path)
  const dictionaries = new Map<number, Dictionary>()
  const dictionary = (ordinal: number): Dictionary => {
    let known = dictionaries.get(ordinal)
    if (known === undefined) {
      known = dictionaryOf(db, ordinal)
      // Neighbours share their epoch: one or two are enough.
      if (dictionaries.size > 2) dictionaries.clear()
      dictionaries.set(ordinal, known)
    }
    return known
  }
  const segmentSql = `SELECT ${integer('epoch')}, ${integer('points')}, ${blob('bytes')} FROM segments WHERE key = ?`
  const segment: SpoolLook['segment'] = (lane, seq) => {
    let row: { epoch: number; points: number; bytes: Uint8Array } | undefined
    try {
      row = db.prepare(segmentSql).get(keyOf(lane, seq)) as typeof row
    } catch (error) {
      return { problem: textOf(error), points: 0 }
    }
    if (row === undefined) return null
    const problem = (text: string) => ({ problem: text, points: row.points })
    try {
      const { header, points } = openSegment(row.bytes)
      if (header.lane !== lane || header.seq !== seq || header.pointCount !== row.points)
        return problem('its header belongs elsewhere')
      const { entries, hashes } = dictionary(row.epoch)
      const found = { bytes: row.bytes, header, points, entries }
      if (hashes[header.dictionaryLength] === header.dictionaryHash && namesAll(found)) return found
      return problem('its series are unknown')
    } catch (error) {
      return problem(textOf(error))
    }
  }
  function* journal(lane: LaneId): Generator<JournalRow> {
    for (const table of ['journal', 'waiting'] as const) {
      const boot = table === 'waiting' ? 'boot' : 'NULL AS boot'
      const sql = `SELECT key, epoch, ${boot}, points, ${blob('bytes')} FROM ${table}
        WHERE key >= ? AND key < ? ORDER BY key`
      for (const row of rowsOf(db, sql, keyOf(lane, 0), keyOf(lane + 1, 0))) {
        const [key, points] = [Number(row.key), Number(row.points)]
        let found: Answer<Found>
        try {
          const bytes = row.bytes as unknown as Uint8Array
          const { entries } = dictionary(Number(row.epoch))
          found = { points: decodeJournal(bytes), entries }
          if (!namesAll(found)) found = { problem: 'its series are unknown', points }
        } catch (error) {
          found = { problem: textOf(error), points }
        }
        yield { key, commit: seqOf(key), boot: row.boot === null ? null : String(row.boot), found }
      }
    }
  }
  const pages = Number(one(db, 'PRAGMA page_count') ?? 0) * Number(one(db, 'PRAGMA page_size') ?? 0)
  return {
    path,
    spoolId: String(one(db, "SELECT value FROM meta WHERE key = 'spoolId'") ?? ''),
    fileBytes: pages,
    epochs: Number(one(db, 'SELECT count(*) FROM epochs') ?? 0),
    lastWallUs: Number(one(db, 'SELECT max(wall_us) FROM lanes') ?? 0),
    lanes: lanesOf(db),
    segment,
    gaps: (lane) =>
      rowsOf(
        db,
        'SELECT key, seq, reason, count, source FROM gaps WHERE key >= ? AND key < ? ORDER BY key',
        ...[keyOf(lane, 0), keyOf(lane + 1, 0)],
      ).map((row) => ({
        seq: Number(row.seq),
        seqLast: seqOf(Number(row.key)),
        reason: String(row.reason) as GapReason,
        count: Number(row.count),
        source: String(row.source),
      })),
    journal,
    series: () => {
      let [count, damaged] = [0, 0]
      try {
        const rows = db.prepare(`SELECT ${seriesColumns} FROM series s`).safeIntegers()
        for (const row of rows.iterate() as Iterable<SeriesRow>) {
          count++
          if (entryOfRow(row) === undefined) damaged++
        }
      } catch {
        damaged++
      }
      return { count, damaged }
    },
    quickCheck: () => {
      const rows = rowsOf(db, 'PRAGMA quick_check(20)').map((row) => String(Object.values(row)[0]))
      if (rows.length === 0) return ['SQLite cannot read the file']
      return rows.filter((text) => text !== 'ok')
    },
    [Symbol.dispose]: () => {
      db.close()
    },
  }
}
