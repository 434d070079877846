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
  unpackIds,
} from './dictionary.ts'
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
  const addKey = db.prepare(`insert into series values (?, ?, ?, ?, ?, ?)
    on conflict (series_id) do update set unit = excluded.unit, contract = excluded.contract`)

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
      for (const { id, name, tags, unit, contract } of added) {
        const contractText = contract === undefined ? null : JSON.stringify(contract)
        addKey.run(id, agent, name, tagsText(tags), unit, contractText)
      }
      addIds.run(agent, epoch, ids.length, packIds(added.map((entry) => entry.id)))
      row.dictionaryLength = ids.length + added.length
      row.dirty = true
      return { kind: 'ok', known: row.dictionaryLength }
    },
  }
}
