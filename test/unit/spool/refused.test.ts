/** Points that a destination refused: copies beside the loss, sent again or given up, the books right at every moment. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { valueAt } from '../../../src/batch.ts'
import { openSegment } from '../../../src/codec/segment.ts'
import { quarantineRowsMax, refusedPointsMax } from '../../../src/limits.ts'
import type { PointsLost, RefusedPoints, Seq } from '../../../src/model.ts'
import type { Spool } from '../../../src/spool/spool.ts'
import { assertBooks, createRig, floats, laneOptions, readAll, store } from './support.ts'

const why = (at: readonly number[], text = 'type conflict'): RefusedPoints => ({
  ...{ why: 'refused', text, at },
})
const loss = (seq: Seq, count: number, ...refused: RefusedPoints[]): PointsLost => ({
  ...{ seq, count, reason: 'rejected', source: '', timeUsMin: seq, timeUsMax: seq, refused },
})
const setUp = (segments: number) => {
  const rig = createRig({ lanes: [laneOptions('raw', { segmentPointsMax: 10 })] })
  const spool = rig.open()
  for (const reader of ['influx', 'region']) spool.openReader('raw', reader, 'oldest')
  store(spool, floats(rig.series, 0, segments * 10))
  return { rig, spool, items: readAll(spool) }
}
const ack = (spool: Spool, upTo: Seq, ...lost: PointsLost[]) =>
  spool.ack('raw', 'influx', { which: 'backlog', upTo, lost })
const books = (spool: Spool) => {
  assertBooks(spool)
  const reader = spool.lanes()[0]?.readers.find((one) => one.reader === 'influx')
  return [reader?.delivered, reader?.declaredLost, reader?.pending]
}
const rows = (spool: Spool) =>
  spool.quarantined(10_000).map(({ id, seq, points, text }) => [id, seq, points, text])
const gaps = (spool: Spool) =>
  spool.gaps(1_000).map(({ seq, reason, count, destination }) => [seq, reason, count, destination])
const resend = (spool: Spool, id: number, ...refused: RefusedPoints[]) => {
  const segment = spool.resendable(id)
  assert.ok(segment)
  return spool.resent(id, segment.bytes, refused)
}

test('what an ack refuses is listed and shown: destination, series, time, value, reason', () => {
  const { spool, items } = setUp(3)
  ack(spool, 2, loss(2, 3, why([1, 7]), { why: 'value', text: 'no NaN', at: [4] }))
  assert.deepEqual(books(spool), [17, 3, 10])
  assert.deepEqual(rows(spool), [
    [2, 2, 1, 'no NaN'],
    [1, 2, 2, 'type conflict'],
  ])
  const [, row] = spool.quarantined(10)
  assert.deepEqual(
    [row?.lane, row?.destination, row?.why, row?.reason],
    ['raw', 'influx', 'refused', 'rejected'],
  )
  const original = items[1]
  assert.ok(original?.type === 'segment')
  const { points } = openSegment(original.bytes)
  const shown = spool.refused(1)?.refused ?? []
  assert.deepEqual(
    shown.map(({ timeUs, value }) => [timeUs, value]),
    [1, 7].map((at) => [points.timeUs[at], valueAt(points, at)]),
  )
  const known = spool.dictionary(original.epoch, 0, 100)
  assert.deepEqual(
    shown.map(({ name, tags }) => [name, tags]),
    [1, 7].map((at) => {
      const entry = known[points.series[at] as number]
      return [entry?.name, entry?.tags]
    }),
  )
  assert.equal(spool.refused(99), null)
})

test('sent again: what is taken moves from lost to delivered, what is refused again stays', () => {
  const { rig, spool } = setUp(2)
  ack(spool, 1, loss(1, 4, why([0, 3, 5, 9])))
  const [[id] = []] = rows(spool) as number[][]
  const before = spool.lanes()[0]?.accepted
  const segment = spool.resendable(id as number)
  assert.equal(segment?.seq, 1)
  assert.equal(segment?.pointCount, 4)
  // The process dies between the far side's answer and the transaction: nothing has changed.
  const crashed = rig.look(spool.image())
  assert.deepEqual([books(crashed), rows(crashed)[0]?.[2]], [[6, 4, 10], 4])
  assert.deepEqual(resend(spool, id as number, why([1, 2], 'still')), { delivered: 2, refused: 2 })
  assert.deepEqual([books(spool), rows(spool)], [[8, 2, 10], [[id, 1, 2, 'still']]])
  assert.deepEqual(gaps(spool), [[1, 'rejected', 2, 'influx']])
  const found = rig.look(spool.image())
  assert.deepEqual([books(found), rows(found)], [[8, 2, 10], [[id, 1, 2, 'still']]])
  assert.deepEqual(resend(found, id as number), { delivered: 2, refused: 0 })
  assert.deepEqual([books(found), rows(found), gaps(found)], [[10, 0, 10], [], []])
  assert.equal(found.lanes()[0]?.accepted, before)
})

test('an answer counts once, and not after the loss was taken back', () => {
  const { spool } = setUp(2)
  ack(spool, 1, loss(1, 2, why([2, 3])))
  const [[id] = []] = rows(spool) as number[][]
  const bytes = spool.resendable(id as number)?.bytes as Uint8Array
  assert.deepEqual(spool.resent(id as number, bytes, []), { delivered: 2, refused: 0 })
  assert.deepEqual(spool.resent(id as number, bytes, []), { delivered: 0, refused: 0 })
  assert.deepEqual(books(spool), [10, 0, 10])
  ack(spool, 2, loss(2, 1, why([2])))
  const [[second] = []] = rows(spool) as number[][]
  assert.notEqual(second, id)
  const again = spool.resendable(second as number)?.bytes as Uint8Array
  spool.rewind('raw', 'influx', 1)
  assert.deepEqual(spool.resent(second as number, again, []), { delivered: 0, refused: 0 })
  assert.deepEqual([books(spool), rows(spool)], [[10, 0, 10], []])
  // Sent again with its segment and refused again: a new row, the old number names nothing.
  ack(spool, 2, loss(2, 1, why([2])))
  assert.equal(spool.resendable(second as number), null)
  assert.deepEqual([books(spool), rows(spool).length], [[19, 1, 0], 1])
})

test('a rewind over a segment sent again in part takes back exactly what was booked', () => {
  const { spool } = setUp(3)
  ack(spool, 3, loss(2, 5, why([0, 1, 2, 3, 4])), loss(3, 1, why([0])))
  const id = rows(spool).find(([, seq]) => seq === 2)?.[0] as number
  resend(spool, id, why([4]))
  assert.deepEqual(books(spool), [28, 2, 0])
  spool.rewind('raw', 'influx', 1)
  assert.deepEqual([books(spool), rows(spool), gaps(spool)], [[10, 0, 20], [], []])
  ack(spool, 3)
  assert.deepEqual(books(spool), [30, 0, 0])
})

test('given up: lost for the reason "discarded", the sum is the same', () => {
  const { rig, spool } = setUp(1)
  ack(spool, 1, loss(1, 3, why([1, 2]), why([5], 'too old')))
  const [newest] = rows(spool)
  assert.equal(spool.discardQuarantined(newest?.[0] as number), true)
  assert.deepEqual(books(spool), [7, 3, 0])
  assert.deepEqual(gaps(spool), [
    [1, 'discarded', 1, 'influx'],
    [1, 'rejected', 2, 'influx'],
  ])
  const [rest] = rows(spool)
  assert.equal(spool.discardQuarantined(rest?.[0] as number), true)
  assert.equal(spool.discardQuarantined(rest?.[0] as number), false)
  const found = rig.look(spool.image())
  assert.deepEqual([books(found), gaps(found)], [[7, 3, 0], [[1, 'discarded', 3, 'influx']]])
  found.rewind('raw', 'influx', 0)
  assert.deepEqual([books(found), gaps(found)], [[0, 0, 10], []])
})

test('a copy outlives its segment, its epoch and its dictionary', () => {
  const { rig, spool } = setUp(100)
  ack(spool, 100, loss(7, 2, why([0, 1])))
  spool.ack('raw', 'region', { which: 'backlog', upTo: 100 })
  const [before] = spool.quarantined(1)
  const points = spool.refused(before?.id as number)?.refused
  let image = spool.image()
  for (let opening = 0; opening < 4; opening++) {
    const next = rig.look(image)
    next.flush()
    image = next.image()
  }
  const found = rig.look(image)
  assert.equal(found.lanes()[0]?.floor, 101)
  assert.deepEqual(found.refused(before?.id as number)?.refused, points)
  const segment = found.resendable(before?.id as number)
  assert.ok(segment)
  const { header, points: again } = openSegment(segment.bytes)
  const names = found.dictionary(found.epoch, 0, header.dictionaryLength)
  assert.equal(header.epoch, found.epoch)
  assert.deepEqual(
    points?.map(({ name, timeUs, value }) => [name, timeUs, value]),
    [0, 1].map((at) => [
      names[again.series[at] as number]?.name,
      again.timeUs[at],
      valueAt(again, at),
    ]),
  )
  assert.deepEqual(resend(found, before?.id as number), { delivered: 2, refused: 0 })
  assert.deepEqual(books(found), [1_000, 0, 0])
})

test('bounded: a flood of one reason goes first, its losses stay', () => {
  const { spool } = setUp(quarantineRowsMax + 200)
  ack(spool, 1, loss(1, 1, why([0], 'of the server')))
  for (let seq = 2; seq <= quarantineRowsMax + 200; seq++) {
    ack(spool, seq, loss(seq, 1, { why: 'value', text: 'no NaN', at: [3] }))
    if (seq % 100 === 0) spool.flush()
  }
  const held = rows(spool)
  assert.equal(held.length, quarantineRowsMax)
  assert.ok(
    held.some(([, seq]) => seq === 1),
    'what the server refused was pushed out',
  )
  assert.deepEqual(books(spool)[1], quarantineRowsMax + 200)
  assert.ok(refusedPointsMax > 0)
})

test('places that are none are no copy, and a segment that is a tombstone is nobody’s loss twice', () => {
  const { spool } = setUp(2)
  spool.quarantine('raw', 2, 'rejected', 'by another')
  ack(spool, 2, loss(1, 1, why([-1, 10, 400])), loss(2, 3, why([1, 2, 3])))
  assert.deepEqual(
    spool.quarantined(10).filter(({ points }) => points > 0),
    [],
  )
  assert.deepEqual(books(spool), [9, 11, 0])
})

test('a reader that is closed takes its copies along', () => {
  const { spool } = setUp(1)
  ack(spool, 1, loss(1, 1, why([0])))
  assert.equal(rows(spool).length, 1)
  spool.closeReader('raw', 'influx')
  assert.deepEqual(rows(spool), [])
})
