/**
 * The region's store in one SQLite file (or in memory, for the simulation): same rules and same durability as
 * PostgreSQL, for one process.
 *
 * Invariants: the file is held EXCLUSIVE; every answer follows the commit of the transaction it speaks of.
 */
import type Database from 'better-sqlite3'
import type { Host } from '../host.ts'
import type { EpochId } from '../model.ts'
import {
  dictionariesNeeded,
  isTrouble,
  lanesOf,
  planCommit,
  resultsOf,
  rowsOfSegments,
  segmentsOf,
} from './commit.ts'
import { createDictionaryCache, type DictionaryCache, type ExtendHash } from './dictionary.ts'
import { createEmbeddedBooks } from './embedded-books.ts'
import { embeddedTroubleOf, migrate, openDatabase } from './embedded-open.ts'
import { createPointWriter } from './embedded-points.ts'
import { createEmbeddedSeries } from './embedded-series.ts'
import { admitEpoch } from './fence.ts'
import { takeHello } from './hello.ts'
import { bookFrames, positionsOf } from './ledger.ts'
import type { CommitFrame, RegionIdentity, RegionStore, StoreAnswer } from './store.ts'

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

/** What works on the migrated database. */
const partsOf = (db: Database.Database, cache: DictionaryCache) => ({
  books: createEmbeddedBooks(db),
  series: createEmbeddedSeries(db, cache),
  writePoints: createPointWriter(db),
  identity: db.prepare<[], RegionIdentity>('select region, timeline from region'),
})
type Parts = ReturnType<typeof partsOf>
type Committed = Omit<Extract<Awaited<ReturnType<RegionStore['commit']>>, { kind: 'ok' }>, 'kind'>

/** Inside a transaction: plan all frames, then write points, gaps and ledger. */
const commitFrames = (
  { books: store, series, writePoints, identity }: Parts,
  [agent, epoch, frames]: readonly [string, EpochId, readonly CommitFrame[]],
  nowUs: number,
  failpoint: (moment: StoreMoment) => void,
): StoreAnswer<Committed> => {
  failpoint('begun')
  const books = store.load(agent, nowUs)
  const planned = planCommit(books, epoch, frames)
  if (isTrouble(planned)) {
    // A fence that was noticed stands, whatever becomes of the request.
    if (planned.kind === 'fenced') store.save(books)
    return planned
  }
  const segments = segmentsOf(planned)
  const needed = dictionariesNeeded(books, segments)
  if ('kind' in needed) return needed
  const found = new Map([...needed.keys()].map((each) => [each, series.dictionary(books, each)]))
  const rows = rowsOfSegments(books, segments, found)
  if (isTrouble(rows)) return rows
  const trouble = bookFrames(planned, (plan) => store.declaredWithin(agent, plan))
  if (trouble !== null) return trouble
  for (const each of rows) writePoints(each)
  failpoint('points')
  for (const plan of planned) if (plan.action === 'take') store.saveGap(agent, plan)
  store.save(books)
  failpoint('booked')
  const lanes = lanesOf(books, epoch, planned)
  const region = identity.get() as RegionIdentity
  return { kind: 'ok', ...region, results: resultsOf(planned), lanes }
}

export const createEmbeddedStore = (options: EmbeddedOptions): EmbeddedStore => {
  const { host, failpoint = () => {}, promoted = false } = options
  const db = openDatabase(options.image ?? options.path ?? ':memory:')
  const cache = createDictionaryCache(options.extendDictionaryHash)
  let parts: Parts | undefined

  /** One transaction; a trouble that is returned commits only what `work` has saved. */
  const transact = async <T>(
    work: (parts: Parts, nowUs: number) => StoreAnswer<T>,
  ): Promise<StoreAnswer<T>> => {
    try {
      if (parts === undefined) {
        migrate(db, host, promoted)
        parts = partsOf(db, cache)
      }
      const ready = parts
      return db.transaction(() => work(ready, host.clock.nowUs())).immediate()
    } catch (error) {
      return embeddedTroubleOf(error)
    }
  }
  const identityIn = ({ identity }: Parts) => identity.get() as RegionIdentity

  return {
    kind: 'embedded',
    database: db,
    image: () => db.serialize(),
    prepare: () => transact<object>(() => ({ kind: 'ok' })),
    identity: () => transact((all) => ({ kind: 'ok', ...identityIn(all) })),
    hello: (hello) =>
      transact((all, nowUs) => {
        const books = all.books.load(hello.agent, nowUs)
        const identity = identityIn(all)
        const trouble = takeHello(books, hello, identity.region)
        all.books.save(books)
        if (trouble !== null) return trouble
        const lanes = hello.lanes.map(({ lane }) => lane)
        return { kind: 'ok', ...identity, nowUs, lanes: positionsOf(books, hello.epoch, lanes) }
      }),
    addSeries: (agent, epoch, first, entries) =>
      transact((all, nowUs) => {
        const books = all.books.load(agent, nowUs)
        const answer = all.series.add(books, epoch, first, entries)
        all.books.save(books)
        return answer
      }),
    commit: async (agent, epoch, frames, signal) => {
      if (signal.aborted) return { kind: 'later', text: 'given up before it began' }
      const answer = await transact((all, nowUs) =>
        commitFrames(all, [agent, epoch, frames], nowUs, failpoint),
      )
      if (answer.kind === 'ok') failpoint('committed')
      return answer
    },
    admit: (agent, epoch) =>
      transact<object>((all, nowUs) => {
        const books = all.books.load(agent, nowUs)
        if (!admitEpoch(books, epoch)) return { kind: 'need-hello' }
        all.books.save(books)
        return { kind: 'ok' }
      }),
    agents: () => transact((all) => ({ kind: 'ok', agents: all.books.agents() })),
    [Symbol.asyncDispose]: async () => {
      db.close()
    },
  }
}
