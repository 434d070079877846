/**
 * Faults of a real PostgreSQL that a destination's rig needs: an answer that is lost after the commit, a send that waits,
 * an agent's rows set back to an earlier moment. Looked at and done over the superuser's Unix socket.
 */
import pg from 'pg'
import type { Postgres } from '../support/servers.ts'
import type { DestinationRig } from './destination.ts'

const tables = ['agents', 'epochs', 'ledger', 'ledger_above', 'dictionary', 'gaps', 'series']

export const openSuperuser = async (postgres: Postgres, database?: string): Promise<pg.Client> => {
  const client = new pg.Client({
    host: postgres.folder,
    port: postgres.port,
    user: 'postgres',
    database: database ?? postgres.database,
  })
  client.on('error', () => {})
  await client.connect()
  return client
}
/** Every COMMIT waits for a standby that does not exist, after it has taken effect here; resolves once that is so. */
const stallCommits = async (client: pg.Client, postgres: Postgres): Promise<void> => {
  await client.query(`alter system set synchronous_standby_names = 'nobody'`)
  await client.query('select pg_reload_conf()')
  const probe = await openSuperuser(postgres)
  const { rows } = await probe.query<{ pid: number }>('select pg_backend_pid() as pid')
  const waits = `select pg_cancel_backend(pid) from pg_stat_activity
    where wait_event = 'SyncRep' and pid = ${rows[0]?.pid}`
  for (let stalled = false; !stalled; ) {
    let done = false
    const written = probe.query(`select pg_logical_emit_message(true, 'probe', '')`).then(() => {
      done = true
    })
    while (!done && !stalled) stalled = (await client.query(waits)).rowCount === 1
    await written
  }
  await probe.end()
}
/** Commits that brought no points go on; the one that did loses its connection, committed and unanswered. */
const loseCommit = async (client: pg.Client): Promise<void> => {
  const waiting = `select a.pid, exists(select from pg_locks l where l.pid = a.pid
      and relation = 'points'::regclass and mode = 'RowExclusiveLock') as points
    from pg_stat_activity a where wait_event = 'SyncRep'`
  for (let lost = false; !lost; ) {
    const { rows } = await client.query<{ pid: number; points: boolean }>(waiting)
    for (const { pid, points } of rows) {
      await client.query(`select ${points ? 'pg_terminate_backend' : 'pg_cancel_backend'}(${pid})`)
      lost ||= points
    }
  }
  await client.query('alter system reset synchronous_standby_names')
  await client.query('select pg_reload_conf()')
  await client.end()
}

/** The next send's COPY waits for a lock until `arrives` was called. */
const holdCopy = async (postgres: Postgres, arrives: () => void, held: () => void) => {
  const client = await openSuperuser(postgres)
  await client.query('begin; lock table points in access exclusive mode')
  held()
  // Not pg_stat_activity, which stays as it was for the length of a transaction.
  const waits = `select from pg_locks where relation = 'points'::regclass and not granted`
  while ((await client.query(waits)).rowCount === 0);
  arrives()
  await client.query('rollback')
  await client.end()
}

export type DatabaseFaults = Pick<DestinationRig, 'arrived' | 'remember' | 'forget'> & {
  /** Both resolve when the next send will meet the fault; `settled` awaits what was begun. */
  readonly loseNextAnswer: () => Promise<void>
  readonly holdNext: (arrives: () => void) => Promise<void>
  readonly settled: () => Promise<void>
}
export const createDatabaseFaults = (postgres: Postgres, agent: string): DatabaseFaults => {
  const of = (table: string) => `select * from ${table} where agent = '${agent}'`
  const points = `select p.* from points p join series s using (series_id) where s.agent = '${agent}'`
  const begun: Promise<void>[] = []
  const schema = `saved_${agent.replace('-', '_')}`
  return {
    arrived: async () => Number(postgres.sql(`select count(*) from (${points}) p`)),
    remember: async () => {
      const copies = tables.map((table) => `create table ${schema}.${table} as ${of(table)};`)
      const saved = `create schema ${schema}; create table ${schema}.points as ${points};`
      postgres.sql(`begin; ${saved} ${copies.join(' ')} commit;`)
    },
    // All of it at once, under open connections: what a restore of the cluster does is in postgres-agent.test.ts.
    forget: async () => {
      const ids = `select series_id from series where agent = '${agent}'`
      const gone = tables.map((table) => `delete from ${table} where agent = '${agent}';`)
      const back = ['points', ...tables].map(
        (table) => `insert into ${table} select * from ${schema}.${table};`,
      )
      const all = [`delete from points where series_id in (${ids});`, ...gone, ...back]
      postgres.sql(`begin; ${all.join(' ')} drop schema ${schema} cascade; commit;`)
    },
    loseNextAnswer: async () => {
      const client = await openSuperuser(postgres)
      await stallCommits(client, postgres)
      begun.push(loseCommit(client))
    },
    holdNext: async (arrives) => {
      const held = Promise.withResolvers<void>()
      begun.push(holdCopy(postgres, arrives, held.resolve))
      await held.promise
    },
    settled: async () => {
      await Promise.all(begun)
    },
  }
}
