/**
 * Reading back what a region holds, for a checker that believes no counter: every row bit for bit, every insert and
 * overwrite since `installAudit`, every gap.
 *
 * Invariant: values never pass through text or a float conversion: PostgreSQL answers in binary COPY, SQLite in
 * 64-bit integers.
 */
import type Database from 'better-sqlite3'
import type pg from 'pg'
import { to as copyTo } from 'pg-copy-streams'
import type {
  ContractVersion,
  EpochId,
  Gap,
  Kind,
  LaneId,
  Quality,
  Seq,
  SeriesId,
} from '../model.ts'
import { kinds } from '../model.ts'
import { epoch2000Us } from './postgres-copy.ts'
import { embeddedAudit } from './schema-embedded.ts'
import { postgresAudit } from './schema-postgres.ts'

export interface ReadPoint {
  readonly seriesId: SeriesId
  readonly name: string
  readonly tags: Readonly<Record<string, string>>
  readonly timeUs: number
  readonly kind: Kind
  /** Unsigned 64-bit pattern of float, int and bool; the text of a string. */
  readonly bits: bigint | string
  readonly quality: Quality
  readonly ord: bigint
}
export interface ReadGap extends Gap {
  readonly epoch: EpochId
  readonly lane: LaneId
  readonly seq: Seq
  readonly seqLast: Seq
}
export interface AuditRow {
  readonly seriesId: SeriesId
  readonly timeUs: number
  readonly ord: bigint
  readonly op: 'insert' | 'update' | 'delete'
}
/** A row of the view `windows`; a statistic that it lacks is null. */
export interface WindowRow {
  readonly series: string
  readonly everyUs: number
  readonly startUs: number
  readonly rev: number
  readonly partial: boolean
  readonly numbers: Readonly<Record<(typeof windowNumbers)[number], number | null>>
  readonly firstText: string | null
  readonly lastText: string | null
}
export const windowNumbers = [
  ...(['count', 'good_count', 'changes', 'min', 'max', 'first', 'last', 'sum', 'mean'] as const),
  ...(['twa', 'delta', 'range', 'stddev', 'median', 'p95'] as const),
] as const
export interface ReadBack {
  /** From now on every row inserted, overwritten or deleted leaves a row in `points_audit`. Idempotent. */
  readonly installAudit: () => Promise<void>
  /** Every point of the agent's series, by series and time. */
  readonly readBack: (agent: string) => AsyncIterable<ReadPoint>
  readonly gapsOf: (agent: string) => Promise<readonly ReadGap[]>
  /** In the order it happened. */
  readonly auditOf: (agent: string) => AsyncIterable<AuditRow>
  /** As a plant engineer sees them. */
  readonly windowsOf: (agent: string) => Promise<readonly WindowRow[]>
  /** By name of the series: how it was thinned, by time, oldest first. */
  readonly contractsOf: (agent: string) => Promise<ReadonlyMap<string, readonly ContractVersion[]>>
}

const windowColumns = `rev, partial, ${windowNumbers.join(', ')}, first_text, last_text`
const number = (value: unknown): number | null => (value === null ? null : Number(value))
const windowOf = (row: Readonly<Record<string, unknown>>): WindowRow => ({
  series: String(row.series),
  everyUs: Number(row.every_us),
  startUs: Number(row.start_us),
  rev: Number(row.rev),
  partial: row.partial === true || row.partial === 1,
  numbers: Object.fromEntries(
    windowNumbers.map((name) => [name, number(row[name])]),
  ) as WindowRow['numbers'],
  firstText: row.first_text as string | null,
  lastText: row.last_text as string | null,
})
type ContractRow = Readonly<Record<string, unknown>>
const contractsBySeries = (
  rows: readonly ContractRow[],
): ReadonlyMap<string, readonly ContractVersion[]> => {
  const found = new Map<string, readonly ContractVersion[]>()
  for (const { name, from_us, contract } of rows) {
    const version = {
      fromUs: number(from_us),
      contract: typeof contract === 'string' ? JSON.parse(contract) : contract,
    }
    found.set(String(name), [...(found.get(String(name)) ?? []), version])
  }
  return found
}
const contracted = (fromUs: string) => `select name, ${fromUs} as from_us, c.contract
  from series_contracts c join series s using (series_id)`
const ofAgent = 'order by c.series_id, c.from_time'

const tagsOf = (text: string): Readonly<Record<string, string>> => JSON.parse(text)

// ── embedded ────────────────────────────────────────────────────────────────────────────────────

type BigRow = Record<string, bigint | string | null>

export const createEmbeddedReadBack = (db: Database.Database): ReadBack => {
  const rows = (sql: string, agent: string): IterableIterator<BigRow> =>
    db.prepare<[string], BigRow>(sql).safeIntegers().iterate(agent)
  return {
    installAudit: async () => {
      db.exec(embeddedAudit)
    },
    readBack: async function* (agent) {
      const sql = `select p.*, s.name, s.tags from points p join series s using (series_id)
        where s.agent = ? order by p.series_id, p.time`
      for (const row of rows(sql, agent)) {
        const text = row.value_text
        yield {
          seriesId: row.series_id as bigint,
          name: row.name as string,
          tags: tagsOf(row.tags as string),
          timeUs: Number(row.time),
          kind: Number(row.kind) as Kind,
          bits: typeof text === 'string' ? text : BigInt.asUintN(64, row.bits as bigint),
          quality: Number(row.quality),
          ord: row.ord as bigint,
        }
      }
    },
    gapsOf: async (agent) =>
      [...rows('select * from gaps where agent = ? order by epoch, lane, seq', agent)].map(gapOf),
    auditOf: async function* (agent) {
      const sql = `select a.* from points_audit a join series s using (series_id)
        where s.agent = ? order by a.rowid`
      for (const row of rows(sql, agent))
        yield {
          seriesId: row.series_id as bigint,
          timeUs: Number(row.time),
          ord: row.ord as bigint,
          op: row.op as AuditRow['op'],
        }
    },
    windowsOf: async (agent) =>
      db
        .prepare<[string], Record<string, unknown>>(
          `select series, every as every_us, start as start_us, ${windowColumns} from windows where agent = ?`,
        )
        .all(agent)
        .map(windowOf),
    contractsOf: async (agent) =>
      contractsBySeries(
        db
          .prepare<[string], ContractRow>(
            `${contracted('c.from_time')} where s.agent = ? ${ofAgent}`,
          )
          .all(agent),
      ),
  }
}

const gapOf = (row: Record<string, bigint | string | null>): ReadGap => ({
  epoch: row.epoch as EpochId,
  lane: Number(row.lane),
  seq: Number(row.seq),
  seqLast: Number(row.seq_last),
  reason: row.reason as Gap['reason'],
  count: Number(row.count),
  source: row.source as string,
  timeUsMin: Number(row.time_min),
  timeUsMax: Number(row.time_max),
})

// ── PostgreSQL ──────────────────────────────────────────────────────────────────────────────────

const copyHeaderBytes = 19

/** Rows of a binary COPY: one Buffer or null for each field. */
async function* fieldsOf(stream: AsyncIterable<Buffer>): AsyncGenerator<(Buffer | null)[]> {
  let held: Buffer = Buffer.alloc(0)
  let skipped = false
  for await (const part of stream) {
    held = held.length === 0 ? part : Buffer.concat([held, part])
    let at = 0
    if (!skipped) {
      if (held.length < copyHeaderBytes) continue
      at = copyHeaderBytes
      skipped = true
    }
    for (;;) {
      const row = rowAt(held, at)
      if (row === null) break
      if (row.fields.length > 0) yield row.fields
      at = row.end
    }
    held = held.subarray(at)
  }
}

const rowAt = (bytes: Buffer, start: number): { fields: (Buffer | null)[]; end: number } | null => {
  if (bytes.length < start + 2) return null
  const count = bytes.readInt16BE(start)
  const fields: (Buffer | null)[] = []
  let at = start + 2
  for (let field = 0; field < count; field++) {
    if (bytes.length < at + 4) return null
    const length = bytes.readInt32BE(at)
    at += 4
    if (length < 0) {
      fields.push(null)
      continue
    }
    if (bytes.length < at + length) return null
    fields.push(bytes.subarray(at, at + length))
    at += length
  }
  return { fields, end: at }
}

const timeIn = (field: Buffer): number => Number(field.readBigInt64BE()) + epoch2000Us
const required = (field: Buffer | null | undefined): Buffer => field ?? Buffer.alloc(0)

const pointOf = (fields: readonly (Buffer | null)[]): ReadPoint => {
  const [series, name, tags, time, kind, value, int, text, quality, ord] = fields
  const kindNumber = required(kind).readInt16BE() as Kind
  const bits =
    kindNumber === kinds.string
      ? required(text).toString('utf8')
      : required(kindNumber === kinds.float ? value : int).readBigUInt64BE()
  return {
    seriesId: required(series).readBigInt64BE(),
    name: required(name).toString('utf8'),
    tags: tagsOf(required(tags).toString('utf8')),
    timeUs: timeIn(required(time)),
    kind: kindNumber,
    bits,
    quality: required(quality).readInt16BE(),
    ord: required(ord).readBigInt64BE(),
  }
}

const quote = (text: string): string => `'${text.replaceAll("'", "''")}'`

/** `client` is an open connection of the checker's own: as owner of the tables, for `installAudit`. */
export const createPostgresReadBack = (client: pg.ClientBase): ReadBack => ({
  installAudit: async () => {
    await client.query(postgresAudit)
  },
  readBack: async function* (agent) {
    const sql = `select p.series_id, s.name, s.tags::text, p.time, p.kind, p.value, p.value_int,
      p.value_text, p.quality, p.ord from points p join series s using (series_id)
      where s.agent = ${quote(agent)} order by p.series_id, p.time`
    const stream = client.query(copyTo(`copy (${sql}) to stdout (format binary)`))
    for await (const fields of fieldsOf(stream)) yield pointOf(fields)
  },
  gapsOf: async (agent) => {
    const { rows } = await client.query<Record<string, string>>({
      text: 'select * from gaps where agent = $1 order by epoch, lane, seq',
      values: [agent],
    })
    return rows.map(gapOf)
  },
  auditOf: async function* (agent) {
    const sql = `select a.series_id, a.time, a.ord, a.op from points_audit a
      join series s using (series_id) where s.agent = ${quote(agent)} order by a.id`
    const stream = client.query(copyTo(`copy (${sql}) to stdout (format binary)`))
    for await (const [series, time, ord, op] of fieldsOf(stream))
      yield {
        seriesId: required(series).readBigInt64BE(),
        timeUs: timeIn(required(time)),
        ord: required(ord).readBigInt64BE(),
        op: required(op).toString('utf8') as AuditRow['op'],
      }
  },
  windowsOf: async (agent) => {
    const microseconds = (of: string) => `(extract(epoch from ${of}) * 1000000)::bigint`
    const { rows } = await client.query<Record<string, unknown>>({
      text: `select series, ${microseconds('every')} as every_us, ${microseconds('start')} as start_us,
        ${windowColumns} from windows where agent = $1`,
      values: [agent],
    })
    return rows.map(windowOf)
  },
  contractsOf: async (agent) => {
    const { rows } = await client.query<Record<string, unknown>>({
      text: `${contracted(
        'case when isfinite(c.from_time) then (extract(epoch from c.from_time) * 1000000)::bigint end',
      )} where s.agent = $1 ${ofAgent}`,
      values: [agent],
    })
    return contractsBySeries(rows)
  },
})
