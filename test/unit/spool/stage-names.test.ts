/** Many series at once are named a piece at a time, commits in between, before the points that bring them are stored. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createBatchBuilder } from '../../../src/batch.ts'
import type { SeriesEntry } from '../../../src/model.ts'
import type { Spool } from '../../../src/spool/spool.ts'
import { createTestStage, toldBy } from './stage-support.ts'
import { createRig, laneOptions, type Rig, store } from './support.ts'

const seriesCount = 4_500
const pieceMax = 2_000
const lanes = [
  laneOptions('raw', { segmentPointsMax: 60_000 }),
  laneOptions('thin', { derived: true, segmentPointsMax: 60_000 }),
  laneOptions('windows', { derived: true }),
]
const open = (rig: Rig, image: Uint8Array | null = null, failpoint?: (name: string) => void) => {
  const stages = [
    { reader: 'stage', lane: 'raw', stage: createTestStage('test', { prefix: 'p/' }) },
  ]
  return rig.open(image, failpoint, stages)
}
/** Every series' third point leaves: all of them in one turn. */
const fill = (rig: Rig, spool: Spool) => {
  const builder = createBatchBuilder(seriesCount * 3)
  for (let at = 0; at < seriesCount * 3; at++)
    builder.addFloat(rig.series.ref(`s${at % seriesCount}`, []), at + 1, at, 0)
  store(spool, builder.take(), 'raw', true)
}
const dictionaryOf = (spool: Spool): readonly SeriesEntry[] => {
  const entries: SeriesEntry[] = []
  for (;;) {
    const some = spool.dictionary(spool.epoch, entries.length, 1e6)
    if (some.length === 0) return entries
    entries.push(...some)
  }
}
const backlog = (spool: Spool) => spool.lanes()[0]?.readers[0]?.cursor.backlog
/** Each series' third point, once. */
const assertOnce = (spool: Spool) => {
  const thin = [...toldBy(spool)].filter(([name]) => /^thin \["p\/s\d/.test(name))
  assert.equal(thin.length, seriesCount)
  for (const [name, points] of thin) {
    const at = Number(/"p\/s(\d+)"/.exec(name)?.[1]) + 2 * seriesCount
    assert.deepEqual(
      points.map((point) => point.split(':')[0]),
      [String(at + 1)],
    )
  }
}

test('names come a piece at a time, in the order of their ids, and the points with the cursor after them', () => {
  const rig = createRig({ lanes })
  const spool = open(rig)
  fill(rig, spool)
  let known = dictionaryOf(spool).length
  const named: bigint[] = []
  let turns = 0
  while (spool.derive() === 'more') {
    turns++
    const entries = dictionaryOf(spool)
    assert.ok(entries.length - known <= pieceMax + 1, `${entries.length - known} in turn ${turns}`)
    if (entries.length > known) named.push(...entries.slice(known).map(({ id }) => id))
    // Whoever appends waits for one piece at most.
    const builder = createBatchBuilder()
    builder.addFloat(rig.series.ref('other', []), 1e6 + turns, turns, 0)
    store(spool, builder.take())
    known = dictionaryOf(spool).length
    if (known < seriesCount * 2) assert.equal(backlog(spool), 0)
  }
  assert.ok(turns >= 5, `${turns} turns`)
  assert.ok(named.length > seriesCount - pieceMax)
  assert.ok(named.every((id, at) => at === 0 || id > (named[at - 1] as bigint)))
  assert.ok((backlog(spool) ?? 0) > 0)
  spool.seal(['raw'])
  while (spool.derive() === 'more');
  assertOnce(spool)
})

test('a crash among the pieces leaves names without points, and nothing twice', () => {
  for (const crash of [1, 2, 4]) {
    const rig = createRig({ lanes })
    let left = 0
    const failpoint = (name: string) => {
      if (name === 'before-commit' && --left === 0) throw new Error('crash')
    }
    const first = open(rig, null, failpoint)
    fill(rig, first)
    left = crash
    assert.throws(() => {
      while (first.derive() === 'more');
    }, /crash/)
    const again = open(rig, first.image())
    while (again.derive() === 'more');
    assertOnce(again)
  }
})

test('a close among the pieces stores what waits with the names it lacks', () => {
  const rig = createRig({ lanes })
  let image = new Uint8Array(0)
  let closing: Spool | null = null
  const spool = open(rig, null, (name) => {
    if (name === 'after-commit' && closing !== null) image = Buffer.from(closing.image())
  })
  fill(rig, spool)
  for (let turn = 0; turn < 4; turn++) assert.equal(spool.derive(), 'more')
  closing = spool
  spool.close()
  const again = open(rig, image)
  assert.equal(backlog(again), 1)
  assertOnce(again)
})
