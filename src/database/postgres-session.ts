/**
 * How the PostgreSQL store talks: transactions of its own settings on the primary, troubles as answers.
 *
 * Invariants: nothing outlives a transaction (PgBouncer hands connections around); a transaction that lost a race
 * begins again a bounded number of times.
 */
import type pg from 'pg'
import { lockAgent } from './postgres-books.ts'
import {
  createPostgresHosts,
  type PostgresHostsOptions,
  statementTimeoutMsDefault,
} from './postgres-hosts.ts'
import { isConflict, isExpected, isServerAnswer, troubleOf } from './postgres-trouble.ts'
import type { StoreAnswer } from './store.ts'

/** Each time another transaction has won, so this is enough. */
export const attemptsMax = 8

/** What a transaction came to, and whether it is to be committed. */
export interface Done<T> {
  readonly answer: T
  readonly keep: boolean
}
export const keep = <T>(answer: T): Done<T> => ({ answer, keep: true })
export const drop = <T>(answer: T): Done<T> => ({ answer, keep: false })

export interface PostgresSession {
  /** Runs `work` on the primary; whatever the outside says becomes an answer. */
  readonly use: <T>(
    work: (client: pg.PoolClient) => Promise<StoreAnswer<T>>,
    signal?: AbortSignal,
  ) => Promise<StoreAnswer<T>>
  readonly transact: <T>(client: pg.PoolClient, work: () => Promise<Done<T>>) => Promise<T>
  /** A transaction under the agent's lock: who speaks, ordinals, dictionaries. */
  readonly change: <T>(
    agent: string,
    work: (client: pg.PoolClient) => Promise<Done<StoreAnswer<T>>>,
    signal?: AbortSignal,
  ) => Promise<StoreAnswer<T>>
  readonly close: () => Promise<void>
}

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

export const createPostgresSession = (options: PostgresHostsOptions): PostgresSession => {
  const hosts = createPostgresHosts(options)
  const begin = beginSql(options.statementTimeoutMs ?? statementTimeoutMsDefault)

  const use: PostgresSession['use'] = async (work, signal) => {
    try {
      return await hosts.use(work, signal)
    } catch (error) {
      if (!isExpected(error)) throw error
      return troubleOf(error)
    }
  }
  const transact: PostgresSession['transact'] = async (client, work) => {
    await client.query(begin)
    try {
      const done = await work()
      await client.query(done.keep ? 'commit' : 'rollback')
      return done.answer
    } catch (error) {
      // A connection that is lost or silent is closed by the caller, and has rolled back with it.
      if (isServerAnswer(error)) await client.query('rollback')
      throw error
    }
  }
  const change: PostgresSession['change'] = (agent, work, signal) =>
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
    }, signal)
  return { use, transact, change, close: hosts.close }
}
