/**
 * The region's store in PostgreSQL or TimescaleDB, for any number of regional nodes and agents at once, directly or
 * through PgBouncer in transaction mode.
 *
 * Invariants: no state of a session is used (unnamed statements, SET LOCAL); an answer of a commit follows a
 * COMMIT with `synchronous_commit=on`; the rules themselves are those of the embedded store.
 */
import { createDictionaryCache, type ExtendHash } from './dictionary.ts'
import { admitEpoch } from './fence.ts'
import { takeHello } from './hello.ts'
import { positionsOf } from './ledger.ts'
import { listAgents, look, lookIdentity, save } from './postgres-books.ts'
import { createPostgresCommit } from './postgres-commit.ts'
import type { PostgresHostsOptions } from './postgres-hosts.ts'
import { prepareSchema } from './postgres-prepare.ts'
import { addEntries } from './postgres-series.ts'
import { createPostgresSession, drop, keep } from './postgres-session.ts'
import type { HelloTaken, RegionStore } from './store.ts'

export interface PostgresOptions extends PostgresHostsOptions {
  /** The codec's `extendDictionaryHash`. */
  readonly extendDictionaryHash: ExtendHash
}

export const createPostgresStore = (options: PostgresOptions): RegionStore => {
  const session = createPostgresSession(options)
  const { use, change } = session
  const cache = createDictionaryCache(options.extendDictionaryHash)
  return {
    kind: 'postgres',
    prepare: ({ check = false, signal } = {}) =>
      use((client) => {
        const onMigrated = (version: number) =>
          options.host.log.info('database schema migrated', { version })
        return prepareSchema(client, check ? null : onMigrated)
      }, signal),
    identity: () => use(async (client) => ({ kind: 'ok', ...(await lookIdentity(client)) })),
    hello: (hello, signal) =>
      change<HelloTaken>(
        hello.agent,
        async (client) => {
          const { books, region, timeline } = await look(client, hello.agent)
          const trouble = takeHello(books, hello, region)
          await save(client, books)
          if (trouble !== null) return keep(trouble)
          const lanes = hello.lanes.map(({ lane }) => lane)
          const positions = positionsOf(books, hello.epoch, lanes)
          return keep({ kind: 'ok', region, timeline, nowUs: books.nowUs, lanes: positions })
        },
        signal,
      ),
    addSeries: (agent, epoch, first, entries, signal) =>
      change(agent, (client) => addEntries(client, cache, [agent, epoch, first, entries]), signal),
    commit: createPostgresCommit(session, cache),
    admit: (agent, epoch) =>
      change<object>(agent, async (client) => {
        const { books } = await look(client, agent)
        if (!admitEpoch(books, epoch)) return drop({ kind: 'need-hello' })
        await save(client, books)
        return keep({ kind: 'ok' })
      }),
    agents: () => use(async (client) => ({ kind: 'ok', agents: await listAgents(client) })),
    [Symbol.asyncDispose]: session.close,
  }
}
