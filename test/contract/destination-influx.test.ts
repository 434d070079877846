/** The destination contract over InfluxDB 1 and VictoriaMetrics: real servers, real TLS before them. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { influxDestination } from '../../src/destinations/influx.ts'
import { influxPlan } from '../../src/destinations/influx-plan.ts'
import { createSystemHost, silentLog } from '../../src/host.ts'
import type { Outcome } from '../../src/model.ts'
import { influxUser, startInflux, startVictoria } from '../support/influx-servers.ts'
import { killAll } from '../support/processes.ts'
import { type Questdb, questdbMissing, startQuestdb, statementsOf } from '../support/questdb.ts'
import { cli } from '../support/site.ts'
import { type RigOptions, runDestinationContract } from './destination.ts'
import { type HttpRig, makeHttpRig } from './destination-http.ts'
import { createTestLog, type LogPoint, type TestLog } from './destination-log.ts'
import { hostilePoints, saidOf } from './destination-names.ts'
import { configOf, shape, tried } from './destination-tried.ts'

after(killAll)
const influx = startInflux()
const victoria = startVictoria()
const questdb = questdbMissing === false ? startQuestdb() : new Promise<Questdb>(() => {})
const signal = new AbortController().signal
let databases = 0

interface InfluxRig extends HttpRig {
  readonly database: string
}
const makeRig = async (
  far: { readonly url: string; readonly arrived: (database: string) => Promise<number> },
  log: TestLog,
  database: string,
  config: object,
  options: RigOptions = {},
): Promise<InfluxRig> => {
  const there = { url: far.url, arrived: () => far.arrived(database) }
  const victorias = 'dialect' in config && config.dialect === 'victoriametrics'
  const unholdable = victorias ? 'offline' : Number.NaN
  const all = { database, ...config }
  const rig = await makeHttpRig(influxDestination, there, log, all, options, unholdable)
  return { ...rig, database }
}
const makeInfluxRig = async (options: RigOptions = {}, at = influx): Promise<InfluxRig> => {
  const server = await at
  const database = `db${databases++}`
  await server.query(`CREATE DATABASE ${database}`)
  const password = options.fault === 'credentials' ? 'of-somebody-else' : influxUser.password
  return makeRig(
    { url: server.url, arrived: server.count },
    createTestLog('gw-7'),
    database,
    { dialect: 'influxdb1', username: influxUser.username, password },
    options,
  )
}
const pointsOf = async (database: string) =>
  (await (await victoria).samples(database)).filter(([name]) => !name.startsWith('holdfast_gaps'))
/** VictoriaMetrics holds whole milliseconds. */
const inMilliseconds = (log: TestLog): TestLog => ({
  ...log,
  add: (points) =>
    log.add(
      points.map((point) => ({ ...point, timeUs: 1_700_000_000_000_000 + point.timeUs * 1_000 })),
    ),
})
const makeVictoriaRig = async (options: RigOptions = {}): Promise<InfluxRig> => {
  const server = await victoria
  const arrived = async (database: string) => (await pointsOf(database)).length
  const log = inMilliseconds(createTestLog('gw-7'))
  const config = { dialect: 'victoriametrics' }
  return makeRig({ url: server.url, arrived }, log, `db${databases++}`, config, options)
}

const makeQuestdbRig = async (options: RigOptions = {}): Promise<InfluxRig> => {
  const server = await questdb
  // One plan, many tests: an empty table for each.
  for (const statement of statementsOf(influxPlan('questdb', {}))) await server.query(statement)
  for (const table of ['points', 'holdfast_gaps']) await server.query(`TRUNCATE TABLE ${table}`)
  const { username, password } = server.user
  const given = options.fault === 'credentials' ? 'of-somebody-else' : password
  const config = { dialect: 'questdb', database: undefined, username, password: given }
  const far = { url: server.url, arrived: server.points }
  return makeRig(far, createTestLog('gw-7'), '', config, options)
}

runDestinationContract('influx, InfluxDB 1', makeInfluxRig, [
  'answers',
  'bad-point',
  'credentials',
  'lost-answer',
  'server-expired',
  'server-of-other-ca',
  'server-of-other-host',
])
runDestinationContract('influx, VictoriaMetrics', makeVictoriaRig, [
  'answers',
  'bad-point',
  'lost-answer',
])
runDestinationContract(
  'influx, QuestDB',
  makeQuestdbRig,
  ['answers', 'bad-point', 'credentials', 'lost-answer'],
  questdbMissing,
)

const stored = { kind: 'stored', rejected: [] }
const losing = (outcome: Outcome) =>
  outcome.kind !== 'stored' || outcome.rejected.length > 0
    ? outcome
    : outcome.lost?.map(({ seq, count, source, reason }) => [seq, count, source, reason])
const timeUs = 1_700_000_000_000_000

test('influx, InfluxDB 1: every kind of value comes back as it went', async () => {
  await using rig = await makeInfluxRig()
  const values = [0.1, -0, 5e-324, 1.7976931348623157e308, 3.0000000000000004]
  const ints = [9_223_372_036_854_775_807n, -9_223_372_036_854_775_808n, 0n]
  const texts = ['a "b" \\', 'line\nbreak, = ', 'grün 🌡', '']
  const points = [
    ...values.map((value, at) => ({ name: 'm 1.float', timeUs: timeUs + at, value })),
    ...ints.map((value, at) => ({ name: 'm 1.int', timeUs: timeUs + at, value })),
    ...texts.map((value, at) => ({ name: 'm 1.te=xt', timeUs: timeUs + at, value })),
    { name: 'm 1.on', timeUs, value: true },
  ]
  assert.deepEqual(await rig.destination.send(rig.log.batch([rig.log.add(points)]), signal), stored)
  const { query } = await influx
  const column = async (field: string) =>
    (await query(`SELECT "${field}" FROM "m 1" WHERE plant='north'`, rig.database)).map(
      ([, value]) => value,
    )
  assert.deepEqual(await column('float'), values)
  assert.deepEqual(await column('te=xt'), texts)
  assert.deepEqual(await column('on'), [true])
  // JSON has no int64: asked in a way that stays below 2^53.
  assert.equal(
    (await query('SELECT "int" FROM "m 1" WHERE "int" > 9223372036854775806', rig.database)).length,
    1,
  )
  assert.equal(
    (await query('SELECT "int" FROM "m 1" WHERE "int" < -9223372036854775807', rig.database))
      .length,
    1,
  )
  const [first] = await query('SELECT "float" FROM "m 1" ORDER BY time DESC LIMIT 1', rig.database)
  assert.equal(first?.[0], timeUs + 4)
})

/** Of each hostile point: whether it is read back under its name, tag and time; `read` answers with all of them. */
const hostile = async (
  rig: InfluxRig,
  fromUs: number,
  read: (point: LogPoint) => Promise<boolean>,
  more: readonly LogPoint[] = [],
): Promise<number> => {
  const points = [...hostilePoints, ...more].map((point) => ({
    ...point,
    timeUs: fromUs + point.timeUs,
  }))
  const { destination, log, leftOut } = rig
  const outcome = await destination.send(log.batch([log.add(points)]), signal)
  assert.ok(outcome.kind === 'stored', JSON.stringify(outcome))
  let held = 0
  for (const point of points) if (await read(point)) held++
  const lost = outcome.lost?.reduce((sum, { count }) => sum + count, 0) ?? 0
  assert.equal(held + lost, points.length)
  assert.deepEqual(Object.keys(leftOut), ['name'])
  return held
}
const firstTag = ({ tags = [['plant', 'north']] }: LogPoint) => tags[0] ?? ['', '']

test('influx, InfluxDB 1: hostile names are stored as they are, or declared lost', async () => {
  await using rig = await makeInfluxRig()
  const { query } = await influx
  const quote = (text: string) => `"${text.replace(/["\\]/g, '\\$&')}"`
  await hostile(rig, timeUs, async (point) => {
    const [measurement, field] = saidOf(point.name)
    const [key, value] = firstTag(point)
    const text = `SELECT ${quote(field)}, ${quote(key)}::tag FROM ${quote(measurement)} WHERE time = ${point.timeUs}u`
    const rows = await query(text, rig.database).catch(() => [])
    return rows.some((row) => row[2] === value)
  })
})
test('influx, VictoriaMetrics: hostile names are stored as they are, or declared lost', async () => {
  await using rig = await makeVictoriaRig()
  const { series } = await victoria
  const tagged = (at: number, tags: LogPoint['tags'] & object): LogPoint => {
    const name = `more.v${at}`
    return { name, timeUs: 3_000 + at, value: at, tags }
  }
  const many = (count: number) => Array.from({ length: count }, (_, at) => [`k${at}`, 'x'] as const)
  const more = [
    tagged(0, many(27)),
    tagged(1, many(28)),
    tagged(2, [['long', 'y'.repeat(16_384)]]),
    tagged(3, [['long', 'y'.repeat(16_385)]]),
    tagged(4, [['db', 'of-its-own']]),
  ]
  const places = [rig.database, 'of-its-own']
  const all = async () =>
    (await series()).filter(
      ({ metric }) =>
        places.includes(metric.db ?? '') && !metric.__name__?.startsWith('holdfast_gaps'),
    )
  const there = new Map<number, Readonly<Record<string, string>>>()
  const read = async (point: LogPoint) => {
    if (there.size === 0)
      for (const { metric, timestamps } of await all())
        for (const ms of timestamps) there.set(ms - timeUs / 1_000, metric)
    const metric = there.get(point.timeUs)
    if (metric === undefined) return false
    const said = Object.entries(metric).filter(([key]) => !['__name__', 'agent'].includes(key))
    const { tags = [['plant', 'north']] as const } = point
    const labels = tags.some(([key]) => key === 'db') ? tags : [...tags, ['db', rig.database]]
    assert.equal(metric.__name__, saidOf(point.name).join('_'))
    assert.deepEqual(Object.fromEntries(said), Object.fromEntries(labels as [string, string][]))
    return true
  }
  assert.ok((await hostile(rig, 0, read, more)) >= 60)
})
test('influx, QuestDB: hostile names are stored as they are, or declared lost', {
  skip: questdbMissing,
}, async () => {
  await using rig = await makeQuestdbRig()
  const { query } = await questdb
  const there = new Map<unknown, Readonly<Record<string, unknown>>>()
  const read = async (point: LogPoint) => {
    if (there.size === 0) {
      const columns = (await query('SHOW COLUMNS FROM points')).map(([name]) => String(name))
      for (const row of await query('SELECT cast(timestamp AS long) at, * FROM points'))
        there.set(row[0], Object.fromEntries(columns.map((name, at) => [name, row[at + 1]])))
    }
    const row = there.get(point.timeUs)
    if (row === undefined) return false
    const [key, value] = firstTag(point)
    assert.deepEqual([row.series, row[key], row.agent], [point.name, value, 'gw-7'])
    return true
  }
  assert.ok((await hostile(rig, timeUs, read)) >= 50)
})

test('influx, InfluxDB 1: a series of another type there, and the first of its segment, costs its own points', async () => {
  await using rig = await makeInfluxRig()
  const { destination, log } = rig
  const text = log.add([{ name: 'm.v', timeUs, value: 'on' }])
  assert.deepEqual(await destination.send(log.batch([text]), signal), stored)
  const mixed = Array.from({ length: 1_000 }, (_, at) => ({
    name: at % 2 === 0 ? 'm.v' : 'n.v',
    timeUs: timeUs + 1 + at,
    value: at,
  }))
  const outcome = await destination.send(log.batch([log.add(mixed)]), signal)
  assert.deepEqual(losing(outcome), [[2, 500, 'm.v', 'rejected']])
  const { query } = await influx
  const count = async (of: string) => (await query(`SELECT count(v) FROM ${of}`, rig.database))[0]
  assert.deepEqual(
    [await count('m'), await count('n')],
    [
      [0, 1],
      [0, 500],
    ],
  )
})

test('influx, InfluxDB 1: one bad point among 10,000 is found; the others stand', async () => {
  await using rig = await makeInfluxRig()
  const { destination, log, leftOut } = rig
  const first = log.add([{ name: 'm.v', timeUs, value: 1 }])
  assert.deepEqual(await destination.send(log.batch([first]), signal), stored)
  const many = Array.from({ length: 10_000 }, (_, at) => ({
    name: 'm.v',
    timeUs: timeUs + 1 + at,
    value: at === 7_321 ? 'offline' : at === 7_322 ? Number.NaN : at / 7,
  }))
  const batch = log.batch([log.add(many)])
  for (const _ of ['sent', 'sent again'])
    assert.deepEqual(losing(await destination.send(batch, signal)), [[2, 2, 'm.v', 'rejected']])
  assert.equal(await rig.arrived(), 9_999)
  assert.deepEqual(leftOut, { value: 2, refused: 2 })
  const { query } = await influx
  const gaps = await query(
    'SELECT "count", seq, from_us, to_us, source, agent, lane, reason FROM holdfast_gaps',
    rig.database,
  )
  const from = timeUs + 1 + 7_321
  assert.deepEqual(gaps, [[from + 2, 2, 2, from, from + 1, 'm.v', 'gw-7', 'raw', 'rejected']])
})

test('influx, InfluxDB 1: a server that takes nothing pauses the destination, and drops nothing', async () => {
  await using rig = await makeInfluxRig()
  const { destination, log, leftOut, database } = rig
  const { query } = await influx
  const first = log.add([{ name: 'm.v', timeUs, value: 1 }])
  assert.deepEqual(await destination.send(log.batch([first]), signal), stored)
  const strings = Array.from({ length: 500 }, (_, at) => ({
    name: 'm.v',
    timeUs: timeUs + 1 + at,
    value: 'on',
  }))
  const said = await destination.send(log.batch([log.add(strings)]), signal)
  assert.ok(said.kind === 'blocked' && said.code === 'HF-F122', JSON.stringify(said))
  assert.match(said.text, /field type conflict/)
  await query(`DROP DATABASE ${database}`)
  const gone = await destination.send(log.batch([first]), signal)
  assert.ok(gone.kind === 'blocked' && gone.code === 'HF-F121', JSON.stringify(gone))
  assert.match(gone.text, /database not found/)
  assert.deepEqual(leftOut, {})
})

test('influx, InfluxDB 1: points older than the server keeps are counted, whatever their number', async () => {
  await using rig = await makeInfluxRig()
  const { destination, log, leftOut, database } = rig
  const { query } = await influx
  await query(`CREATE RETENTION POLICY hour ON ${database} DURATION 1h REPLICATION 1 DEFAULT`)
  const nowUs = Date.now() * 1_000
  const old = Array.from({ length: 300 }, (_, at) => ({
    name: 'm.v',
    timeUs: timeUs + at,
    value: at,
  }))
  const items = [log.add(old), log.add([{ name: 'm.v', timeUs: nowUs, value: 1 }])]
  const lost = losing(await destination.send(log.batch([items[0] as never]), signal))
  assert.deepEqual(lost, [[1, 300, 'm.v', 'rejected']])
  assert.deepEqual(await destination.send(log.batch([items[1] as never]), signal), stored)
  assert.deepEqual(leftOut, { retention: 300 })
  assert.equal(await rig.arrived(), 1)
  // The gap record's own time is too old there as well: it is told as of now.
  const told = await query('SELECT "count", from_us FROM holdfast_gaps', database)
  assert.deepEqual(
    told.map(([, ...facts]) => facts),
    [[300, timeUs]],
  )
  // Beside a younger point of their shard those a little too old are taken: stored or lost, never both.
  const across = Array.from({ length: 200 }, (_, at) => ({
    name: 'edge.v',
    timeUs: nowUs - 7_200_000_000 + ((at * 7) % 200) * 30_000_000,
    value: at,
  }))
  const [loss] = losing(await destination.send(log.batch([log.add(across)]), signal)) as unknown[][]
  const held = await query('SELECT v FROM edge', database)
  assert.equal(held.length + Number(loss?.[1]), across.length)
  assert.ok(held.length > 70, `${held.length}`)
})

test('influx, InfluxDB 1: a segment larger than the server takes is cut until it fits', async () => {
  const small = startInflux(20_000)
  await using rig = await makeInfluxRig({}, small)
  const { destination, log, leftOut } = rig
  const many = Array.from({ length: 10_000 }, (_, at) => ({
    name: 'm.v',
    timeUs: timeUs + at,
    value: Math.sin(at),
  }))
  assert.deepEqual(await destination.send(log.batch([log.add(many)]), signal), stored)
  assert.equal(await rig.arrived(), 10_000)
  assert.deepEqual(leftOut, {})
  await (await small).stop()
})

test('influx, VictoriaMetrics: what it would alter is left out and counted', async () => {
  await using rig = await makeVictoriaRig()
  const points = [
    { name: 'm.v', timeUs: 0, value: 21.5 },
    { name: 'm.v', timeUs: 1, value: 'offline' },
    { name: 'm.v', timeUs: 2, value: 9_007_199_254_740_993n },
    { name: 'm.v', timeUs: 3, value: 42n },
    { name: 'm.v', timeUs: 4, value: true },
  ]
  const lost = losing(await rig.destination.send(rig.log.batch([rig.log.add(points)]), signal))
  assert.deepEqual(lost, [[1, 2, 'm.v', 'rejected']])
  assert.deepEqual(rig.leftOut, { value: 2 })
  const held = await pointsOf(rig.database)
  assert.deepEqual(
    held.map(([name, ms, value]) => [name, ms - timeUs / 1_000, value]),
    [
      ['m_v', 0, 21.5],
      ['m_v', 3, 42],
      ['m_v', 4, 1],
    ],
  )
  const gaps = await (await victoria).samples(rig.database)
  const count = gaps.filter(([name]) => name === 'holdfast_gaps_count')
  assert.deepEqual(count, [['holdfast_gaps_count', timeUs / 1_000 + 1 + 1, 2]])
})

test('influx, QuestDB: every value comes back as it went, once, whatever its series held before', {
  skip: questdbMissing,
}, async () => {
  await using rig = await makeQuestdbRig()
  const names = { f: 'line 1.a', i: 'line 1.a', t: 'line 1.a', b: 'line 1.b/c' }
  const values = [0.1, -0, 5e-324, 1.7976931348623157e308, 3.0000000000000004]
  const ints = [9_223_372_036_854_775_807n, -9_223_372_036_854_775_807n, 0n]
  const texts = ['a "b" \\', 'line\nbreak, = ', 'grün 🌡', '']
  const points = [
    ...values.map((value, at) => ({ name: names.f, timeUs: timeUs + at, value })),
    ...ints.map((value, at) => ({ name: names.i, timeUs: timeUs + 10 + at, value })),
    ...texts.map((value, at) => ({ name: names.t, timeUs: timeUs + 20 + at, value })),
    { name: names.b, timeUs, value: true },
    { name: names.b, timeUs: timeUs + 1, value: -9_223_372_036_854_775_808n },
    { name: names.b, timeUs: -1, value: 1 },
  ]
  const batch = rig.log.batch([rig.log.add(points)])
  for (const _ of ['sent', 'sent again'])
    assert.deepEqual(losing(await rig.destination.send(batch, signal)), [
      [1, 2, 'line 1.b/c', 'rejected'],
    ])
  const { query } = await questdb
  const rows = await query(
    'SELECT series, plant, value, value_int::string, value_bool, value_text FROM points ORDER BY series, timestamp',
  )
  const row = (name: string, at: number, value: unknown) =>
    [name, 'north', null, null, false, null].map((one, column) => (column === at ? value : one))
  assert.deepEqual(rows, [
    ...values.map((value) => row(names.f, 2, value)),
    ...ints.map((value) => row(names.i, 3, String(value))),
    ...texts.map((value) => row(names.t, 5, value)),
    row(names.b, 4, true),
  ])
  const gaps = await query('SELECT count, seq, reason, agent, source FROM holdfast_gaps')
  assert.deepEqual(gaps, [[2, 1, 'rejected', 'gw-7', 'line 1.b/c']])
})

test('influx, QuestDB: without tables that remove duplicates nothing is sent', {
  skip: questdbMissing,
}, async () => {
  await using rig = await makeQuestdbRig()
  const { query } = await questdb
  await query('ALTER TABLE points DEDUP DISABLE')
  await query('SELECT 1')
  const said = await rig.destination.standing(rig.log.standing(0), signal)
  assert.ok(said.kind === 'blocked' && said.code === 'HF-F124', JSON.stringify(said))
  // Points of two series at one time would be one.
  await query('ALTER TABLE points DEDUP ENABLE UPSERT KEYS(timestamp)')
  await query('SELECT 1')
  const keys = await rig.destination.standing(rig.log.standing(0), signal)
  assert.ok(keys.kind === 'blocked' && keys.code === 'HF-F124', JSON.stringify(keys))
  assert.match(
    keys.text,
    /points removes duplicates by \(timestamp\), not \(series_id, timestamp\)/,
  )
  await query('ALTER TABLE points DEDUP ENABLE UPSERT KEYS(timestamp, series_id)')
  await query('SELECT 1')
  assert.deepEqual(await rig.destination.standing(rig.log.standing(0), signal), { kind: 'unknown' })
})

test('influx, QuestDB: "destination test" before the plan writes nothing, and the plan mends a table that a write made', {
  skip: questdbMissing,
}, async () => {
  const { url, user, query } = await questdb
  const base = { type: 'influx', dialect: 'questdb', url, ...user }
  const config = configOf([
    { name: 'quest', ...base, table: 'probed' },
    { name: 'other', ...base, table: 'elsewhere' },
    { name: 'password', ...base, table: 'probed', password: 'of-somebody-else' },
  ])
  const way = ['dns ok', 'tcp ok', 'hello ok']
  const planned = async (name: string) => {
    const { out } = cli(['destination', 'plan', name, '-c', config])
    for (const statement of statementsOf(out)) await query(statement)
    return out
  }
  const tables = () => query("SELECT table_name FROM tables() WHERE table_name = 'probed'")
  const early = tried(config, 'quest').steps
  assert.deepEqual(shape(early), [...way, 'ready BAD'])
  assert.equal(early.at(-1)?.code, 'HF-F124')
  assert.deepEqual(await tables(), [])
  // As an earlier version did.
  const write = async () => {
    const headers = { authorization: `Basic ${btoa(`${user.username}:${user.password}`)}` }
    const body = `probed,series=a series_id=1i,value=1 ${timeUs}\n`
    const { status } = await fetch(`${url}/write?precision=u`, { method: 'POST', headers, body })
    assert.equal(status, 204)
  }
  await write()
  assert.deepEqual(await tables(), [['probed']])
  assert.deepEqual(shape(tried(config, 'quest').steps), [...way, 'ready BAD'])
  await planned('quest')
  await planned('quest')
  assert.deepEqual(shape(tried(config, 'quest').steps), [...way, 'ready ok', 'write ok'])
  await write()
  const counted = 'SELECT series, count() FROM probed ORDER BY series'
  assert.deepEqual(await query(counted), [
    ['a', 1],
    ['holdfast.probe', 1],
  ])
  const refused = tried(config, 'password').steps
  assert.deepEqual(
    [shape(refused), refused[2]?.code],
    [['dns ok', 'tcp ok', 'hello BAD'], 'HF-F120'],
  )
  await query('ALTER TABLE probed DEDUP ENABLE UPSERT KEYS(timestamp)')
  const keys = tried(config, 'quest').steps
  assert.deepEqual([shape(keys), keys[3]?.code], [[...way, 'ready BAD'], 'HF-F124'])
  await planned('quest')
  assert.deepEqual(shape(tried(config, 'quest', '--no-write').steps), [...way, 'ready ok'])
  // Somebody else's table of that name.
  await query(
    'CREATE TABLE elsewhere (ts TIMESTAMP, v DOUBLE) TIMESTAMP(ts) PARTITION BY DAY BYPASS WAL',
  )
  await assert.rejects(planned('other'), /elsewhere/)
  assert.deepEqual(shape(tried(config, 'other').steps), [...way, 'ready BAD'])
  await query('RENAME TABLE elsewhere TO elsewhere_before')
  assert.match(await planned('other'), /RENAME TABLE "elsewhere"/)
  assert.deepEqual(shape(tried(config, 'other', '--no-write').steps), [...way, 'ready ok'])
})

test('influx, InfluxDB 1: the plan makes database, policy and user of the configuration, and may be run again', async () => {
  const { url, query } = await influx
  const login = { username: 'writer', password: 'writer-password' }
  const place = { database: 'a "planned" one', retention_policy: 'year', ...login }
  const base = { type: 'influx', dialect: 'influxdb1', url }
  const quest = { name: 'quest', type: 'influx', dialect: 'questdb', url }
  const config = configOf([
    { name: 'one', ...base, ...place },
    { name: 'open', ...base, database: 'open' },
    quest,
  ])
  const plan = (name: string, ...flags: string[]) =>
    cli(['destination', 'plan', name, '-c', config, ...flags])
  const { plan: text } = JSON.parse(plan('one', '--retention', '365d', '--json').out)
  for (let times = 0; times < 2; times++)
    for (const statement of statementsOf(text)) await query(statement.replace('…', login.password))
  assert.deepEqual(shape(tried(config, 'one').steps).at(-1), 'write ok')
  const policies = await query('SHOW RETENTION POLICIES ON "a \\"planned\\" one"')
  assert.ok(policies.some(([name, kept]) => name === 'year' && kept === '8760h0m0s'))
  // Without a policy of its own the default one; without a user none.
  const open = statementsOf(plan('open', '--retention', '48h').out)
  for (const statement of open) await query(statement)
  assert.deepEqual(
    (await query('SHOW RETENTION POLICIES ON "open"')).map(([name, kept]) => [name, kept]),
    [['autogen', '48h0m0s']],
  )
  assert.doesNotMatch(open.join(), /USER|GRANT/)
  assert.match(plan('open', '--role', 'somebody').out, /GRANT WRITE ON "open" TO "somebody"/)
  assert.match(plan('quest', '--role', 'somebody').err, /HF-X002 --role means nothing/)
})

/** A destination of an agent of that name, on its own spool, straight to the server. */
const direct = (agent: string, config: object, log = createTestLog(agent)) => {
  const settings = influxDestination.config.parse({ type: 'influx', ...config })
  const deps = { host: createSystemHost({ log: silentLog }), name: 'h', agent, spool: log.spool }
  const destination = influxDestination.create({ ...deps, farTime: () => {} }, settings)
  const send = async (points: readonly LogPoint[]) => {
    const standing = await destination.standing(log.standing(0), signal)
    assert.deepEqual(standing, { kind: 'unknown' })
    return losing(await destination.send(log.batch([log.add(points)]), signal))
  }
  const close = () => destination[Symbol.asyncDispose]()
  return { destination, log, send, [Symbol.asyncDispose]: close }
}
test('influx: two agents that call a series alike are two series, unless told otherwise', {
  skip: questdbMissing,
}, async () => {
  const [one, other, quest] = [await influx, await victoria, await questdb]
  await one.query('CREATE DATABASE two')
  await (await makeQuestdbRig())[Symbol.asyncDispose]()
  const places = [
    { dialect: 'influxdb1', url: one.url, database: 'two', ...influxUser },
    { dialect: 'victoriametrics', url: other.url, database: 'two' },
    { dialect: 'questdb', url: quest.url, ...quest.user },
  ]
  const given = [
    { name: 'boiler.temperature', timeUs, value: 1 },
    { name: 'boiler.level', timeUs, value: 1, tags: [['agent', 'smith']] as const },
  ]
  for (const config of places)
    for (const [at, agent] of ['gw-1', 'gw-2'].entries()) {
      await using sending = direct(agent, config)
      const points = given.map((point) => ({ ...point, value: at }))
      assert.equal(await sending.send(points), undefined)
      // Only by name: what a gateway writes without the tag meets what others write so.
      await using nameless = direct(agent, { ...config, agent_tag: '' })
      assert.equal(
        await nameless.send([{ name: 'nobody.level', timeUs, value: at, tags: [] }]),
        undefined,
      )
    }
  const rows = await one.query('SELECT agent, exported_agent, level FROM boiler', 'two')
  const expected = [
    ['gw-1', 'smith', 0],
    ['gw-2', 'smith', 1],
  ]
  const levels = rows.filter(([, , tag]) => tag !== null)
  assert.deepEqual(
    levels.map(([, ...facts]) => facts),
    expected,
  )
  assert.equal((await one.query('SELECT temperature, agent FROM boiler', 'two')).length, 2)
  assert.equal((await one.query('SELECT level FROM nobody', 'two')).length, 1)
  const held = (await other.series()).filter(({ metric }) => metric.db === 'two')
  const labels = held.flatMap(({ metric: { __name__, agent, exported_agent }, values }) =>
    __name__ === 'boiler_level' ? [[agent, exported_agent, ...values]] : [],
  )
  assert.deepEqual(labels.sort(), expected)
  assert.equal(held.filter(({ metric }) => metric.__name__ === 'boiler_temperature').length, 2)
  assert.equal(held.filter(({ metric }) => metric.__name__ === 'nobody_level').length, 1)
  const columns = 'agent, exported_agent, value'
  assert.deepEqual(
    await quest.query(`SELECT ${columns} FROM points WHERE series = 'boiler.level' ORDER BY agent`),
    expected,
  )
  assert.equal(await quest.points(), 6)
})

test('influx: of two series that would be one there, one is written, the same after a restart', async () => {
  const [one, other] = [await influx, await victoria]
  await one.query('CREATE DATABASE meet')
  const places = [
    [{ dialect: 'influxdb1', url: one.url, database: 'meet', ...influxUser }, 'pump', 'pump.value'],
    [
      { dialect: 'victoriametrics', url: other.url, database: 'meet' },
      'pump_1.flow',
      'pump.1_flow',
    ],
  ] as const
  for (const [config, first, second] of places) {
    const at = (ms: number, name: string, value: number) => ({
      ...{ name, value, tags: [] },
      timeUs: timeUs + ms * 1_000,
    })
    const log = createTestLog('gw-1')
    await using before = direct('gw-1', config, log)
    const both = [at(0, first, 1), at(0, second, 2), at(1, 'apart.v', 3)]
    assert.deepEqual(await before.send(both), [[1, 1, second, 'rejected']])
    // A new epoch, where the other comes first.
    await using after = direct('gw-1', config, log.restart())
    assert.deepEqual(await after.send([at(2, second, 4)]), [[2, 1, second, 'rejected']])
    assert.equal(await after.send([at(3, first, 5)]), undefined)
  }
  const rows = await one.query('SELECT value FROM pump', 'meet')
  assert.deepEqual(
    rows.map(([at, value]) => [Number(at) - timeUs, value]),
    [
      [0, 1],
      [3_000, 5],
    ],
  )
  const held = (await other.samples('meet')).filter(([name]) => name === 'pump_1_flow')
  assert.deepEqual(
    held.map(([, ms, value]) => [ms - timeUs / 1_000, value]),
    [
      [0, 1],
      [3, 5],
    ],
  )
})

test('influx, VictoriaMetrics: points of one millisecond and of times it would drop are declared lost', async () => {
  const server = await victoria
  const config = { dialect: 'victoriametrics', url: server.url, database: 'times' }
  await using sending = direct('gw-1', config)
  const nowUs = Math.floor(Date.now()) * 1_000
  const day = 86_400_000_000
  const at = (us: number, value: number, name = 'm.v') => ({ name, timeUs: nowUs + us, value })
  const first = [at(0, 1), at(400, 2), at(800, 3), at(1_000, 4), at(1_000, 5)]
  // Of one microsecond the later replaces the earlier: that is a correction, no loss.
  assert.deepEqual(await sending.send(first), [[1, 2, 'm.v', 'rejected']])
  const batch = sending.log.batch([sending.log.add([at(1_200, 6), at(2_000, 7)])])
  for (const _ of ['sent', 'sent again'])
    assert.deepEqual(losing(await sending.destination.send(batch, signal)), [
      [2, 1, 'm.v', 'rejected'],
    ])
  const far = [at(3 * day, 8), at(1.9 * day, 9), at(-nowUs - day, 10), at(-200 * 365 * day, 11)]
  assert.deepEqual(await sending.send(far), [[3, 3, 'm.v', 'rejected']])
  const held = await server.samples('times')
  const values = held.filter(([name]) => name === 'm_v').map(([, , value]) => value)
  assert.deepEqual(values.sort(), [3, 5, 7, 9])
  const told = held.filter(([name]) => name === 'holdfast_gaps_count').map(([, , value]) => value)
  assert.deepEqual(told.sort(), [1, 2, 3])
  // A year by the configuration, whatever the server says; without it, what the server says.
  await using shorter = direct('gw-1', { ...config, retention: '365d' })
  const old = [at(-366 * day, 12, 'old.v'), at(-364 * day, 13, 'old.v')]
  assert.deepEqual(await shorter.send(old), [[1, 1, 'old.v', 'rejected']])
  await using asked = direct('gw-1', config)
  assert.equal(await asked.send(old), undefined)
})
