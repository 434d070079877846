/** Stages over a real spool: their lanes are what an uninterrupted run over raw would give, whatever happens. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import Database from 'better-sqlite3'
import { createBatchBuilder } from '../../../src/batch.ts'
import { isFailure } from '../../../src/errors.ts'
import type { Stage } from '../../../src/model.ts'
import type { Spool, StageReader } from '../../../src/spool/spool.ts'
import {
  createTestStage,
  type StageFaults,
  sorted,
  type Told,
  toldBy,
  toldNaively,
} from './stage-support.ts'
import { createRig, laneOptions, type Rig, readAll, store } from './support.ts'

const lanes = [
  laneOptions('raw', { segmentPointsMax: 10 }),
  laneOptions('thin', { derived: true }),
  laneOptions('windows', { derived: true }),
]
const rigWith = (change = {}) => createRig({ lanes, ...change })
const open = (
  rig: Rig,
  image: Uint8Array | null = null,
  faults: StageFaults = {},
  failpoint?: (name: string) => void,
) => {
  const stage = createTestStage('test', faults)
  const stages: StageReader[] = [{ reader: 'stage', lane: 'raw', stage }]
  return { stage, spool: rig.open(image, failpoint, stages) }
}
const longAfterUs = 1e9
/** Points of two series, a millisecond apart, from number `first`. */
const points = (rig: Rig, first: number, count: number) => {
  const builder = createBatchBuilder()
  for (let at = first; at < first + count; at++)
    builder.addFloat(rig.series.ref(at % 2 === 0 ? 'even' : 'odd', []), at * 1000, at / 7, 0)
  return builder.take()
}
/** The first row of a table with one bit of a column turned over, behind everybody's back. */
const harmed = (image: Uint8Array, table: string, column: string): Uint8Array => {
  const db = new Database(Buffer.from(image))
  const value = db.prepare(`SELECT ${column} FROM ${table} LIMIT 1`).pluck().get() as
    | Buffer
    | number
  if (typeof value === 'number') db.prepare(`UPDATE ${table} SET ${column} = ?`).run(value + 1)
  else {
    value[value.length >> 1] = (value[value.length >> 1] as number) ^ 1
    db.prepare(
      `UPDATE ${table} SET ${column} = ?${table === 'segments' ? ' WHERE key = (SELECT min(key) FROM segments)' : ''}`,
    ).run(value)
  }
  const after = db.serialize()
  db.close()
  return after
}
const deriveAll = (spool: Spool) => {
  for (let turns = 0; spool.derive() === 'more'; turns++) assert.ok(turns < 1_000)
}
const naive = (spool: Spool) =>
  toldNaively(readAll(spool), (epoch) => spool.dictionary(epoch, 0, 1e6))
const assertSame = (spool: Spool) => {
  const expected = sorted(naive(spool))
  assert.ok(expected.length > 0)
  assert.deepEqual(sorted(toldBy(spool)), expected)
}
const reader = (spool: Spool) => {
  const found = spool.lanes()[0]?.readers.find((one) => one.reader === 'stage')
  assert.ok(found)
  return found
}
/** Accepted = delivered + reduced + pending + declared lost, by hand. */
const assertEquation = (spool: Spool) => {
  const accepted = spool.lanes()[0]?.accepted
  const { delivered, reduced, declaredLost, pending } = reader(spool)
  assert.equal(delivered + reduced + declaredLost + pending, accepted)
  assert.ok(pending >= 0)
}

test('what a stage gives out is in its lanes after the turn, and the books say what became of each point', () => {
  const rig = rigWith()
  const { spool } = open(rig)
  store(spool, points(rig, 0, 95), 'raw', true)
  assert.deepEqual([reader(spool).pending, reader(spool).stage], [95, true])
  assert.ok(spool.heads()[0]?.underived)
  deriveAll(spool)
  assert.ok(!spool.heads()[0]?.underived)
  const { delivered, reduced, pending } = reader(spool)
  const inLanes = spool.lanes().filter((lane) => lane.derived)
  assert.equal(
    delivered,
    inLanes.reduce((sum, lane) => sum + lane.accepted, 0),
  )
  assert.deepEqual([delivered + reduced, pending], [95, 0])
  assertSame(spool)
  const entries = spool.dictionary(spool.epoch, 0, 100)
  assert.equal(
    entries.findLast(({ name, tags }) => name === 'even' && tags.length === 0)?.contracts?.at(-1)
      ?.contract?.method,
    'sample',
  )
  spool.close()
})

for (const at of ['before-commit', 'after-commit', 'after-anchor', 'close']) {
  test(`a crash at ${at} of any turn, or an end, repeats nothing and leaves nothing out`, () => {
    for (let turn = 1; turn <= 6; turn++) {
      const rig = rigWith()
      let failAt = ''
      let left = 0
      const failpoint = (name: string) => {
        if (name === failAt && --left === 0) throw new Error('crash')
      }
      let { spool } = open(rig, null, {}, failpoint)
      for (let first = 0; first < 120; first += 40) {
        if (first === 40) {
          failAt = at
          left = turn
        }
        try {
          store(spool, points(rig, first, 40), 'raw', true)
          deriveAll(spool)
          store(spool, points(rig, 1_000 + first, 5), 'raw', true)
          deriveAll(spool)
        } catch (error) {
          assert.equal((error as Error).message, 'crash')
          failAt = ''
          ;({ spool } = open(rig, spool.image()))
        }
      }
      const image = spool.image()
      if (at === 'close') spool.close()
      const again = open(rig, at === 'close' ? image : spool.image())
      deriveAll(again.spool)
      assertEquation(again.spool)
      assertSame(again.spool)
    }
  })
}

test('a restart steps again only what came after the checkpoint, and a close leaves nothing to step', () => {
  const rig = rigWith()
  const first = open(rig)
  for (let at = 0; at < 300; at += 10) store(first.spool, points(rig, at, 10), 'raw', true)
  deriveAll(first.spool)
  const crashed = open(rig, first.spool.image())
  deriveAll(crashed.spool)
  assert.deepEqual(crashed.stage.seqs.length, 30)
  assertSame(crashed.spool)
  let image = new Uint8Array(0)
  let closing: Spool | null = null
  const failpoint = (name: string) => {
    if (name === 'after-commit' && closing !== null) image = Buffer.from(closing.image())
  }
  closing = open(rig, crashed.spool.image(), {}, failpoint).spool
  deriveAll(closing)
  closing.close()
  const after = open(rig, image)
  deriveAll(after.spool)
  assert.deepEqual(after.stage.seqs, [])
  assertSame(after.spool)
})

test('raw that an open window needs is not trimmed, and is once it has ended', async () => {
  const rig = rigWith({ keepSentMs: 0 })
  const { spool } = open(rig)
  // One series stays behind: its window of the beginning never ends.
  store(spool, points(rig, 0, 2), 'raw', true)
  for (let at = 1; at < 400; at += 2) {
    const builder = createBatchBuilder()
    builder.addFloat(rig.series.ref('odd', []), at * 1000, at, 0)
    store(spool, builder.take(), 'raw', true)
    deriveAll(spool)
    await rig.clock.pass(1_000)
  }
  assert.equal(spool.lanes()[0]?.floor, 1)
  assertSame(spool)
  assert.equal(spool.tick(1e9), 'done')
  store(spool, points(rig, 500, 2), 'raw', true)
  assert.ok((spool.lanes()[0]?.floor ?? 0) > 150)
  assertEquation(spool)
})

test('a tick closes what no point closes, once, and a restart does not repeat it', () => {
  const rig = rigWith()
  const { spool } = open(rig)
  store(spool, points(rig, 0, 30), 'raw', true)
  assert.ok(!spool.heads()[0]?.ticks)
  deriveAll(spool)
  assert.ok(spool.heads()[0]?.ticks)
  spool.tick(longAfterUs)
  const told = sorted(toldBy(spool))
  const again = open(rig, spool.image())
  deriveAll(again.spool)
  again.spool.tick(longAfterUs)
  assert.deepEqual(sorted(toldBy(again.spool)), told)
  assertEquation(again.spool)
})

test('a damaged state begins anew and gives nothing out twice; a damaged cursor gives the same points again', () => {
  const rig = rigWith()
  const { spool } = open(rig)
  for (let at = 0; at < 300; at += 10) store(spool, points(rig, at, 10), 'raw', true)
  deriveAll(spool)
  const before = spool.image()
  const once = (told: Told) =>
    sorted(told).map(([name, points]) => [name, [...new Set(points)]] as const)
  for (const [table, column, repeats] of [
    ['stages', 'state', false],
    ['stages', 'checkpoint', false],
    ['cursors', 'backlog', true],
  ] as const) {
    const { spool } = open(rig, harmed(before, table, column))
    deriveAll(spool)
    assertEquation(spool)
    const told = toldBy(spool)
    assert.deepEqual(once(told), sorted(naive(spool)), column)
    const twice = sorted(told).some(([, points]) => points.length > new Set(points).size)
    assert.equal(twice, repeats, column)
  }
})

test('a damaged segment of the lane it reads is skipped, and shows as a gap', () => {
  const rig = rigWith()
  const { spool } = open(rig)
  for (let at = 0; at < 60; at += 10) store(spool, points(rig, at, 10), 'raw', true)
  const again = open(rig, harmed(spool.image(), 'segments', 'bytes'))
  deriveAll(again.spool)
  assertEquation(again.spool)
  assert.equal(reader(again.spool).declaredLost, 10)
  assertSame(again.spool)
})

test('a stage that throws rests alone: intake and other stages go on', () => {
  const rig = rigWith()
  const bad = createTestStage('bad', { throwAt: 2 })
  const lost = createTestStage('lost', { lane: 'raw' })
  const good = createTestStage('good')
  const spool = rig.open(null, undefined, [
    { reader: 'bad', lane: 'raw', stage: bad },
    { reader: 'lost', lane: 'raw', stage: lost },
    { reader: 'stage', lane: 'raw', stage: good },
  ])
  for (let at = 0; at < 60; at += 10) store(spool, points(rig, at, 10), 'raw', true)
  deriveAll(spool)
  assert.deepEqual(good.seqs, [1, 2, 3, 4, 5, 6])
  assert.equal(reader(spool).pending, 0)
  const badly = spool.lanes()[0]?.readers.filter((one) => one.reader !== 'stage')
  assert.deepEqual(
    badly?.map(({ pending }) => pending > 0),
    [true, true],
  )
  assert.deepEqual(
    spool.lanes()[0]?.readers.map(({ reader, failed }) => [reader, failed !== undefined]),
    [
      ['bad', true],
      ['lost', true],
      ['stage', false],
    ],
  )
})

test('what a stage only passes over is none of its books: neither delivered nor reduced', () => {
  const rig = rigWith()
  const takes: Stage['takes'] = ({ name }) => name === 'even'
  const stage = { ...createTestStage('test', {}), passesPoints: false, takes }
  const stages = [{ reader: 'stage', lane: 'raw', stage }]
  const spool = rig.open(null, undefined, stages)
  store(spool, points(rig, 0, 95), 'raw', true)
  deriveAll(spool)
  const books = (of: Spool) => {
    const { delivered, reduced, pending } = reader(of)
    return [of.lanes()[0]?.accepted, delivered, reduced, pending]
  }
  assert.deepEqual(books(spool), [95, 0, 48, 0])
  assert.deepEqual(books(rig.open(spool.image(), undefined, stages)), [95, 0, 48, 0])
})

test('a disk that fails while a stage asks for raw points ends the spool, not the stage', () => {
  const rig = rigWith()
  const stage: Stage = {
    ...createTestStage(),
    step: () => {
      throw Object.assign(new Error('disk I/O error'), { code: 'SQLITE_IOERR_READ' })
    },
  }
  const spool = rig.open(null, undefined, [{ reader: 'stage', lane: 'raw', stage }])
  store(spool, points(rig, 0, 10), 'raw', true)
  const fatal = (error: unknown) => isFailure(error, 'HF-S074')
  assert.throws(() => spool.derive(), fatal)
  assert.throws(() => spool.derive(), fatal)
})

test('nobody but a stage writes its lanes or moves its reader', () => {
  const rig = rigWith()
  const { spool } = open(rig)
  const refused = (work: () => unknown) =>
    assert.throws(work, (error) => isFailure(error, 'HF-S017'))
  refused(() => store(spool, points(rig, 0, 1), 'thin'))
  refused(() => spool.openReader('raw', 'stage', 'now'))
  refused(() => spool.ack('raw', 'stage', { which: 'backlog', upTo: 0 }))
  refused(() => spool.rewind('raw', 'stage', 0))
  refused(() => spool.closeReader('raw', 'stage'))
})

test('with another configuration what is open is sealed before anything comes in', () => {
  const rig = rigWith({ configDigest: 'one' })
  const { spool } = open(rig)
  store(spool, points(rig, 0, 3))
  const same = open(rig, spool.image()).spool
  assert.deepEqual([same.heads()[0]?.head, same.heads()[0]?.openCount], [0, 3])
  const other = rig.open(spool.image(), undefined, [], { configDigest: 'two' })
  assert.deepEqual([other.heads()[0]?.head, other.heads()[0]?.openCount], [1, 0])
  store(other, points(rig, 3, 2))
  other.configure({ lanes })
  assert.deepEqual([other.heads()[0]?.head, other.heads()[0]?.openCount], [2, 0])
})

test('a stage that is no longer configured holds nothing back', () => {
  const rig = rigWith()
  const { spool } = open(rig)
  store(spool, points(rig, 0, 30), 'raw', true)
  const without = rig.open(spool.image())
  assert.deepEqual(without.lanes()[0]?.readers, [])
  without.close()
})

test('of a stage that makes other points of what it reads, every point read is reduced, none delivered', () => {
  const rig = rigWith()
  const stage = { ...createTestStage('test', {}), passesPoints: false }
  const spool = rig.open(null, undefined, [{ reader: 'stage', lane: 'raw', stage }])
  store(spool, points(rig, 1, 100))
  deriveAll(spool)
  assert.ok((spool.lanes().find(({ lane }) => lane === 'thin')?.accepted ?? 0) > 0)
  const { delivered, reduced, pending } = reader(spool)
  assert.deepEqual([delivered, reduced, pending], [0, 100, 0])
})
