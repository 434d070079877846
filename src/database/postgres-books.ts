/**
 * An agent's books in PostgreSQL: one look reads them as one JSON value, with region, timeline and clock; writing
 * back sends each table's changed rows as one JSON parameter. All statements are unnamed (PgBouncer).
 */
import type pg from 'pg'
import type { EpochId } from '../model.ts'
import { type AgentBooks, createBooks, type Head, headKey } from './books.ts'
import type { PlannedFrame } from './ledger.ts'
import { standbyError } from './postgres-hosts.ts'
import type { AgentRow, RegionIdentity } from './store.ts'

export interface Looked extends RegionIdentity {
  readonly books: AgentBooks
}

/** Fails with 25006 on a standby, so that the next host is asked. */
const identityColumns = `
  'region', (select region from region where id = 1),
  'standby', pg_is_in_recovery(),
  'timeline', case when pg_is_in_recovery() then '0'
    else substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) end,
  'now', (extract(epoch from clock_timestamp()) * 1000000)::bigint`

const lookSql = `select json_build_object(${identityColumns},
  'agent', (select row_to_json(a) from agents a where agent = $1),
  'epochs', (select coalesce(json_agg(e), '[]') from epochs e where agent = $1),
  'heads', (select coalesce(json_agg(l), '[]') from ledger l where agent = $1),
  'above', (select coalesce(json_agg(r order by seq), '[]') from ledger_above r where agent = $1)
)::text as found`

interface Found {
  readonly region: string | null
  readonly standby: boolean
  readonly timeline: string
  readonly now: number
  readonly agent: { epoch: EpochId; last_heard: number; points: number; lost: number } | null
  readonly epochs: readonly EpochJson[]
  readonly heads: readonly Omit<Head, 'above' | 'dirty' | 'aboveDirty'>[]
  readonly above: readonly {
    epoch: EpochId
    lane: number
    seq: number
    seq_last: number
    hash: string
  }[]
}
interface EpochJson {
  readonly epoch: EpochId
  readonly parent: EpochId | null
  readonly ordinal: number
  readonly fenced: boolean
  readonly spool_id: string
  readonly dictionary_length: number
}

const identityOf = (found: Found): RegionIdentity => {
  if (found.standby) throw standbyError()
  return { region: found.region ?? '', timeline: Number.parseInt(found.timeline, 16) }
}

const ask = async (
  client: pg.ClientBase,
  text: string,
  values: readonly unknown[] = [],
): Promise<string> => {
  const { rows } = await client.query<{ found: string }>({ text, values: [...values] })
  return rows[0]?.found ?? 'null'
}

export const lookIdentity = async (client: pg.ClientBase): Promise<RegionIdentity> =>
  identityOf(
    JSON.parse(await ask(client, `select json_build_object(${identityColumns})::text as found`)),
  )

export const look = async (client: pg.ClientBase, agent: string): Promise<Looked> => {
  const found = JSON.parse(await ask(client, lookSql, [agent])) as Found
  const identity = identityOf(found)
  const books = createBooks(agent, found.now)
  if (found.agent !== null) {
    books.speaker = found.agent.epoch
    books.lastHeardUs = found.agent.last_heard
    books.pointsFolded = found.agent.points
    books.lostFolded = found.agent.lost
  }
  for (const row of found.epochs) {
    const { epoch, parent, ordinal, fenced } = row
    const rest = { spoolId: row.spool_id, dictionaryLength: row.dictionary_length, dirty: false }
    books.epochs.set(epoch, { epoch, parent, ordinal, fenced, ...rest })
  }
  for (const { epoch, lane, base, contiguous, hash, points, lost } of found.heads) {
    const rest = { above: [], dirty: false, aboveDirty: false }
    const head: Head = { epoch, lane, base, contiguous, hash, points, lost, ...rest }
    books.heads.set(headKey(epoch, lane), head)
  }
  for (const { epoch, lane, seq, seq_last, hash } of found.above)
    books.heads.get(headKey(epoch, lane))?.above.push({ seq, seqLast: seq_last, hash })
  return { ...identity, books }
}

/** Everyone who changes who speaks, an ordinal or a dictionary takes this first. */
export const lockAgent = async (client: pg.ClientBase, agent: string): Promise<void> => {
  await client.query({
    text: `insert into agents (agent, epoch, last_heard, points, lost) values ($1, '', 0, 0, 0)
      on conflict (agent) do nothing`,
    values: [agent],
  })
  await client.query({
    text: 'select 1 from agents where agent = $1 for update',
    values: [agent],
  })
}

/** In (epoch, lane) order, so that two commits never wait for each other in a circle. */
export const lockHeads = async (
  client: pg.ClientBase,
  agent: string,
  planned: readonly PlannedFrame[],
): Promise<void> => {
  const heads = [...new Set(planned.map((plan) => plan.head))]
  await client.query({
    text: `select 1 from ledger where agent = $1
      and (epoch, lane) in (select * from unnest($2::text[], $3::integer[]))
      order by epoch, lane for update`,
    values: [agent, heads.map((head) => head.epoch), heads.map((head) => head.lane)],
  })
}

const upsert = (table: string, key: string, columns: string): string => {
  const rest = columns.split(', ').filter((column) => !key.split(', ').includes(column))
  return `insert into ${table} (${columns}) select ${columns}
    from json_populate_recordset(null::${table}, $1) on conflict (${key})
    do update set ${rest.map((column) => `${column} = excluded.${column}`).join(', ')}`
}
const headColumns = 'agent, epoch, lane, base, contiguous, hash, points, lost'
const writes = {
  agent: upsert('agents', 'agent', 'agent, epoch, last_heard, points, lost'),
  epochs: upsert(
    'epochs',
    'agent, epoch',
    'agent, epoch, parent, ordinal, fenced, spool_id, dictionary_length',
  ),
  heads: upsert('ledger', 'agent, epoch, lane', headColumns),
  above: `insert into ledger_above select * from json_populate_recordset(null::ledger_above, $1)`,
  clearAbove: `delete from ledger_above where agent = $1
    and (epoch, lane) in (select * from unnest($2::text[], $3::integer[]))`,
  gaps: upsert(
    'gaps',
    'agent, epoch, lane, seq',
    'agent, epoch, lane, seq, seq_last, reason, count, source, time_min, time_max',
  ),
} as const

const put = async (client: pg.ClientBase, text: string, rows: readonly object[]): Promise<void> => {
  if (rows.length > 0) await client.query({ text, values: [JSON.stringify(rows)] })
}

/** Writes what is marked, parents of locks first: heads, then the agent's row. */
export const save = async (client: pg.ClientBase, books: AgentBooks): Promise<void> => {
  const { agent } = books
  const heads = [...books.heads.values()]
  await put(
    client,
    writes.heads,
    heads
      .filter((head) => head.dirty)
      .map(({ above: _above, dirty: _dirty, aboveDirty: _aboveDirty, ...head }) => ({
        agent,
        ...head,
      })),
  )
  const changed = heads.filter((head) => head.aboveDirty)
  if (changed.length > 0) {
    const lanes = changed.map((head) => head.lane)
    const values = [agent, changed.map((head) => head.epoch), lanes]
    await client.query({ text: writes.clearAbove, values })
  }
  const ranges = changed.flatMap(({ epoch, lane, above }) =>
    above.map(({ seq, seqLast, hash }) => ({ agent, epoch, lane, seq, seq_last: seqLast, hash })),
  )
  await put(client, writes.above, ranges)
  const epochs = [...books.epochs.values()].filter((row) => row.dirty)
  await put(
    client,
    writes.epochs,
    epochs.map(({ dirty: _, spoolId, dictionaryLength, ...row }) => ({
      agent,
      ...row,
      spool_id: spoolId,
      dictionary_length: dictionaryLength,
    })),
  )
  if (books.dirty) {
    const { speaker, lastHeardUs, pointsFolded, lostFolded } = books
    const row = { agent, epoch: speaker, last_heard: lastHeardUs }
    await put(client, writes.agent, [{ ...row, points: pointsFolded, lost: lostFolded }])
  }
  for (const table of books.forgotten.length > 0 ? forgottenTables : []) {
    const text = `delete from ${table} where agent = $1 and epoch = any($2::text[])`
    await client.query({ text, values: [agent, books.forgotten] })
  }
}
const forgottenTables = ['epochs', 'ledger', 'ledger_above', 'dictionary']

/** The incumbent was heard; never overwrites a change of who speaks. */
export const saveHeard = async (client: pg.ClientBase, books: AgentBooks): Promise<void> => {
  await client.query({
    text: 'update agents set last_heard = greatest(last_heard, $3) where agent = $1 and epoch = $2',
    values: [books.agent, books.speaker, books.lastHeardUs],
  })
}

/** What gap rows of the same reason inside a tombstone have declared already. */
export const declaredWithin = async (
  client: pg.ClientBase,
  agent: string,
  planned: readonly PlannedFrame[],
): Promise<ReadonlyMap<PlannedFrame, number>> => {
  const sums = new Map<PlannedFrame, number>()
  for (const plan of planned) {
    const { frame, head, overlaps } = plan
    if (frame.type !== 'tombstone' || !overlaps) continue
    const text = `with gone as (delete from gaps where agent = $1 and epoch = $2 and lane = $3
      and seq >= $4 and seq_last <= $5 and reason = $6 returning count)
      select coalesce(sum(count), 0)::text as found from gone`
    const key = [agent, head.epoch, frame.lane, frame.seq, frame.seqLast, frame.gap.reason]
    sums.set(plan, Number(await ask(client, text, key)))
  }
  return sums
}

export const saveGaps = async (
  client: pg.ClientBase,
  agent: string,
  planned: readonly PlannedFrame[],
): Promise<void> => {
  const rows = planned.flatMap(({ frame, head, action }) => {
    if (frame.type !== 'tombstone' || action !== 'take') return []
    const { reason, count, source, timeUsMin, timeUsMax } = frame.gap
    const place = { agent, epoch: head.epoch, lane: frame.lane }
    const seqs = { seq: frame.seq, seq_last: frame.seqLast }
    return [{ ...place, ...seqs, reason, count, source, time_min: timeUsMin, time_max: timeUsMax }]
  })
  await put(client, writes.gaps, rows)
}

export const listAgents = async (client: pg.ClientBase): Promise<readonly AgentRow[]> =>
  JSON.parse(
    await ask(
      client,
      `select coalesce(json_agg(row order by row.agent), '[]')::text as found from (
        select a.agent, a.epoch, a.last_heard as "lastHeardUs",
          (select coalesce(json_agg(e.epoch), '[]') from epochs e where e.agent = a.agent and fenced) as fenced,
          a.points + coalesce(sum(l.points), 0) as points, a.lost + coalesce(sum(l.lost), 0) as "declaredLost"
        from agents a left join ledger l using (agent) where a.epoch <> '' group by a.agent
      ) row`,
    ),
  ) as AgentRow[]
