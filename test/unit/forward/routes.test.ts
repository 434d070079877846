/** Routes over a real spool: which lane goes first, and what becomes of a lane that a destination takes no more. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createForwarder, type ForwarderLane } from '../../../src/forward/forwarder.ts'
import { type Host, silentLog, silentMeter } from '../../../src/host.ts'
import type { Destination, Seq } from '../../../src/model.ts'
import { createSpoolIngest, createSpoolPort } from '../../../src/spool/port.ts'
import { createRig, floats, laneOptions, store } from '../spool/support.ts'

const createWay = (requestMs: number) => {
  const names = ['alarms', 'raw', 'reduced']
  const lanes = names.map((name) => laneOptions(name))
  const rig = createRig({ lanes })
  const spool = rig.open()
  const ingest = createSpoolIngest(spool, rig.clock, { commitWindowMs: 10, lanes })
  const port = createSpoolPort(spool, ingest, rig.series)
  const sent: { readonly lane: string; readonly seq: Seq }[] = []
  const host: Host = {
    clock: rig.clock,
    random: () => 0.5,
    randomBytes: (length) => new Uint8Array(length),
    bootId: 'boot',
    log: silentLog,
    meter: silentMeter,
  }
  const destination: Destination = {
    name: 'far',
    type: 'trial',
    bodyBytesMax: 1,
    standing: async () => ({ kind: 'unknown' }),
    send: async ({ lane, items }, signal) => {
      for (const { seq } of items) sent.push({ lane, seq })
      await rig.clock.sleep(requestMs, signal)
      return signal.aborted ? { kind: 'later', text: 'cut' } : { kind: 'stored', rejected: [] }
    },
    [Symbol.asyncDispose]: async () => {},
  }
  /** Under the same name, at another address: what came there. */
  const moved: { readonly lane: string; readonly seq: Seq }[] = []
  const elsewhere: Destination = {
    ...destination,
    send: (batch, signal) => {
      for (const { seq } of batch.items) moved.push({ lane: batch.lane, seq })
      return destination.send(batch, signal)
    },
  }
  const run = (...taken: readonly (readonly [string, number])[]) => runTo(destination, ...taken)
  const runTo = (to: Destination, ...taken: readonly (readonly [string, number])[]) => {
    const stop = new AbortController()
    const forwarder = createForwarder({
      spool: port,
      destination: to,
      lanes: taken.map(([lane, priority]): ForwarderLane => ({ lane, priority })),
      options: { from: 'oldest', requestsInFlight: 2, bodyBytesMax: 1, liveShare: 0 },
      host,
    })
    const ended = forwarder.run(stop.signal)
    return async () => {
      stop.abort()
      await rig.clock.pass(5_000)
      await ended
    }
  }
  let first = 1
  const add = (lane: string, segments: number) => {
    for (let n = 0; n < segments; n++, first += 10)
      store(spool, floats(rig.series, first, 10), lane, true)
    ingest.moved()
  }
  return {
    rig,
    spool,
    sent,
    moved,
    destination,
    elsewhere,
    run,
    runTo,
    add,
    of: (lane: string) => sent.filter((one) => one.lane === lane),
  }
}

test('a lane of a higher priority goes first: those behind it send nothing new until it is through', async () => {
  const way = createWay(100)
  way.add('raw', 40)
  const stop = way.run(['raw', 5], ['alarms', 0])
  await way.rig.clock.pass(550)
  const before = way.of('raw').length
  assert.ok(before > 4 && before < 20, `${before}`)
  way.add('alarms', 12)
  await way.rig.clock.pass(500)
  assert.equal(way.of('raw').length, before, 'no new request while alarms wait')
  assert.ok(way.of('alarms').length >= 8)
  await way.rig.clock.pass(5_000)
  assert.deepEqual([way.of('alarms').length, way.of('raw').length], [12, 40])
  await stop()
})

test('equal priorities share the link', async () => {
  const way = createWay(100)
  way.add('raw', 40)
  way.add('alarms', 40)
  const stop = way.run(['raw', 5], ['alarms', 5])
  await way.rig.clock.pass(1_000)
  assert.ok(way.of('raw').length > 8 && way.of('alarms').length > 8)
  await stop()
})

test('a lane that is taken no more is sent to its end of then, and let go of', async () => {
  const way = createWay(100)
  way.add('raw', 20)
  const first = way.run(['raw', 5])
  await way.rig.clock.pass(450)
  await first()
  assert.ok(way.of('raw').length < 15)
  const second = way.run(['reduced', 5])
  await way.rig.clock.pass(150)
  await second()
  // Later points of the lane are not this destination's concern, also over another restart.
  way.add('raw', 5)
  way.add('reduced', 3)
  const third = way.run(['reduced', 5])
  await way.rig.clock.pass(10_000)
  await third()
  const seqs = new Set(way.of('raw').map(({ seq }) => seq))
  assert.deepEqual(
    [...seqs].sort((a, b) => a - b),
    Array.from({ length: 20 }, (_, at) => at + 1),
  )
  assert.equal(way.of('reduced').length, 3)
  const readers = way.spool.lanes().find(({ lane }) => lane === 'raw')?.readers
  assert.deepEqual(readers, [])
  // Taken again, it begins where its new reader begins.
  const fourth = way.run(['raw', 5])
  await way.rig.clock.pass(20_000)
  await fourth()
  assert.equal(new Set(way.of('raw').map(({ seq }) => seq)).size, 25)
})

test('each destination gets the lanes it takes and nothing else; a lane nobody takes stays', async () => {
  const way = createWay(10)
  const others: string[] = []
  const other: Destination = {
    ...way.destination,
    name: 'elsewhere',
    send: async ({ lane, items }) => {
      for (const { seq } of items) others.push(`${lane} ${seq}`)
      return { kind: 'stored', rejected: [] }
    },
  }
  for (const lane of ['raw', 'alarms', 'reduced']) way.add(lane, 10)
  const stops = [way.run(['alarms', 0], ['reduced', 5]), way.runTo(other, ['reduced', 5])]
  await way.rig.clock.pass(10_000)
  for (const stop of stops) await stop()
  const seqs = Array.from({ length: 10 }, (_, at) => at + 1)
  assert.deepEqual(
    way.of('alarms').map(({ seq }) => seq),
    seqs,
  )
  assert.deepEqual([way.of('reduced').length, way.of('raw').length], [10, 0])
  assert.deepEqual(
    others,
    seqs.map((seq) => `reduced ${seq}`),
  )
  const readers = way.spool.lanes().map(({ lane, readers: all }) => [lane, all.length])
  assert.deepEqual(Object.fromEntries(readers), { alarms: 1, raw: 0, reduced: 2 })
})

test('a destination at a new address goes on where it stood: nothing is lost, nothing sent again', async () => {
  const way = createWay(100)
  way.add('raw', 30)
  const first = way.run(['raw', 5])
  // Requests that are out when it stops are answered: the drain waits for them.
  await way.rig.clock.pass(650)
  await first()
  const before = way.of('raw').length
  assert.ok(before > 4 && before < 25, `${before}`)
  way.add('raw', 5)
  const second = way.runTo(way.elsewhere, ['raw', 5])
  await way.rig.clock.pass(20_000)
  await second()
  assert.deepEqual(
    way.of('raw').map(({ seq }) => seq),
    Array.from({ length: 35 }, (_, at) => at + 1),
  )
  assert.deepEqual([way.moved[0]?.seq, way.moved.length], [before + 1, 35 - before])
})

test('a lane whose priority changes, and one that is taken in addition: nothing is lost or sent again', async () => {
  const way = createWay(100)
  way.add('raw', 20)
  const first = way.run(['raw', 5])
  await way.rig.clock.pass(450)
  await first()
  way.add('alarms', 5)
  const second = way.run(['raw', 0], ['alarms', 9])
  await way.rig.clock.pass(20_000)
  await second()
  assert.deepEqual(
    way.of('raw').map(({ seq }) => seq),
    Array.from({ length: 20 }, (_, at) => at + 1),
  )
  assert.equal(way.of('alarms').length, 5)
  const alarms = way.sent.findIndex(({ lane }) => lane === 'alarms')
  assert.ok(
    way.sent.slice(alarms).every(({ lane }) => lane === 'alarms'),
    'now raw goes first',
  )
})
