/**
 * A server that answers 5xx again and again: with a poisonous point in the write the point is found and declared lost;
 * with the server down, falling, or up and down by chance, nothing is. For lines and for samples alike.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { influxDialects } from '../../../src/destinations/influx-dialects.ts'
import { createInfluxSender } from '../../../src/destinations/influx-send.ts'
import { createPrometheusSender } from '../../../src/destinations/prometheus-send.ts'
import { later } from '../../../src/destinations/relay-outcome.ts'
import { createSystemHost, silentLog } from '../../../src/host.ts'
import type { Outcome, SendBatch } from '../../../src/model.ts'
import { createTestLog, type LogPoint } from '../../contract/destination-log.ts'

const signal = new AbortController().signal
const poison = -7
/** What a post is answered: by the values in it and how many came before. */
type Server = (values: readonly number[], nth: number) => 'taken' | 'fault' | 'reset'
const kinds = ['influx', 'prometheus'] as const
/** Of chance; fixed, so that what is seen once is seen each time. */
const seeds = Array.from({ length: 25 }, (_, at) => 7 + at * 7_919)

const setUp = (kind: (typeof kinds)[number], server: Server) => {
  const log = createTestLog('gw-7')
  const host = createSystemHost({ log: silentLog })
  const deps = { name: 'far', agent: 'gw-7', spool: log.spool, host }
  const posts: (readonly number[])[] = []
  const held = new Set<number>()
  const answer = (values: readonly number[]) => {
    posts.push(values)
    const said = server(values, posts.length)
    if (said === 'taken') for (const one of values) held.add(one)
    if (said === 'taken') return { kind: 'taken' } as const
    // Each answer has a number of its own, as servers give their requests.
    const text = `HTTP 500: panic in request ${posts.length}`
    const setback = later(text)
    return { kind: 'setback', setback, ...(said === 'fault' ? { fault: text } : {}) } as const
  }
  const gaps = (lines: readonly string[]) => lines[0]?.startsWith('holdfast_gaps') === true
  const send =
    kind === 'influx'
      ? createInfluxSender({
          ...{ deps, dialect: influxDialects.influxdb2, bytesMax: 1 << 20, endpoint: 'x' },
          place: { table: 'points', agentTag: 'agent' },
          post: async (lines) =>
            gaps(lines)
              ? { kind: 'taken' }
              : answer(lines.map((line) => Number(/ v=(\S+) /.exec(line)?.[1]))),
        })
      : createPrometheusSender({
          deps,
          post: async (samples) => answer(samples.map(({ value }) => value)),
          held: async () => assert.fail('nothing was refused'),
        })
  return { log, send, posts, held }
}
/** Values 0, 1, … of some series; at `bad` the poison. */
const points = (count: number, bad: readonly number[], series = 3): LogPoint[] =>
  Array.from({ length: count }, (_, at) => ({
    name: `m${Math.floor((at * series) / count)}.v`,
    timeUs: 1e15 + at * 1_000,
    value: bad.includes(at) ? poison : at,
  }))
const lostOf = (said: Outcome): number =>
  said.kind === 'stored' ? (said.lost ?? []).reduce((sum, { count }) => sum + count, 0) : -1
const whole = (values: readonly number[]): ReturnType<Server> =>
  values.includes(poison) ? 'fault' : 'taken'

for (const kind of kinds) {
  test(`${kind}: a point that brings a 5xx about each time is found, wherever it stands; the next one sooner`, async () => {
    for (const bad of [[0], [499], [999], [1, 500, 501]]) {
      const { log, send, held, posts } = setUp(kind, whole)
      const batch = log.batch([log.add(points(1_000, bad))])
      for (let times = 0; times < 4; times++)
        assert.equal((await send(batch, signal)).kind, 'later', `${times}`)
      assert.equal(posts.length, 4)
      const said = await send(batch, signal)
      assert.equal(lostOf(said), bad.length, JSON.stringify(said))
      const refused = said.kind === 'stored' ? said.lost?.[0]?.refused : []
      assert.deepEqual(
        refused?.flatMap(({ at, why }) => at.map((place) => [place, why])),
        bad.map((place) => [place, 'refused']),
      )
      assert.equal(held.size, 1_000 - bad.length)
      assert.ok(posts.length < 60 * bad.length + 40, `${posts.length} requests`)
      const next = log.batch([log.add(points(1_000, [700]))])
      assert.equal(lostOf(await send(next, signal)), 1)
    }
  })

  test(`${kind}: a server that answers 5xx to everything is down: nothing is lost, few requests ask`, async () => {
    const { log, send, posts } = setUp(kind, () => 'fault')
    const batch = log.batch([log.add(points(1_000, [3]))])
    for (let times = 0; times < 50; times++) {
      const before = posts.length
      assert.equal((await send(batch, signal)).kind, 'later')
      assert.ok(posts.length - before <= 9, `${posts.length - before} requests`)
    }
  })

  test(`${kind}: a write of nothing but poison waits: there is nothing to tell it from a server that is down by`, async () => {
    for (const count of [1, 20]) {
      const all = Array.from({ length: count }, (_, at) => at)
      const { log, send } = setUp(kind, whole)
      const batch = log.batch([log.add(points(count, all))])
      for (let times = 0; times < 12; times++)
        assert.equal((await send(batch, signal)).kind, 'later')
    }
  })

  test(`${kind}: a server that falls in the middle of the search, and comes back, loses no good point`, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 90 }),
        fc.integer({ min: 1, max: 90 }),
        fc.integer({ min: 0, max: 199 }),
        fc.constantFrom('fault' as const, 'reset' as const),
        async (up, down, bad, how) => {
          const { log, send, held } = setUp(kind, (values, nth) =>
            nth > up && nth <= up + down ? how : whole(values),
          )
          const batch = log.batch([log.add(points(200, [bad]))])
          let said: Outcome = { kind: 'later', text: '' }
          for (let times = 0; times < 110 && said.kind === 'later'; times++)
            said = await send(batch, signal)
          assert.equal(lostOf(said), 1, JSON.stringify(said))
          assert.equal(held.size, 199)
        },
      ),
      { numRuns: 150 },
    )
  })

  test(`${kind}: answers by chance are no proof`, async () => {
    const shares = [0.2, 0.5, 0.8].flatMap((share) => seeds.map((first) => ({ share, first })))
    for (const { share, first } of shares) {
      let seed = first
      const chance = () => {
        seed = (seed * 48_271) % 2_147_483_647
        return seed / 2_147_483_647
      }
      const { log, send } = setUp(kind, () => (chance() < share ? 'fault' : 'taken'))
      const batch: SendBatch = log.batch([log.add(points(60, []))])
      for (let times = 0; times < 150; times++) {
        const said = await send(batch, signal)
        assert.ok(said.kind === 'later' || lostOf(said) === 0, JSON.stringify(said))
      }
    }
  })
}
