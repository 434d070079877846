/** Series keys and dictionaries in PostgreSQL. */
import type pg from 'pg'
import type { EpochId, SeriesEntry } from '../model.ts'
import type { AgentBooks } from './books.ts'
import { isTrouble } from './commit.ts'
import {
  type Dictionary,
  type DictionaryCache,
  newEntries,
  packIds,
  tagsText,
  toldContracts,
  unpackIds,
} from './dictionary.ts'
import { look, save } from './postgres-books.ts'
import { type Done, drop, keep } from './postgres-session.ts'
import type { StoreAnswer } from './store.ts'

/** From the cache when it is as long as the database's, else read. */
export const readDictionary = async (
  client: pg.ClientBase,
  cache: DictionaryCache,
  { agent, epochs }: AgentBooks,
  epoch: EpochId,
): Promise<Dictionary> => {
  const length = epochs.get(epoch)?.dictionaryLength ?? 0
  const cached = cache.get(agent, epoch)
  if (cached !== undefined && cached.ids.length === length) return cached
  const { rows } = await client.query<{ ids: Buffer }>({
    text: 'select ids from dictionary where agent = $1 and epoch = $2 order by first',
    values: [agent, epoch],
  })
  const ids = rows.flatMap((row) => unpackIds(row.ids))
  return cache.put(agent, epoch, ids)
}

const putSql = `with given as (
    select series_id, agent, name, tags::jsonb as tags, unit from json_to_recordset($1)
    as r (series_id bigint, agent text, name text, tags text, unit text)
  ), put as (
    insert into series as s (series_id, agent, name, tags, unit)
    select distinct on (series_id) series_id, agent, name, tags, unit from given order by series_id
    on conflict (series_id) do update set unit = excluded.unit where s.unit <> excluded.unit
  )
  select s.series_id::text from series s join given g using (series_id)
  where (s.agent, s.name, s.tags) is distinct from (g.agent, g.name, g.tags) limit 1`

/** What has no time is taken for what it is now, unless the last one says the same; the very first for all there is. */
const contractsSql = `insert into series_contracts as c (series_id, from_time, contract)
  select series_id, coalesce(
    timestamptz 'epoch' + from_us * interval '1 microsecond',
    case when is_known then (select max(time) from points p where p.series_id = g.series_id) end,
    '-infinity'), contract
  from json_to_recordset($1) as g (series_id bigint, from_us bigint, contract jsonb, alone boolean),
  lateral (select exists (select from series_contracts k where k.series_id = g.series_id) as is_known) k
  where from_us is not null or not is_known or alone and contract is distinct from (
    select l.contract from series_contracts l
    where l.series_id = g.series_id order by l.from_time desc limit 1)
  on conflict (series_id, from_time) do update set contract = excluded.contract
    where c.contract is distinct from excluded.contract`
const latestSql = `update series s set contract = l.contract from unnest($1::bigint[]) as g (series_id),
  lateral (select c.contract from series_contracts c
    where c.series_id = g.series_id order by c.from_time desc limit 1) l
  where s.series_id = g.series_id and s.contract is distinct from l.contract`

/** Runs once the keys are there. */
const putContracts = async (
  client: pg.ClientBase,
  entries: readonly SeriesEntry[],
): Promise<void> => {
  const rows = toldContracts(entries).map(({ id, fromUs, contract, alone }) => {
    return { series_id: String(id), from_us: fromUs, contract, alone }
  })
  if (rows.length === 0) return
  await client.query({ text: contractsSql, values: [JSON.stringify(rows)] })
  await client.query({ text: latestSql, values: [[...new Set(rows.map((row) => row.series_id))]] })
}

/** Stores the series' keys; answers why not when an id stands for another key already. */
const putSeries = async (
  client: pg.ClientBase,
  agent: string,
  entries: readonly SeriesEntry[],
): Promise<string | null> => {
  const rows = entries.map(({ id, name, tags, unit }) => {
    return { series_id: String(id), agent, name, tags: tagsText(tags), unit }
  })
  const found = await client.query<{ series_id: string }>({
    text: putSql,
    values: [JSON.stringify(rows)],
  })
  const id = found.rows[0]?.series_id
  return id === undefined ? null : `series id ${id} stands for another series`
}

/** Takes the entries that are new; runs under the agent's lock. */
export const addEntries = async (
  client: pg.ClientBase,
  cache: DictionaryCache,
  [agent, epoch, first, entries]: readonly [string, EpochId, number, readonly SeriesEntry[]],
): Promise<Done<StoreAnswer<{ known: number }>>> => {
  const { books } = await look(client, agent)
  const row = books.epochs.get(epoch)
  if (row === undefined || row.ordinal === 0) return drop({ kind: 'need-hello' })
  const { ids } = await readDictionary(client, cache, books, epoch)
  const added = newEntries(ids, epoch, first, entries)
  if (isTrouble(added)) return drop(added)
  const known = ids.length + added.length
  if (added.length === 0) return drop({ kind: 'ok', known })
  const text = await putSeries(client, agent, added)
  if (text !== null) return drop({ kind: 'fork', text })
  await putContracts(client, added)
  await client.query({
    text: 'insert into dictionary (agent, epoch, first, ids) values ($1, $2, $3, $4)',
    values: [agent, epoch, ids.length, packIds(added.map((entry) => entry.id))],
  })
  row.dictionaryLength = known
  row.dirty = true
  await save(client, books)
  return keep({ kind: 'ok', known })
}
