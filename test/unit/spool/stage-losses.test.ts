/** Production windows over a real spool whose raw points go missing, or that starts again: never wrong without a word. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import Database from 'better-sqlite3'
import { stagesOf } from '../../../src/agent-stages.ts'
import { createBatchBuilder, pointsOf } from '../../../src/batch.ts'
import { openSegment } from '../../../src/codec/segment.ts'
import type { Statistic } from '../../../src/pipeline/classes.ts'
import type { Spool } from '../../../src/spool/spool.ts'
import { createRig, laneOptions, type Rig, readAll } from './support.ts'

const lanes = [
  laneOptions('raw', { segmentPointsMax: 2 }),
  laneOptions('rollup', { derived: true }),
]
const minuteUs = 60e6
const open = (rig: Rig, statistics: readonly Statistic[], image: Uint8Array | null = null) => {
  const classes = [
    {
      name: 'all',
      match: {},
      reduce: { method: 'none' as const },
      windows: [{ everyUs: minuteUs, statistics, latenessUs: minuteUs, lane: 'rollup' }],
    },
  ]
  const stages = stagesOf([{ lane: 'raw', classes, timeZone: 'UTC', agent: 'gateway-1' }])
  return rig.open(image, undefined, stages)
}
/** One segment of the series, its points at these seconds; each value is its second. */
const seal = (rig: Rig, spool: Spool, ...seconds: readonly number[]) => {
  const builder = createBatchBuilder()
  for (const second of seconds) builder.addFloat(rig.series.ref('s', []), second * 1e6, second, 0)
  spool.commit([{ lane: 'raw', intakes: [{ points: builder.take() }], seal: true }])
}
const deriveAll = (spool: Spool) => {
  for (let turns = 0; spool.derive() === 'more'; turns++) assert.ok(turns < 1_000)
}
/** The last value of each statistic of the window that starts at this second. */
const windowAt = (spool: Spool, second: number): Record<string, unknown> => {
  deriveAll(spool)
  spool.seal(['rollup'])
  const found: Record<string, unknown> = {}
  for (const item of readAll(spool, 'rollup')) {
    if (item.type !== 'segment') continue
    const entries = spool.dictionary(item.epoch, 0, 1e3)
    for (const { series, timeUs, value } of pointsOf(openSegment(item.bytes).points, BigInt)) {
      const tags = entries[Number(series)]?.tags ?? []
      const name = tags.find(([tag]) => tag === '@statistic')?.[1]
      if (name !== undefined && timeUs === second * 1e6) found[name] = value
    }
  }
  return found
}
/** Segment `seq` of the raw lane with one bit of its points turned over. */
const harmed = (image: Uint8Array, seq: number): Uint8Array => {
  const db = new Database(Buffer.from(image))
  const key = 2 ** 44 + seq
  const bytes = db.prepare('SELECT bytes FROM segments WHERE key = ?').pluck().get(key) as Buffer
  bytes[bytes.length - 3] = (bytes[bytes.length - 3] as number) ^ 1
  db.prepare('UPDATE segments SET bytes = ? WHERE key = ?').run(bytes, key)
  const after = db.serialize()
  db.close()
  return after
}

test('a window that must be made again leaves by itself after a restart, without another point', () => {
  const rig = createRig({ lanes })
  const first = open(rig, ['median'])
  seal(rig, first, 1, 2)
  deriveAll(first)
  const again = open(rig, ['median'], first.image())
  deriveAll(again)
  for (const nowUs of [1e9, 2e9]) again.tick(nowUs)
  assert.deepEqual(windowAt(again, 0), { median: 1.5, rev: 1n })
})

test('a segment taken away after it was read: what is made again without it is partial', () => {
  const rig = createRig({ lanes })
  const spool = open(rig, ['sum'])
  seal(rig, spool, 1, 2)
  seal(rig, spool, 5, 6)
  seal(rig, spool, 61, 62)
  assert.deepEqual(windowAt(spool, 0), { sum: 14, rev: 1n })
  spool.quarantine('raw', 1, 'rejected', 'no')
  seal(rig, spool, 9, 63)
  assert.deepEqual(windowAt(spool, 0), { sum: 20, rev: 2n, partial: true })
})

test('a segment taken away after it was read changes nothing of a window that need not be made again', () => {
  const rig = createRig({ lanes })
  const spool = open(rig, ['sum'])
  seal(rig, spool, 1, 2)
  seal(rig, spool, 61, 62)
  deriveAll(spool)
  spool.quarantine('raw', 2, 'rejected', 'no')
  seal(rig, spool, 121, 122)
  assert.deepEqual(windowAt(spool, 60), { sum: 123, rev: 1n })
})

test('a segment that the windows never read: the windows of its time are partial, others not', () => {
  const rig = createRig({ lanes })
  const spool = open(rig, ['sum'])
  seal(rig, spool, 1, 2)
  seal(rig, spool, 5, 6)
  spool.quarantine('raw', 2, 'rejected', 'no')
  seal(rig, spool, 61, 62)
  seal(rig, spool, 121, 181)
  assert.deepEqual(windowAt(spool, 0), { sum: 3, rev: 1n, partial: true })
  assert.deepEqual(windowAt(spool, 120), { sum: 121, rev: 1n })
})

test('bytes that turn out damaged when they are read again: partial', () => {
  const rig = createRig({ lanes })
  const first = open(rig, ['sum'])
  seal(rig, first, 1, 2)
  seal(rig, first, 5, 6)
  deriveAll(first)
  // A late point now makes the window again, of what can still be read.
  const again = open(rig, ['sum'], harmed(first.image(), 1))
  seal(rig, again, 3, 61)
  const { sum, partial } = windowAt(again, 0)
  assert.deepEqual({ sum, partial }, { sum: 14, partial: true })
})
