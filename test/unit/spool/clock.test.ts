import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openSegment } from '../../../src/codec/segment.ts'
import { silentLog } from '../../../src/host.ts'
import { because, type ClockReading, quality } from '../../../src/model.ts'
import { openSpool, type Spool } from '../../../src/spool/spool.ts'
import {
  countingBytes,
  createRig,
  floats,
  type Rig,
  readAll,
  spoolOptions,
  store,
} from './support.ts'

const bootA = 'aa'.repeat(16)
const bootB = 'bb'.repeat(16)
const openOn = (rig: Rig, bootId: string, image: Uint8Array | null): Spool =>
  openSpool({
    at: { image },
    host: { clock: rig.clock, randomBytes: countingBytes, bootId, log: silentLog },
    series: rig.series,
    options: spoolOptions(),
    anchorFile: rig.anchorFile,
    diskFreeBytes: () => 1e12,
  })
const reading = (bootId: string, trusted: boolean): ClockReading => ({
  nowUs: 1_700_000_000_000_000,
  bootId,
  monotonicUs: 60_000_000,
  trusted,
})
/** Points whose times are `first*1000 …` microseconds of the boot's monotonic clock. */
const storeMonotonic = (spool: Spool, rig: Rig, first: number, count: number) => {
  const points = floats(rig.series, first, count)
  spool.commit([{ lane: 'raw', intakes: [{ points, timeBase: 'monotonic' }], seal: false }])
}
const settle = (spool: Spool, at: ClockReading) => {
  while (spool.setClock(at));
}
interface Seen {
  readonly clock: string
  readonly times: readonly number[]
  readonly qualities: readonly number[]
}
const seen = (spool: Spool): readonly Seen[] =>
  readAll(spool).map((item) => {
    assert.ok(item.type === 'segment')
    const { header, points } = openSegment(item.bytes)
    return {
      clock: header.clockState,
      times: [...points.timeUs],
      qualities: [...new Set(points.qualities)],
    }
  })

test('points taken before the clock is trusted wait, and are stamped by the measured offset', () => {
  const rig = createRig()
  const spool = openOn(rig, bootA, null)
  settle(spool, reading(bootA, false))
  storeMonotonic(spool, rig, 1, 2)
  spool.seal(['raw'])
  assert.deepEqual(seen(spool), [])
  assert.equal(spool.stats().waitingForClock, 2)
  assert.equal(spool.lanes()[0]?.accepted, 2)
  settle(spool, reading(bootA, true))
  const offset = 1_700_000_000_000_000 - 60_000_000
  assert.deepEqual(seen(spool), [
    {
      clock: 'rebased',
      times: [offset + 1_000, offset + 2_000],
      qualities: [because.clockRebased],
    },
  ])
  assert.deepEqual([spool.stats().waitingForClock, spool.lanes()[0]?.accepted], [0, 2])
})

test('a restart in the same boot forgets nothing of it', () => {
  const rig = createRig()
  const first = openOn(rig, bootA, null)
  storeMonotonic(first, rig, 1, 2)
  const second = openOn(rig, bootA, first.image())
  storeMonotonic(second, rig, 3, 1)
  settle(second, reading(bootA, true))
  const offset = 1_700_000_000_000_000 - 60_000_000
  assert.deepEqual(
    seen(second).map((one) => one.times),
    [[offset + 1_000, offset + 2_000, offset + 3_000]],
  )
})

test('a boot that ended untrusted is stamped from the last wall time known, in order, as uncertain', () => {
  const rig = createRig()
  const first = openOn(rig, bootA, null)
  settle(first, { ...reading(bootA, true), nowUs: 1_650_000_000_000_000 })
  store(first, floats(rig.series, 1, 1), 'raw', true)
  const second = openOn(rig, bootA, first.image())
  storeMonotonic(second, rig, 5, 2)
  const third = openOn(rig, bootB, second.image())
  settle(third, reading(bootB, false))
  const floor = 1_650_000_000_000_001
  assert.deepEqual(seen(third).at(-1), {
    clock: 'untrusted',
    times: [floor, floor + 1_000],
    qualities: [quality.uncertain | because.clockNeverTrusted],
  })
  storeMonotonic(third, rig, 1, 1)
  const fourth = openOn(rig, bootA, third.image())
  settle(fourth, reading(bootA, false))
  const last = seen(fourth).at(-1)
  assert.ok((last?.times[0] ?? 0) > floor + 1_000)
})
