/** The store contract over every implementation and every way in: memory, file, PostgreSQL, PgBouncer. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import pg from 'pg'
import { extendDictionaryHash } from '../../src/codec/series-id.ts'
import { createEmbeddedStore, type EmbeddedStore } from '../../src/database/embedded.ts'
import { createPostgresStore } from '../../src/database/postgres.ts'
import { createEmbeddedReadBack, createPostgresReadBack } from '../../src/database/read-back.ts'
import { planSql } from '../../src/database/schema-postgres.ts'
import { createSystemHost, type Host } from '../../src/host.ts'
import { createCertificates } from '../support/certificates.ts'
import { type PgBouncer, type Postgres, startPgBouncer, startPostgres } from '../support/servers.ts'
import { temporaryFolder } from '../support/temp.ts'
import { runStoreContract, type StoreWorld } from './store.ts'

const system = createSystemHost()

/** A host whose wall clock a test may move on. */
const movableHost = (): Host & { readonly move: (ms: number) => void } => {
  let movedUs = 0
  const clock = { ...system.clock, nowUs: () => system.clock.nowUs() + movedUs }
  return {
    ...system,
    clock,
    move: (ms) => {
      movedUs += ms * 1000
    },
  }
}

const embeddedWorld = async (path: string): Promise<StoreWorld> => {
  const host = movableHost()
  const store = createEmbeddedStore({ path, host, extendDictionaryHash })
  const restored: EmbeddedStore[] = []
  return {
    store,
    other: store,
    readBack: createEmbeddedReadBack(store.database),
    pass: async (ms) => host.move(ms),
    query: async (sql) => store.database.prepare<[], Record<string, unknown>>(sql).all(),
    age: async () => {},
    losePoints: async (agent) => {
      store.database
        .prepare(
          'delete from points where series_id in (select series_id from series where agent = ?)',
        )
        .run(agent)
    },
    save: async () => {
      const image = store.image()
      return async () => {
        const old = createEmbeddedStore({ image, host, extendDictionaryHash, promoted: true })
        restored.push(old)
        return old
      }
    },
    close: async () => {
      for (const each of [store, ...restored]) await each[Symbol.asyncDispose]()
    },
  }
}

runStoreContract('embedded, in memory', () => embeddedWorld(':memory:'))
runStoreContract('embedded, in a file', () =>
  embeddedWorld(join(temporaryFolder('store'), 'region.db')),
)

/** Where the installed PostgreSQL has the extension: Debian's packages do not, so it is asked for by name. */
const timescale = process.env.HOLDFAST_TEST_TIMESCALEDB === '1'
let postgres: Postgres
let bouncer: PgBouncer
before(async () => {
  const certificates = await createCertificates()
  const settings = timescale
    ? ["shared_preload_libraries = 'timescaledb'", 'timescaledb.telemetry_level = off']
    : []
  postgres = await startPostgres({ certificates, settings })
  bouncer = await startPgBouncer(postgres, certificates)
})
after(async () => {
  await bouncer.stop()
  await postgres.stop()
})

const postgresWorld = async (
  url: string,
  database: string,
  extension = '',
): Promise<StoreWorld> => {
  // PgBouncer knows only this one, which is there already.
  if (database !== postgres.database)
    postgres.sql(`create database ${database} owner holdfast`, 'postgres')
  if (extension !== '') postgres.sql(`create extension ${extension}`, database)
  const ca = readFileSync(postgres.ca, 'utf8')
  const urls = [url.replace(/\/holdfast$/, `/${database}`)]
  const open = () => createPostgresStore({ urls, tls: { ca }, host: system, extendDictionaryHash })
  const store = open()
  const other = open()
  const direct = postgres.url.replace(/\/holdfast$/, `/${database}`)
  const client = new pg.Client({ connectionString: direct, ssl: { ca } })
  await client.connect()
  const tables = [
    'points',
    'series',
    'agents',
    'epochs',
    'ledger',
    'ledger_above',
    'dictionary',
    'gaps',
  ]
  let saves = 0
  return {
    store,
    other,
    readBack: createPostgresReadBack(client),
    pass: async (ms) => {
      await client.query(`update agents set last_heard = last_heard - ${ms * 1000}`)
    },
    query: async (sql) => (await client.query<Record<string, unknown>>(sql)).rows,
    age: async () => {
      if (extension !== '')
        await client.query('select compress_chunk(chunk, true) from show_chunks($$points$$) chunk')
    },
    losePoints: async (agent) => {
      await client.query({
        text: 'delete from points where series_id in (select series_id from series where agent = $1)',
        values: [agent],
      })
    },
    // A restore of the whole cluster is in store-faults.test.ts; here the tables go back, under open connections.
    save: async () => {
      const schema = `saved_${++saves}`
      await client.query(`create schema ${schema}`)
      for (const table of tables)
        await client.query(`create table ${schema}.${table} as select * from ${table}`)
      return async () => {
        const list = tables.join(', ')
        const back = tables.map((table) => `insert into ${table} select * from ${schema}.${table}`)
        await client.query(`begin; truncate ${list}; ${back.join('; ')}; commit`)
        return store
      }
    },
    close: async () => {
      await client.end()
      await store[Symbol.asyncDispose]()
      await other[Symbol.asyncDispose]()
    },
  }
}
runStoreContract('PostgreSQL, TLS and SCRAM', () => postgresWorld(postgres.url, 'direct'))
runStoreContract('PostgreSQL through PgBouncer', () => postgresWorld(bouncer.url, 'holdfast'))
if (timescale) {
  runStoreContract('TimescaleDB', () => postgresWorld(postgres.url, 'hypertable', 'timescaledb'))
  test('TimescaleDB: the plan makes hypertable, compression and retention, once', () => {
    postgres.sql('create database planned', 'postgres')
    postgres.sql('create extension timescaledb', 'planned')
    const plan = planSql({ role: 'region_node', retention: '365 days' })
    for (const _ of ['first', 'again']) postgres.sql(plan, 'planned')
    const jobs = postgres.sql(
      "select proc_name from timescaledb_information.jobs where hypertable_name = 'points' order by 1",
      'planned',
    )
    assert.deepEqual(jobs.split('\n'), ['policy_compression', 'policy_retention'])
  })
}
