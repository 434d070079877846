/** Whose series a line is, over real InfluxDB 1, VictoriaMetrics and QuestDB: of two agents, and of two that would be one. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { influxUser } from '../support/influx-servers.ts'
import { questdbMissing } from '../support/questdb.ts'
import {
  direct,
  influx,
  makeQuestdbRig,
  questdb,
  timeUs,
  victoria,
} from './destination-influx-rigs.ts'
import { createTestLog } from './destination-log.ts'

test('influx: two agents that call a series alike are two series, unless told otherwise', {
  skip: questdbMissing,
}, async () => {
  const [one, other, quest] = [await influx(), await victoria(), await questdb()]
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
  const [one, other] = [await influx(), await victoria()]
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
