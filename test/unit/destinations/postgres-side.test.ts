/** A ledger's side that is the store itself, over the embedded store: what is asked of it, in which order, how often at once. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { extendDictionaryHash } from '../../../src/codec/series-id.ts'
import { createEmbeddedStore, type EmbeddedStore } from '../../../src/database/embedded.ts'
import type { RegionStore } from '../../../src/database/store.ts'
import { createLedgerClient } from '../../../src/destinations/ledger-client.ts'
import { createPostgresSide } from '../../../src/destinations/postgres-side.ts'
import { createSystemHost } from '../../../src/host.ts'
import { createTestLog, type LogPoint } from '../../contract/destination-log.ts'

const host = createSystemHost()
const signal = new AbortController().signal
const stored = { kind: 'stored', rejected: [] }
const agent = 'gw-9'
const points = (from: number, count = 5): LogPoint[] =>
  Array.from({ length: count }, (_, at) => ({ name: 'a', timeUs: from + at, value: at + 0.5 }))

const setUp = (
  over: (store: EmbeddedStore) => Partial<RegionStore> = () => ({}),
  connections = 2,
) => {
  const store = createEmbeddedStore({ host, extendDictionaryHash })
  const log = createTestLog(agent)
  const told: number[] = []
  let blocks = 0
  const deps = {
    host,
    name: 'db',
    agent,
    spool: log.spool,
    farTime: (us: number) => void told.push(us),
  }
  const side = createPostgresSide(deps, {
    store: { ...store, ...over(store) },
    connections,
    onBlocked: () => {
      blocks++
    },
  })
  const close = async () => {}
  const destination = createLedgerClient(deps, {
    side,
    type: 'postgres',
    bodyBytesMax: 1 << 20,
    bytesSent: () => 0,
    close,
  })
  const rows = () => store.database.prepare('select count(*) from points').pluck().get()
  return { store, log, destination, rows, told, blocks: () => blocks }
}

test('hello tells the time of the database; points arrive once', async () => {
  const { log, destination, rows, told } = setUp()
  assert.equal((await destination.standing(log.standing(0), signal)).kind, 'known')
  assert.ok(Math.abs((told[0] ?? 0) - host.clock.nowUs()) < 5_000_000)
  const batch = log.batch([log.add(points(0)), log.addGap({ count: 3 })])
  assert.deepEqual(await destination.send(batch, signal), stored)
  assert.deepEqual(await destination.send(batch, signal), stored)
  assert.equal(rows(), 5)
})

test('the schema is looked at until it is right, and again after a block; never made', async () => {
  const asked: unknown[] = []
  let wrong = true
  const trouble = {
    kind: 'blocked',
    code: 'HF-D024',
    text: 'missing tables',
    hint: 'plan',
  } as const
  const { log, destination, blocks } = setUp((store) => ({
    prepare: async (options) => {
      asked.push(options?.check)
      return wrong ? trouble : { kind: 'ok' }
    },
    commit: async (...given) => (wrong ? trouble : store.commit(...given)),
  }))
  assert.deepEqual(await destination.standing(log.standing(0), signal), trouble)
  wrong = false
  for (let round = 0; round < 3; round++)
    assert.equal((await destination.standing(log.standing(0), signal)).kind, 'known')
  assert.deepEqual(asked, [true, true])
  wrong = true
  const batch = log.batch([log.add(points(0))])
  assert.deepEqual(await destination.send(batch, signal), trouble)
  wrong = false
  assert.equal((await destination.standing(log.standing(0), signal)).kind, 'known')
  assert.equal(asked.length, 3)
  assert.equal(blocks(), 2)
})

test('a value the database refuses costs its segment alone', async () => {
  const { log, destination, rows } = setUp()
  await destination.standing(log.standing(0), signal)
  const poison = [{ name: 'a', timeUs: 50, value: 'nul \0' }]
  const items = [log.add(points(0)), log.add(poison), log.add(points(100))]
  const said = await destination.send(log.batch(items), signal)
  assert.ok(said.kind === 'stored', JSON.stringify(said))
  assert.deepEqual(
    said.rejected.map(({ seq }) => seq),
    [2],
  )
  assert.equal(rows(), 10)
})

test('what would take too much memory at once is cut, a single segment comes alone', async () => {
  const { log, destination, rows } = setUp()
  await destination.standing(log.standing(0), signal)
  const text = 'x'.repeat(60_000)
  const fat = (from: number) =>
    log.add(
      Array.from({ length: 200 }, (_, at) => ({
        name: 's',
        timeUs: from + at,
        value: `${at}${text}`,
      })),
    )
  const [one, two] = [fat(0), fat(1_000)]
  const said = await destination.send(log.batch([one, two]), signal)
  assert.ok(said.kind === 'smaller' && (said.bytesMax ?? 0) > 0, JSON.stringify(said))
  assert.deepEqual(await destination.send(log.batch([one]), signal), stored)
  assert.equal(rows(), 200)
})

test('no more than `connections` at once, in order; who gives up while waiting is not let in', async () => {
  let now = 0
  let most = 0
  const seqs: number[] = []
  const open: (() => void)[] = []
  const { log, destination } = setUp((store) => ({
    commit: async (...given) => {
      most = Math.max(most, ++now)
      seqs.push(given[2][0]?.seq ?? 0)
      await new Promise<void>((resolve) => open.push(resolve))
      now--
      return store.commit(...given)
    },
  }))
  await destination.standing(log.standing(0), signal)
  const items = [1, 2, 3, 4].map((nth) => log.add(points(nth * 100)))
  const stop = new AbortController()
  const sends = items.map((item, at) =>
    destination.send(log.batch([item]), at === 2 ? stop.signal : signal),
  )
  while (open.length < 2) await new Promise((resolve) => setImmediate(resolve))
  for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve))
  assert.equal(open.length, 2)
  stop.abort()
  assert.equal((await sends[2])?.kind, 'later')
  while (seqs.length < 3) {
    open.shift()?.()
    await new Promise((resolve) => setImmediate(resolve))
  }
  for (const resolve of open) resolve()
  assert.deepEqual(
    (await Promise.all(sends)).map(({ kind }) => kind),
    ['stored', 'stored', 'later', 'stored'],
  )
  assert.deepEqual([most, seqs], [2, [1, 2, 4]])
})

/** Some 16 KB a segment: less is not halved any more. */
const noisy = (from: number): LogPoint[] =>
  Array.from({ length: 2_500 }, (_, at) => ({
    ...{ name: 'a', timeUs: from + at, value: Math.sin(from + at) * 1e9 },
  }))
test('a database that is not done in time gets less at once, and more again', async () => {
  let pointsMax = 5_500
  const sizes: number[] = []
  const { log, destination, rows } = setUp((store) => ({
    commit: async (agentName, epoch, frames, aborted) => {
      const size = frames.reduce(
        (sum, frame) => sum + (frame.type === 'segment' ? frame.points.count : 0),
        0,
      )
      sizes.push(size)
      return size > pointsMax
        ? { kind: 'later', text: 'not done in time', stalled: true }
        : await store.commit(agentName, epoch, frames, aborted)
    },
  }))
  await destination.standing(log.standing(0), signal)
  const items = Array.from({ length: 16 }, (_, at) => log.add(noisy(at * 10_000)))
  /** As the forwarder does: what is smaller is cut, what is later comes again. */
  const sendAll = async (): Promise<void> => {
    let many = items.length
    for (let at = 0, tries = 0; at < items.length; tries++) {
      assert.ok(tries < 60, 'it never got through')
      const said = await destination.send(log.batch(items.slice(at, at + many)), signal)
      if (said.kind === 'smaller') many = Math.max(1, many >> 1)
      else if (said.kind === 'stored') at += many
      else assert.equal(said.kind, 'later')
    }
  }
  await sendAll()
  assert.equal(rows(), 40_000)
  assert.equal(Math.max(...sizes.slice(-4)), 5_000, 'no smaller than needed')
  pointsMax = 100_000
  for (let times = 0; times < 6; times++) await sendAll()
  sizes.length = 0
  await sendAll()
  assert.deepEqual(sizes, [40_000])
})
