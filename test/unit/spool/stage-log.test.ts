/**
 * What ticks decided is logged in place of the state: a restart does it again at the same place, and a log that is not
 * whole, or belongs to another state, is never believed.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { crc32, zstdDecompressSync } from 'node:zlib'
import Database from 'better-sqlite3'
import fc from 'fast-check'
import { createBatchBuilder } from '../../../src/batch.ts'
import { openSegment } from '../../../src/codec/segment.ts'
import type { SeriesEntry } from '../../../src/model.ts'
import { rowCrc } from '../../../src/spool/schema.ts'
import type { Spool, SpoolOptions } from '../../../src/spool/spool.ts'
import { createTestStage, type Recorded, replayed, type TestStage } from './stage-support.ts'
import { createRig, laneOptions, type Rig, readAll, store } from './support.ts'

const lanes = [
  laneOptions('raw', { segmentPointsMax: 10 }),
  laneOptions('thin', { derived: true }),
  laneOptions('windows', { derived: true }),
]
const rigWith = (change = {}) => createRig({ lanes, ...change })
const names = ['even', 'odd', 'third']
const createLife = (rig: Rig) => {
  const record = new Map<number, Recorded>()
  let saves = 0
  return {
    record,
    saves: () => saves,
    open: (
      image: Uint8Array | null = null,
      failpoint?: (name: string) => void,
      options: Partial<SpoolOptions> = {},
    ) => {
      const stage: TestStage = createTestStage('test', { decides: true, record })
      const counted = {
        ...stage,
        save: () => {
          saves++
          return stage.save()
        },
      }
      const stages = [{ reader: 'stage', lane: 'raw', stage: counted }]
      return { stage, spool: rig.open(image, failpoint, stages, options) }
    },
  }
}
const points = (rig: Rig, first: number, count: number, series = 2) => {
  const builder = createBatchBuilder()
  for (let at = first; at < first + count; at++)
    builder.addFloat(rig.series.ref(names[at % series] as string, []), at * 1000, at / 7, 0)
  return builder.take()
}
const deriveAll = (spool: Spool) => {
  for (let turns = 0; spool.derive() === 'more'; turns++) assert.ok(turns < 1_000)
}
/** How many points the stage gave out, and the last of each series and time. */
const toldBy = (spool: Spool) => {
  const told = new Map<string, string>()
  let count = 0
  spool.seal(['thin', 'windows'])
  for (const lane of ['thin', 'windows'])
    for (const item of readAll(spool, lane)) {
      if (item.type === 'tombstone') throw new Error(`${lane} lost something`)
      const entries = spool.dictionary(item.epoch, 0, 1e6)
      const { points } = openSegment(item.bytes)
      count += points.count
      for (let at = 0; at < points.count; at++) {
        const { name, tags } = entries[points.series[at] as number] as SeriesEntry
        const key = `${JSON.stringify([name, tags])} ${points.timeUs[at]}`
        told.set(key, `${points.bits[at]}:${points.qualities[at]}`)
      }
    }
  return { told, count }
}
const assertTold = (spool: Spool, stage: TestStage, record: ReadonlyMap<number, Recorded>) => {
  const expected = replayed(stage.history(), record, {})
  const found = toldBy(spool)
  assert.deepEqual(found.told, expected.told)
  assert.equal(found.count, expected.count)
}
const changed = (image: Uint8Array, ...sql: readonly string[]): Uint8Array => {
  const db = new Database(Buffer.from(image))
  for (const one of sql) db.exec(one)
  const after = db.serialize()
  db.close()
  return after
}
const rowsIn = (image: Uint8Array, table: string): number => {
  const db = new Database(Buffer.from(image))
  const count = db.prepare(`SELECT count(*) FROM ${table}`).pluck().get() as number
  db.close()
  return count
}

/** What a life that steps again and closes leaves behind. */
const closing = (life: ReturnType<typeof createLife>, image: Uint8Array): Uint8Array => {
  let closed = new Uint8Array(0)
  let spool: Spool | null = null
  spool = life.open(image, (name) => {
    if (name === 'after-commit' && spool !== null) closed = Buffer.from(spool.image())
  }).spool
  deriveAll(spool)
  spool.close()
  return closed
}

/** Ticks that close windows, points in between. */
const ticked = (rig: Rig, spool: Spool) => {
  for (let at = 0; at < 10; at++) {
    store(spool, points(rig, at * 100, 20), 'raw', true)
    deriveAll(spool)
    spool.tick((at * 100 + 90) * 1000)
  }
}

test('ticks that decide something are logged, and no state is saved for them', () => {
  const rig = rigWith()
  const life = createLife(rig)
  const { spool, stage } = life.open()
  const before = life.saves()
  ticked(rig, spool)
  assert.equal(life.saves(), before)
  const image = spool.image()
  assert.equal(rowsIn(image, 'stage_log'), 10)
  assertTold(spool, stage, life.record)
  const again = life.open(image)
  deriveAll(again.spool)
  assert.deepEqual(again.stage.history(), stage.history())
  assertTold(again.spool, again.stage, life.record)
  // A close saves the state, and the log is done with.
  const closed = closing(life, image)
  assert.equal(rowsIn(closed, 'stage_log'), 0)
})

test('a log as long as its state is: the state is saved', () => {
  const rig = rigWith()
  const life = createLife(rig)
  const { spool } = life.open()
  const before = life.saves()
  // 128 bytes a row at least, and 256 KiB of them.
  for (let at = 0; at < 2_100; at++) {
    store(spool, points(rig, at * 100, 2), 'raw', true)
    deriveAll(spool)
    spool.tick((at * 100 + 90) * 1000)
  }
  assert.ok(life.saves() - before >= 2 && life.saves() - before < 10)
  assert.ok(rowsIn(spool.image(), 'stage_log') < 2_100)
})

const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('append' as const),
      count: fc.integer({ min: 1, max: 30 }),
      back: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 60 })),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom('turn' as const, 'derive' as const, 'tick' as const, 'tick' as const),
      crash: fc.oneof(
        { weight: 5, arbitrary: fc.constant('') },
        { weight: 1, arbitrary: fc.constantFrom('before-commit', 'after-commit', 'after-anchor') },
      ),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constantFrom('kill' as const, 'pass' as const) }),
  },
)
class Crash extends Error {}

test('crashes anywhere, ticks in between: what is given out is what the history of the state gives', () => {
  const seen = { crash: 0, logged: 0, again: 0 }
  fc.assert(
    fc.property(fc.array(step, { minLength: 10, maxLength: 60, size: 'max' }), (steps) => {
      const rig = rigWith({ keepSentMs: 0 })
      const life = createLife(rig)
      let failAt = ''
      const failpoint = (name: string) => {
        if (name === failAt) throw new Crash(name)
      }
      let { spool, stage } = life.open(null, failpoint)
      let nextMs = 100
      const reopen = () => {
        const image = spool.image()
        const rows = rowsIn(image, 'stage_log')
        seen.logged += rows
        ;({ spool, stage } = life.open(image, failpoint))
        if (rows > 0 && spool.heads()[0]?.underived) seen.again++
      }
      const crashing = (at: string, work: () => void) => {
        failAt = at
        try {
          work()
        } catch (error) {
          if (!(error instanceof Crash)) throw error
          seen.crash++
          failAt = ''
          reopen()
        }
        failAt = ''
      }
      for (const one of steps) {
        if (one.kind === 'append') {
          const builder = createBatchBuilder()
          for (let at = 0; at < one.count; at++, nextMs += 3) {
            const ref = rig.series.ref(names[((nextMs / 2) % 3) | 0] as string, [])
            builder.addFloat(ref, (nextMs - one.back) * 1000, nextMs / 7, 0)
          }
          store(spool, builder.take(), 'raw', one.count % 2 === 0)
        } else if (one.kind === 'turn') crashing(one.crash, () => spool.derive())
        else if (one.kind === 'derive') crashing(one.crash, () => deriveAll(spool))
        else if (one.kind === 'tick') {
          nextMs += 30
          crashing(one.crash, () => spool.tick(nextMs * 1000))
        } else if (one.kind === 'kill') reopen()
        else rig.clock.jump(61_000)
      }
      deriveAll(spool)
      assertTold(spool, stage, life.record)
    }),
    { numRuns: 60, seed: 20_261, endOnFailure: true },
  )
  for (const [what, times] of Object.entries(seen)) assert.ok(times > 20, `${what}: ${times}`)
})

test('a log that is damaged or not whole is as a damaged state: it begins anew and gives nothing else out', () => {
  const rig = rigWith()
  const life = createLife(rig)
  const { spool } = life.open()
  ticked(rig, spool)
  const image = spool.image()
  const before = toldBy(spool).told
  for (const harm of [
    "UPDATE stage_log SET decided = x'31' WHERE number = 3",
    'UPDATE stage_log SET seq = seq + 1 WHERE number = 3',
    'UPDATE stage_log SET state_crc = state_crc + 1 WHERE number = 3',
    'DELETE FROM stage_log WHERE number = 0',
  ]) {
    const again = life.open(changed(image, harm))
    deriveAll(again.spool)
    // All is stepped again from the beginning; the ticks are not.
    assert.equal(again.stage.seqs[0], 1, harm)
    assert.ok(!again.stage.history().some(([kind]) => kind === 'tick'), harm)
    again.spool.tick(1e9)
    for (const [key, value] of toldBy(again.spool).told)
      assert.equal(before.get(key) ?? value, value, `${harm}: ${key}`)
  }
})

test('a log left over from another state is no log of this one', () => {
  const rig = rigWith()
  const life = createLife(rig)
  const { spool, stage } = life.open()
  ticked(rig, spool)
  const image = spool.image()
  // An older program steps again, saves its state, and knows no log.
  const db = new Database(Buffer.from(image))
  db.exec('CREATE TABLE other AS SELECT * FROM stage_log')
  const withCopy = db.serialize()
  db.close()
  const left = changed(
    closing(life, withCopy),
    'INSERT INTO stage_log SELECT * FROM other',
    'DROP TABLE other',
  )
  const again = life.open(left)
  deriveAll(again.spool)
  assert.deepEqual(again.stage.history(), stage.history())
  ticked(rig, again.spool)
  assert.equal(rowsIn(again.spool.image(), 'stage_log') >= 10, true)
  const last = life.open(again.spool.image())
  deriveAll(last.spool)
  assert.deepEqual(last.stage.history(), again.stage.history())
})

test('a file of schema version 1 opens with its state as it was saved, and has a log from then on', () => {
  const rig = rigWith()
  const life = createLife(rig)
  const { spool, stage } = life.open()
  store(spool, points(rig, 0, 55), 'raw', true)
  deriveAll(spool)
  rig.clock.jump(61_000)
  store(spool, points(rig, 55, 5), 'raw', true)
  deriveAll(spool)
  const db = new Database(Buffer.from(spool.image()))
  const row = db.prepare('SELECT lane, reader, checkpoint, hold, state FROM stages').get() as {
    readonly lane: number
    readonly reader: string
    readonly checkpoint: number
    readonly hold: string
    readonly state: Buffer
  }
  const state = zstdDecompressSync(row.state)
  const values = [row.lane, row.reader, row.checkpoint, row.hold, crc32(state)]
  db.prepare('UPDATE stages SET state = ?, state_crc = ?, crc = ?').run(
    ...[state, crc32(state), rowCrc(values)],
  )
  db.exec('DROP TABLE stage_log')
  db.pragma(`user_version = ${1 + 65_536}`)
  const image = db.serialize()
  db.close()
  const again = life.open(image)
  deriveAll(again.spool)
  assert.deepEqual(again.stage.seqs, [])
  assert.deepEqual(again.stage.history(), stage.history())
  again.spool.tick(1e9)
  assert.equal(rowsIn(again.spool.image(), 'stage_log'), 1)
  assertTold(again.spool, again.stage, life.record)
})

test('a window of an older time than was saved: its raw points are still there after a crash', () => {
  const rig = rigWith({ keepSentMs: 1e12 })
  const life = createLife(rig)
  const { spool } = life.open()
  for (let at = 0; at < 500; at += 10) store(spool, points(rig, at, 10, 1), 'raw', true)
  deriveAll(spool)
  // Saved: nothing older than the newest window is asked for.
  rig.clock.jump(61_000)
  store(spool, points(rig, 500, 10, 1), 'raw', true)
  deriveAll(spool)
  const before = life.saves()
  // A series that begins late, long ago.
  const builder = createBatchBuilder()
  builder.addFloat(rig.series.ref('odd', []), 3_000, 1, 0)
  store(spool, builder.take(), 'raw', true)
  deriveAll(spool)
  assert.equal(life.saves(), before)
  const image = spool.image()
  assert.equal(rowsIn(image, 'stage_log'), 1)
  // Before anything is stepped again, what nobody asks for may go.
  const floorOf = (from: Uint8Array) => {
    const again = life.open(from, undefined, { keepSentMs: 0 }).spool
    store(again, points(rig, 600, 1, 1), 'raw', true)
    return again.lanes()[0]?.floor ?? 0
  }
  assert.equal(floorOf(image), 1)
  assert.ok(floorOf(changed(image, 'DELETE FROM stage_log')) > 1, 'the log is what holds it')
})
