/** Stages whose steps last longer than a turn: acks come in between, and no crash, close or want of room tears a step. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createBatchBuilder } from '../../../src/batch.ts'
import { silentLog } from '../../../src/host.ts'
import type { Stage } from '../../../src/model.ts'
import { openSpool, type Spool, type StageReader } from '../../../src/spool/spool.ts'
import type { StageWarning } from '../../../src/stage-facts.ts'
import { createTestStage, sorted, type TestStage, toldBy, toldNaively } from './stage-support.ts'
import {
  countingBytes,
  createRig,
  laneOptions,
  type Rig,
  readAll,
  spoolOptions,
  store,
} from './support.ts'

const lanes = [
  laneOptions('raw', { segmentPointsMax: 10 }),
  laneOptions('thin', { derived: true }),
  laneOptions('windows', { derived: true }),
]
/** Each step takes three turns; its state moves in the second. */
const inPieces = (stage: Stage): Stage => {
  const much = 1_000_000
  return {
    ...stage,
    stepping: function* (input) {
      yield much
      const given = stage.step(input)
      yield much
      return given
    },
    ticking: function* (nowUs, raw) {
      yield much
      const given = stage.tick(nowUs, raw)
      yield much
      return given
    },
  }
}
const open = (rig: Rig, image: Uint8Array | null = null, failpoint?: (name: string) => void) => {
  const stage = createTestStage('test')
  const stages: StageReader[] = [{ reader: 'stage', lane: 'raw', stage: inPieces(stage) }]
  return { stage, spool: rig.open(image, failpoint, stages) }
}
const points = (rig: Rig, first: number, count: number) => {
  const builder = createBatchBuilder()
  for (let at = first; at < first + count; at++)
    builder.addFloat(rig.series.ref(at % 2 === 0 ? 'even' : 'odd', []), at * 1000, at / 7, 0)
  return builder.take()
}
const deriveAll = (spool: Spool) => {
  let turns = 1
  for (; spool.derive() === 'more'; turns++) assert.ok(turns < 10_000)
  return turns
}
const assertSame = (spool: Spool) => {
  const expected = sorted(toldNaively(readAll(spool), (epoch) => spool.dictionary(epoch, 0, 1e6)))
  assert.ok(expected.length > 0)
  assert.deepEqual(sorted(toldBy(spool)), expected)
}

test('a step of many pieces is done over many turns, with commits in between, and gives what it gives at once', () => {
  const rig = createRig({ lanes })
  const { spool, stage } = open(rig)
  let first = 0
  for (let turn = 0; turn < 60; turn++, first += 10) {
    store(spool, points(rig, first, 10), 'raw', true)
    spool.derive()
    spool.tick(0)
  }
  assert.ok(stage.seqs.length < 40, 'it is behind, and holds up nobody')
  assert.ok(deriveAll(spool) > 20)
  assert.equal(stage.seqs.length, 60)
  assertSame(spool)
  spool.close()
})

for (const end of ['a crash', 'a close'] as const)
  test(`${end} in the midst of a step leaves nothing out and repeats nothing, wherever it comes`, () => {
    for (let turns = 0; turns < 12; turns++) {
      const rig = createRig({ lanes })
      let image: Uint8Array = new Uint8Array(0)
      let failpoint = (_: string): void => {}
      const before = open(rig, null, (name) => failpoint(name))
      store(before.spool, points(rig, 0, 30), 'raw', true)
      for (let turn = 0; turn < turns; turn++) {
        // A save is due in the last one.
        if (turn === turns - 1) rig.clock.jump(61_000)
        before.spool.derive()
      }
      if (end === 'a crash') image = before.spool.image()
      else {
        // What a close writes is there behind its last commit.
        image = before.spool.image()
        failpoint = (name) => {
          if (name === 'after-commit') image = before.spool.image()
        }
        before.spool.close()
      }
      const { spool, stage } = open(rig, image)
      store(spool, points(rig, 30, 40), 'raw', true)
      deriveAll(spool)
      assert.ok(stage.seqs.length > 0)
      assertSame(spool)
      spool.close()
    }
  })

test('short of room, a step is brought to its end before windows are cut and before anything is dropped', () => {
  for (const policy of ['block', 'drop_oldest'] as const) {
    let stage = createTestStage('test', { windowUs: 1e9 })
    const rig = createRig({
      lanes: [
        laneOptions('raw', { segmentPointsMax: 5_000, policy }),
        laneOptions('thin', { derived: true, segmentPointsMax: 5_000 }),
        laneOptions('windows', { derived: true }),
      ],
      bytesMax: 3 * 1024 * 1024,
    })
    const reopen = (image: Uint8Array | null) => {
      stage = createTestStage('test', { windowUs: 1e9 })
      return rig.open(image, undefined, [{ reader: 'stage', lane: 'raw', stage: inPieces(stage) }])
    }
    let spool = reopen(null)
    let cuts = 0
    const ref = rig.series.ref('noise', [])
    for (let at = 0; at < 60; at++) {
      const builder = createBatchBuilder(5_000)
      for (let one = at * 5_000; one < (at + 1) * 5_000; one++)
        builder.addInt(ref, one, BigInt.asIntN(64, BigInt(one) * 0x9e3779b97f4a7c15n), 0)
      const intakes = [{ points: builder.take() }]
      for (let tries = 0; ; tries++) {
        const result = spool.commit([{ lane: 'raw', intakes, seal: true }])
        // A step takes three: mostly it is in the midst of one.
        for (let turn = 0; turn <= (at + tries) % 4; turn++) spool.derive()
        if (result.kind === 'stored') break
        assert.ok(tries < 100, 'it does not get on')
      }
      const now = stage.history().filter(([kind]) => kind === 'letGo').length
      // What was saved then, a crash brings back.
      if (now > cuts) spool = reopen(spool.image())
      cuts = now
    }
    deriveAll(spool)
    assert.ok(stage.history().some(([kind]) => kind === 'letGo'))
    const { delivered, reduced, declaredLost, pending } = spool.lanes()[0]?.readers[0] ?? {}
    assert.equal((delivered ?? 0) + (reduced ?? 0) + (declaredLost ?? 0), 300_000)
    assert.equal(pending, 0)
    const seqs = stage.history().flatMap(([kind, seq]) => (kind === 'step' ? [seq] : []))
    assert.ok(seqs.length > 20)
    assert.deepEqual(
      seqs,
      [...new Set(seqs)].sort((a, b) => a - b),
      'each once, in order',
    )
  }
})

const warned = (stage: TestStage, warnings: readonly StageWarning[]): Stage => ({
  ...stage,
  warnings: () => warnings,
})
test('what a stage warns of is logged once a minute, with what came in between', () => {
  const rig = createRig({ lanes })
  const lines: string[] = []
  const log = {
    ...silentLog,
    warn: (event: string, fields: unknown) => lines.push(`${event} ${JSON.stringify(fields)}`),
  }
  const series = { name: 'press', tags: [] }
  const two = { class: 'c', points: 2, series, timeUs: 7 }
  const stage = warned(createTestStage('test'), [
    { kind: 'too_late', ...two },
    { kind: 'late_unmended', ...two },
  ])
  const spool = openSpool({
    at: { image: null },
    host: { clock: rig.clock, randomBytes: countingBytes, bootId: 'b0'.repeat(16), log },
    series: rig.series,
    options: spoolOptions({ lanes }),
    stages: [{ reader: '@windows', lane: 'raw', stage }],
    diskFreeBytes: () => 1e12,
    anchorFile: rig.anchorFile,
    failpoint: () => {},
  })
  const first = (count: number) => {
    lines.length = 0
    for (let at = 0; at < count; at++) {
      store(spool, points(rig, at * 10, 10), 'raw', true)
      deriveAll(spool)
    }
    return lines.filter((line) => line.startsWith('points_too_late'))
  }
  assert.equal(first(5).length, 1)
  assert.match(lines.join('\n'), /late_points_unmended .*"class":"c".*"series":"press","timeUs":7/)
  rig.clock.jump(61_000)
  const [line, ...more] = first(3)
  assert.deepEqual(more, [])
  assert.match(String(line), /"points":12\b/, 'five steps before, and this one')
  spool.close()
})
