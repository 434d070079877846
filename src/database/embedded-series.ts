/** Series keys and dictionaries in SQLite. Runs inside the caller's transaction. */
import type Database from 'better-sqlite3'
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
import { alwaysUs } from './schema-embedded.ts'
import type { StoreAnswer } from './store.ts'

export interface EmbeddedSeries {
  /** From the cache when it is as long as the database's, else read. */
  readonly dictionary: (books: AgentBooks, epoch: EpochId) => Dictionary
  /** Takes the entries that are new; marks the books. */
  readonly add: (
    books: AgentBooks,
    epoch: EpochId,
    first: number,
    entries: readonly SeriesEntry[],
  ) => StoreAnswer<{ readonly known: number }>
}

interface Key {
  readonly agent: string
  readonly name: string
  readonly tags: string
}

export const createEmbeddedSeries = (
  db: Database.Database,
  cache: DictionaryCache,
): EmbeddedSeries => {
  const readIds = db
    .prepare<[string, string], Buffer>(
      'select ids from dictionary where agent = ? and epoch = ? order by first',
    )
    .pluck()
  const readKey = db.prepare<[bigint], Key>(
    'select agent, name, tags from series where series_id = ?',
  )
  const addIds = db.prepare('insert into dictionary values (?, ?, ?, ?)')
  const addKey = db.prepare(`insert into series values (?, ?, ?, ?, ?, null)
    on conflict (series_id) do update set unit = excluded.unit`)
  const lastContract = db
    .prepare<[bigint], string | null>(
      'select contract from series_contracts where series_id = ? order by from_time desc limit 1',
    )
    .pluck()
  const newestUs = db
    .prepare<[bigint], number | null>('select max(time) from points where series_id = ?')
    .pluck()
  const addContract = db.prepare(`insert into series_contracts values (?, ?, ?)
    on conflict (series_id, from_time) do update set contract = excluded.contract`)
  const setContract = db.prepare('update series set contract = ? where series_id = ?')

  /** What has no time is taken for what it is now, unless the last one says the same; the very first for all. */
  const addContracts = (entries: readonly SeriesEntry[]): void => {
    for (const { id, fromUs, contract, alone } of toldContracts(entries)) {
      const text = contract === null ? null : JSON.stringify(contract)
      const last = lastContract.get(id)
      if (fromUs !== null || last === undefined || (alone && last !== text)) {
        const newest = last === undefined ? null : newestUs.get(id)
        addContract.run(id, fromUs ?? newest ?? alwaysUs, text)
      }
      setContract.run(lastContract.get(id) ?? null, id)
    }
  }

  const dictionary: EmbeddedSeries['dictionary'] = ({ agent, epochs }, epoch) => {
    const length = epochs.get(epoch)?.dictionaryLength ?? 0
    const cached = cache.get(agent, epoch)
    if (cached !== undefined && cached.ids.length === length) return cached
    return cache.put(agent, epoch, readIds.all(agent, epoch).flatMap(unpackIds))
  }
  return {
    dictionary,
    add: (books, epoch, first, entries) => {
      const { agent } = books
      const row = books.epochs.get(epoch)
      if (row === undefined || row.ordinal === 0) return { kind: 'need-hello' }
      const { ids } = dictionary(books, epoch)
      const added = newEntries(ids, epoch, first, entries)
      if (isTrouble(added)) return added
      if (added.length === 0) return { kind: 'ok', known: ids.length }
      for (const { id, name, tags } of added) {
        const key = readKey.get(id)
        if (key === undefined) continue
        if (key.agent === agent && key.name === name && key.tags === tagsText(tags)) continue
        return { kind: 'fork', text: `series id ${id} stands for another series: ${key.name}` }
      }
      for (const { id, name, tags, unit } of added)
        addKey.run(id, agent, name, tagsText(tags), unit)
      addContracts(added)
      addIds.run(agent, epoch, ids.length, packIds(added.map((entry) => entry.id)))
      row.dictionaryLength = ids.length + added.length
      row.dirty = true
      return { kind: 'ok', known: row.dictionaryLength }
    },
  }
}
