/** Stages whose definition changes: what comes in the way of leaving, and what is true until they have left. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { remake, stagesOf } from '../../../src/agent-stages.ts'
import { createBatchBuilder } from '../../../src/batch.ts'
import { lanesLeft } from '../../../src/forward/routes.ts'
import type { Stage } from '../../../src/model.ts'
import type { Spool } from '../../../src/spool/spool.ts'
import { openSpool } from '../../../src/spool/spool.ts'
import type { Remake } from '../../../src/spool/stage-changes.ts'
import { agent, createRig, floats, laneOptions, readAll, spoolOptions, store } from './support.ts'

const lanes = (derived: boolean) => [
  laneOptions('raw', { segmentPointsMax: 1_000 }),
  laneOptions('reduced', { derived }),
]
const every = (deviation: number) => ({
  ...{ name: 'all', match: {}, windows: [] },
  reduce: { lane: 'reduced', method: 'deadband', deviation } as const,
})
const rulesOf = (deviation: number) =>
  stagesOf([{ lane: 'raw', classes: [every(deviation)], timeZone: 'UTC', agent }])
const rig = createRig()
const open = (
  image: Uint8Array | null,
  digest: string,
  change: { rules?: number; made?: Remake; freeBytes?: () => number; log?: string[] } = {},
): Spool => {
  const { rules, made = remake, freeBytes = () => 1e12, log = [] } = change
  const said = (event: string) => void log.push(event)
  const silent = { debug: said, info: said, warn: said, error: said, child: () => silent }
  return openSpool({
    at: { image },
    host: {
      ...{ clock: rig.clock, bootId: 'b0'.repeat(16), log: silent },
      randomBytes: (length) => crypto.getRandomValues(new Uint8Array(length)),
    },
    series: rig.series,
    options: spoolOptions({ lanes: lanes(rules !== undefined), configDigest: digest }),
    anchorFile: createRig().anchorFile,
    stages: rules === undefined ? [] : rulesOf(rules),
    remake: made,
    diskFreeBytes: freeBytes,
  })
}
const deriveAll = (spool: Spool) => {
  for (let turns = 0; spool.derive() === 'more'; turns++) assert.ok(turns < 1_000)
}
/** Points that nothing has read when the process is killed. */
const unread = (points = floats(rig.series, 1, 95)): Uint8Array => {
  const spool = open(null, 'one', { rules: 0.5 })
  spool.openReader('reduced', 'region', 'now')
  store(spool, points)
  return spool.image()
}
/** Of which each takes its eight bytes. */
const noise = (count: number) => {
  const builder = createBatchBuilder()
  for (let at = 1; at <= count; at++)
    builder.addFloat(rig.series.ref('noise', []), at * 1000, 1e9 * Math.sin(at * at), 0)
  return builder.take()
}
const readers = (spool: Spool) => spool.lanes()[0]?.readers.map(({ reader }) => reader)
const reducedIn = (spool: Spool) =>
  readAll(spool, 'reduced').reduce((sum, item) => sum + (item.type === 'segment' ? 1 : 0), 0)
const accepted = (spool: Spool) => spool.lanes()[1]?.accepted

test('a stage that is removed reads to the end first, and what it wrote is sealed for who leaves its lane', () => {
  const spool = open(unread(), 'two')
  assert.deepEqual([readers(spool), accepted(spool)], [[], 95])
  assert.ok(reducedIn(spool) > 0)
  assert.equal(spool.heads()[1]?.openCount, 0)
  assert.equal(spool.kept('stage/1/@rules'), null)
})

test('without room it leaves later, in the same life: until then no lane is let go of', async () => {
  const disk = { freeBytes: 1e12 }
  const image = unread(noise(5_000))
  disk.freeBytes = -1
  const spool = open(image, 'two', { freeBytes: () => disk.freeBytes })
  const left = async () => {
    const routes = await lanesLeft(
      {
        lanes: async () => spool.lanes(),
        kept: async (key) => spool.kept(key),
        keep: async (kept) => spool.keep(kept),
        closeReader: async (lane, reader) => spool.closeReader(lane, reader),
      },
      'region',
      ['raw'],
    )
    return routes.map(({ lane, upTo }) => [lane, upTo])
  }
  assert.deepEqual([spool.lanes()[1]?.unfinished, readers(spool)], [true, ['@rules']])
  assert.deepEqual(await left(), [['reduced', undefined]])
  disk.freeBytes = 1e12
  store(spool, floats(rig.series, 200, 10))
  deriveAll(spool)
  assert.deepEqual([spool.lanes()[1]?.unfinished, readers(spool)], [undefined, []])
  assert.equal(accepted(spool), 5_000, 'and nothing of what came after the change')
  assert.deepEqual(await left(), [['reduced', spool.lanes()[1]?.head]])
})

const throws: Partial<Stage> = {
  stepping: () => {
    throw new Error('no such cell')
  },
}
const broken: Remake = (definition, next) => ({ ...remake(definition, next), ...throws })

test('one that throws hands over to the next where it stands; without a next it holds its lane', () => {
  const changed = open(unread(), 'two', { rules: 7, made: broken })
  deriveAll(changed)
  assert.deepEqual(readers(changed), ['@rules'])
  const [rules] = changed.lanes()[0]?.readers ?? []
  assert.deepEqual([rules?.pending, rules?.failed], [0, undefined])
  assert.ok((accepted(changed) ?? 0) > 5, 'by the new rule')
  const removed = open(unread(), 'two', { made: broken })
  deriveAll(removed)
  const [held] = removed.lanes()[0]?.readers ?? []
  assert.deepEqual([held?.reader, held?.pending, held?.failed], ['@rules', 95, 'no such cell'])
  const mended = open(removed.image(), 'two')
  assert.deepEqual([readers(mended), accepted(mended)], [[], 95])
})

test('where nobody knows how it was made, what it had not read is said', () => {
  const log: string[] = []
  const spool = openSpool({
    at: { image: unread() },
    host: {
      ...{ clock: rig.clock, bootId: 'b0'.repeat(16) },
      randomBytes: (length) => crypto.getRandomValues(new Uint8Array(length)),
      log: {
        ...{ debug: () => {}, info: () => {}, warn: () => {}, child: () => assert.fail() },
        error: (event, facts) => void log.push(`${event} ${facts?.points}`),
      },
    },
    series: rig.series,
    options: spoolOptions({ lanes: lanes(false), configDigest: 'two' }),
    anchorFile: createRig().anchorFile,
  })
  assert.deepEqual([readers(spool), log], [[], ['stage_left_unread 95']])
})

/** It leaves in more turns than an opening waits for. */
const slowly: Remake = (definition, next) => {
  const stage = remake(definition, next)
  function* stepping(input: Parameters<Stage['step']>[0]) {
    for (let piece = 0; piece < 300; piece++) yield 1_000_000
    return stage.step(input)
  }
  return { ...stage, stepping }
}
/** Accepted while the rule of before was still leaving, and killed there. */
const leftBehind = (rules?: number): Uint8Array => {
  const spool = open(unread(), 'two', { made: slowly, ...(rules === undefined ? {} : { rules }) })
  assert.equal(spool.lanes()[0]?.unfinished, true)
  store(spool, floats(rig.series, 96, 95))
  return spool.image()
}
test('what is accepted while a stage still leaves goes the way of its own time, whatever comes next', () => {
  for (const next of [{ rules: 1_000 }, {}, { rules: 0.1 }]) {
    const spool = open(leftBehind(1_000), next.rules === 1_000 ? 'two' : 'three', next)
    deriveAll(spool)
    const given = accepted(spool) ?? 0
    assert.ok(given >= 95 && given < 100, `${given} with ${next.rules}`)
    assert.equal(spool.kept('stage/1/@rules/endings'), null)
  }
})
test('a rule that is put back while it still leaves takes nothing of what came in between', () => {
  const spool = open(leftBehind(), 'three', { rules: 0.5 })
  deriveAll(spool)
  assert.equal(accepted(spool), 95)
  store(spool, floats(rig.series, 191, 5))
  spool.seal(['raw'])
  deriveAll(spool)
  assert.equal(accepted(spool), 100)
  assert.equal(spool.lanes()[0]?.readers[0]?.pending, 0)
})
