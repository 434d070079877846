import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createImporter } from '../../src/agent-import.ts'
import { valueAt } from '../../src/batch.ts'
import { type BlockHeader, encodeBlock } from '../../src/codec/points-file.ts'
import { seriesIdOf } from '../../src/codec/series-id.ts'
import { isFailure } from '../../src/errors.ts'
import type { Intake } from '../../src/model.ts'
import { createSeriesTable } from '../../src/pipeline/series.ts'

const base: BlockHeader = {
  format: 'ndjson',
  agent: 'gw-7',
  lane: 'raw',
  laneId: 3,
  epoch: 'ab'.repeat(16),
  seq: 7,
  seqLast: 7,
  part: 0,
  last: true,
  points: 1,
  leftOut: 0,
  timeUsMin: 5,
  timeUsMax: 5,
  gap: null,
  replay: false,
}
const line =
  '{"series":"a","tags":{"plant":"north"},"time":5,"type":"int","value":"42","quality":2}\n'
const blockOf = (header: Partial<BlockHeader> = {}, body = line) =>
  Buffer.from(encodeBlock({ header: { ...base, ...header }, body: Buffer.from(body) })).toString()

/** A spool that keeps what a commit holds, and can fail one. */
const opened = (agent = 'gw-1') => {
  const intakes: { lane: string; intake: Intake }[] = []
  const kept = new Map<string, Uint8Array>()
  const series = createSeriesTable({ agent, seriesIdOf })
  let failNext = false
  const importBlock = createImporter({
    agent,
    lanes: ['raw', 'alarms'],
    series,
    spool: {
      kept: async (key) => kept.get(key) ?? null,
      append: async (lane, intake) => {
        if (failNext) {
          failNext = false
          throw new Error('the spool said no')
        }
        intakes.push({ lane, intake })
        for (const one of intake.kept ?? []) kept.set(one.key, one.value as Uint8Array)
      },
    },
  })
  return {
    importBlock,
    intakes,
    series,
    fail: () => {
      failNext = true
    },
  }
}
const code = (wanted: string) => (error: unknown) => isFailure(error, wanted)

test('a block is taken once, also when its commit failed in between', async () => {
  const { importBlock, intakes, series, fail } = opened()
  fail()
  await assert.rejects(importBlock(blockOf(), null), /said no/)
  assert.deepEqual(await importBlock(blockOf(), null), { taken: true, points: 1, lost: 0 })
  assert.deepEqual(await importBlock(blockOf({ replay: true }), null), {
    taken: false,
    points: 1,
    lost: 0,
  })
  assert.equal(intakes.length, 1)
  const { points } = intakes[0]?.intake as Intake
  assert.deepEqual([points.timeUs[0], valueAt(points, 0), points.qualities[0]], [5, 42n, 2])
  assert.deepEqual(series.entry(points.series[0] as number).tags, [
    ['origin', 'gw-7'],
    ['plant', 'north'],
  ])
  // Another epoch, another lane, another agent: other points.
  for (const other of [
    { epoch: 'cd'.repeat(16) },
    { laneId: 4 },
    { agent: 'gw-8' },
    { seq: 8, seqLast: 8 },
  ])
    assert.equal((await importBlock(blockOf(other), 'alarms')).taken, true)
  assert.deepEqual(
    intakes.map(({ lane }) => lane),
    ['raw', 'alarms', 'alarms', 'alarms', 'alarms'],
  )
})

test('two at once are one', async () => {
  const { importBlock, intakes } = opened()
  const answers = await Promise.all([importBlock(blockOf(), null), importBlock(blockOf(), null)])
  assert.deepEqual(
    answers.map(({ taken }) => taken),
    [true, false],
  )
  assert.equal(intakes.length, 1)
})

test('parts of a seq come in their order, from the beginning again after a break', async () => {
  const { importBlock } = opened()
  const part = (nth: number, last = false) => importBlock(blockOf({ part: nth, last }), null)
  await assert.rejects(part(1), code('HF-X023'))
  assert.equal((await part(0)).taken, true)
  assert.equal((await part(1)).taken, true)
  assert.equal((await part(0)).taken, false)
  await assert.rejects(part(3, true), code('HF-X023'))
  assert.equal((await part(1)).taken, false)
  assert.equal((await part(2, true)).taken, true)
  assert.equal((await part(2, true)).taken, false)
  assert.equal((await importBlock(blockOf({ seq: 8, seqLast: 8 }), null)).taken, true)
})

test('losses stay losses: gap records with their reason, what the format could not say as refused', async () => {
  const { importBlock, intakes } = opened()
  const gap = { reason: 'quota', count: 12, source: 'press', timeUsMin: 1, timeUsMax: 2 } as const
  const none = { points: 0, gap }
  assert.deepEqual(await importBlock(blockOf(none, ''), null), { taken: true, points: 0, lost: 12 })
  assert.deepEqual(await importBlock(blockOf(none, ''), null), {
    taken: false,
    points: 0,
    lost: 12,
  })
  const lines = { format: 'lines', seq: 8, seqLast: 8, leftOut: 3 } as const
  const said = 'm,plant=north v=1.5 5\n'
  assert.deepEqual(await importBlock(blockOf(lines, said), null), {
    taken: true,
    points: 1,
    lost: 3,
  })
  assert.deepEqual(
    intakes.map(({ intake }) =>
      intake.losses?.map(({ reason, count, source }) => [reason, count, source]),
    ),
    [[['quota', 12, 'import gw-7: press']], [['refused', 3, 'import gw-7: lines']]],
  )
  assert.equal(valueAt((intakes[1]?.intake as Intake).points, 0), 1.5)
})

test('the own points of an agent keep their series', async () => {
  const { importBlock, intakes, series } = opened('gw-7')
  await importBlock(blockOf(), null)
  const ref = (intakes[0]?.intake as Intake).points.series[0] as number
  assert.deepEqual(series.entry(ref).tags, [['plant', 'north']])
})

test('what cannot be taken is refused whole, and can be given again', async () => {
  const { importBlock, intakes } = opened()
  await assert.rejects(importBlock(blockOf({ lane: 'other' }), null), code('HF-X024'))
  await assert.rejects(importBlock(blockOf(), 'other'), code('HF-X024'))
  await assert.rejects(importBlock(blockOf({ points: 2 }), null), code('HF-K020'))
  await assert.rejects(importBlock(blockOf().replace('42', '43'), null), code('HF-K020'))
  await assert.rejects(importBlock(blockOf().slice(0, -3), null), code('HF-K020'))
  await assert.rejects(
    importBlock(blockOf({ format: 'lines' }, 'nonsense\n'), null),
    code('HF-K020'),
  )
  const nameless = line.replace('"a"', '""')
  await assert.rejects(importBlock(blockOf({}, nameless), null), code('HF-I002'))
  assert.equal(intakes.length, 0)
  assert.equal((await importBlock(blockOf(), null)).taken, true)
})

test('a series that has an origin already keeps it behind the agent it comes from', async () => {
  const { importBlock, intakes, series } = opened('hq')
  const body = (origin: string) =>
    `{"series":"a","tags":{"origin":"${origin}"},"time":5,"type":"int","value":"1","quality":0}\n`
  const blocks = [
    { agent: 'hub', seq: 1 },
    { agent: 'gw-7', seq: 2 },
  ].map(({ agent, seq }) => blockOf({ agent, seq, seqLast: seq }, body('gw-7')))
  for (const block of blocks) assert.ok((await importBlock(block, null)).taken)
  // Its own, come home: they stay what they are.
  const own = blockOf({ agent: 'hq', seq: 3, seqLast: 3 }, body('gw-7'))
  assert.ok((await importBlock(own, null)).taken)
  const origins = intakes.map(({ intake: { points } }) =>
    series.entry(points.series[0] as number).tags.map(([, value]) => value),
  )
  assert.deepEqual(origins, [['hub/gw-7'], ['gw-7/gw-7'], ['gw-7']])
})

test('line protocol names a field: a name without a dot comes back with one', async () => {
  const { importBlock, intakes, series } = opened()
  assert.ok((await importBlock(blockOf({ format: 'lines' }, 'boiler value=1 5\n'), null)).taken)
  const [{ intake }] = intakes as [(typeof intakes)[0]]
  assert.equal(series.entry(intake.points.series[0] as number).name, 'boiler.value')
})
