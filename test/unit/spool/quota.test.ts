import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createBatchBuilder } from '../../../src/batch.ts'
import type { PointBatch } from '../../../src/model.ts'
import { createSpoolIngest, createSpoolPort } from '../../../src/spool/port.ts'
import type { Spool } from '../../../src/spool/spool.ts'
import { contents, createRig, floats, laneOptions, type Rig, readAll, store } from './support.ts'

const bytesMax = 3 * 1024 * 1024
/** Points that no compressor makes smaller: twelve bytes and more each. */
const noise = (series: Rig['series'], first: number, count: number): PointBatch => {
  const builder = createBatchBuilder(count)
  const ref = series.ref('noise', [])
  for (let at = first; at < first + count; at++) {
    const mixed = BigInt.asIntN(64, BigInt(at) * 0x9e3779b97f4a7c15n)
    builder.addInt(ref, Math.abs(Number(mixed >> 12n)), mixed, 0)
  }
  return builder.take()
}
const fill = (spool: Spool, rig: Rig, lane: string, until: (total: number) => boolean): number => {
  for (let total = 0; ; total += 5_000) {
    const windows = [{ lane, intakes: [{ points: noise(rig.series, total, 5_000) }], seal: true }]
    if (spool.commit(windows).kind === 'full' || until(total)) return total
  }
}
const lanes = [
  laneOptions('raw', { segmentPointsMax: 5_000 }),
  laneOptions('low', { segmentPointsMax: 5_000, policy: 'drop_oldest' }),
]

test('a lane that blocks is refused at the quota, changes nothing, and goes on once trimmed', () => {
  const rig = createRig({ lanes, bytesMax })
  const spool = rig.open()
  spool.openReader('raw', 'region', 'oldest')
  const total = fill(spool, rig, 'raw', () => false)
  assert.ok(total >= 50_000)
  const before = spool.lanes()[0]
  assert.equal(before?.accepted, total)
  assert.ok(spool.stats().bytesUsed <= bytesMax - 1024 * 1024 + 65_536)
  assert.deepEqual(spool.gaps(10), [])
  spool.ack('raw', 'region', { which: 'backlog', upTo: before?.head ?? 0 })
  assert.equal(
    spool.commit([
      { lane: 'raw', intakes: [{ points: noise(rig.series, total, 5_000) }], seal: true },
    ]).kind,
    'stored',
  )
})

test('a lane that drops loses its oldest to recorded gaps and stays within the quota', () => {
  const rig = createRig({ lanes, bytesMax })
  const spool = rig.open()
  spool.openReader('low', 'region', 'oldest')
  const total = fill(spool, rig, 'low', (points) => points >= 400_000) + 5_000
  const items = readAll(spool, 'low')
  const lost = spool.gaps(1_000).reduce((sum, gap) => sum + gap.count, 0)
  const held = items.reduce((sum, item) => sum + (item.type === 'segment' ? item.pointCount : 0), 0)
  assert.ok(lost > 100_000)
  assert.equal(held + lost, total)
  assert.equal(items[0]?.type, 'tombstone')
  assert.equal(items.filter((item) => item.type === 'tombstone').length, 1, 'touching gaps are one')
  assert.ok(spool.stats().bytesUsed <= bytesMax)
  spool.ack('low', 'region', { which: 'backlog', upTo: spool.lanes()[1]?.head ?? 0 })
  const [reader] = spool.lanes()[1]?.readers ?? []
  assert.deepEqual([reader?.delivered, reader?.declaredLost, reader?.pending], [held, lost, 0])
})

test('samples of the quarantine give way to points, what they were stays', () => {
  const rig = createRig({ lanes, bytesMax })
  const spool = rig.open()
  spool.openReader('raw', 'region', 'oldest')
  const before = fill(spool, rig, 'raw', () => false)
  for (let seq = 1; seq <= 8; seq++) spool.quarantine('raw', seq, 'rejected', 'refused')
  assert.equal(spool.quarantined(10)[0]?.sample.length !== 0, true)
  // The bytes of the eight only moved: without shedding nothing more would fit.
  const more = fill(spool, rig, 'raw', (total) => total >= 20_000)
  assert.ok(more >= 20_000, `${more} of ${before} points fitted`)
  const rows = spool.quarantined(10)
  assert.equal(rows.length, 8)
  assert.ok(rows.every((row) => row.text === 'refused' && row.reason === 'rejected'))
  assert.ok(rows.some((row) => row.sample.length === 0))
})

test('what is only held after its delivery goes before anything blocks or drops', () => {
  const rig = createRig({ lanes, bytesMax, keepSentMs: 3_600_000 })
  const spool = rig.open()
  spool.openReader('low', 'region', 'oldest')
  for (let turn = 0; turn < 40; turn++) {
    store(spool, noise(rig.series, turn * 5_000, 5_000), 'low', true)
    spool.ack('low', 'region', { which: 'backlog', upTo: spool.lanes()[1]?.head ?? 0 })
  }
  assert.deepEqual(spool.gaps(10), [])
  assert.ok((spool.lanes()[1]?.floor ?? 0) > 1)
})

test('the hold counts uptime: a committed segment stays that long, over restarts too', async () => {
  const rig = createRig({ keepSentMs: 100_000 })
  let spool = rig.open()
  spool.openReader('raw', 'region', 'oldest')
  store(spool, floats(rig.series, 1, 4_000))
  spool.ack('raw', 'region', { which: 'backlog', upTo: 40 })
  spool.flush()
  await rig.clock.pass(60_000)
  store(spool, floats(rig.series, 4_001, 100))
  assert.equal(spool.lanes()[0]?.floor, 1)
  spool = rig.open(spool.image())
  await rig.clock.pass(50_000)
  spool.ack('raw', 'region', { which: 'backlog', upTo: 41 })
  spool.flush()
  assert.equal(spool.lanes()[0]?.floor, 41)
})

test('appends that found no room go on by themselves, each lane by its own policy', async () => {
  const rig = createRig({ lanes, bytesMax })
  const spool = rig.open()
  const ingest = createSpoolIngest(spool, rig.clock, { commitWindowMs: 10, lanes })
  const port = createSpoolPort(spool, ingest, rig.series)
  await port.openReader('raw', 'region', 'oldest')
  const total = fill(spool, rig, 'raw', () => false)
  let done = ''
  const blocked = port.append('raw', { points: noise(rig.series, total, 5_000) })
  void blocked.then(() => {
    done += 'raw '
  })
  await rig.clock.pass(1_000)
  assert.equal(port.blocked(), true)
  assert.equal((await port.stats()).blockedReason, 'quota')
  await port.ack('raw', 'region', { which: 'backlog', upTo: 5 })
  await rig.clock.pass(300)
  assert.equal(done, 'raw ')
  assert.equal(port.blocked(), false)
  await port[Symbol.asyncDispose]()
  assert.equal(rig.clock.timers(), 0)
})

test('below the free-disk floor the file does not grow, but what it has is used', () => {
  const rig = createRig({ lanes, diskFreeBytesMin: 2e12 })
  const spool = rig.open()
  const windows = [{ lane: 'raw', intakes: [{ points: noise(rig.series, 0, 50_000) }], seal: true }]
  assert.deepEqual(spool.commit(windows), { kind: 'full', reason: 'disk' })
  assert.equal(spool.lanes()[0]?.accepted, 0)
  assert.deepEqual(contents(readAll(spool)), [])
})

test('below the free-disk floor seals add little, intake ends, and goes on in what a trim has freed', () => {
  const rig = createRig({ lanes, diskFreeBytesMin: 1e9 })
  const spool = rig.open()
  spool.openReader('raw', 'region', 'oldest')
  fill(spool, rig, 'raw', (total) => total >= 50_000)
  rig.disk.freeBytes = 1e6
  const granted = spool.image().length
  let small = 100_000
  /** Journalled, and sealed apart even if the commit was refused: what that adds to the file no commit asked for. */
  const storeSmall = (): boolean => {
    small += 20
    const points = noise(rig.series, small, 20)
    const { kind } = spool.commit([{ lane: 'raw', intakes: [{ points }], seal: false }])
    if (kind === 'full' || small % 400 === 0) spool.seal(['raw'])
    return kind === 'stored'
  }
  const most = 10_000
  let stored = 0
  while (stored < most && storeSmall()) stored++
  assert.ok(stored < most)
  // Each seal may leave a page free again, and must not invite the next commit to fill it.
  for (let again = 0; again < 1_000; again++) storeSmall()
  assert.ok(spool.image().length - granted <= 16 * 4_096)
  spool.ack('raw', 'region', { which: 'backlog', upTo: spool.lanes()[0]?.head ?? 0 })
  spool.flush()
  assert.ok(storeSmall(), 'pages of the file that are free again are used')
  assert.ok(spool.image().length - granted <= 16 * 4_096)
})
