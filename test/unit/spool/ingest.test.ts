import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Failure } from '../../../src/errors.ts'
import { type CommitPort, createIngest } from '../../../src/spool/ingest.ts'
import { createSpoolIngest, createSpoolPort } from '../../../src/spool/port.ts'
import {
  contents,
  createRig,
  floats,
  intake,
  laneOptions,
  type Rig,
  spoolOptions,
} from './support.ts'

const openPort = (rig: Rig, lanes = spoolOptions().lanes) => {
  const spool = rig.open()
  const ingest = createSpoolIngest(spool, rig.clock, { commitWindowMs: 100, lanes })
  return { spool, port: createSpoolPort(spool, ingest, rig.series) }
}
const watch = (promise: Promise<unknown>) => {
  const state = { done: false }
  promise.then(
    () => {
      state.done = true
    },
    () => {},
  )
  return state
}

test('an append resolves at the end of its window, not before', async () => {
  const rig = createRig()
  const { port } = openPort(rig)
  const one = watch(port.append('raw', intake(floats(rig.series, 1, 3))))
  await rig.clock.pass(50)
  const two = watch(port.append('raw', intake(floats(rig.series, 4, 1))))
  await rig.clock.pass(49)
  assert.deepEqual([one.done, two.done], [false, false])
  await rig.clock.pass(2)
  assert.deepEqual([one.done, two.done], [true, true])
  assert.equal((await port.stats()).commits, 2)
  await port[Symbol.asyncDispose]()
  assert.equal(rig.clock.timers(), 0)
})

test('a full segment and an urgent intake commit at once', async () => {
  const rig = createRig()
  const { port } = openPort(rig)
  const full = watch(port.append('raw', intake(floats(rig.series, 1, 100))))
  await rig.clock.pass(0)
  assert.equal(full.done, true)
  const hurried = watch(port.append('raw', { points: floats(rig.series, 101, 1), urgent: true }))
  await rig.clock.pass(0)
  assert.equal(hurried.done, true)
  await port[Symbol.asyncDispose]()
})

test('an open segment is sealed after max_delay, and whoever waits for it is told', async () => {
  const rig = createRig()
  const { port } = openPort(rig)
  const head = port.whenPast('raw', 0, new AbortController().signal)
  await port.openReader('raw', 'region', 'now')
  void port.append('raw', intake(floats(rig.series, 1, 3)))
  await rig.clock.pass(1_100)
  assert.equal(await head, 1)
  assert.deepEqual(contents(await port.read('raw', 0, 1e6)), [1, 2, 3])
  await port[Symbol.asyncDispose]()
})

test('each lane is sealed at its own pace', async () => {
  const lanes = [
    laneOptions('alarms', { maxDelayMs: 200 }),
    laneOptions('raw', { maxDelayMs: 5_000 }),
  ]
  const rig = createRig({ lanes })
  const { spool, port } = openPort(rig, lanes)
  const heads = () => Object.fromEntries(spool.heads().map(({ lane, head }) => [lane, head]))
  for (let round = 0; round < 10; round++) {
    for (const { name } of lanes)
      void port.append(name, intake(floats(rig.series, round * 2 + 1, 2, name)))
    await rig.clock.pass(400)
  }
  assert.equal(heads().raw, 0, 'nothing of it after 4 s')
  assert.ok((heads().alarms ?? 0) >= 9, 'each of them within 0.3 s')
  await rig.clock.pass(1_500)
  assert.equal(heads().raw, 1)
  await port[Symbol.asyncDispose]()
})

test('whenPast lets go when its signal fires', async () => {
  const rig = createRig()
  const { port } = openPort(rig)
  const abort = new AbortController()
  const head = port.whenPast('raw', 0, abort.signal)
  abort.abort()
  assert.equal(await head, 0)
  await port[Symbol.asyncDispose]()
})

test('acks become durable within a second without any append', async () => {
  const rig = createRig()
  const { spool, port } = openPort(rig)
  await port.openReader('raw', 'region', 'oldest')
  const stored = port.append('raw', intake(floats(rig.series, 1, 100)))
  await rig.clock.pass(0)
  await stored
  await port.ack('raw', 'region', { which: 'backlog', upTo: 1 })
  assert.equal(rig.open(spool.image()).lanes()[0]?.readers[0]?.cursor.backlog, 0)
  await rig.clock.pass(1_001)
  assert.equal(rig.open(spool.image()).lanes()[0]?.readers[0]?.cursor.backlog, 1)
  await port[Symbol.asyncDispose]()
})

test('an intake that nobody can store is refused alone', async () => {
  const rig = createRig()
  const lanes = [laneOptions('raw'), laneOptions('unknown')]
  const { port } = openPort(rig, lanes)
  const good = port.append('raw', intake(floats(rig.series, 1, 1)))
  const bad = port.append('unknown', intake(floats(rig.series, 2, 1)))
  const badSeen = assert.rejects(bad, { code: 'HF-S010' })
  await rig.clock.pass(200)
  await good
  await badSeen
  await port[Symbol.asyncDispose]()
})

/** A spool that answers each lane by its own rule and notes what it stored. */
const ruled = (rig: Rig, rule: (lane: string, first: number) => 'stored' | 'full' | Failure) => {
  const stored: string[] = []
  const port: CommitPort = {
    commit: (windows) => {
      const all = windows.flatMap(({ lane, intakes }) =>
        intakes.map(({ points }) => ({ lane, first: points.timeUs[0] as number })),
      )
      const answers = all.map(({ lane, first }) => rule(lane, first))
      for (const answer of answers) {
        if (answer === 'full') return { kind: 'full', reason: 'quota' }
        if (answer instanceof Failure) throw answer
      }
      stored.push(...all.map(({ lane, first }) => `${lane} ${first}`))
      return { kind: 'stored' }
    },
    seal: () => {},
    flush: () => true,
    heads: () => [],
    derive: () => 'done' as const,
  }
  const lanes = [laneOptions('a'), laneOptions('b')]
  return { stored, ingest: createIngest(port, rig.clock, { commitWindowMs: 100, lanes }) }
}
const pointAt = (rig: Rig, timeUs: number) => {
  const points = floats(rig.series, 0, 1)
  points.timeUs[0] = timeUs
  return intake(points)
}

test('what a lane stored is not stored again because another lane refuses', async () => {
  const rig = createRig()
  let full = true
  const { stored, ingest } = ruled(rig, (lane) => {
    if (lane === 'b') return new Failure('HF-S013', 'too large')
    const answer = full ? 'full' : 'stored'
    full = false
    return answer
  })
  const kept = watch(ingest.append('a', pointAt(rig, 1)))
  const refused = ingest.append('b', pointAt(rig, 2))
  refused.catch(() => {})
  await rig.clock.pass(100)
  await assert.rejects(refused, { code: 'HF-S013' })
  assert.equal(kept.done, true)
  assert.deepEqual(stored, ['a 1'])
  assert.equal(ingest.bytesWaiting(), 0)
  await ingest.close()
})

test('one refused intake changes no order: what finds no room holds up what comes after it', async () => {
  const rig = createRig()
  let room = false
  const { stored, ingest } = ruled(rig, (_lane, first) => {
    if (first === 1) return new Failure('HF-S013', 'too large')
    return first === 2 && !room ? 'full' : 'stored'
  })
  const waits = [1, 2, 3].map((first) => ingest.append('a', pointAt(rig, first)))
  for (const wait of waits) wait.catch(() => {})
  // The window as a whole is refused, then each by itself.
  await rig.clock.pass(100)
  const late = ingest.append('a', pointAt(rig, 4))
  room = true
  await rig.clock.pass(1_000)
  await assert.rejects(waits[0] as Promise<void>, { code: 'HF-S013' })
  await Promise.all([waits[1], waits[2], late])
  assert.deepEqual(stored, ['a 2', 'a 3', 'a 4'])
  await ingest.close()
})
