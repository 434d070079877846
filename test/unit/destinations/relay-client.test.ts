/** The relay destination over a region in the same process: every demand of the region, and every doubt about it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createRelayClient } from '../../../src/destinations/relay-client.ts'
import type {
  RelayPost,
  RelayReply,
  RelayTransport,
} from '../../../src/destinations/relay-transport.ts'
import { textOf } from '../../../src/errors.ts'
import { createSystemHost } from '../../../src/host.ts'
import type { Destination, LaneItem, Segment } from '../../../src/model.ts'
import { encodeFrames } from '../../../src/protocol/relay.ts'
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
  assert.equal(log.formatAllowed(), 1)
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
