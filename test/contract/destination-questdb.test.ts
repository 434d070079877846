/** The influx destination over a real QuestDB: the contract, rows, and the tables it must find there. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { questdbMissing, statementsOf } from '../support/questdb.ts'
import { cli } from '../support/site.ts'
import { runDestinationContract } from './destination.ts'
import {
  firstTag,
  hostile,
  losing,
  makeQuestdbRig,
  questdb,
  signal,
  timeUs,
} from './destination-influx-rigs.ts'
import type { LogPoint } from './destination-log.ts'
import { configOf, shape, tried } from './destination-tried.ts'

runDestinationContract(
  'influx, QuestDB',
  makeQuestdbRig,
  ['answers', 'bad-point', 'credentials', 'lost-answer'],
  questdbMissing,
)

test('influx, QuestDB: hostile names are stored as they are, or declared lost', {
  skip: questdbMissing,
}, async () => {
  await using rig = await makeQuestdbRig()
  const { query } = await questdb()
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
  const { query } = await questdb()
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
  const { query } = await questdb()
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
  const { url, user, query } = await questdb()
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
