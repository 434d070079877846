import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readPointsMax, segmentPointsMax } from '../../../src/limits.ts'
import type { Spool } from '../../../src/spool/spool.ts'
import { contents, createRig, floats, laneOptions, readAll, store } from './support.ts'

const headsOf = (spool: Spool) =>
  spool.heads().map(({ lane, head, openCount }) => ({ lane, head, openCount }))

test('points committed are journalled, sealed on demand, and read back in order', () => {
  const rig = createRig()
  const spool = rig.open()
  store(spool, floats(rig.series, 1, 3))
  assert.deepEqual(headsOf(spool), [{ lane: 'raw', head: 0, openCount: 3 }])
  store(spool, floats(rig.series, 4, 2))
  spool.seal(['raw'])
  assert.deepEqual(contents(readAll(spool)), [1, 2, 3, 4, 5])
  assert.equal(spool.lanes()[0]?.accepted, 5)
})

test('a commit that fills a segment seals it directly; the rest stays open', () => {
  const rig = createRig()
  const spool = rig.open()
  store(spool, floats(rig.series, 1, 30))
  store(spool, floats(rig.series, 31, 230))
  assert.deepEqual(headsOf(spool), [{ lane: 'raw', head: 2, openCount: 60 }])
  spool.seal(['raw'])
  assert.deepEqual(
    contents(readAll(spool)),
    Array.from({ length: 260 }, (_, at) => at + 1),
  )
})

test('a window that makes a good segment by itself is never journalled; what it seals is spread evenly', () => {
  const rig = createRig({ lanes: [laneOptions('raw', { segmentPointsMax })] })
  const spool = rig.open()
  store(spool, floats(rig.series, 1, segmentPointsMax / 2 - 1))
  assert.deepEqual(headsOf(spool), [{ lane: 'raw', head: 0, openCount: 29_999 }])
  const written = spool.stats().bytesWritten
  store(spool, floats(rig.series, 30_000, 30_002))
  assert.deepEqual(headsOf(spool), [{ lane: 'raw', head: 2, openCount: 0 }])
  const items = readAll(spool)
  assert.deepEqual(
    items.map((item) => (item.type === 'segment' ? item.pointCount : 0)),
    [30_001, 30_000],
  )
  const sealed = items.reduce(
    (sum, item) => sum + (item.type === 'segment' ? item.bytes.length : 0),
    0,
  )
  assert.equal(spool.stats().bytesWritten - written, sealed)
  assert.deepEqual(
    contents(items),
    Array.from({ length: 60_001 }, (_, at) => at + 1),
  )
})

test('a journal left behind goes on as the open segment of the next epoch', () => {
  const rig = createRig()
  const first = rig.open()
  store(first, floats(rig.series, 1, 150))
  const second = rig.open(first.image())
  assert.notEqual(second.epoch, first.epoch)
  store(second, floats(rig.series, 151, 1, 'other'))
  second.seal(['raw'])
  const items = readAll(second)
  assert.deepEqual(
    items.map((item) => item.epoch),
    [first.epoch, second.epoch],
  )
  assert.deepEqual(
    contents(items),
    Array.from({ length: 151 }, (_, at) => at + 1),
  )
  assert.deepEqual(
    second.dictionary(second.epoch, 0, 10).map((entry) => entry.name),
    ['s', 'other'],
  )
  assert.deepEqual(
    second.epochs().map(({ epoch, parent, lanes }) => [epoch, parent, lanes[0]?.base]),
    [
      [first.epoch, null, 0],
      [second.epoch, first.epoch, 1],
    ],
  )
})

test('readers: acks move cursors and books', () => {
  const rig = createRig()
  const spool = rig.open()
  assert.deepEqual(spool.openReader('raw', 'region', 'oldest'), { backlog: 0, live: null })
  store(spool, floats(rig.series, 1, 250))
  spool.ack('raw', 'region', { which: 'backlog', upTo: 1 })
  const [reader] = spool.lanes()[0]?.readers ?? []
  assert.deepEqual(
    [reader?.delivered, reader?.pending, reader?.declaredLost, reader?.cursor.backlog],
    [100, 150, 0, 1],
  )
})

test('a database behind its anchor declares the difference', () => {
  const rig = createRig()
  const spool = rig.open()
  store(spool, floats(rig.series, 1, 10))
  const older = spool.image()
  store(spool, floats(rig.series, 11, 7))
  const restored = rig.open(older)
  restored.seal(['raw'])
  assert.deepEqual(contents(readAll(restored)), [['anchor', 7], 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
})

test('a new configuration may bring a lane, and take one away without its backlog', () => {
  const rig = createRig()
  const spool = rig.open()
  store(spool, floats(rig.series, 1, 100))
  spool.configure({ lanes: [laneOptions('alarms')] })
  store(spool, floats(rig.series, 500, 1), 'alarms', true)
  assert.deepEqual(contents(readAll(spool, 'alarms')), [500])
  assert.throws(() => store(spool, floats(rig.series, 501, 1)), { code: 'HF-S010' })
  assert.equal(readAll(spool).length, 1)
  const again = rig.open(spool.image())
  assert.deepEqual(
    again.lanes().map(({ lane, id, head }) => [lane, id, head]),
    [
      ['raw', 1, 1],
      ['alarms', 2, 1],
    ],
  )
})

test('losses: one record a source and reason while nobody has read it, sampled into the quarantine', () => {
  const rig = createRig()
  const spool = rig.open()
  const lose = (source: string, count: number) =>
    spool.commit([
      {
        lane: 'raw',
        intakes: [
          {
            points: floats(rig.series, 0, 0),
            losses: [
              { source, reason: 'malformed', count, text: 'no JSON', sample: Uint8Array.of(1, 2) },
            ],
          },
        ],
        seal: false,
      },
    ])
  lose('a', 1)
  lose('a', 2)
  lose('b', 1)
  assert.deepEqual(contents(readAll(spool)), [
    ['malformed', 3],
    ['malformed', 1],
  ])
  lose('b', 5)
  assert.deepEqual(contents(readAll(spool)), [
    ['malformed', 3],
    ['malformed', 1],
    ['malformed', 5],
  ])
  assert.equal(spool.lanes()[0]?.accepted, 9)
  const samples = spool.quarantined(10)
  assert.deepEqual(samples.map((row) => [row.source, row.text, [...row.sample]]).at(-1), [
    'a',
    'no JSON',
    [1, 2],
  ])
  assert.equal(spool.discardQuarantined(samples[0]?.id ?? 0), true)
  assert.equal(spool.discardQuarantined(samples[0]?.id ?? 0), false)
})

test('a range is estimated by what its segments say of themselves', () => {
  const rig = createRig()
  const spool = rig.open()
  store(spool, floats(rig.series, 1, 300))
  const found = spool.estimate('raw', 150_000, 160_000)
  assert.deepEqual([found.segments, found.points, found.seqFirst, found.seqLast], [1, 100, 2, 2])
  assert.deepEqual(spool.estimate('raw', 9e9, 9e9).segments, 0)
})

test('a read hands out no more than a few full segments, however small they are', () => {
  const lanes = [laneOptions('raw', { segmentPointsMax })]
  const rig = createRig({ lanes })
  const spool = rig.open()
  store(spool, floats(rig.series, 1, 6 * segmentPointsMax))
  const pointsOf = (after: number) =>
    spool
      .read('raw', after, 1e9)
      .reduce((sum, item) => sum + (item.type === 'segment' ? item.pointCount : 0), 0)
  assert.equal(pointsOf(0), readPointsMax)
  assert.equal(pointsOf(4), 2 * segmentPointsMax)
})
