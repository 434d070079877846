/**
 * The region's store in PostgreSQL or TimescaleDB: ledger, points and gaps of a request in one transaction,
 * several in flight at once, through PgBouncer in transaction mode if need be.
 *
 * Invariants: no state of a session is used (unnamed statements, SET LOCAL); heads are locked last before the
 * commit and looked at again under the lock; a commit answers only after COMMIT with `synchronous_commit=on`.
 */
import type pg from 'pg'
import type { EpochId } from '../model.ts'
import type { AgentBooks } from './books.ts'
import {
  dictionariesNeeded,
  isTrouble,
  lanesOf,
  planCommit,
  resultsOf,
  rowsOfSegments,
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
import { admitEpoch } from './fence.ts'
import { takeHello } from './hello.ts'
import { bookFrames, type PlannedFrame, positionsOf } from './ledger.ts'
import {
  declaredWithin,
  listAgents,
  lockAgent,
  lockHeads,
  look,
  lookIdentity,
  save,
  saveGaps,
  saveHeard,
} from './postgres-books.ts'
import {
  createPostgresHosts,
  type PostgresHostsOptions,
  statementTimeoutMsDefault,
} from './postgres-hosts.ts'
import { copyPoints, mergePoints } from './postgres-points.ts'
import { prepareSchema } from './postgres-prepare.ts'
import {
  isConflict,
  isDuplicateKey,
  isExpected,
  isServerAnswer,
  troubleOf,
} from './postgres-trouble.ts'
import type { SegmentRows } from './rows.ts'
import type { CommitFrame, RegionStore, StoreAnswer, StoreTrouble } from './store.ts'

export interface PostgresOptions extends PostgresHostsOptions {
  /** The codec's `extendDictionaryHash`. */
  readonly extendDictionaryHash: ExtendHash
}
/** A commit that lost a race begins again; each time another one has won, so this is enough. */
const attemptsMax = 8

/**
 * Looking again under a lock needs READ COMMITTED. The time-outs free what a node held that was cut off in the
 * middle: while it is idle, in a statement, or in the middle of a COPY (only the network's own signs help there).
 */
const beginSql = (timeoutMs: number): string =>
  [
    'begin isolation level read committed',
    'set local synchronous_commit = on',
    `set local statement_timeout = ${timeoutMs}`,
    `set local idle_in_transaction_session_timeout = ${timeoutMs}`,
    'set local tcp_keepalives_idle = 20',
    'set local tcp_keepalives_interval = 5',
    'set local tcp_keepalives_count = 4',
  ].join('; ')

/** How a commit has to be tried again. */
interface Again {
  readonly kind: 'again'
  readonly merge: boolean
  readonly lock: boolean
}
type Attempt<T> = StoreAnswer<T> | Again
type Greeted = Extract<Awaited<ReturnType<RegionStore['hello']>>, { kind: 'ok' }>
type Committed = Extract<Awaited<ReturnType<RegionStore['commit']>>, { kind: 'ok' }>

export const createPostgresStore = (options: PostgresOptions): RegionStore => {
  const { host } = options
  const hosts = createPostgresHosts(options)
  const cache = createDictionaryCache(options.extendDictionaryHash)
  const begin = beginSql(options.statementTimeoutMs ?? statementTimeoutMsDefault)

  /** Runs `work` on the primary; whatever the database says becomes an answer. */
  const use = async <T>(
    work: (client: pg.PoolClient) => Promise<StoreAnswer<T>>,
    signal?: AbortSignal,
  ): Promise<StoreAnswer<T>> => {
    try {
      return await hosts.use(work, signal)
    } catch (error) {
      if (!isExpected(error)) throw error
      return troubleOf(error)
    }
  }

  /** One transaction, committed when `work` says so, rolled back otherwise. */
  const transact = async <T>(
    client: pg.PoolClient,
    work: () => Promise<{ answer: T; keep: boolean }>,
  ): Promise<T> => {
    await client.query(begin)
    try {
      const { answer, keep } = await work()
      await client.query(keep ? 'commit' : 'rollback')
      return answer
    } catch (error) {
      // A connection that is lost or silent is closed by the caller, and has rolled back with it.
      if (isServerAnswer(error)) await client.query('rollback')
      throw error
    }
  }
  /** Under the agent's lock: who speaks, ordinals, dictionaries. Serialization troubles are tried again. */
  const change = <T>(
    agent: string,
    work: (client: pg.PoolClient) => Promise<{ answer: StoreAnswer<T>; keep: boolean }>,
  ): Promise<StoreAnswer<T>> =>
    use(async (client) => {
      for (let tries = 1; ; tries++) {
        try {
          return await transact(client, async () => {
            await lockAgent(client, agent)
            return work(client)
          })
        } catch (error) {
          if (!isConflict(error) || tries === attemptsMax) throw error
        }
      }
    })

  const dictionary = async (
    client: pg.ClientBase,
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
    return cache.put(
      agent,
      epoch,
      rows.flatMap((row) => unpackIds(row.ids)),
    )
  }
  const rowsFor = async (
    client: pg.ClientBase,
    books: AgentBooks,
    planned: readonly PlannedFrame[],
  ): Promise<readonly SegmentRows[] | StoreTrouble> => {
    const segments = segmentsOf(planned)
    const needed = dictionariesNeeded(books, segments)
    if ('kind' in needed) return needed
    const found = new Map<EpochId, Dictionary>()
    for (const epoch of needed.keys()) found.set(epoch, await dictionary(client, books, epoch))
    return rowsOfSegments(books, segments, found)
  }

  interface Request {
    readonly agent: string
    readonly epoch: EpochId
    readonly frames: readonly CommitFrame[]
    readonly merge: boolean
    readonly lock: boolean
  }

  /** Books what was written, under the heads' lock, unless another commit won meanwhile. */
  const book = async (
    client: pg.PoolClient,
    { agent, epoch, frames, merge, lock }: Request,
    before: readonly PlannedFrame[],
  ): Promise<{ answer: Attempt<Committed>; keep: boolean }> => {
    if (before.some((plan) => plan.action === 'take')) await lockHeads(client, agent, before)
    const { books, region, timeline } = await look(client, agent)
    const { speaker } = books
    const planned = planCommit(books, epoch, frames)
    if (isTrouble(planned)) return { answer: planned, keep: false }
    if (books.speaker !== speaker && !lock)
      return { answer: { kind: 'again', merge, lock: true }, keep: false }
    if (planned.some((plan, at) => plan.action !== before[at]?.action))
      return { answer: { kind: 'again', merge, lock }, keep: false }
    const declared = await declaredWithin(client, agent, planned)
    const trouble = bookFrames(planned, (plan) => declared.get(plan) ?? 0)
    if (trouble !== null) return { answer: trouble, keep: false }
    await saveGaps(client, agent, planned)
    if (!lock && books.dirty) {
      books.dirty = false
      await saveHeard(client, books)
    }
    await save(client, books)
    const lanes = lanesOf(books, epoch, planned)
    const answer = { kind: 'ok' as const, region, timeline, results: resultsOf(planned), lanes }
    return { answer, keep: true }
  }

  const attempt = async (
    client: pg.PoolClient,
    request: Request,
  ): Promise<{ answer: Attempt<Committed>; keep: boolean }> => {
    const { agent, epoch, frames, merge, lock } = request
    if (lock) await lockAgent(client, agent)
    const { books } = await look(client, agent)
    const { speaker } = books
    const planned = planCommit(books, epoch, frames)
    const fenceMoved =
      books.speaker !== speaker || [...books.epochs.values()].some((row) => row.dirty)
    if (fenceMoved && !lock) return { answer: { kind: 'again', merge, lock: true }, keep: false }
    if (isTrouble(planned)) {
      // A fence that was noticed stands, whatever becomes of the request.
      const keep = planned.kind === 'fenced' && fenceMoved
      if (keep) await save(client, books)
      return { answer: planned, keep }
    }
    const rows = await rowsFor(client, books, planned)
    if (isTrouble(rows)) return { answer: rows, keep: false }
    if (rows.length > 0) await (merge ? mergePoints : copyPoints)(client, rows)
    return book(client, request, planned)
  }

  const commit: RegionStore['commit'] = (agent, epoch, frames, signal) =>
    use<Omit<Committed, 'kind'>>(async (client) => {
      let merge = frames.some((frame) => frame.type === 'segment' && frame.replay)
      let lock = false
      for (let tries = 0; tries < attemptsMax && !signal.aborted; tries++) {
        try {
          const answer = await transact(client, () =>
            attempt(client, { agent, epoch, frames, merge, lock }),
          )
          if (answer.kind !== 'again') return answer
          lock = answer.lock
        } catch (error) {
          if (isDuplicateKey(error) && !merge) merge = true
          else if (!isConflict(error)) throw error
        }
      }
      return { kind: 'later', text: 'other commits of the same agent kept winning' }
    }, signal)

  return {
    kind: 'postgres',
    prepare: () =>
      use((client) =>
        prepareSchema(client, (version) => {
          host.log.info('database schema migrated', { version })
        }),
      ),
    identity: () => use(async (client) => ({ kind: 'ok', ...(await lookIdentity(client)) })),
    hello: (hello) =>
      change<Omit<Greeted, 'kind'>>(hello.agent, async (client) => {
        const { books, region, timeline } = await look(client, hello.agent)
        const trouble = takeHello(books, hello, region)
        await save(client, books)
        if (trouble !== null) return { answer: trouble, keep: true }
        const lanes = positionsOf(
          books,
          hello.epoch,
          hello.lanes.map(({ lane }) => lane),
        )
        return { answer: { kind: 'ok', region, timeline, lanes }, keep: true }
      }),
    addSeries: (agent, epoch, first, entries) =>
      change<{ known: number }>(agent, async (client) => {
        const { books } = await look(client, agent)
        const row = books.epochs.get(epoch)
        if (row === undefined) return { answer: { kind: 'need-hello' }, keep: false }
        const { ids } = await dictionary(client, books, epoch)
        const added = newEntries(ids, epoch, first, entries)
        if (isTrouble(added)) return { answer: added, keep: false }
        const known = ids.length + added.length
        if (added.length === 0) return { answer: { kind: 'ok', known }, keep: false }
        const text = await putSeries(client, agent, added)
        if (text !== null) return { answer: { kind: 'fork', text }, keep: false }
        await client.query({
          text: 'insert into dictionary (agent, epoch, first, ids) values ($1, $2, $3, $4)',
          values: [agent, epoch, ids.length, packIds(added.map((entry) => entry.id))],
        })
        row.dictionaryLength = known
        row.dirty = true
        await save(client, books)
        return { answer: { kind: 'ok', known }, keep: true }
      }),
    commit,
    admit: (agent, epoch) =>
      change<object>(agent, async (client) => {
        const { books } = await look(client, agent)
        if (!admitEpoch(books, epoch)) return { answer: { kind: 'need-hello' }, keep: false }
        await save(client, books)
        return { answer: { kind: 'ok' }, keep: true }
      }),
    agents: () => use(async (client) => ({ kind: 'ok', agents: await listAgents(client) })),
    [Symbol.asyncDispose]: () => hosts.close(),
  }
}

/** Stores the series' keys; answers why not when an id stands for another key already. */
const putSeries = async (
  client: pg.ClientBase,
  agent: string,
  entries: readonly {
    id: bigint
    name: string
    tags: readonly (readonly [string, string])[]
    unit: string
  }[],
): Promise<string | null> => {
  const rows = entries.map(({ id, name, tags, unit }) => ({
    series_id: String(id),
    agent,
    name,
    tags: tagsText(tags),
    unit,
  }))
  const { rows: wrong } = await client.query<{ series_id: string }>({
    text: `with given as (select series_id, agent, name, tags, unit from json_to_recordset($1)
        as r (series_id bigint, agent text, name text, tags text, unit text)),
      put as (insert into series as s (series_id, agent, name, tags, unit)
        select distinct on (series_id) series_id, agent, name, tags::jsonb, unit from given order by series_id
        on conflict (series_id) do update set unit = excluded.unit where s.unit <> excluded.unit)
      select s.series_id::text from series s join given g using (series_id)
      where (s.agent, s.name, s.tags) is distinct from (g.agent, g.name, g.tags::jsonb) limit 1`,
    values: [JSON.stringify(rows)],
  })
  const id = wrong[0]?.series_id
  return id === undefined ? null : `series id ${id} stands for another series`
}
