/** Contracts by time: told again wherever they change, never more than is true. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createBatchBuilder } from '../../../src/batch.ts'
import { openSegment } from '../../../src/codec/segment.ts'
import { contractVersionsMax } from '../../../src/limits.ts'
import type { Contract, ContractVersion, SeriesEntry } from '../../../src/model.ts'
import { compileClasses, type Reduce } from '../../../src/pipeline/classes.ts'
import { createRulesStage } from '../../../src/pipeline/rules.ts'
import { withVersion } from '../../../src/spool/contracts.ts'
import type { Spool } from '../../../src/spool/spool.ts'
import { createRig, laneOptions, type Rig, readAll, store } from './support.ts'

const lanes = [laneOptions('raw'), laneOptions('alarms'), laneOptions('reduced', { derived: true })]
const band = (deviation: number): Contract => {
  return { method: 'deadband', deviation, interpolation: 'step', heartbeatUs: null }
}
/** A life with this rule for series `walk.*`; null: with none. */
const open = (
  rig: Rig,
  reduce: Reduce | null,
  image: Uint8Array | null = null,
  failpoint?: (name: string) => void,
): Spool => {
  const match = { names: ['walk.*'] }
  const classes =
    reduce === null ? null : compileClasses([{ name: 'walks', match, reduce, windows: [] }])
  const stages =
    classes === null
      ? []
      : [
          {
            reader: 'rules',
            lane: 'raw',
            stage: createRulesStage({ classes }),
            from: 'now' as const,
          },
        ]
  return rig.open(image, failpoint, stages)
}
const deadband = (deviation: number): Reduce => {
  return { method: 'deadband', lane: 'reduced', deviation }
}
const derive = (spool: Spool) => {
  for (let turns = 0; spool.derive() === 'more'; turns++) assert.ok(turns < 100)
}
const put = (rig: Rig, spool: Spool, name: string, timeUs: number, value: number, lane = 'raw') => {
  const builder = createBatchBuilder()
  builder.addFloat(rig.series.ref(name, []), timeUs, value, 0)
  store(spool, builder.take(), lane, true)
}
const told = (spool: Spool, from = 0): readonly SeriesEntry[] =>
  spool.dictionary(spool.epoch, from, 1_000)
const versionsOf = (spool: Spool, name = 'walk.a'): readonly ContractVersion[] =>
  told(spool).findLast((entry) => entry.name === name)?.contracts ?? []

test('a contract that comes after the series was read is told again, before the segment of its points', () => {
  const rig = createRig({ lanes })
  const spool = open(rig, deadband(5))
  put(rig, spool, 'walk.a', 1_000, 1)
  // As another lane's upload reads it, while the rule has given out nothing.
  const known = told(spool).length
  assert.deepEqual(versionsOf(spool), [])
  derive(spool)
  spool.seal(['reduced'])
  const news = told(spool, known)
  assert.deepEqual(
    news.map(({ name, contracts }) => [name, contracts]),
    [['walk.a', [{ fromUs: 1_000, contract: band(5) }]]],
  )
  const [item] = readAll(spool, 'reduced')
  assert.ok(item?.type === 'segment')
  const { header, points } = openSegment(item.bytes)
  assert.equal(header.dictionaryLength, known + 1)
  assert.deepEqual([...points.series], [0], 'points keep the first number')
  spool.close()
})

test('each life tells what it knows from the beginning, and a change from its first point on', () => {
  const rig = createRig({ lanes })
  let spool = open(rig, deadband(5))
  const next = (reduce: Reduce | null) => {
    spool = open(rig, reduce, spool.image())
  }
  put(rig, spool, 'walk.a', 1_000, 1)
  put(rig, spool, 'walk.a', 2_000, 2)
  derive(spool)
  next(deadband(5))
  put(rig, spool, 'walk.a', 3_000, 3)
  assert.deepEqual(told(spool)[0]?.contracts, [{ fromUs: 1_000, contract: band(5) }])
  derive(spool)
  assert.equal(told(spool).length, 1, 'the same contract is no news')
  // The point at 3 ms was left out: both lines meet in it.
  next(deadband(50))
  derive(spool)
  const two = [
    { fromUs: 1_000, contract: band(5) },
    { fromUs: 3_000, contract: band(50) },
  ]
  assert.deepEqual(versionsOf(spool), two)
  // Every point is there from the next change on.
  put(rig, spool, 'walk.a', 3_500, 4)
  derive(spool)
  next({ method: 'every', lane: 'reduced' })
  put(rig, spool, 'walk.a', 4_000, 4)
  derive(spool)
  assert.deepEqual(versionsOf(spool), [...two, { fromUs: 3_500, contract: null }])
  spool.close()
})

test('a class that is gone ends its contract with the next point, not before anything held', () => {
  const rig = createRig({ lanes })
  let spool = open(rig, deadband(5))
  put(rig, spool, 'walk.a', 1_000, 1)
  put(rig, spool, 'walk.a', 5_000, 2)
  put(rig, spool, 'walk.b', 1_000, 1)
  derive(spool)
  spool = open(rig, null, spool.image())
  put(rig, spool, 'walk.a', 2_000, 3)
  assert.deepEqual(versionsOf(spool), [
    { fromUs: 1_000, contract: band(5) },
    { fromUs: 5_000, contract: null },
  ])
  put(rig, spool, 'walk.a', 6_000, 3)
  assert.equal(versionsOf(spool).length, 2)
  assert.deepEqual(versionsOf(spool, 'walk.b').at(-1)?.contract, band(5), 'no point, no word')
  put(rig, spool, 'walk.b', 7_000, 3)
  assert.deepEqual(versionsOf(spool, 'walk.b').at(-1), { fromUs: 7_000, contract: null })
  // It is thinned again.
  spool = open(rig, deadband(5), spool.image())
  put(rig, spool, 'walk.b', 8_000, 3)
  derive(spool)
  assert.deepEqual(versionsOf(spool, 'walk.b').at(-1), { fromUs: 8_000, contract: band(5) })
  spool.close()
})

for (const at of ['before-commit', 'after-commit']) {
  test(`a crash ${at} of the change tells it once`, () => {
    const rig = createRig({ lanes })
    let spool = open(rig, deadband(5))
    put(rig, spool, 'walk.a', 1_000, 1)
    derive(spool)
    let armed = false
    spool = open(rig, deadband(50), spool.image(), (name) => {
      if (armed && name === at) throw new Error('crash')
    })
    armed = true
    assert.throws(() => derive(spool), /crash/)
    spool = open(rig, deadband(50), spool.image())
    derive(spool)
    put(rig, spool, 'walk.a', 2_000, 1)
    derive(spool)
    assert.deepEqual(versionsOf(spool), [{ fromUs: 1_000, contract: band(50) }])
    spool.close()
  })
}

test('a change that was rolled back leaves the dictionary as it was', () => {
  const rig = createRig({ lanes })
  let full = false
  const spool = open(rig, deadband(5), null, (name) => {
    if (full && name === 'before-commit')
      throw Object.assign(new Error('full'), { code: 'SQLITE_FULL' })
  })
  put(rig, spool, 'walk.a', 1_000, 1)
  full = true
  assert.equal(spool.derive(), 'full')
  assert.deepEqual([told(spool).length, versionsOf(spool)], [1, []])
  full = false
  derive(spool)
  assert.equal(versionsOf(spool).length, 1)
  put(rig, spool, 'walk.a', 9_000, 100)
  derive(spool)
  spool.seal(['reduced'])
  const [item] = readAll(spool, 'reduced')
  assert.ok(item?.type === 'segment')
  assert.deepEqual([...openSegment(item.bytes).points.series], [0, 0])
  spool.close()
})

test('of too many versions the oldest two become one without a bound', () => {
  let versions: readonly ContractVersion[] = []
  for (let at = 1; at <= contractVersionsMax + 1; at++)
    versions = withVersion(versions, at * 10, band(at))
  assert.equal(versions.length, contractVersionsMax)
  assert.deepEqual(versions[0], { fromUs: 10, contract: band(Number.POSITIVE_INFINITY) })
  assert.deepEqual(versions[1], { fromUs: 30, contract: band(3) })
  assert.equal(withVersion(versions, 999, band(contractVersionsMax + 1)), versions)
  // JSON has no Infinity.
  const saved = [{ fromUs: 1, contract: { ...band(0), deviation: null as unknown as number } }]
  assert.equal(withVersion(saved, 5, band(Number.POSITIVE_INFINITY)), saved)
  assert.deepEqual(withVersion([], 5, null), [], 'every point was there anyway')
})
