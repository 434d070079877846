/** Points that one destination can never hold: its books, beside those of a reader that took everything. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { PointsLost, Seq } from '../../../src/model.ts'
import type { Spool } from '../../../src/spool/spool.ts'
import { assertBooks, createRig, floats, laneOptions, readAll, store } from './support.ts'

const loss = (seq: Seq, count: number, change: Partial<PointsLost> = {}): PointsLost => ({
  ...{ seq, count, reason: 'rejected', source: `s${seq}`, timeUsMin: seq, timeUsMax: seq + 1 },
  ...change,
})
const books = (spool: Spool, name: string) => {
  assertBooks(spool)
  const reader = spool.lanes()[0]?.readers.find((one) => one.reader === name)
  return [reader?.delivered, reader?.declaredLost, reader?.pending]
}
const own = (spool: Spool) =>
  spool
    .gaps(10_000)
    .filter((gap) => gap.destination === 'influx')
    .map(({ seq, seqLast, count, source }) => [seq, seqLast, count, source])
/** Segments of ten points each, read by two. */
const setUp = (segments: number) => {
  const rig = createRig({ lanes: [laneOptions('raw', { segmentPointsMax: 10 })] })
  const spool = rig.open()
  for (const reader of ['influx', 'region']) spool.openReader('raw', reader, 'oldest')
  store(spool, floats(rig.series, 0, segments * 10))
  readAll(spool)
  return { rig, spool }
}

test('an ack books what the far side cannot hold as lost, for its reader alone', () => {
  const { spool } = setUp(4)
  const lost = [loss(2, 3), loss(2, 1, { reason: 'malformed' }), loss(3, 10)]
  spool.ack('raw', 'influx', { which: 'backlog', upTo: 3, lost })
  spool.ack('raw', 'region', { which: 'backlog', upTo: 3 })
  assert.deepEqual(books(spool, 'influx'), [16, 14, 10])
  assert.deepEqual(books(spool, 'region'), [30, 0, 10])
  assert.deepEqual(own(spool), [
    [2, 2, 3, 's2'],
    [2, 2, 1, 's2'],
    [3, 3, 10, 's3'],
  ])
  // The same answer again, as a resend gives it.
  spool.ack('raw', 'influx', { which: 'backlog', upTo: 3, lost })
  assert.deepEqual(books(spool, 'influx'), [16, 14, 10])
  // A part of it was passed before: only the rest counts.
  spool.ack('raw', 'influx', { which: 'backlog', upTo: 4, lost: [loss(3, 5), loss(4, 2)] })
  assert.deepEqual(books(spool, 'influx'), [24, 16, 0])
})
test('a crash forgets ack and losses together; what was written comes back together', () => {
  const { rig, spool } = setUp(2)
  const acked = { which: 'backlog', upTo: 1, lost: [loss(1, 4)] } as const
  const before = spool.image()
  spool.ack('raw', 'influx', acked)
  const forgotten = rig.look(before)
  assert.deepEqual([books(forgotten, 'influx'), own(forgotten)], [[0, 0, 20], []])
  assert.deepEqual(forgotten.ack('raw', 'influx', acked).backlog, 1)
  assert.deepEqual(books(forgotten, 'influx'), [6, 4, 10])
  spool.flush()
  const found = rig.look(spool.image())
  assert.deepEqual([books(found, 'influx'), own(found)], [[6, 4, 10], [[1, 1, 4, 's1']]])
})
test('a rewind takes back what lies behind it, in the file or not yet there, also of trimmed segments', () => {
  const { spool } = setUp(100)
  const ack = (upTo: Seq, ...lost: PointsLost[]) =>
    spool.ack('raw', 'influx', { which: 'backlog', upTo, lost })
  ack(50, loss(10, 1), loss(50, 2))
  spool.flush()
  ack(60, loss(60, 3))
  spool.rewind('raw', 'influx', 49)
  assert.deepEqual([books(spool, 'influx'), own(spool)], [[489, 1, 510], [[10, 10, 1, 's10']]])
  ack(60, loss(50, 2))
  spool.ack('raw', 'region', { which: 'backlog', upTo: 60 })
  spool.flush()
  assert.equal(spool.lanes()[0]?.floor, 61)
  spool.rewind('raw', 'influx', 20)
  assert.deepEqual([books(spool, 'influx'), own(spool)], [[199, 1, 800], [[10, 10, 1, 's10']]])
  const last = readAll(spool, 'raw', 20).at(-1)
  ack(last?.seq ?? 0)
  assert.deepEqual(books(spool, 'influx'), [599, 401, 0])
})
test('the live cursor: what it booked is undone with it', () => {
  const { rig, spool } = setUp(4)
  spool.startLive('raw', 'influx')
  store(spool, floats(rig.series, 40, 20))
  spool.ack('raw', 'influx', { which: 'live', upTo: 6, lost: [loss(5, 7)] })
  spool.ack('raw', 'influx', { which: 'backlog', upTo: 2, lost: [loss(1, 1)] })
  assert.deepEqual(books(spool, 'influx'), [32, 8, 20])
  spool.rewind('raw', 'influx', 2)
  assert.deepEqual(books(spool, 'influx'), [19, 1, 40])
})
test('a segment that became a tombstone, or has fewer points, is not lost twice', () => {
  const { spool } = setUp(3)
  spool.quarantine('raw', 2, 'rejected', 'by another')
  const lost = [loss(1, 99), loss(1, 99, { reason: 'refused' }), loss(2, 5), loss(9, 5)]
  spool.ack('raw', 'influx', { which: 'backlog', upTo: 3, lost })
  assert.deepEqual(books(spool, 'influx'), [10, 20, 0])
  assert.deepEqual(own(spool), [[1, 1, 10, 's1']])
})
test('losses without end take bounded room; sums and the newest stay exact', () => {
  const { spool } = setUp(1_000)
  for (let seq = 1; seq <= 1_000; seq++) {
    spool.ack('raw', 'influx', { which: 'backlog', upTo: seq, lost: [loss(seq, 1)] })
    // Also without a transaction for a long while.
    if (seq > 400 && seq % 10 === 0) spool.flush()
  }
  spool.flush()
  assert.deepEqual(books(spool, 'influx'), [9_000, 1_000, 0])
  const rows = own(spool)
  assert.ok(rows.length <= 256, `${rows.length} rows`)
  assert.equal(
    rows.reduce((sum, row) => sum + Number(row[2]), 0),
    1_000,
  )
  assert.deepEqual(rows.at(-1), [1_000, 1_000, 1, 's1000'])
  spool.rewind('raw', 'influx', 990)
  assert.deepEqual(books(spool, 'influx'), [8_910, 990, 100])
  spool.rewind('raw', 'influx', 100)
  assert.deepEqual(books(spool, 'influx'), [900, 100, 9_000])
})
test('folded rows never reach across the start of a live cursor', () => {
  const { rig, spool } = setUp(100)
  spool.startLive('raw', 'influx')
  store(spool, floats(rig.series, 1_000, 3_000))
  const ack = (which: 'backlog' | 'live', seq: Seq, count: number) =>
    spool.ack('raw', 'influx', { which, upTo: seq, lost: [loss(seq, count)] })
  for (let seq = 1; seq <= 99; seq++) ack('backlog', seq, 3)
  for (let seq = 101; seq <= 400; seq++) ack('live', seq, 1)
  spool.flush()
  assert.ok(own(spool).length <= 256)
  assert.deepEqual(books(spool, 'influx'), [3_393, 597, 10])
  spool.rewind('raw', 'influx', 99)
  assert.deepEqual(books(spool, 'influx'), [693, 297, 3_010])
})
test('a reader that is closed leaves no gap records to the next of its name', () => {
  const { spool } = setUp(2)
  spool.ack('raw', 'influx', { which: 'backlog', upTo: 2, lost: [loss(2, 2)] })
  spool.flush()
  spool.closeReader('raw', 'influx')
  spool.openReader('raw', 'influx', 'oldest')
  assert.deepEqual([books(spool, 'influx'), own(spool)], [[0, 0, 20], []])
})
