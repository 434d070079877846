/** The influx destination over a real VictoriaMetrics: the contract, and what it would alter or drop without a word. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runDestinationContract } from './destination.ts'
import {
  direct,
  hostile,
  losing,
  makeVictoriaRig,
  pointsOf,
  signal,
  timeUs,
  victoria,
} from './destination-influx-rigs.ts'
import type { LogPoint } from './destination-log.ts'
import { saidOf } from './destination-names.ts'

runDestinationContract('influx, VictoriaMetrics', makeVictoriaRig, [
  'answers',
  'bad-point',
  'lost-answer',
])

test('influx, VictoriaMetrics: hostile names are stored as they are, or declared lost', async () => {
  await using rig = await makeVictoriaRig()
  const { series } = await victoria()
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
  const gaps = await (await victoria()).samples(rig.database)
  const count = gaps.filter(([name]) => name === 'holdfast_gaps_count')
  assert.deepEqual(count, [['holdfast_gaps_count', timeUs / 1_000 + 1 + 1, 2]])
})

test('influx, VictoriaMetrics: points of one millisecond and of times it would drop are declared lost', async () => {
  const server = await victoria()
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
