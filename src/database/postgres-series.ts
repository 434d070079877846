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
    select series_id, agent, name, tags::jsonb as tags, unit, contract from json_to_recordset($1)
    as r (series_id bigint, agent text, name text, tags text, unit text, contract jsonb)
  ), put as (
    insert into series as s (series_id, agent, name, tags, unit, contract)
    select distinct on (series_id) series_id, agent, name, tags, unit, contract from given order by series_id
    on conflict (series_id) do update set unit = excluded.unit, contract = excluded.contract
      where (s.unit, s.contract) is distinct from (excluded.unit, excluded.contract)
  )
  select s.series_id::text from series s join given g using (series_id)
  where (s.agent, s.name, s.tags) is distinct from (g.agent, g.name, g.tags) limit 1`

/** Stores the series' keys; answers why not when an id stands for another key already. */
const putSeries = async (
  client: pg.ClientBase,
  agent: string,
  entries: readonly SeriesEntry[],
): Promise<string | null> => {
  const rows = entries.map(({ id, name, tags, unit, contract = null }) => {
    return { series_id: String(id), agent, name, tags: tagsText(tags), unit, contract }
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
  await client.query({
    text: 'insert into dictionary (agent, epoch, first, ids) values ($1, $2, $3, $4)',
    values: [agent, epoch, ids.length, packIds(added.map((entry) => entry.id))],
  })
  row.dictionaryLength = known
  row.dirty = true
  await save(client, books)
  return keep({ kind: 'ok', known })
}
