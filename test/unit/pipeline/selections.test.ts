/** Chosen points through a lane of their own, over a real spool: all of them, each once, whatever breaks it off. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createBatchBuilder } from '../../../src/batch.ts'
import { openSegment, orderOf, readHeader } from '../../../src/codec/segment.ts'
import { silentLog } from '../../../src/host.ts'
import {
  createSelections,
  replayLane,
  type SelectionRequest,
} from '../../../src/pipeline/selections.ts'
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
const open = (rig: Rig, image: Uint8Array | null = null, own = lanes) => {
  const spool = rig.open(image)
  const ingest = createSpoolIngest(spool, rig.clock, { commitWindowMs: 10, lanes: own })
  const { series } = rig
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

test('a series is chosen as explain and tap call it, with its tags', async () => {
  const rig = createRig({ lanes })
  const one = open(rig)
  const builder = createBatchBuilder()
  for (const line of ['1', '2', '3'])
    builder.add(rig.series.ref('press/t', [['line', line]]), second, 1, 0)
  store(one.spool, builder.take(), 'raw', true)
  const copies = async (...series: string[]) =>
    (await one.selections.estimate({ lane: 'raw', series, fromUs: 0, toUs: 9 * second })).points
  assert.deepEqual(
    [await copies('press/t,line=2'), await copies('press/t'), await copies('*2')],
    [1, 3, 0],
  )
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

test('another asked for, or one cancelled, while points wait to be stored: nothing is forgotten, whatever the crash', async () => {
  const last = { ...request, series: ['oven'] }
  // Room for all of it: nothing is stored before the commit window ends.
  const roomy = lanes.map((one) => ({ ...one, segmentPointsMax: 1_000 }))
  for (const meanwhile of ['start', 'cancel'] as const)
    for (const crash of ['before the points', 'behind them'] as const) {
      const rig = createRig({ lanes: roomy })
      const first = open(rig, null, roomy)
      fill(rig, first.spool)
      const stop = new AbortController()
      void first.selections.run(stop.signal)
      const { id } = await first.selections.start(request)
      // Its points are handed over, and wait for the commit window to end.
      await rig.clock.pass(0)
      if (meanwhile === 'start') await first.selections.start(last)
      else await first.selections.cancel(id)
      if (crash === 'behind them') {
        const before = first.spool.heads().find(({ lane }) => lane === replayLane)
        while (first.spool.heads().find(({ lane }) => lane === replayLane)?.head === before?.head)
          await rig.clock.pass(1)
      }
      const second = open(rig, first.spool.image(), roomy)
      stop.abort()
      const again = new AbortController()
      const ended = second.selections.run(again.signal)
      await rig.clock.pass(5_000)
      const stored = sorted(pointsOf(second.spool, replayLane))
      const said = second.selections.list().reduce((sum, one) => sum + one.pointsCopied, 0)
      const text = `${meanwhile} ${crash}`
      assert.equal(stored.length, said, text)
      if (meanwhile === 'start')
        assert.deepEqual(
          second.selections.list().map(({ series, state }) => [series[0], state]),
          [
            ['press/*', 'done'],
            ['oven', 'done'],
          ],
          text,
        )
      else assert.equal(second.selections.list()[0]?.state, 'cancelled', text)
      if (meanwhile === 'start')
        assert.deepEqual(
          stored.filter(({ name }) => name !== 'oven'),
          expected(second.spool),
          text,
        )
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

/** One point of press/a a segment. */
const put = (rig: Rig, spool: Spool, second: number, value: number, lane = 'raw') => {
  const builder = createBatchBuilder()
  builder.add(rig.series.ref('press/a', []), second * 1_000_000, value, 0)
  store(spool, builder.take(), lane, true)
}
/** Every order under which a lane's segments say this of that second. */
const said = (spool: Spool, at: number) =>
  spool.lanes().flatMap(({ lane }) =>
    readAll(spool, lane).flatMap((item) => {
      if (item.type !== 'segment') return []
      const { header, points } = openSegment(item.bytes)
      const floats = new Float64Array(points.bits.buffer, points.bits.byteOffset, points.count)
      const last = points.timeUs.lastIndexOf(at * second)
      return last < 0 ? [] : [{ lane, seal: orderOf(header).sealNumber, value: floats[last] }]
    }),
  )
const runTo = async (rig: Rig, one: ReturnType<typeof open>, asked: SelectionRequest) => {
  const stop = new AbortController()
  const ended = one.selections.run(stop.signal)
  await one.selections.start(asked)
  for (let turns = 0; turns < 100 && !isDone(one); turns++) await rig.clock.pass(200)
  stop.abort()
  await ended
  return one.selections.list().at(-1)
}
const everything = { lane: 'raw', series: ['press/*'], fromUs: 0, toUs: 1e15 }

test('no copy has a higher place in the order than a correction that came before it was made', async () => {
  const rig = createRig({ lanes })
  const one = open(rig)
  for (let at = 0; at < 30; at++) put(rig, one.spool, at, 5)
  await one.selections.start(everything)
  put(rig, one.spool, 7, 99)
  await runTo(rig, one, everything)
  // The job that was asked for before the correction ran as well.
  assert.equal(said(one.spool, 7).filter(({ lane }) => lane === replayLane).length, 2)
  const newest = said(one.spool, 7).toSorted((a, b) => b.seal - a.seal)[0]
  assert.equal(newest?.value, 99)
  await one.port[Symbol.asyncDispose]()
})

const ordersOf = (spool: Spool) =>
  readAll(spool, replayLane).map((item) =>
    item.type === 'segment' ? orderOf(readHeader(item.bytes)).sealNumber : 0,
  )
test('segments that follow each other become one, under the order of the last, unless something lies between', async () => {
  const other = createRig({ lanes: [...lanes, laneOptions('alarms')] })
  const one = open(other)
  for (let at = 0; at < 10; at++) put(other, one.spool, at, at)
  // Seal 11: of another time. Seal 15: what it says must stand over the 14 before.
  put(other, one.spool, 900, 1, 'alarms')
  for (let at = 10; at < 13; at++) put(other, one.spool, at, at)
  put(other, one.spool, 2, 77, 'alarms')
  for (let at = 13; at < 16; at++) put(other, one.spool, at, at)
  one.spool.quarantine('raw', 15, 'damaged', 'x')
  const job = await runTo(other, one, { ...everything, toUs: 500 * second })
  assert.deepEqual(ordersOf(one.spool), [14, 16, 18])
  assert.equal(said(one.spool, 2).toSorted((a, b) => b.seal - a.seal)[0]?.value, 77)
  assert.deepEqual(job?.gone, [[15, 15]])
  assert.match(job?.text ?? '', /no longer held when it came to them: segments 15 of lane raw/)
  await one.port[Symbol.asyncDispose]()
})

test('what was let go of before the copy came to it is said, by its segments', async () => {
  const rig = createRig({ lanes })
  const one = open(rig)
  for (let at = 0; at < 100; at++) put(rig, one.spool, at, at)
  await one.port.openReader('raw', 'region', 'oldest')
  await one.selections.start(everything)
  one.spool.ack('raw', 'region', { which: 'backlog', upTo: 60 })
  one.spool.flush()
  rig.clock.jump(60_000)
  put(rig, one.spool, 100, 1)
  const floor = one.spool.lanes().find(({ lane }) => lane === 'raw')?.floor ?? 0
  assert.ok(floor > 30)
  await runTo(rig, one, { ...everything, fromUs: 900 * second })
  const [first, second1] = one.selections.list()
  assert.deepEqual(first?.gone, [[1, floor - 1]])
  assert.equal(first?.pointsCopied, 100 - floor + 1)
  assert.match(first?.text ?? '', new RegExp(`segments 1–${floor - 1} of lane raw`))
  assert.equal(second1?.text, 'lane raw holds nothing of that time')
  await one.port[Symbol.asyncDispose]()
})
