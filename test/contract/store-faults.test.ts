/** What only real servers can show: kills, restores of a whole cluster, standbys, rights, certificates. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { extendDictionaryHash } from '../../src/codec/series-id.ts'
import { createEmbeddedStore, type StoreMoment } from '../../src/database/embedded.ts'
import { createPostgresStore, type PostgresOptions } from '../../src/database/postgres.ts'
import { createEmbeddedReadBack, createPostgresReadBack } from '../../src/database/read-back.ts'
import { planSql, postgresMigrations } from '../../src/database/schema-postgres.ts'
import type { RegionStore } from '../../src/database/store.ts'
import { createSystemHost } from '../../src/host.ts'
import { createCertificates, type TestCertificates } from '../support/certificates.ts'
import { type Postgres, startPostgres } from '../support/servers.ts'
import { temporaryFolder } from '../support/temp.ts'
import { createTestAgent, type TestAgent, type TestEpoch } from './store-agent.ts'

const host = createSystemHost()
const never = new AbortController().signal
const at = (second: number): number => 1_700_000_000_000_000 + second * 1_000_000
const segment = (epoch: TestEpoch, seq: number, count = 500) =>
  epoch.segment(
    seq,
    Array.from({ length: count }, (_, n) => ({
      series: n % 8,
      timeUs: at(seq * 1000 + n),
      value: seq,
    })),
  )

describe('embedded store, killed', () => {
  const child = join(fileURLToPath(import.meta.url), '../store-child.ts')
  test('what it acked before SIGKILL is there afterwards, once', async () => {
    const path = join(temporaryFolder('kill'), 'region.db')
    const agent = createTestAgent('killed')
    const first = agent.epoch('first')
    for (let round = 0; round < 3; round++) {
      const running = spawn(process.execPath, [child, path], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      let acked = 0
      let text = ''
      for await (const part of running.stdout) {
        text += String(part)
        acked = Number(text.trim().split('\n').at(-1))
        if (text.split('\n').length > 20 + round * 7) break
      }
      running.kill('SIGKILL')
      if (running.exitCode === null) await once(running, 'exit')
      const store = createEmbeddedStore({ path, host, extendDictionaryHash })
      try {
        const answer = await store.hello(first.hello())
        assert.ok(answer.kind === 'ok')
        const contiguous = answer.lanes[0]?.contiguous ?? 0
        assert.ok(contiguous >= acked, `${contiguous} committed, ${acked} acked`)
        let rows = 0
        for await (const row of createEmbeddedReadBack(store.database).readBack(agent.name))
          rows += row.ord > 0n ? 1 : 0
        assert.equal(rows, contiguous * 500)
      } finally {
        await store[Symbol.asyncDispose]()
      }
    }
  })

  test('a crash at any moment leaves all of a commit or nothing', async () => {
    for (const moment of ['begun', 'points', 'booked', 'committed'] as const) {
      let armed: StoreMoment | '' = ''
      const path = join(temporaryFolder('crash'), 'region.db')
      const failpoint = (now: StoreMoment) => {
        if (now === armed) throw new TypeError(`crash at ${now}`)
      }
      const open = () => createEmbeddedStore({ path, host, extendDictionaryHash, failpoint })
      const agent = createTestAgent('crashing')
      const first = agent.epoch('first')
      let store = open()
      await agent.introduce(store, first)
      armed = moment
      const frames = [segment(first, 1, 10)]
      await assert.rejects(store.commit(agent.name, first.epoch, frames, never), /crash at/)
      armed = ''
      await store[Symbol.asyncDispose]()
      store = open()
      const answer = await store.commit(agent.name, first.epoch, frames, never)
      assert.ok(answer.kind === 'ok')
      const wanted = moment === 'committed' ? 'duplicate' : 'committed'
      assert.equal(answer.results[0]?.status, wanted, moment)
      let rows = 0
      for await (const row of createEmbeddedReadBack(store.database).readBack(agent.name))
        rows += row.ord > 0n ? 1 : 0
      assert.equal(rows, 10)
      await store[Symbol.asyncDispose]()
    }
  })

  test('the file is held exclusively, and flushed in full', async () => {
    const path = join(temporaryFolder('lock'), 'region.db')
    const store = createEmbeddedStore({ path, host, extendDictionaryHash })
    await store.prepare()
    assert.equal(store.database.pragma('synchronous', { simple: true }), 2)
    assert.equal(store.database.pragma('journal_mode', { simple: true }), 'wal')
    assert.throws(() => {
      createEmbeddedStore({ path, host, extendDictionaryHash })
    }, /locked/)
    await store[Symbol.asyncDispose]()
  })
})

describe('PostgreSQL, in trouble', () => {
  let certificates: TestCertificates
  let server: Postgres
  let ca: string
  const stores: RegionStore[] = []
  before(async () => {
    certificates = await createCertificates()
    ca = readFileSync(certificates.ca, 'utf8')
    server = await startPostgres({ certificates })
  })
  after(async () => {
    for (const store of stores) await store[Symbol.asyncDispose]()
    await server.stop()
  })
  const open = (more: Partial<PostgresOptions> = {}): RegionStore => {
    const urls = more.urls ?? [server.url]
    const store = createPostgresStore({ tls: { ca }, host, extendDictionaryHash, ...more, urls })
    stores.push(store)
    return store
  }
  const databaseUrl = (name: string): string => {
    server.sql(`create database ${name} owner holdfast`, 'postgres')
    return server.url.replace(/\/holdfast$/, `/${name}`)
  }
  const rowsOf = async (agent: TestAgent, url = server.url): Promise<number> => {
    const client = new pg.Client({ connectionString: url, ssl: { ca } })
    await client.connect()
    let rows = 0
    for await (const row of createPostgresReadBack(client).readBack(agent.name))
      rows += row.ord > 0n ? 1 : 0
    await client.end()
    return rows
  }
  const blockedBy = async (store: RegionStore): Promise<string> => {
    const answer = await store.prepare()
    return answer.kind === 'blocked' ? answer.code : `${answer.kind} ${JSON.stringify(answer)}`
  }

  test('many nodes prepare one empty database at once', async () => {
    const urls = [databaseUrl('fresh')]
    const answers = await Promise.all(Array.from({ length: 6 }, () => open({ urls }).prepare()))
    assert.deepEqual(answers, Array(6).fill({ kind: 'ok' }))
    const version = server.sql('select max(version), count(*) from schema_version', 'fresh')
    assert.equal(version, `${postgresMigrations.length}|${postgresMigrations.length}`)
  })

  test('the plan, run by an administrator, is enough for the least-privileged role', async () => {
    server.sql('create database planned', 'postgres')
    const plan = planSql({ role: 'regional', retention: '365 days' })
    server.sql(plan, 'planned')
    server.sql(`alter role regional password 'secret'`, 'planned')
    server.sql(plan, 'planned')
    const urls = [`postgresql://regional@localhost:${server.port}/planned`]
    const store = open({ urls, password: async () => 'secret' })
    assert.deepEqual(await store.prepare(), { kind: 'ok' })
    const agent = createTestAgent('planned')
    const first = agent.epoch('first')
    await agent.introduce(store, first)
    for (const replay of [false, true]) {
      const frames = [
        { ...segment(first, 1), replay },
        first.tombstone(replay ? 3 : 4, 6),
        first.tombstone(2, 2),
      ]
      const answer = await store.commit(agent.name, first.epoch, frames, never)
      assert.equal(answer.kind, 'ok', JSON.stringify(answer))
    }
    server.sql('revoke update on points from regional', 'planned')
    const answer = await store.prepare()
    assert.ok(answer.kind === 'blocked' && answer.text === 'missing rights: UPDATE on points')
  })

  test('without rights to migrate it says what is missing, and changes nothing', async () => {
    server.sql('create database foreign_one', 'postgres')
    server.sql('revoke create on schema public from public, holdfast', 'foreign_one')
    const store = open({ urls: [server.url.replace(/\/holdfast$/, '/foreign_one')] })
    const answer = await store.prepare()
    assert.ok(answer.kind === 'blocked' && answer.code === 'HF-D024', JSON.stringify(answer))
    assert.match(answer.text, /version 0 of \d+: missing migration 1/)
    const hello = await store.hello(createTestAgent('early').epoch('first').hello())
    assert.ok(hello.kind === 'blocked' && hello.code === 'HF-D024', JSON.stringify(hello))
  })

  test('credentials, names and certificates are told apart from transient trouble', async () => {
    assert.equal(await blockedBy(open({ password: () => 'wrong' })), 'HF-D020')
    const noDatabase = server.url.replace(/\/holdfast$/, '/nowhere')
    assert.equal(await blockedBy(open({ urls: [noDatabase] })), 'HF-D020')
    const stranger = await createCertificates()
    assert.equal(
      await blockedBy(open({ tls: { ca: readFileSync(stranger.ca, 'utf8') } })),
      'HF-D021',
    )
    assert.equal(await blockedBy(open({ tls: { ca, serverName: 'db.example' } })), 'HF-D021')
    assert.equal(await blockedBy(open({ tls: 'off' })), 'HF-D020')
    const down = 'postgresql://holdfast@localhost:1/holdfast'
    assert.equal((await open({ urls: [down] }).prepare()).kind, 'later')
    // A host that lets nobody in is left for the next one, as a standby that lags behind would be.
    const both = open({ urls: [noDatabase, server.url], password: () => server.password })
    assert.deepEqual(await both.prepare(), { kind: 'ok' })
    // Refused everywhere is a person's matter; refused by one while another is silent, a cluster in motion.
    const password = () => server.password
    assert.equal(await blockedBy(open({ urls: [noDatabase, noDatabase], password })), 'HF-D020')
    const moving = await open({ urls: [noDatabase, down], password }).prepare()
    assert.ok(moving.kind === 'later' && /does not exist.*; .*ECONNREFUSED/.test(moving.text))
  })

  test('a standby and a host that is down are left for the primary', async () => {
    const standby = await startPostgres({ certificates })
    try {
      assert.deepEqual(await open({ urls: [standby.url] }).prepare(), { kind: 'ok' })
      await standby.stop()
      writeFileSync(join(standby.folder, 'data', 'standby.signal'), '')
      await standby.restart()
      const down = 'postgresql://holdfast@localhost:1/holdfast'
      const store = open({ urls: [down, standby.url, server.url], password: () => server.password })
      assert.deepEqual(await store.prepare(), { kind: 'ok' })
      const agent = createTestAgent('rotating')
      const first = agent.epoch('first')
      await agent.introduce(store, first)
      const answer = await store.commit(agent.name, first.epoch, [segment(first, 1)], never)
      assert.equal(answer.kind, 'ok')
      const only = open({ urls: [standby.url] })
      assert.equal((await only.hello(first.hello())).kind, 'later')
    } finally {
      await standby.stop()
    }
  })

  test('killed in the middle of commits: what was acked is there, once', async () => {
    const store = open()
    await store.prepare()
    const agent = createTestAgent('killed')
    const first = agent.epoch('first')
    await agent.introduce(store, first)
    const acked = new Set<number>()
    let next = 1
    let dying = false
    const enough = Promise.withResolvers<void>()
    const send = async () => {
      while (!dying) {
        const seq = next++
        const answer = await store.commit(agent.name, first.epoch, [segment(first, seq)], never)
        if (answer.kind === 'ok') acked.add(seq)
        if (acked.size === 30) enough.resolve()
        if (answer.kind === 'ok') continue
        assert.equal(answer.kind, 'later', JSON.stringify(answer))
        return
      }
    }
    const senders = [send(), send(), send()]
    await enough.promise
    await server.kill()
    dying = true
    await Promise.all(senders)
    await server.restart()
    const answer = await store.hello(first.hello())
    assert.ok(answer.kind === 'ok', JSON.stringify(answer))
    const [lane] = answer.lanes
    const has = (seq: number) =>
      seq <= (lane?.contiguous ?? 0) || lane?.above.some(([a, b]) => a <= seq && seq <= b)
    for (const seq of acked) assert.ok(has(seq), `acked ${seq} is gone`)
    let committed = 0
    for (let seq = 1; seq < next; seq++) committed += has(seq) ? 1 : 0
    assert.equal(await rowsOf(agent), committed * 500)
    for (let seq = 1; seq < next; seq++) {
      const again = await store.commit(agent.name, first.epoch, [segment(first, seq)], never)
      assert.equal(again.kind, 'ok')
    }
    assert.equal(await rowsOf(agent), (next - 1) * 500)
  })

  test('a cluster that was restored says what it forgot, caches or not', async () => {
    const store = open()
    await store.prepare()
    const agent = createTestAgent('restored')
    const first = agent.epoch('first')
    await store.hello(first.hello())
    await server.stop()
    const saved = server.saveData()
    await server.restart()
    await agent.introduce(store, first)
    await store.commit(agent.name, first.epoch, [segment(first, 1)], never)
    const identity = await store.identity()
    await server.stop()
    server.restoreData(saved)
    await server.restart()
    assert.deepEqual(await store.identity(), identity)
    const frames = [segment(first, 2)]
    const answer = await store.commit(agent.name, first.epoch, frames, never)
    assert.deepEqual(answer, { kind: 'need-series', epoch: first.epoch, first: 0 })
    await agent.introduce(store, first)
    const late = await store.commit(agent.name, first.epoch, frames, never)
    assert.ok(late.kind === 'ok')
    assert.deepEqual(late.lanes, [{ lane: 1, contiguous: 0, above: [[2, 2]] }])
  })

  test('a commit that is given up lets go of its locks', { timeout: 60_000 }, async () => {
    const store = open({ poolMax: 2, statementTimeoutMs: 3_600_000 })
    await store.prepare()
    const agent = createTestAgent('impatient')
    const first = agent.epoch('first')
    await agent.introduce(store, first)
    const blocker = new pg.Client({ connectionString: server.url, ssl: { ca } })
    await blocker.connect()
    await blocker.query('begin')
    await blocker.query(`select 1 from ledger where agent = 'impatient' for update`)
    const giveUp = new AbortController()
    const waiting = store.commit(agent.name, first.epoch, [segment(first, 1)], giveUp.signal)
    const watcher = new pg.Client({ connectionString: server.url, ssl: { ca } })
    await watcher.connect()
    const waits = `select from pg_stat_activity where wait_event_type = 'Lock' and query like '%ledger%'`
    while ((await watcher.query(waits)).rowCount === 0);
    await watcher.end()
    giveUp.abort()
    assert.equal((await waiting).kind, 'later')
    await blocker.query('rollback')
    await blocker.end()
    const answer = await store.commit(agent.name, first.epoch, [segment(first, 1)], never)
    assert.equal(answer.kind, 'ok')
    assert.equal(await rowsOf(agent), 500)
  })
})
