/** Chosen points through a lane of their own, over a real spool: all of them, each once, whatever breaks it off. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createBatchBuilder } from '../../../src/batch.ts'
import { openSegment } from '../../../src/codec/segment.ts'
import { silentLog } from '../../../src/host.ts'
import { createSelections, replayLane } from '../../../src/pipeline/selections.ts'
import { createSpoolIngest, createSpoolPort } from '../../../src/spool/port.ts'
import type { Spool } from '../../../src/spool/spool.ts'
import { createRig, laneOptions, newSeries, type Rig, readAll, store } from '../spool/support.ts'

const lanes = [
  laneOptions('raw', { segmentPointsMax: 20 }),
  laneOptions(replayLane, { segmentPointsMax: 20, derived: true, copies: true }),
]
const second = 1_000_000
const patterns = [Number.NaN, -0, 2 ** 53 + 2, 'on', true, 7n] as const

/** 400 points of three series, one a second each in turn. */
const fill = (rig: Rig, spool: Spool) => {
  const builder = createBatchBuilder()
  for (let at = 0; at < 400; at++) {
    const ref = rig.series.ref(['press/a', 'press/b', 'oven'][at % 3] as string, [])
    builder.add(ref, at * second, patterns[at % patterns.length] ?? at, at % 3)
  }
  store(spool, builder.take(), 'raw', true)
}
const open = (rig: Rig, image: Uint8Array | null = null) => {
  const spool = rig.open(image)
  const ingest = createSpoolIngest(spool, rig.clock, { commitWindowMs: 10, lanes })
  const series = newSeries()
  const port = createSpoolPort(spool, ingest, series)
  const host = { clock: rig.clock, log: silentLog }
  return { spool, port, selections: createSelections({ spool: port, series, host }) }
}
const pointsOf = (spool: Spool, lane: string) =>
  readAll(spool, lane).flatMap((item) => {
    if (item.type !== 'segment') return []
    const { header, points } = openSegment(item.bytes)
    const entries = spool.dictionary(header.epoch, 0, 100)
    return Array.from({ length: points.count }, (_, at) => ({
      name: entries[points.series[at] as number]?.name ?? '',
      timeUs: points.timeUs[at] as number,
      kind: points.kinds[at],
      quality: points.qualities[at],
      value: points.kinds[at] === 3 ? points.texts[Number(points.bits[at])] : points.bits[at],
    }))
  })
const sorted = (points: ReturnType<typeof pointsOf>) =>
  points.toSorted((a, b) => a.timeUs - b.timeUs)
const request = { lane: 'raw', series: ['press/*'], fromUs: 50 * second, toUs: 300 * second }
const expected = (spool: Spool) =>
  sorted(
    pointsOf(spool, 'raw').filter(
      ({ name, timeUs }) =>
        name.startsWith('press/') && timeUs >= request.fromUs && timeUs < request.toUs,
    ),
  )
const isDone = (one: ReturnType<typeof open>) => one.selections.list().at(-1)?.state === 'done'

test('the chosen points of the range, bit for bit, in a lane that adds nothing to accepted', async () => {
  const rig = createRig({ lanes })
  const one = open(rig)
  fill(rig, one.spool)
  const stop = new AbortController()
  const ended = one.selections.run(stop.signal)
  const about = await one.selections.estimate(request)
  assert.ok(Math.abs(about.points - 167) < 40, `${about.points}`)
  await one.selections.start(request)
  for (let turns = 0; turns < 100 && !isDone(one); turns++) await rig.clock.pass(200)
  await one.port.seal(replayLane)
  assert.deepEqual(sorted(pointsOf(one.spool, replayLane)), expected(one.spool))
  assert.equal(one.selections.list()[0]?.pointsCopied, expected(one.spool).length)
  stop.abort()
  await ended
  await one.port[Symbol.asyncDispose]()
})

test('crashed at any moment it goes on: no point missing, none twice', async () => {
  for (let after = 1; after <= 12; after++) {
    const rig = createRig({ lanes })
    const first = open(rig)
    fill(rig, first.spool)
    // Each read is one segment: the copy takes many transactions.
    const read = first.port.read
    const slow = { ...first.port, read: (lane: string, from: number) => read(lane, from, 1) }
    const parts = { spool: slow, series: newSeries(), host: { clock: rig.clock, log: silentLog } }
    const selections = createSelections(parts)
    const stop = new AbortController()
    void selections.run(stop.signal)
    await selections.start(request)
    await rig.clock.pass(after * 11)
    const image = first.spool.image()
    stop.abort()
    const second = open(rig, image)
    const again = new AbortController()
    const ended = second.selections.run(again.signal)
    await rig.clock.pass(5_000)
    for (let turns = 0; turns < 100 && !isDone(second); turns++) await rig.clock.pass(200)
    await second.port.seal(replayLane)
    assert.deepEqual(sorted(pointsOf(second.spool, replayLane)), expected(second.spool), `${after}`)
    again.abort()
    await ended
    await second.port[Symbol.asyncDispose]()
  }
})

test('what is far ahead of its destination waits; what is cancelled ends', async () => {
  const rig = createRig({ lanes: lanes.map((lane) => ({ ...lane, segmentPointsMax: 2 })) })
  const one = open(rig)
  fill(rig, one.spool)
  await one.port.openReader(replayLane, 'region', 'oldest')
  const stop = new AbortController()
  const ended = one.selections.run(stop.signal)
  await one.selections.start({ ...request, fromUs: 0, toUs: 400 * second })
  await one.selections.start(request)
  await rig.clock.pass(5_000)
  await one.port.seal(replayLane)
  await rig.clock.pass(5_000)
  const [first, second1] = one.selections.list()
  assert.deepEqual([second1?.state, first?.state !== 'failed'], ['waiting', true])
  assert.ok(await one.selections.cancel(second1?.id ?? 0))
  assert.equal(await one.selections.cancel(99), false)
  assert.equal(one.selections.list()[1]?.state, 'cancelled')
  stop.abort()
  await rig.clock.pass(2_000)
  await ended
  await one.port[Symbol.asyncDispose]()
})
