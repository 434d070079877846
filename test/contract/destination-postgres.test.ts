/** The destination contract over PostgreSQL, directly and through PgBouncer: real servers, TLS, SCRAM, least rights. */
import assert from 'node:assert/strict'
import { copyFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { createPostgresReadBack } from '../../src/database/read-back.ts'
import { planSql } from '../../src/database/schema-postgres.ts'
import { postgresDestination } from '../../src/destinations/postgres.ts'
import { createSystemHost } from '../../src/host.ts'
import type { Outcome, Segment, Standing } from '../../src/model.ts'
import { createCertificates, type TestCertificates } from '../support/certificates.ts'
import { killAll } from '../support/processes.ts'
import { type PgBouncer, type Postgres, startPgBouncer, startPostgres } from '../support/servers.ts'
import { temporaryFolder } from '../support/temp.ts'
import { type DestinationRig, type RigOptions, runDestinationContract } from './destination.ts'
import { createDatabaseFaults, openSuperuser } from './destination-database.ts'
import { createTestLog, type TestLog } from './destination-log.ts'
import { configOf, shape, tried } from './destination-tried.ts'

after(killAll)
const host = createSystemHost()
const signal = new AbortController().signal
const stored: Outcome = { kind: 'stored', rejected: [] }
let certificates: TestCertificates
let others: TestCertificates
let postgres: Postgres
let bouncer: PgBouncer
let agents = 0
before(async () => {
  certificates = await createCertificates()
  others = await createCertificates()
  postgres = await startPostgres({ certificates })
  bouncer = await startPgBouncer(postgres, certificates)
  // The tables are the administrator's: what the destination can do, it can do by the plan's rights.
  postgres.sql(planSql({ role: postgres.user }))
})
after(async () => {
  await bouncer.stop()
  await postgres.stop()
})

const open = (log: TestLog, agent: string, config: object) => {
  const settings = postgresDestination.config.parse({
    type: 'postgres',
    password: postgres.password,
    tls: { ca: certificates.ca },
    ...config,
  })
  const deps = { host, name: 'plant', agent, spool: log.spool, farTime: () => {} }
  return postgresDestination.create(deps, settings)
}
const address = (port: number, database = postgres.database) =>
  `postgres://${postgres.user}@localhost:${port}/${database}`

const makeRig = async (
  way: 'direct' | 'bouncer',
  { fault }: RigOptions = {},
): Promise<DestinationRig & { readonly agent: string }> => {
  const agent = `gw-${++agents}`
  const log = createTestLog(agent)
  const late = { fromMs: Date.now() - 3 * 86_400_000, days: 2 }
  const server =
    fault === 'server-expired'
      ? await certificates.serverFor('late', ['localhost'], late)
      : fault === 'server-of-other-host'
        ? await certificates.serverFor('other', ['db.example'])
        : undefined
  const theirs = server === undefined ? undefined : { ...certificates, server }
  const front =
    theirs === undefined
      ? undefined
      : way === 'bouncer'
        ? await startPgBouncer(postgres, theirs)
        : await startPostgres({ certificates: theirs })
  const destination = open(log, agent, {
    url: address((front ?? (way === 'bouncer' ? bouncer : postgres)).port),
    ...(fault === 'credentials' ? { password: 'of-somebody-else' } : {}),
    ...(fault === 'server-of-other-ca' ? { tls: { ca: others.ca } } : {}),
  })
  const { settled, ...faults } = createDatabaseFaults(postgres, agent)
  return {
    ...faults,
    agent,
    destination,
    log,
    answerNext: () => assert.fail('it does not speak HTTP'),
    [Symbol.asyncDispose]: async () => {
      await settled()
      await destination[Symbol.asyncDispose]()
      await front?.stop()
    },
  }
}
const direct = (options?: RigOptions) => makeRig('direct', options)
runDestinationContract('postgres', direct, [
  'credentials',
  'lost-answer',
  'rewind',
  'server-expired',
  'server-of-other-ca',
  'server-of-other-host',
])
runDestinationContract('postgres, through PgBouncer', (options) => makeRig('bouncer', options), [
  'credentials',
  'lost-answer',
  'rewind',
  'server-expired',
  'server-of-other-ca',
  'server-of-other-host',
])

const timeUs = 1_700_000_000_000_000
const points = (from: number, count = 5, name = 'a') =>
  Array.from({ length: count }, (_, at) => ({ name, timeUs: timeUs + from + at, value: at / 3 }))
const blockedBy = (said: Outcome | Standing): string => {
  assert.ok(said.kind === 'blocked', JSON.stringify(said))
  assert.ok(said.text.length > 10 && said.hint.length > 10)
  return said.code
}

test('postgres: every kind of value comes back bit for bit, gap records too', async () => {
  await using rig = await direct()
  const { destination, log, agent } = rig
  await destination.standing(log.standing(0), signal)
  const values = [
    0.1,
    -0,
    5e-324,
    Number.NaN,
    Number.NEGATIVE_INFINITY,
    2n ** 63n - 1n,
    -(2n ** 63n),
  ]
  const given = [...values, true, false, '', 'grün 🌡 "\\', 'line\nbreak']
  const item = log.add(given.map((value, at) => ({ name: `v${at}`, timeUs: timeUs + at, value })))
  const gap = log.addGap({ count: 7, reason: 'quota' })
  assert.deepEqual(await destination.send(log.batch([item, gap]), signal), stored)
  const client = await openSuperuser(postgres)
  const back = createPostgresReadBack(client)
  const read = new Map<string, bigint | string>()
  for await (const row of back.readBack(agent)) read.set(row.name, row.bits)
  const gaps = await back.gapsOf(agent)
  await client.end()
  const bitsOf = (value: (typeof given)[number]) =>
    typeof value === 'number'
      ? new BigUint64Array(new Float64Array([value]).buffer)[0]
      : typeof value === 'string'
        ? value
        : BigInt.asUintN(64, BigInt(value))
  given.forEach((value, at) => {
    assert.equal(read.get(`v${at}`), bitsOf(value), String(value))
  })
  assert.deepEqual(
    gaps.map((one) => [one.seq, one.count, one.reason]),
    [[2, 7, 'quota']],
  )
})

test('postgres: a server that lets nobody more in is later, and takes all afterwards', async () => {
  await using rig = await direct()
  const { destination, log } = rig
  const batch = log.batch([log.add(points(0))])
  postgres.sql(`alter role "${postgres.user}" connection limit 0`, 'postgres')
  try {
    for (const said of [
      await destination.standing(log.standing(0), signal),
      await destination.send(batch, signal),
    ]) {
      assert.ok(said.kind === 'later', JSON.stringify(said))
      assert.match(said.text, /too many connections/)
    }
  } finally {
    postgres.sql(`alter role "${postgres.user}" connection limit -1`, 'postgres')
  }
  assert.equal((await destination.standing(log.standing(0), signal)).kind, 'known')
  assert.deepEqual(await destination.send(batch, signal), stored)
  assert.equal(await rig.arrived(), 5)
})

test('postgres: more than one transaction may hold is cut, and a single segment comes alone', async () => {
  await using rig = await direct()
  const { destination, log } = rig
  await destination.standing(log.standing(0), signal)
  const text = 'x'.repeat(100_000)
  const large = (from: number) =>
    log.add(
      Array.from({ length: 100 }, (_, at) => ({
        ...{ name: 'note', timeUs: timeUs + from + at, value: `${text}${from + at}` },
      })),
    )
  const items = [large(0), large(1_000)]
  const said = await destination.send(log.batch(items), signal)
  assert.ok(said.kind === 'smaller', JSON.stringify(said))
  const bytesOf = (all: typeof items) =>
    all.reduce((sum, item) => sum + (item.type === 'segment' ? item.bytes.length : 0), 0)
  assert.ok((said.bytesMax ?? 0) < bytesOf(items), `${said.bytesMax}`)
  assert.equal(await rig.arrived(), 0)
  for (const item of items)
    assert.deepEqual(await destination.send(log.batch([item]), signal), stored)
  assert.equal(await rig.arrived(), 200)
})

test('postgres: what is not done in time comes with less at once', async () => {
  const agent = `gw-${++agents}`
  const log = createTestLog(agent)
  const config = { url: address(postgres.port), statement_timeout: '1s' }
  await using destination = open(log, agent, config)
  const texts: string[] = []
  /** A busy machine needs more than a second now and then. */
  const settled = async <T extends Outcome | Standing>(ask: () => Promise<T>): Promise<T> => {
    for (;;) {
      const said = await ask()
      if (said.kind !== 'later') return said
      texts.push(said.text)
    }
  }
  assert.equal((await settled(() => destination.standing(log.standing(0), signal))).kind, 'known')
  // Some 16 KB a segment: less is not halved any more.
  const noisy = (from: number) =>
    points(from, 2_500).map((one, at) => ({ ...one, value: Math.sin(from + at) * 1e9 }))
  const items = [log.add(noisy(0)), log.add(noisy(10_000))]
  const holder = await openSuperuser(postgres)
  try {
    await holder.query('begin; lock table points in access exclusive mode')
    const cut = await settled(() => destination.send(log.batch(items), signal))
    assert.equal(cut.kind, 'smaller')
  } finally {
    await holder.end()
  }
  assert.match(texts.at(-1) ?? '', /^the database was not done in time: .*statement timeout/)
  for (const item of items)
    assert.deepEqual(await settled(() => destination.send(log.batch([item]), signal)), stored)
  assert.equal(postgres.sql(`select sum(points) from ledger where agent = '${agent}'`), '5000')
})

test('postgres: a server that goes away in the middle is later, and is found again', async () => {
  const own = await startPostgres({ certificates })
  own.sql(planSql({ role: own.user }))
  const log = createTestLog('gw-away')
  await using destination = open(log, 'gw-away', { url: address(own.port, own.database) })
  assert.equal((await destination.standing(log.standing(0), signal)).kind, 'known')
  await own.kill()
  const batch = log.batch([log.add(points(0))])
  assert.equal((await destination.send(batch, signal)).kind, 'later')
  await own.restart()
  assert.deepEqual(await destination.send(batch, signal), stored)
  assert.equal(own.sql('select count(*) from points'), '5')
  await own.stop()
})

test('postgres: "destination test" says each step, and what is wrong with its remedy', async () => {
  const base = { type: 'postgres', password: postgres.password, tls: { ca: certificates.ca } }
  postgres.sql('create database unplanned', 'postgres')
  postgres.sql('create database foreign_plan', 'postgres')
  postgres.sql(planSql({ role: 'somebody_else' }), 'foreign_plan')
  const config = configOf([
    { name: 'good', ...base, url: address(postgres.port) },
    { name: 'bouncer', ...base, url: address(bouncer.port) },
    { name: 'password', ...base, url: address(postgres.port), password: 'of-somebody-else' },
    { name: 'nowhere', ...base, url: address(postgres.port, 'no_such') },
    { name: 'unplanned', ...base, url: address(postgres.port, 'unplanned') },
    { name: 'rights', ...base, url: address(postgres.port, 'foreign_plan') },
    { name: 'ca', ...base, url: address(postgres.port), tls: { ca: others.ca } },
    { name: 'closed', ...base, url: address(1) },
  ])
  for (const name of ['good', 'bouncer'])
    assert.deepEqual(shape(tried(config, name).steps), ['dns ok', 'tcp ok', 'login ok'], name)
  for (const [name, code] of [
    ['password', 'HF-D020'],
    ['nowhere', 'HF-D020'],
    ['unplanned', 'HF-D024'],
    ['rights', 'HF-D023'],
    ['ca', 'HF-D021'],
  ] as const) {
    const { steps, code: exit } = tried(config, name)
    assert.deepEqual(shape(steps), ['dns ok', 'tcp ok', 'login BAD'], name)
    assert.deepEqual([steps[2]?.code, exit], [code, 1], name)
  }
  assert.deepEqual(shape(tried(config, 'closed').steps), ['dns ok', 'tcp BAD'])
  assert.equal(postgres.sql(`select count(*) from agents where agent = 'gw-7'`), '0')
})

test('postgres: a CA file that is mended is taken without a restart', async () => {
  const agent = `gw-${++agents}`
  const log = createTestLog(agent)
  const ca = join(temporaryFolder('ca'), 'ca.pem')
  copyFileSync(others.ca, ca)
  await using destination = open(log, agent, { url: address(postgres.port), tls: { ca } })
  assert.equal(blockedBy(await destination.standing(log.standing(0), signal)), 'HF-D021')
  copyFileSync(certificates.ca, ca)
  // The look that fails once more is the one that finds the file changed, unless it was noticed before.
  await destination.standing(log.standing(0), signal)
  assert.equal((await destination.standing(log.standing(0), signal)).kind, 'known')
})

test('postgres: without tables, rights, database or UTF-8 it pauses with the remedy; then goes on', async () => {
  const agent = `gw-${++agents}`
  const log = createTestLog(agent)
  const hello = log.standing(0)
  await using nowhere = open(log, agent, { url: address(postgres.port, 'nowhere') })
  assert.equal(blockedBy(await nowhere.standing(hello, signal)), 'HF-D020')
  await using hidden = open(log, agent, { url: address(bouncer.port, 'nowhere') })
  assert.equal(blockedBy(await hidden.standing(hello, signal)), 'HF-D020')
  postgres.sql(`create database narrow encoding latin1 locale 'C' template template0`, 'postgres')
  await using narrow = open(log, agent, { url: address(postgres.port, 'narrow') })
  assert.equal(blockedBy(await narrow.standing(hello, signal)), 'HF-D026')

  postgres.sql('create database bare owner holdfast', 'postgres')
  await using bare = open(log, agent, { url: address(postgres.port, 'bare') })
  const missing = await bare.standing(hello, signal)
  assert.equal(blockedBy(missing), 'HF-D024')
  assert.ok(missing.kind === 'blocked' && missing.hint.includes('holdfast destination plan'))
  assert.equal(blockedBy(await bare.send(log.batch([log.add(points(0))]), signal)), 'HF-D024')
  // Though its role owns the database and could make them.
  assert.equal(
    postgres.sql(`select count(*) from pg_tables where schemaname = 'public'`, 'bare'),
    '0',
  )
  postgres.sql(planSql({ role: 'somebody' }), 'bare')
  assert.equal(blockedBy(await bare.standing(hello, signal)), 'HF-D023')
  postgres.sql(planSql({ role: 'holdfast' }), 'bare')
  assert.equal((await bare.standing(hello, signal)).kind, 'known')
  assert.deepEqual(await bare.send(log.batch([log.items[0] as Segment]), signal), stored)
  assert.equal(postgres.sql('select count(*) from points', 'bare'), '5')
})

test('postgres: a host that is down and a standby are left for the primary', async () => {
  const standby = await startPostgres({ certificates })
  try {
    await standby.stop()
    writeFileSync(join(standby.folder, 'data', 'standby.signal'), '')
    await standby.restart()
    const agent = `gw-${++agents}`
    const log = createTestLog(agent)
    const url = [address(1), address(standby.port), address(postgres.port)]
    await using destination = open(log, agent, { url })
    assert.equal((await destination.standing(log.standing(0), signal)).kind, 'known')
    assert.deepEqual(await destination.send(log.batch([log.add(points(0))]), signal), stored)
    await using alone = open(log, agent, { url: url.slice(0, 2) })
    assert.equal((await alone.standing(log.standing(0), signal)).kind, 'later')
  } finally {
    await standby.stop()
  }
})

test('postgres: of two copies of a spool one goes on, the other is fenced', async () => {
  await using rig = await direct()
  const { destination, log, agent } = rig
  await destination.standing(log.standing(0), signal)
  assert.deepEqual(await destination.send(log.batch([log.add(points(0))]), signal), stored)
  // Two openings of the same spool, each of which takes itself for the only one.
  const copy = log.clone()
  const child = log.restart()
  const config = { url: address(postgres.port) }
  await using one = open(child, agent, config)
  await using other = open(copy, agent, config)
  assert.equal((await one.standing(child.standing(1), signal)).kind, 'known')
  assert.deepEqual(await one.send(child.batch([child.add(points(100))]), signal), stored)
  assert.equal(blockedBy(await other.standing(copy.standing(1), signal)), 'HF-F110')
  assert.equal(await rig.arrived(), 10)
})
