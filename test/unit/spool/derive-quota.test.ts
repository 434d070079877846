/** Stages short of room: open windows are cut before anything is lost, and a spool full of unread points goes on. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createBatchBuilder } from '../../../src/batch.ts'
import type { LaneOptions, Spool } from '../../../src/spool/spool.ts'
import { createTestStage, sorted, type TestStage, toldBy, toldNaively } from './stage-support.ts'
import { createRig, laneOptions, type Rig, readAll } from './support.ts'

const bytesMax = 3 * 1024 * 1024
const lanesOf = (policy: LaneOptions['policy']) => [
  laneOptions('raw', { segmentPointsMax: 5_000, policy }),
  laneOptions('thin', { derived: true, segmentPointsMax: 5_000 }),
  laneOptions('windows', { derived: true }),
]
/** Values that no compressor makes smaller, all within one second. */
const noise = (rig: Rig, first: number, count: number) => {
  const builder = createBatchBuilder(count)
  const ref = rig.series.ref('noise', [])
  for (let at = first; at < first + count; at++)
    builder.addInt(ref, at, BigInt.asIntN(64, BigInt(at) * 0x9e3779b97f4a7c15n), 0)
  return builder.take()
}
const fill = (spool: Spool, rig: Rig, from: number, segments: number, derives: boolean): number => {
  for (let at = 0; at < segments; at++) {
    const points = noise(rig, from + at * 5_000, 5_000)
    const result = spool.commit([{ lane: 'raw', intakes: [{ points }], seal: true }])
    if (result.kind === 'full') return at
    for (let turns = 0; derives && spool.derive() === 'more'; turns++) assert.ok(turns < 1_000)
  }
  return segments
}
const rigOf = (policy: LaneOptions['policy'], stage: TestStage) => {
  const rig = createRig({ lanes: lanesOf(policy), bytesMax })
  const spool = rig.open(null, undefined, [{ reader: 'stage', lane: 'raw', stage }])
  return { rig, spool }
}

test('what an open window holds of a lane that blocks is let go: the window is given out, nothing is lost', () => {
  const stage = createTestStage('test', { windowUs: 1e9 })
  const { rig, spool } = rigOf('block', stage)
  assert.equal(fill(spool, rig, 0, 60, true), 60)
  assert.ok(stage.history().some(([kind]) => kind === 'letGo'))
  assert.deepEqual(spool.gaps(10), [])
  assert.ok((spool.lanes()[0]?.floor ?? 0) > 20)
  // Cut short, and marked by its stage: the window is there.
  const cut = [...toldBy(spool)].filter(([name]) => name.startsWith('windows'))
  assert.equal(cut.length, 1)
  assert.match(cut[0]?.[1][0] ?? '', /:1$/)
})

test('what a stage has read, but for a restart not saved yet, blocks nobody: it is saved, and goes', () => {
  const { rig, spool } = rigOf('block', createTestStage())
  assert.equal(fill(spool, rig, 0, 60, true), 60)
  assert.deepEqual(spool.gaps(10), [])
})

test('a spool that is full of points nobody has read yet is derived all the same, and intake goes on', () => {
  const stage = createTestStage()
  const { rig, spool } = rigOf('block', stage)
  const full = fill(spool, rig, 0, 1_000, false)
  assert.ok(full > 10 && full < 1_000)
  const dictionary = spool.dictionary(spool.epoch, 0, 10)
  const raw = readAll(spool)
  for (let turns = 0; spool.derive() !== 'done'; turns++)
    assert.ok(turns < 1_000, 'it does not get on')
  assert.equal(spool.lanes()[0]?.readers[0]?.pending, 0)
  assert.deepEqual(spool.gaps(10), [])
  const expected = toldNaively(raw, () => dictionary)
  // The last window is open still.
  assert.deepEqual(sorted(toldBy(spool)), sorted(expected))
  assert.equal(fill(spool, rig, full * 5_000, 5, true), 5)
})

test('a lane that drops: unread points are declared lost in the books of the stage too', () => {
  const stage = createTestStage()
  const { rig, spool } = rigOf('drop_oldest', stage)
  assert.equal(fill(spool, rig, 0, 100, false), 100)
  for (let turns = 0; spool.derive() !== 'done'; turns++) assert.ok(turns < 1_000)
  const { accepted, readers } = spool.lanes()[0] ?? assert.fail()
  const { delivered = 0, reduced = 0, declaredLost = 0, pending } = readers[0] ?? {}
  assert.equal(pending, 0)
  assert.ok(declaredLost > 50_000)
  assert.equal(delivered + reduced + declaredLost, accepted)
})

test('no room for what was given out: it waits in memory, and goes in once once there is', () => {
  const stage = createTestStage()
  const rig = createRig({ lanes: lanesOf('block'), bytesMax: 64 * 1024 * 1024 })
  const spool = rig.open(null, undefined, [{ reader: 'stage', lane: 'raw', stage }])
  // It holds all of raw: nothing that the stage has read can go for it.
  spool.openReader('raw', 'region', 'oldest')
  assert.equal(fill(spool, rig, 0, 8, false), 8)
  rig.disk.freeBytes = -1
  assert.equal(spool.derive(), 'full')
  assert.equal(spool.derive(), 'full')
  assert.deepEqual(toldOf(spool), 0)
  rig.disk.freeBytes = 1e12
  for (let turns = 0; spool.derive() === 'more'; turns++) assert.ok(turns < 1_000)
  const seqs = stage.seqs
  assert.deepEqual(seqs, [1, 2, 3, 4, 5, 6, 7, 8])
  const dictionary = spool.dictionary(spool.epoch, 0, 10)
  assert.deepEqual(sorted(toldBy(spool)), sorted(toldNaively(readAll(spool), () => dictionary)))
})
const toldOf = (spool: Spool) =>
  spool.lanes().reduce((sum, lane) => sum + (lane.derived ? lane.accepted : 0), 0)
