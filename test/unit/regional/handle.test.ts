/** The regional handler without transport: limits, refusals, what reaches the store. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RegionStore, StoreTrouble } from '../../../src/database/store.ts'
import { createSystemHost, type Log, silentLog } from '../../../src/host.ts'
import type { Segment } from '../../../src/model.ts'
import { encodeFrames, type RelayFrame } from '../../../src/protocol/relay.ts'
import { errorAnswer, helloRequest, seriesRequest } from '../../../src/protocol/relay-messages.ts'
import { createRegional, type Regional, type RelayRequest } from '../../../src/regional/handle.ts'
import { createTestLog, laneId, type TestLog } from '../../contract/destination-log.ts'
import { createTestRegion } from '../../contract/destination-region.ts'

const agent = 'gw-1'
const signal = new AbortController().signal
const pointsOf = (count: number, from = 0) =>
  Array.from({ length: count }, (_, at) => ({ name: 'a', timeUs: from + at, value: at }))
const requestOf = (log: TestLog, path: string, body: Uint8Array): RelayRequest => ({
  method: 'POST',
  path: `/v1/${path}`,
  headers: {
    'holdfast-protocol': '1',
    'holdfast-agent': agent,
    'holdfast-epoch': log.spool.epoch,
  },
  body,
  agent,
  signal,
})
const errorOf = async (regional: Regional, request: RelayRequest) => {
  const answer = await regional.handle(request)
  return {
    status: answer.status,
    headers: answer.headers,
    ...errorAnswer.decode(answer.body).error,
  }
}
const frameOf = (item: unknown): RelayFrame => ({
  type: 'segment',
  replay: false,
  bytes: (item as Segment).bytes,
})
const introduce = async (regional: Regional, log: TestLog) => {
  const { epoch, spoolId } = log.spool
  const lanes = [{ lane: laneId, name: 'raw', acked: 0, floor: 1 }]
  const epochs = await log.spool.epochs()
  const body = { spoolId, epoch, epochs, lanes, lastRegion: '', formats: [1] }
  assert.equal(
    (await regional.handle(requestOf(log, 'hello', helloRequest.encode(body)))).status,
    200,
  )
  const entries = await log.spool.dictionary(epoch, 0, 100)
  const series = seriesRequest.encode({ epoch, first: 0, entries })
  assert.equal((await regional.handle(requestOf(log, 'series', series))).status, 200)
}
const segmentsOf = (log: TestLog, ...items: unknown[]) =>
  requestOf(log, 'segments', encodeFrames(items.map(frameOf)))

test('what the store answers, every kind of it, has its status', async () => {
  const host = createSystemHost()
  const log = createTestLog(agent)
  const request = segmentsOf(log, log.add(pointsOf(2)))
  const statusOf = async (trouble: StoreTrouble) => {
    const store = { commit: async () => trouble } as unknown as RegionStore
    const { status, code, headers } = await errorOf(createRegional({ store, host }), request)
    return `${status} ${code} ${headers['retry-after'] ?? ''}`.trim()
  }
  const epoch = '0'.repeat(32)
  assert.equal(await statusOf({ kind: 'need-series', epoch, first: 3 }), '409 need-series')
  assert.equal(await statusOf({ kind: 'need-hello' }), '409 need-hello')
  assert.equal(await statusOf({ kind: 'fork', text: '' }), '409 fork')
  assert.equal(await statusOf({ kind: 'fenced', text: '' }), '403 fenced')
  assert.equal(await statusOf({ kind: 'later', text: '' }), '503 unavailable')
  assert.equal(await statusOf({ kind: 'later', text: '', afterMs: 1500 }), '503 unavailable 2')
  const slow = { commit: async () => ({ kind: 'later', text: '', stalled: true }) }
  const region = createRegional({ store: slow as unknown as RegionStore, host })
  assert.equal((await errorOf(region, request)).stalled, true)
  assert.equal(await statusOf({ kind: 'blocked', code: 'X', text: '', hint: '' }), '503 blocked')
})

test('a bug in the store is one refused request, said in the log and not to the agent', async () => {
  const errors: unknown[] = []
  const log: Log = { ...silentLog, error: (_, fields) => errors.push(fields?.error) }
  const host = { ...createSystemHost(), log }
  const lane = createTestLog(agent)
  const store = {
    commit: async () => {
      throw new Error('secret detail')
    },
  } as unknown as RegionStore
  const answer = await errorOf(
    createRegional({ store, host }),
    segmentsOf(lane, lane.add(pointsOf(1))),
  )
  assert.equal(answer.status, 500)
  assert.doesNotMatch(answer.text, /secret/)
  assert.deepEqual(errors, ['secret detail'])
})

test('more at once than there is room for is busy, and there is room again afterwards', async () => {
  await using region = await createTestRegion()
  const lane = createTestLog(agent)
  const item = lane.add(pointsOf(100))
  await introduce(region.regional, lane)
  const waiting: (() => void)[] = []
  const store: RegionStore = {
    ...region.store,
    commit: async (...args) => {
      await new Promise<void>((resolve) => waiting.push(resolve))
      return region.store.commit(...args)
    },
  }
  const size = segmentsOf(lane, item).body.length
  for (const limits of [{ requestsMax: 1 }, { bytesMax: size + 10 }, { decodedBytesMax: 3_000 }]) {
    const regional = createRegional({ store, host: createSystemHost(), limits })
    const first = regional.handle(segmentsOf(lane, item))
    const second = await errorOf(regional, segmentsOf(lane, item))
    assert.equal(second.code, 'busy')
    assert.equal(second.status, 429)
    assert.match(String(second.headers['retry-after']), /^[1-5]$/)
    for (const go of waiting.splice(0)) go()
    assert.equal((await first).status, 200)
    const third = regional.handle(segmentsOf(lane, item))
    while (waiting.length === 0) await Promise.resolve()
    for (const go of waiting.splice(0)) go()
    assert.equal((await third).status, 200)
  }
})

test('points that would take too much memory are asked for in smaller requests, one segment never', async () => {
  await using region = await createTestRegion(undefined, { requestDecodedBytesMax: 60_000 })
  const lane = createTestLog(agent)
  const items = [lane.add(pointsOf(2_000)), lane.add(pointsOf(2_000, 5_000))]
  await introduce(region.regional, lane)
  const both = segmentsOf(lane, ...items)
  const answer = await errorOf(region.regional, both)
  assert.equal(answer.status, 413)
  const { bytesMax = 0 } = answer
  assert.ok(bytesMax > 0 && bytesMax < both.body.length)
  for (const item of items)
    assert.equal((await region.regional.handle(segmentsOf(lane, item))).status, 200)
  assert.equal(region.points(), 4_000)
})

test('poison is named by its place; damage is never decoded into points', async () => {
  await using region = await createTestRegion()
  const lane = createTestLog(agent)
  const [good, bad] = [lane.add(pointsOf(50)) as Segment, lane.add(pointsOf(50, 100)) as Segment]
  await introduce(region.regional, lane)
  for (let at = 0; at < bad.bytes.length; at++) {
    const bytes = Uint8Array.from(bad.bytes)
    bytes[at] = (bytes[at] as number) ^ (1 << (at % 8))
    const answer = await errorOf(region.regional, segmentsOf(lane, good, { bytes }))
    // A flipped version number looks newer: that is nobody's poison.
    const newer = at === 4 || at === 5
    assert.equal(answer.code, newer ? 'blocked' : 'bad-frame', `byte ${at}: ${answer.text}`)
    if (!newer) assert.equal(answer.frame, 1)
  }
  assert.equal(region.points(), 0)
})

test('a value only the database refuses is found, and the other segments are committed', async () => {
  await using region = await createTestRegion()
  const lane = createTestLog(agent)
  const items = [lane.add(pointsOf(5)), lane.add(pointsOf(7, 100)), lane.add(pointsOf(5, 200))]
  await introduce(region.regional, lane)
  const store: RegionStore = {
    ...region.store,
    commit: async (who, epoch, frames, abort) =>
      frames.some((frame) => frame.type === 'segment' && frame.points.count === 7)
        ? { kind: 'blocked', code: 'HF-D022', text: 'cannot be stored', hint: '' }
        : region.store.commit(who, epoch, frames, abort),
  }
  const regional = createRegional({ store, host: createSystemHost() })
  const answer = await errorOf(regional, segmentsOf(lane, ...items))
  assert.deepEqual([answer.code, answer.frame, answer.seq], ['bad-frame', 1, 2])
  const rest = await regional.handle(segmentsOf(lane, items[0], items[2]))
  assert.equal(rest.status, 200)
  assert.equal(region.points(), 10)
})

test('nobody claims the series of another agent', async () => {
  await using region = await createTestRegion()
  const mine = createTestLog(agent)
  mine.add(pointsOf(1))
  await introduce(region.regional, mine)
  const other = createTestLog('gw-2')
  other.add([{ name: 'b', timeUs: 0, value: 1 }])
  const entries = await other.spool.dictionary(other.spool.epoch, 0, 1)
  const body = seriesRequest.encode({ epoch: mine.spool.epoch, first: 1, entries })
  const answer = await errorOf(region.regional, requestOf(mine, 'series', body))
  assert.match(answer.text, /is not "b" of agent gw-1/)
  const [entry] = entries
  const tags = [
    ['z', '1'],
    ['a', '1'],
  ] as const
  const unsorted = { epoch: mine.spool.epoch, first: 1, entries: entry ? [{ ...entry, tags }] : [] }
  const refused = await errorOf(
    region.regional,
    requestOf(mine, 'series', seriesRequest.encode(unsorted)),
  )
  assert.equal(refused.code, 'bad-request')
})

test('what is no request is refused without reaching the store', async () => {
  const regional = createRegional({ store: {} as RegionStore, host: createSystemHost() })
  const log = createTestLog(agent)
  const good = requestOf(log, 'segments', new Uint8Array(0))
  const codeOf = async (change: Partial<RelayRequest>, headers: object = {}) => {
    const request = { ...good, ...change, headers: { ...good.headers, ...headers } }
    const { status, code } = await errorOf(regional, request)
    return `${status} ${code}`
  }
  assert.equal(await codeOf({}), '400 bad-request')
  assert.equal(await codeOf({ path: '/v1/other' }), '404 not-found')
  assert.equal(await codeOf({ path: '/v1/toString' }), '404 not-found')
  assert.equal(await codeOf({ method: 'GET' }), '405 bad-request')
  assert.equal(await codeOf({}, { 'holdfast-protocol': '2' }), '400 bad-request')
  assert.equal(await codeOf({}, { 'holdfast-agent': 'gw-2' }), '403 not-allowed')
  assert.equal(await codeOf({}, { 'holdfast-epoch': 'x' }), '400 bad-request')
  assert.equal(await codeOf({ body: Uint8Array.of(1, 2, 3) }), '400 bad-request')
  assert.equal(await codeOf({ path: '/v1/hello', body: Buffer.from('[]') }), '400 bad-request')
})
