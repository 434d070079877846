/** The destination contract over a real InfluxDB 1, real TLS before it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startInflux } from '../support/influx-servers.ts'
import { statementsOf } from '../support/questdb.ts'
import { cli } from '../support/site.ts'
import { runDestinationContract } from './destination.ts'
import {
  firstTag,
  hostile,
  influx,
  losing,
  makeInfluxRig,
  signal,
  stored,
  timeUs,
} from './destination-influx-rigs.ts'
import { saidOf } from './destination-names.ts'
import { configOf, shape, tried } from './destination-tried.ts'

runDestinationContract('influx, InfluxDB 1', makeInfluxRig, [
  'answers',
  'bad-point',
  'credentials',
  'lost-answer',
  'server-expired',
  'server-of-other-ca',
  'server-of-other-host',
])

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
  const { query } = await influx()
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

test('influx, InfluxDB 1: hostile names are stored as they are, or declared lost', async () => {
  await using rig = await makeInfluxRig()
  const { query } = await influx()
  const quote = (text: string) => `"${text.replace(/["\\]/g, '\\$&')}"`
  await hostile(rig, timeUs, async (point) => {
    const [measurement, field] = saidOf(point.name)
    const [key, value] = firstTag(point)
    const text = `SELECT ${quote(field)}, ${quote(key)}::tag FROM ${quote(measurement)} WHERE time = ${point.timeUs}u`
    const rows = await query(text, rig.database).catch(() => [])
    return rows.some((row) => row[2] === value)
  })
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
  const { query } = await influx()
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
  const { query } = await influx()
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
  const { query } = await influx()
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
  const { query } = await influx()
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

test('influx, InfluxDB 1: the plan makes database, policy and user of the configuration, and may be run again', async () => {
  const { url, query } = await influx()
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
