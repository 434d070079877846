/**
 * Routes that change while a backlog waits, over a real spool with real rules: nothing is lost, nothing goes twice, and
 * what came later in a series stands, whichever lane it went by.
 */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { forwarderOptions } from '../../src/agent.ts'
import { stagesOf } from '../../src/agent-stages.ts'
import { openSegment } from '../../src/codec/segment.ts'
import { loadConfig } from '../../src/config/load.ts'
import { destinationTypes } from '../../src/destinations/table.ts'
import type { SeriesClass } from '../../src/pipeline/classes.ts'
import { sourceTypes } from '../../src/sources/table.ts'
import type { Spool } from '../../src/spool/spool.ts'
import { temporaryFolder } from '../support/temp.ts'
import { createRig, floats, laneOptions, readAll, store } from '../unit/spool/support.ts'

const agent = 'agent-1'
const lanes = [
  laneOptions('raw', { segmentPointsMax: 10 }),
  laneOptions('press', { segmentPointsMax: 10 }),
  laneOptions('reduced', { derived: true }),
  laneOptions('thin', { derived: true }),
]
const classOf = (reduce: SeriesClass['reduce']): SeriesClass => ({
  name: 'all',
  match: {},
  reduce,
  windows: [],
})
const stages = (reduce: SeriesClass['reduce'], lane = 'raw') =>
  stagesOf([{ lane, classes: [classOf(reduce)], timeZone: 'UTC', agent }])
const deriveAll = (spool: Spool) => {
  for (let turns = 0; spool.derive() === 'more'; turns++) assert.ok(turns < 1_000)
}
interface Found {
  readonly timeUs: number
  readonly value: number
  readonly sealNumber: number
}
const pointsIn = (spool: Spool, lane: string): Found[] =>
  readAll(spool, lane).flatMap((item) => {
    if (item.type !== 'segment') return []
    const { header, points } = openSegment(item.bytes)
    const values = new Float64Array(points.bits.buffer, points.bits.byteOffset, points.count)
    return [...values].map((value, at) => ({
      timeUs: points.timeUs[at] as number,
      value,
      sealNumber: header.sealNumber,
    }))
  })
const sealed = (spool: Spool) => {
  deriveAll(spool)
  for (const { name } of lanes) spool.seal([name])
}
const booksOf = (spool: Spool) => {
  const raw = spool.lanes().find(({ lane }) => lane === 'raw')
  const found = raw?.readers.find(({ reader }) => reader === '@rules')
  assert.ok(raw && found)
  assert.equal(raw.accepted, found.delivered + found.reduced + found.pending + found.declaredLost)
  return { accepted: raw.accepted, delivered: found.delivered, reduced: found.reduced }
}

test('a rule that changes goes on from the newest point: nothing before it is given out again, and the books go on', () => {
  const rig = createRig({ lanes, configDigest: 'one' })
  const every = { lane: 'reduced', method: 'every' } as const
  const half = { lane: 'reduced', method: 'deadband', deviation: 9 } as const
  const first = rig.open(null, undefined, stages(every))
  store(first, floats(rig.series, 1, 95))
  deriveAll(first)
  // 90 of them are sealed and read, five wait in the journal when the agent stops.
  const second = rig.open(first.image(), undefined, stages(half), { configDigest: 'two' })
  sealed(second)
  store(second, floats(rig.series, 101, 100))
  sealed(second)
  const given = pointsIn(second, 'reduced')
  const times = given.map(({ timeUs }) => timeUs)
  const twice = times.filter((timeUs, at) => times.indexOf(timeUs) !== at)
  assert.deepEqual(twice, [90_000], 'the newest that was read, where both rules agree')
  const before = times.filter((timeUs) => timeUs <= 95_000)
  assert.ok(before.length >= 90, `${before.length} by the rule of then`)
  const after = times.filter((timeUs) => timeUs > 100_000)
  assert.ok(after.length > 5 && after.length < 20, `${after.length} by the new rule`)
  const { accepted, delivered, reduced } = booksOf(second)
  assert.deepEqual([accepted, delivered, delivered + reduced], [195, times.length, 195])
})

test('a rule whose lane changes: the old lane is sealed first and keeps its backlog, the new one goes on from there', () => {
  const rig = createRig({ lanes, configDigest: 'one' })
  const to = (lane: string) => ({ lane, method: 'every' }) as const
  const first = rig.open(null, undefined, stages(to('reduced')))
  store(first, floats(rig.series, 1, 95))
  deriveAll(first)
  const second = rig.open(first.image(), undefined, stages(to('thin')), { configDigest: 'two' })
  store(second, floats(rig.series, 96, 50))
  sealed(second)
  const [old, next] = [pointsIn(second, 'reduced'), pointsIn(second, 'thin')]
  const values = [...old, ...next].map(({ value }) => value)
  assert.deepEqual(
    values,
    Array.from({ length: 145 }, (_, at) => at + 1),
    'each once, in order',
  )
  assert.ok(old.length >= 90 && next.length >= 50)
  assert.ok(
    Math.max(...old.map(({ sealNumber }) => sealNumber)) <
      Math.min(...next.map(({ sealNumber }) => sealNumber)),
  )
})

test('a series that moves to another lane: the old lane is sealed first, so a correction by the new one stands', () => {
  const rig = createRig({ lanes, configDigest: 'one' })
  const first = rig.open()
  store(first, floats(rig.series, 1, 5), 'raw')
  assert.equal(first.heads().find(({ lane }) => lane === 'raw')?.openCount, 5)
  const second = rig.open(first.image(), undefined, [], { configDigest: 'two' })
  // The same times once more, by the other lane, which is sealed before the old one has any reason to be.
  store(second, floats(rig.series, 1, 5), 'press', true)
  sealed(second)
  const [old, next] = [pointsIn(second, 'raw'), pointsIn(second, 'press')]
  assert.deepEqual([old.length, next.length], [5, 5])
  assert.ok(old.every((one) => next.every((other) => one.sealNumber < other.sealNumber)))
})

const folder = temporaryFolder('routing')
const configured = (keys: string) => {
  const file = join(folder, 'holdfast.yaml')
  writeFileSync(
    file,
    `agent: {name: gw}
lanes: {raw: {}, alarms: {priority: 0, max_delay: 100ms}, windows: {priority: 4}, reduced: {}}
sources: [{name: plant, type: simulate}, {name: alarms, type: simulate, lane: alarms}]
classes:
  pumps: {match: {names: ["pump.*"]}, windows: [{every: 1m, statistics: [mean]}]}
destinations:
  - {name: region, type: relay, url: "https://r.example:1"${keys}, tls: {ca: a, cert: b, key: c}}
`,
  )
  const catalog = { sources: sourceTypes, destinations: destinationTypes }
  const result = loadConfig(file, { environment: {}, catalog, surroundings: false })
  assert.ok(result.ok, JSON.stringify(result))
  return result.config
}
test('what the configuration says of a route is what the forwarder does', () => {
  const { lanes: all, destinations } = configured(
    ', bandwidth: 64 kbit/s, live_share: 70%, from: oldest',
  )
  assert.deepEqual(destinations[0]?.lanes, ['alarms', 'windows', 'reduced'], 'raw stays')
  assert.deepEqual(
    all.map(({ name, priority, max_delay }) => [name, priority, max_delay]),
    [
      ['raw', 5, 1_000],
      ['alarms', 0, 100],
      ['windows', 4, 1_000],
      ['reduced', 5, 1_000],
    ],
  )
  const relay = { bodyBytesMax: 1_000 }
  const options = (keys: string, of: { inOrder?: boolean } = {}) => {
    const [one] = configured(keys).destinations
    assert.ok(one)
    return forwarderOptions(one, { ...relay, ...of })
  }
  const [destination] = destinations
  assert.ok(destination)
  assert.deepEqual(forwarderOptions(destination, relay), {
    from: 'oldest',
    requestsInFlight: 4,
    bodyBytesMax: 1_000,
    liveShare: 0.7,
    bandwidthBytesPerSecond: 8_000,
  })
  const plain = options('')
  assert.deepEqual(
    [plain.liveShare, plain.from, plain.bandwidthBytesPerSecond],
    [0.5, 'now', undefined],
  )
  assert.equal(options(', order: oldest_first, live_share: 70%').liveShare, 0)
  assert.equal(options(', order: newest_first, live_share: 70%').liveShare, 0.7)
  const strict = options('', { inOrder: true })
  assert.deepEqual([strict.liveShare, strict.requestsInFlight], [0, 1])
  assert.deepEqual(configured(', lanes: [windows, alarms]').destinations[0]?.lanes, [
    'windows',
    'alarms',
  ])
})
