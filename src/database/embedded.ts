/**
 * The region's store in one SQLite file (or in memory, for the simulation): same rules and same durability as
 * PostgreSQL, for one process.
 *
 * Invariants: `synchronous=FULL` is asserted after the first write (better-sqlite3 would lower it in WAL mode);
 * the file is held EXCLUSIVE; every answer follows the commit of the transaction it speaks of.
 */
import Database from 'better-sqlite3'
import { Failure, textOf } from '../errors.ts'
import type { Host } from '../host.ts'
import type { EpochId, SeriesEntry } from '../model.ts'
import type { AgentBooks } from './books.ts'
import {
  dictionariesNeeded,
  isTrouble,
  lanesOf,
  planCommit,
  resultsOf,
  rowsOfSegments,
  type SegmentFrame,
  segmentsOf,
} from './commit.ts'
import {
  createDictionaryCache,
  type Dictionary,
  type ExtendHash,
  newEntries,
  packIds,
  tagsText,
  unpackIds,
} from './dictionary.ts'
import { createEmbeddedBooks } from './embedded-books.ts'
import { createPointWriter } from './embedded-points.ts'
import { admitEpoch } from './fence.ts'
import { takeHello } from './hello.ts'
import { bookFrames, positionsOf } from './ledger.ts'
import { embeddedMigrations } from './schema-embedded.ts'
import type { RegionIdentity, RegionStore, StoreAnswer, StoreTrouble } from './store.ts'

export type StoreMoment = 'begun' | 'points' | 'booked' | 'committed'
export interface EmbeddedOptions {
  /** A file, or an image made by `image()`; neither: an empty database in memory. */
  readonly path?: string
  readonly image?: Uint8Array
  readonly host: Pick<Host, 'clock' | 'randomBytes' | 'log'>
  /** The codec's `extendDictionaryHash`. */
  readonly extendDictionaryHash: ExtendHash
  /** This image takes over from another one (failover, restore): the timeline grows by one. */
  readonly promoted?: boolean
  /** Called at each moment of a commit; what it throws is a crash there. */
  readonly failpoint?: (moment: StoreMoment) => void
}
export interface EmbeddedStore extends RegionStore {
  readonly kind: 'embedded'
  /** The whole database as bytes: what a crash at this moment would leave. */
  readonly image: () => Uint8Array
  /** For the checker and tests (`read-back.ts`); nothing else may use it. */
  readonly database: Database.Database
}

/** A process that was killed has let go of the file by then; one that runs will not. */
const lockWaitMs = 500

const openDatabase = ({ path, image }: EmbeddedOptions): Database.Database => {
  const source = image === undefined ? (path ?? ':memory:') : Buffer.from(image)
  const db = new Database(source as string, { timeout: lockWaitMs })
  db.pragma('locking_mode = EXCLUSIVE')
  db.pragma('journal_mode = WAL')
  db.pragma('synchronous = FULL')
  db.pragma('wal_autocheckpoint = 500')
  db.pragma('journal_size_limit = 8388608')
  db.pragma('foreign_keys = OFF')
  return db
}

/** Runs the migrations that are missing, each in a transaction, and makes the region's identity once. */
const migrate = (db: Database.Database, { host, promoted }: EmbeddedOptions): void => {
  const found = db.pragma('user_version', { simple: true }) as number
  if (found > embeddedMigrations.length) {
    const text = `the region's database has schema ${found}, this version knows up to ${embeddedMigrations.length}`
    throw new Failure(
      'HF-D002',
      text,
      'Start the newer version again, or restore an older database.',
    )
  }
  db.transaction(() => {
    embeddedMigrations.slice(found).forEach((sql, at) => {
      db.exec(sql)
      db.pragma(`user_version = ${found + at + 1}`)
    })
    const region = Buffer.from(host.randomBytes(16)).toString('hex')
    db.prepare('insert or ignore into region values (1, ?, 1)').run(region)
    if (promoted && found > 0) db.prepare('update region set timeline = timeline + 1').run()
  }).immediate()
  if (db.pragma('synchronous', { simple: true }) !== 2)
    throw new Failure(
      'HF-D003',
      'SQLite does not keep synchronous=FULL',
      'Report this: it is a bug.',
    )
}

/** Expected trouble as an answer; anything else is a bug and goes on up. */
const troubleOf = (error: unknown): StoreTrouble => {
  const code = error instanceof Database.SqliteError ? error.code : ''
  const text = textOf(error)
  if (code.startsWith('SQLITE_BUSY') || code.startsWith('SQLITE_LOCKED'))
    return { kind: 'later', text }
  if (code === 'SQLITE_FULL')
    return { kind: 'blocked', code: 'HF-D010', text, hint: 'Free space on the region’s disk.' }
  if (/^SQLITE_(IOERR|CORRUPT|NOTADB|CANTOPEN|READONLY)/.test(code))
    return {
      kind: 'blocked',
      code: 'HF-D011',
      text,
      hint: 'Check the region’s disk, then restart.',
    }
  if (isFailureCode(error, 'HF-D002'))
    return { kind: 'blocked', code: 'HF-D002', text, hint: (error as Failure).hint }
  throw error
}
const keyText = (agent: string, name: string, tags: string): string => `${agent} ${name} ${tags}`
const isFailureCode = (error: unknown, code: string) =>
  error instanceof Failure && error.code === code

export const createEmbeddedStore = (options: EmbeddedOptions): EmbeddedStore => {
  const { host, failpoint = () => {} } = options
  const db = openDatabase(options)
  const cache = createDictionaryCache(options.extendDictionaryHash)
  let parts: ReturnType<typeof open> | undefined

  const open = () => {
    migrate(db, options)
    return {
      books: createEmbeddedBooks(db),
      writePoints: createPointWriter(db),
      identity: db.prepare<[], RegionIdentity>('select region, timeline from region'),
      ids: db
        .prepare<[string, string], Buffer>(
          'select ids from dictionary where agent = ? and epoch = ? order by first',
        )
        .pluck(),
      addIds: db.prepare('insert into dictionary values (?, ?, ?, ?)'),
      addSeries: db.prepare(`insert into series values (?, ?, ?, ?, ?)
        on conflict (series_id) do update set unit = excluded.unit`),
      series: db
        .prepare<[bigint], string>(
          "select agent || ' ' || name || ' ' || tags from series where series_id = ?",
        )
        .pluck(),
    }
  }
  const ready = () => {
    parts ??= open()
    return parts
  }
  const identity = (): RegionIdentity => ready().identity.get() as RegionIdentity

  /** One transaction; a trouble that is returned commits only what `work` has saved. */
  const transact = async <T>(work: () => StoreAnswer<T>): Promise<StoreAnswer<T>> => {
    try {
      ready()
      return db.transaction(work).immediate()
    } catch (error) {
      return troubleOf(error)
    }
  }
  const dictionary = (books: AgentBooks, epoch: EpochId): Dictionary => {
    const length = books.epochs.get(epoch)?.dictionaryLength ?? 0
    const cached = cache.get(books.agent, epoch)
    if (cached !== undefined && cached.ids.length === length) return cached
    return cache.put(books.agent, epoch, ready().ids.all(books.agent, epoch).flatMap(unpackIds))
  }
  const rowsFor = (books: AgentBooks, segments: readonly SegmentFrame[]) => {
    const needed = dictionariesNeeded(books, segments)
    if (!(needed instanceof Map)) return needed as StoreTrouble
    const found = new Map([...needed.keys()].map((epoch) => [epoch, dictionary(books, epoch)]))
    return rowsOfSegments(books, segments, found)
  }

  const commit: RegionStore['commit'] = async (agent, epoch, frames, signal) => {
    if (signal.aborted) return { kind: 'later', text: 'given up before it began' }
    const answer = await transact(() => {
      const { books: store, writePoints } = ready()
      failpoint('begun')
      const books = store.load(agent, host.clock.nowUs())
      const planned = planCommit(books, epoch, frames)
      if (isTrouble(planned)) {
        if (planned.kind === 'fenced') store.save(books)
        return planned
      }
      const rows = rowsFor(books, segmentsOf(planned))
      if (isTrouble(rows)) return rows
      const trouble = bookFrames(planned, (plan) => store.declaredWithin(agent, plan))
      if (trouble !== null) return trouble
      for (const each of rows) writePoints(each)
      failpoint('points')
      for (const plan of planned) if (plan.action === 'take') store.saveGap(agent, plan)
      store.save(books)
      failpoint('booked')
      const lanes = lanesOf(books, epoch, planned)
      return { kind: 'ok' as const, ...identity(), results: resultsOf(planned), lanes }
    })
    failpoint('committed')
    return answer
  }

  const addEntries = (
    agent: string,
    epoch: EpochId,
    first: number,
    entries: readonly SeriesEntry[],
  ): StoreAnswer<{ known: number }> => {
    const { books: store, addIds, addSeries, series } = ready()
    const books = store.load(agent, host.clock.nowUs())
    const row = books.epochs.get(epoch)
    if (row === undefined) return { kind: 'need-hello' }
    const { ids } = dictionary(books, epoch)
    const added = newEntries(ids, epoch, first, entries)
    if (isTrouble(added)) return added
    if (added.length === 0) return { kind: 'ok', known: ids.length }
    for (const { id, name, tags } of added) {
      const key = series.get(id)
      if (key === undefined || key === keyText(agent, name, tagsText(tags))) continue
      return { kind: 'fork', text: `series id ${id} stands for another series: ${key}` }
    }
    for (const { id, name, tags, unit } of added)
      addSeries.run(id, agent, name, tagsText(tags), unit)
    addIds.run(agent, epoch, ids.length, packIds(added.map((entry) => entry.id)))
    row.dictionaryLength = ids.length + added.length
    row.dirty = true
    store.save(books)
    return { kind: 'ok', known: row.dictionaryLength }
  }

  return {
    kind: 'embedded',
    database: db,
    image: () => db.serialize(),
    prepare: () => transact<object>(() => ({ kind: 'ok' })),
    identity: () => transact(() => ({ kind: 'ok', ...identity() })),
    hello: (hello) =>
      transact(() => {
        const { books: store } = ready()
        const books = store.load(hello.agent, host.clock.nowUs())
        const known = identity()
        const trouble = takeHello(books, hello, known.region)
        store.save(books)
        if (trouble !== null) return trouble
        const lanes = hello.lanes.map(({ lane }) => lane)
        return { kind: 'ok', ...known, lanes: positionsOf(books, hello.epoch, lanes) }
      }),
    addSeries: (agent, epoch, first, entries) =>
      transact(() => addEntries(agent, epoch, first, entries)),
    commit,
    admit: (agent, epoch) =>
      transact<object>(() => {
        const { books: store } = ready()
        const books = store.load(agent, host.clock.nowUs())
        if (!admitEpoch(books, epoch)) return { kind: 'need-hello' }
        store.save(books)
        return { kind: 'ok' }
      }),
    agents: () => transact(() => ({ kind: 'ok', agents: ready().books.agents() })),
    [Symbol.asyncDispose]: async () => {
      db.close()
    },
  }
}
