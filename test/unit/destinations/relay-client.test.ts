/** The relay destination over a region in the same process: every demand of the region, and every doubt about it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createRelayClient } from '../../../src/destinations/relay-client.ts'
import type { RelayPost, RelayTransport } from '../../../src/destinations/relay-transport.ts'
import { Failure, textOf } from '../../../src/errors.ts'
import { createSystemHost } from '../../../src/host.ts'
import type { Destination, Segment } from '../../../src/model.ts'
import { helloRequest } from '../../../src/protocol/relay-messages.ts'
import { createTestLog, laneId, type TestLog } from '../../contract/destination-log.ts'
import { createTestRegion, type TestRegion } from '../../contract/destination-region.ts'

const agent = 'gw-1'
const signal = new AbortController().signal
interface Wire {
  to: RelayTransport
  readonly posts: RelayPost[]
}
const connect = (log: TestLog, region: TestRegion): { wire: Wire; destination: Destination } => {
  const wire: Wire = { to: region.transport(agent), posts: [] }
  const destination = createRelayClient(
    { host: createSystemHost(), name: 'region', agent, spool: log.spool, farTime: () => {} },
    {
      transport: (post, abort) => {
        wire.posts.push(post)
        return wire.to(post, abort)
      },
      requestTimeoutMs: 1_000,
      bodyBytesMax: 1 << 20,
      bytesSent: () => 0,
      troubleOf: (error) => ({ kind: 'later', text: textOf(error) }),
      close: async () => {},
    },
  )
  return { wire, destination }
}
const stored = { kind: 'stored', rejected: [] }
const paths = (wire: Wire) => wire.posts.splice(0).map((post) => post.path.slice(4))
const points = (from: number, count: number, name = 'a') =>
  Array.from({ length: count }, (_, at) => ({ name, timeUs: from + at, value: at + 0.5 }))

test('points reach the region once in effect, series before their first use, bytes unchanged', async () => {
  await using region = await createTestRegion()
  const log = createTestLog(agent)
  const { wire, destination } = connect(log, region)
  const standing = await destination.standing(log.standing(0), signal)
  assert.deepEqual(standing, {
    kind: 'known',
    lanes: new Map([[laneId, { contiguous: 0, above: [] }]]),
  })
  assert.equal(log.formatAllowed(), 2)
  const one = log.add(points(1_000, 10)) as Segment
  const two = log.add(points(2_000, 10, 'b'))
  const gap = log.addGap({ count: 7 })
  assert.deepEqual(await destination.send(log.batch([one, two, gap]), signal), stored)
  const body = wire.posts.at(-1)?.body as Uint8Array
  assert.deepEqual(Buffer.from(body.subarray(8, 8 + one.bytes.length)), Buffer.from(one.bytes))
  assert.deepEqual(paths(wire), ['hello', 'series', 'segments'])
  assert.equal(region.points(), 20)
  assert.deepEqual(await destination.send(log.batch([one, two, gap]), signal), stored)
  assert.deepEqual(paths(wire), ['segments'])
  assert.equal(region.points(), 20)
})

test('what the region forgot is told again: series, epoch, and segments by a rewind', async () => {
  await using before = await createTestRegion()
  const log = createTestLog(agent)
  const { wire, destination } = connect(log, before)
  await destination.standing(log.standing(0), signal)
  await destination.send(log.batch([log.add(points(0, 5))]), signal)
  const image = before.store.image()
  const lost = log.add(points(100, 5, 'b'))
  await destination.send(log.batch([lost], { ackedThrough: 1 }), signal)
  // A standby that had not got the last commit takes over.
  await using after = await createTestRegion(image)
  wire.to = after.transport(agent)
  const next = log.add(points(200, 5, 'c'))
  const outcome = await destination.send(log.batch([next], { ackedThrough: 2 }), signal)
  assert.deepEqual(outcome, { kind: 'rewind', after: 1 })
  assert.deepEqual(await destination.send(log.batch([lost, next], { ackedThrough: 1 }), signal), {
    kind: 'later',
    text: 'the region is on another timeline: saying hello',
    afterMs: 0,
  })
  await destination.standing(log.standing(1), signal)
  assert.deepEqual(await destination.send(log.batch([lost], { ackedThrough: 1 }), signal), stored)
  assert.equal(after.points(), 15)
})

test('an empty region of the same name: hello and series are said again inside a send', async () => {
  await using before = await createTestRegion()
  await using empty = await createTestRegion()
  const log = createTestLog(agent)
  const { wire, destination } = connect(log, before)
  await destination.standing(log.standing(0), signal)
  await destination.send(log.batch([log.add(points(0, 5))]), signal)
  wire.posts.length = 0
  wire.to = empty.transport(agent)
  const two = log.add(points(100, 5))
  // Another region: what the first one has is not asked of it.
  assert.deepEqual(await destination.send(log.batch([two], { ackedThrough: 1 }), signal), stored)
  assert.deepEqual(paths(wire), ['segments', 'hello', 'series', 'segments'])
  assert.equal(empty.points(), 5)
  // And back: its head stands below what the other one took, which is no rewind.
  wire.to = before.transport(agent)
  const three = log.add(points(200, 5))
  const batch = log.batch([three], { ackedThrough: 2 })
  assert.equal((await destination.send(batch, signal)).kind, 'later')
  const standing = await destination.standing(log.standing(2), signal)
  assert.ok(standing.kind === 'known' && standing.lanes.get(laneId)?.contiguous === 3)
  assert.deepEqual(await destination.send(batch, signal), stored)
  const four = log.batch([log.add(points(300, 5))], { ackedThrough: 3 })
  assert.deepEqual(await destination.send(four, signal), stored)
  assert.equal(before.points(), 15)
})

test('another region is told what was delivered since the last hello', async () => {
  await using before = await createTestRegion()
  await using other = await createTestRegion()
  const log = createTestLog(agent)
  const { wire, destination } = connect(log, before)
  await destination.standing(log.standing(0), signal)
  await destination.send(log.batch([log.add(points(0, 5))]), signal)
  wire.to = other.transport(agent)
  assert.deepEqual(await destination.send(log.batch([log.add(points(100, 5))]), signal), stored)
  const said = wire.posts.filter((post) => post.path === '/v1/hello').at(-1)
  assert.equal(helloRequest.decode(said?.body ?? new Uint8Array(0)).lanes[0]?.acked, 1)
  const standing = await destination.standing(log.standing(2), signal)
  assert.ok(standing.kind === 'known' && standing.lanes.get(laneId)?.contiguous === 2)
  assert.equal(other.points(), 5)
})

test('a segment of an older epoch finds its series', async () => {
  await using region = await createTestRegion()
  const first = createTestLog(agent)
  const old = first.add(points(0, 5))
  const log = first.restart()
  const fresh = log.add(points(100, 5))
  const { wire, destination } = connect(log, region)
  await destination.standing(log.standing(0), signal)
  assert.deepEqual(await destination.send(log.batch([old, fresh]), signal), stored)
  assert.deepEqual(paths(wire), ['hello', 'series', 'segments', 'series', 'segments'])
  assert.equal(region.points(), 10)
})

test('poison: refused twice, then everything else is committed and only it is rejected', async () => {
  await using region = await createTestRegion()
  const log = createTestLog(agent)
  const { wire, destination } = connect(log, region)
  await destination.standing(log.standing(0), signal)
  const items = [
    log.add(points(0, 5)),
    log.add([{ name: 'a', timeUs: 50, value: 'nul \0' }]),
    log.add(points(100, 5)),
  ]
  const outcome = await destination.send(log.batch(items), signal)
  assert.deepEqual(outcome, {
    kind: 'stored',
    rejected: [
      { seq: 2, text: 'a text holds NUL or half a surrogate pair, which databases refuse' },
    ],
  })
  assert.deepEqual(paths(wire), ['hello', 'series', 'segments', 'segments', 'segments'])
  assert.equal(region.points(), 10)
})

test('a region that refuses a gap record is asked again later: it has no replacement', async () => {
  await using region = await createTestRegion()
  const log = createTestLog(agent)
  const { wire, destination } = connect(log, region)
  await destination.standing(log.standing(0), signal)
  const error = { code: 'bad-frame', text: 'no', frame: 0, seq: 1 }
  wire.to = async () => ({
    status: 400,
    headers: { 'content-type': 'application/json' },
    body: Buffer.from(JSON.stringify({ error })),
  })
  assert.equal((await destination.send(log.batch([log.addGap({})]), signal)).kind, 'later')
})

test('segments of many old epochs find their series in one send', async () => {
  await using region = await createTestRegion()
  let log = createTestLog(agent)
  const items = Array.from({ length: 12 }, (_, at) => {
    log = log.restart()
    return log.add(points(at * 100, 2))
  })
  const { destination } = connect(log, region)
  await destination.standing(log.standing(0), signal)
  assert.deepEqual(await destination.send(log.batch(items), signal), stored)
  assert.equal(region.points(), 24)
})

test('bytes damaged here never travel', async () => {
  await using region = await createTestRegion()
  const log = createTestLog(agent)
  const { wire, destination } = connect(log, region)
  await destination.standing(log.standing(0), signal)
  const good = log.add(points(0, 5))
  const bad = log.add(points(100, 5)) as Segment
  const bytes = Uint8Array.from(bad.bytes)
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] as number) ^ 4
  const outcome = await destination.send(log.batch([good, { ...bad, bytes }]), signal)
  assert.ok(outcome.kind === 'stored' && outcome.rejected[0]?.seq === 2)
  assert.match(outcome.rejected[0].text, /checksum/)
  assert.equal(region.points(), 5)
  assert.equal(wire.posts.filter((post) => post.path === '/v1/segments').length, 1)
})

test('an answer counts only if it names the region, every frame and its digest', async () => {
  await using region = await createTestRegion()
  const log = createTestLog(agent)
  const { wire, destination } = connect(log, region)
  await destination.standing(log.standing(0), signal)
  const batch = log.batch([log.add(points(0, 5)), log.addGap({})])
  await destination.send(batch, signal)
  const honest = region.transport(agent)
  const altered = async (change: (answer: Record<string, unknown>) => unknown) => {
    wire.to = async (post, abort) => {
      const reply = await honest(post, abort)
      const answer = JSON.parse(Buffer.from(reply.body).toString()) as Record<string, unknown>
      return { ...reply, body: Buffer.from(JSON.stringify(change(answer))) }
    }
    return (await destination.send(batch, signal)).kind
  }
  type Results = { digest: string; lane: number }[]
  const change = (at: number, by: object) => (answer: Record<string, unknown>) => ({
    ...answer,
    results: (answer.results as Results).map((one, i) => (i === at ? { ...one, ...by } : one)),
  })
  assert.equal(await altered((answer) => answer), 'stored')
  assert.equal(await altered((answer) => ({ ...answer, unknownField: 1 })), 'stored')
  assert.equal(await altered(({ region: _, ...answer }) => answer), 'later')
  assert.equal(await altered((answer) => ({ ...answer, results: [] })), 'later')
  assert.equal(await altered(change(0, { digest: '0'.repeat(32) })), 'later')
  assert.equal(await altered(change(0, { lane: laneId + 1 })), 'later')
  assert.equal(await altered(change(1, { seqLast: 9 })), 'later')
  assert.equal(await altered(change(1, { status: 'maybe' })), 'later')
  assert.equal(await altered(() => 'fine'), 'later')
})

test('a gap record gets through whatever stands in it', async () => {
  await using region = await createTestRegion()
  const log = createTestLog(agent)
  const { destination } = connect(log, region)
  await destination.standing(log.standing(0), signal)
  const gaps = [
    { source: 'nul \0 and half \ud800' },
    { source: '\u{1f525}'.repeat(5_000) },
    { timeUsMin: Number.POSITIVE_INFINITY, timeUsMax: 1.5, count: Number.NaN },
  ]
  const batch = log.batch(gaps.map((gap) => log.addGap(gap)))
  assert.deepEqual(await destination.send(batch, signal), stored)
})

test('several sends at once share one upload of series', async () => {
  await using region = await createTestRegion()
  const log = createTestLog(agent)
  const { wire, destination } = connect(log, region)
  await destination.standing(log.standing(0), signal)
  const items = Array.from({ length: 6 }, (_, at) => log.add(points(at * 100, 5, `s${at}`)))
  const batches = items.map((item) => log.batch([item]))
  const outcomes = await Promise.all(batches.map((batch) => destination.send(batch, signal)))
  assert.deepEqual(
    outcomes,
    items.map(() => stored),
  )
  assert.equal(wire.posts.filter((post) => post.path === '/v1/series').length, 1)
  assert.equal(region.points(), 30)
})

test('a region that keeps asking is asked again later; a given up send ends', async () => {
  await using region = await createTestRegion()
  const log = createTestLog(agent)
  const { wire, destination } = connect(log, region)
  await destination.standing(log.standing(0), signal)
  const item = log.add(points(0, 5))
  const error = { code: 'need-series', text: 'again', epoch: log.spool.epoch, first: 0 }
  const honest = region.transport(agent)
  wire.to = async (post, abort) =>
    post.path === '/v1/segments'
      ? {
          status: 409,
          headers: { 'content-type': 'application/json' },
          body: Buffer.from(JSON.stringify({ error })),
        }
      : honest(post, abort)
  assert.equal((await destination.send(log.batch([item]), signal)).kind, 'later')
  assert.ok(wire.posts.length < 30)
  const stop = new AbortController()
  wire.to = (_, abort) =>
    new Promise((_resolve, reject) => {
      abort.addEventListener('abort', () => reject(new Error('cut')), { once: true })
      stop.abort()
    })
  assert.deepEqual(await destination.send(log.batch([item]), stop.signal), {
    kind: 'later',
    text: 'given up',
  })
})

/** Some 16 KB a segment: less is not halved any more. */
const noisy = (from: number) =>
  Array.from({ length: 2_500 }, (_, at) => ({
    ...{ name: 'a', timeUs: from + at, value: Math.sin(from + at) * 1e9 },
  }))
test('a request that gets stuck is made smaller, one segment never, and grows again', async () => {
  await using region = await createTestRegion()
  const log = createTestLog(agent)
  const { wire, destination } = connect(log, region)
  await destination.standing(log.standing(0), signal)
  const items = Array.from({ length: 8 }, (_, at) => log.add(noisy(at * 10_000)))
  assert.deepEqual(await destination.send(log.batch(items.slice(0, 1)), signal), stored)
  const honest = region.transport(agent)
  wire.to = (post, abort) =>
    post.body.length > 50_000
      ? Promise.reject(new Failure('HF-N020', 'stuck'))
      : honest(post, abort)
  assert.ok((items[0] as Segment).bytes.length < 25_000)
  let count = items.length
  const kinds: string[] = []
  while (count > 0) {
    const outcome = await destination.send(log.batch(items.slice(0, count)), signal)
    kinds.push(outcome.kind)
    if (outcome.kind === 'stored') break
    if (outcome.kind === 'smaller') count--
    assert.ok(kinds.length < 50)
  }
  assert.deepEqual([...new Set(kinds)].sort(), ['later', 'smaller', 'stored'])
  wire.to = honest
  let grown = false
  for (let round = 0; round < 20 && !grown; round++) {
    for (const many of [2, 3, 6]) await destination.send(log.batch(items.slice(0, many)), signal)
    grown = (await destination.send(log.batch(items), signal)).kind === 'stored'
  }
  assert.ok(grown)
})

test('series answered by anything but the region are sent again later', async () => {
  await using region = await createTestRegion()
  const log = createTestLog(agent)
  const { wire, destination } = connect(log, region)
  await destination.standing(log.standing(0), signal)
  const portal: RelayTransport = async () => ({
    status: 200,
    headers: { 'content-type': 'application/json' },
    body: Buffer.from('{"login":"please"}'),
  })
  wire.to = portal
  const batch = log.batch([log.add(points(0, 5))])
  assert.equal((await destination.send(batch, signal)).kind, 'later')
  assert.deepEqual(paths(wire), ['hello', 'series'])
  wire.to = region.transport(agent)
  assert.deepEqual(await destination.send(batch, signal), stored)
})
