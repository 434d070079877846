/** Copies keep the order of what they were copied from; old points can be had with their newest values. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createBatchBuilder, pointsOf } from '../../../src/batch.ts'
import { openSegment, readHeader } from '../../../src/codec/segment.ts'
import type { LaneItem, SealOrder, Value } from '../../../src/model.ts'
import type { Spool } from '../../../src/spool/spool.ts'
import { packWindow, unpackWindow } from '../../../src/spool/wire.ts'
import { createRig, floats, laneOptions, type Rig, readAll, store } from './support.ts'

const lanes = [
  laneOptions('raw'),
  laneOptions('alarms'),
  laneOptions('thin', { derived: true }),
  laneOptions('replay', { derived: true, copies: true }),
]
const batch = (rig: Rig, ...points: readonly (readonly [string, number, Value, number?])[]) => {
  const builder = createBatchBuilder()
  for (const [name, timeUs, value, quality = 0] of points)
    builder.add(rig.series.ref(name, []), timeUs, value, quality)
  return builder.take()
}
const copy = (spool: Spool, points: ReturnType<typeof batch>, copyOf: SealOrder) =>
  assert.equal(
    spool.commit([{ lane: 'replay', intakes: [{ points, copyOf }], seal: false }]).kind,
    'stored',
  )
const bytesOf = (item: LaneItem | undefined) => {
  assert.equal(item?.type, 'segment')
  return item?.type === 'segment' ? item.bytes : new Uint8Array(0)
}
const newestOf = (spool: Spool, item: LaneItem | undefined) => {
  const bytes = spool.newest(bytesOf(item))
  return bytes === null ? null : [...pointsOf(openSegment(bytes).points, BigInt)]
}

test('copies are sealed at once, each under its own order, and the lane goes on as it did', () => {
  const rig = createRig({ lanes })
  const spool = rig.open()
  store(spool, floats(rig.series, 0, 5), 'raw', true)
  const { epoch } = readHeader(bytesOf(readAll(spool)[0]))
  const orders = [3, 1].map((sealNumber) => ({ epoch, sealNumber }))
  const intakes = orders.map((copyOf) => ({ points: floats(rig.series, 0, 2), copyOf }))
  // As it crosses to the spool's thread.
  const handed = unpackWindow(packWindow({ lane: 'replay', intakes, seal: false }))
  assert.equal(spool.commit([handed]).kind, 'stored')
  const headers = readAll(spool, 'replay').map((item) => readHeader(bytesOf(item)))
  assert.deepEqual(
    headers.map(({ copyOf, formatVersion, seq }) => ({ copyOf, formatVersion, seq })),
    orders.map((copyOf, at) => ({ copyOf, formatVersion: 2, seq: at + 1 })),
  )
  assert.ok(headers.every(({ sealNumber }, at) => sealNumber === 2 + at))
  spool.close()
})

test('an opening that a held copy has the order of is named as long as the copy is held', () => {
  const rig = createRig({ lanes })
  let spool = rig.open()
  const first = spool.epoch
  /** As many as are trimmed at once. */
  const many = 200
  const fill = () => {
    for (let at = 0; at < many; at++) store(spool, floats(rig.series, at, 1), 'raw', true)
  }
  const copyAll = (sealNumber: number) => {
    for (let at = 0; at < many; at++)
      copy(spool, floats(rig.series, at, 1), { epoch: spool.epoch, sealNumber })
  }
  const passed = (lane: string, upTo: number) => {
    spool.ack(lane, 'region', { which: 'backlog', upTo })
    spool.flush()
    rig.clock.jump(60_000)
    store(spool, floats(rig.series, 0, 1), 'raw', true)
  }
  const restart = () => {
    const image = spool.image()
    spool.close()
    spool = rig.open(image)
  }
  spool.openReader('raw', 'region', 'oldest')
  spool.openReader('replay', 'region', 'oldest')
  fill()
  restart()
  copy(spool, floats(rig.series, 0, 1), { epoch: first, sealNumber: 1 })
  copyAll(many + 2)
  fill()
  passed('raw', many * 2)
  restart()
  assert.ok((spool.lanes().find(({ lane }) => lane === 'raw')?.floor ?? 0) > many)
  assert.equal(spool.epochs()[0]?.epoch, first)
  passed('replay', many + 1)
  restart()
  assert.ok(!spool.epochs().some(({ epoch }) => epoch === first))
  spool.close()
})

test('old points go with the newest values of the lanes of sources, whatever their kind', () => {
  const rig = createRig({ lanes })
  let spool = rig.open()
  store(spool, batch(rig, ['a', 10, 1], ['a', 20, 'two'], ['b', 10, 3], ['b', 20, 4]), 'raw', true)
  const [old] = readAll(spool)
  assert.equal(newestOf(spool, old), null)
  copy(spool, batch(rig, ['b', 10, 3], ['a', 10, 1], ['a', 20, 'two']), {
    epoch: spool.epoch,
    sealNumber: 1,
  })
  const [copied] = readAll(spool, 'replay')
  assert.equal(newestOf(spool, copied), null)
  store(spool, batch(rig, ['a', 10, 'eleven', 2], ['c', 10, 9]), 'raw', true)
  store(spool, batch(rig, ['a', 20, 22n]), 'alarms', true)
  store(spool, batch(rig, ['a', 20, 23n]), 'alarms', true)
  // Accepted, and not sealed: nobody was sent it.
  store(spool, batch(rig, ['b', 10, 99]))
  const image = spool.image()
  spool.close()
  spool = rig.open(image)
  const values = (item: LaneItem | undefined) =>
    newestOf(spool, item)?.map(({ timeUs, value, quality }) => [timeUs, value, quality])
  assert.deepEqual(values(old), [
    [10, 'eleven', 2],
    [20, 23n, 0],
    [10, 3, 0],
    [20, 4, 0],
  ])
  assert.deepEqual(values(copied), [
    [10, 'eleven', 2],
    [20, 23n, 0],
    [10, 3, 0],
  ])
  // The correction itself is the newest.
  assert.equal(newestOf(spool, readAll(spool)[1]), null)
  spool.close()
})

test('seals beside: of other lanes of sources, in between, of that time', () => {
  const rig = createRig({ lanes })
  const spool = rig.open()
  for (const [lane, from] of [
    ['raw', 0],
    ['alarms', 100],
    ['alarms', 2],
    ['raw', 10],
    ['alarms', 3],
  ] as const)
    store(spool, floats(rig.series, from, 3), lane, true)
  const range = { fromUs: 0, toUs: 20_000 }
  assert.deepEqual(spool.sealsBeside('raw', range, [1, 4]), [3])
  assert.deepEqual(spool.sealsBeside('alarms', range, [0, 9]), [1, 4])
  spool.close()
})

test('a reader may be asked to stop inside tombstones that grew together', () => {
  const rig = createRig({ lanes })
  const spool = rig.open()
  for (let at = 0; at < 5; at++) store(spool, floats(rig.series, at, 1), 'raw', true)
  for (const seq of [2, 3, 4]) spool.quarantine('raw', seq, 'damaged', 'x')
  const seqs = (after: number, upTo: number) =>
    spool
      .read('raw', after, 1e6, upTo)
      .map((item) => (item.type === 'segment' ? item.seq : [item.seq, item.seqLast]))
  assert.deepEqual(seqs(0, 3), [1, [2, 3]])
  assert.deepEqual(seqs(1, 2), [[2, 2]])
  assert.deepEqual(seqs(0, 5), [1, [2, 4], 5])
  spool.close()
})
