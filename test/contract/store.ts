/**
 * What every region store must do, whichever database is under it: exactly once in effect, in any order of arrival,
 * bit for bit; clones fenced; a database that forgot says so.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import fc from 'fast-check'
import type { ReadBack, ReadPoint } from '../../src/database/read-back.ts'
import type { CommitFrame, RegionStore } from '../../src/database/store.ts'
import {
  type Contract,
  type ContractVersion,
  type Kind,
  kinds,
  type Seq,
  type SeriesEntry,
} from '../../src/model.ts'
import { createTestAgent, type TestAgent, type TestEpoch, type TestPoint } from './store-agent.ts'
import { testWindowViews } from './store-windows.ts'

export interface StoreWorld {
  readonly store: RegionStore
  /** Another regional node on the same database (the same store where only one may open it). */
  readonly other: RegionStore
  readonly readBack: ReadBack
  /** Lets this much of the region's time pass. */
  readonly pass: (ms: number) => Promise<void>
  /** What an engineer's own query answers; numbers and texts as they come. */
  readonly query: (sql: string) => Promise<readonly Readonly<Record<string, unknown>>[]>
  /** Lets the database do now what it does to old rows by itself (compression); nothing for most. */
  readonly age: () => Promise<void>
  /** Deletes all rows of points, as a careless hand would. */
  readonly losePoints: (agent: string) => Promise<void>
  /** Remembers this moment; the returned function brings the database back to it, and gives a store on it. */
  readonly save: () => Promise<() => Promise<RegionStore>>
  readonly close: () => Promise<void>
}

const never = new AbortController().signal
const at = (second: number): number => 1_700_000_000_000_000 + second * 1_000_000
const point = (series: number, second: number, value: TestPoint['value'] = second): TestPoint => ({
  series,
  timeUs: at(second),
  value,
})

const all = async <T>(items: AsyncIterable<T>): Promise<T[]> => {
  const list: T[] = []
  for await (const item of items) list.push(item)
  return list
}
type Committed = Extract<Awaited<ReturnType<RegionStore['commit']>>, { kind: 'ok' }>
const commit = async (
  store: RegionStore,
  agent: TestAgent,
  epoch: TestEpoch,
  ...frames: readonly CommitFrame[]
): Promise<Committed> => {
  const answer = await store.commit(agent.name, epoch.epoch, frames, never)
  if (answer.kind !== 'ok') assert.fail(`commit: ${JSON.stringify(answer)}`)
  return answer
}
const refusal = async (
  store: RegionStore,
  agent: TestAgent,
  epoch: TestEpoch,
  ...frames: readonly CommitFrame[]
) => store.commit(agent.name, epoch.epoch, frames, never)
const statuses = (answer: Committed) => answer.results.map((result) => result.status)

const standing = async (
  store: RegionStore,
  epoch: TestEpoch,
  more: Parameters<TestEpoch['hello']>[0] = {},
): Promise<[Seq, readonly (readonly [Seq, Seq])[]]> => {
  const answer = await store.hello(epoch.hello(more))
  if (answer.kind !== 'ok') assert.fail(`hello: ${JSON.stringify(answer)}`)
  const lane = answer.lanes.find((row) => row.lane === 1)
  assert.ok(lane)
  return [lane.contiguous, lane.above]
}

type MakeWorld = () => Promise<StoreWorld>
interface Given {
  readonly world: StoreWorld
  readonly agent: TestAgent
  readonly first: TestEpoch
}

export const runStoreContract = (name: string, makeWorld: MakeWorld): void => {
  describe(`region store: ${name}`, () => {
    let world: StoreWorld
    let agents = 0
    before(async () => {
      world = await makeWorld()
      assert.deepEqual(await world.store.prepare(), { kind: 'ok' })
      await world.readBack.installAudit()
    })
    after(() => world.close())

    /** A fresh agent with one epoch; the database is shared by all cases. */
    const given = async (): Promise<Given> => {
      const agent = createTestAgent(`agent-${++agents}`)
      const first = agent.epoch('first')
      await agent.introduce(world.store, first)
      return { world, agent, first }
    }
    const points = async (agent: TestAgent) => all(world.readBack.readBack(agent.name))
    const audit = async (agent: TestAgent) => all(world.readBack.auditOf(agent.name))

    describe('identity and hello', () => {
      test('prepare and identity are the same for all nodes and at any time', async () => {
        const before = await world.store.identity()
        assert.equal(before.kind, 'ok')
        const again = await Promise.all([world.store.prepare(), world.other.prepare()])
        assert.deepEqual(again, [{ kind: 'ok' }, { kind: 'ok' }])
        assert.deepEqual(await world.other.identity(), before)
      })
      test('saying hello twice changes nothing', async () => {
        const { agent, first } = await given()
        await commit(world.store, agent, first, first.segment(1, [point(0, 1)]))
        const once = await world.store.hello(first.hello())
        const twice = await world.other.hello(first.hello())
        assert.ok(once.kind === 'ok' && twice.kind === 'ok')
        assert.ok(Math.abs(twice.nowUs - once.nowUs) < 60_000_000)
        assert.deepEqual({ ...twice, nowUs: once.nowUs }, once)
        assert.deepEqual(await standing(world.store, first), [1, []])
      })
      test('an agent that comes from another region starts at what it had acked there', async () => {
        const agent = createTestAgent(`agent-${++agents}`)
        const first = agent.epoch('first')
        await agent.introduce(world.store, first, {
          lanes: [{ lane: 1, name: 'raw', acked: 41, floor: 30 }],
          lastRegion: 'another',
        })
        assert.deepEqual(await standing(world.store, first), [41, []])
        await commit(world.store, agent, first, first.segment(42, [point(0, 1)]))
        assert.deepEqual(await standing(world.store, first), [42, []])
      })
      test('heads that this region forgot start at the base of their epoch', async () => {
        const identity = await world.store.identity()
        assert.ok(identity.kind === 'ok')
        const agent = createTestAgent(`agent-${++agents}`)
        const first = agent.epoch('first')
        await agent.introduce(world.store, first, {
          lanes: [{ lane: 1, name: 'raw', acked: 41, floor: 30 }],
          lastRegion: identity.region,
        })
        assert.deepEqual(await standing(world.store, first), [0, []])
      })
      test('a lane stands where the oldest incomplete epoch stands', async () => {
        const { agent, first } = await given()
        await commit(world.store, agent, first, first.segment(1, [point(0, 1)]))
        const second = agent.epoch('second', first, { 1: 4 })
        await agent.introduce(world.store, second)
        assert.deepEqual(await standing(world.store, second), [1, []])
        await commit(world.store, agent, second, second.segment(5, [point(0, 5)]))
        assert.deepEqual(await standing(world.store, second), [1, [[5, 5]]])
        const late = [2, 3, 4].map((seq) => first.segment(seq, [point(0, seq)]))
        const answer = await commit(world.store, agent, second, ...late)
        assert.deepEqual(answer.lanes, [{ lane: 1, contiguous: 5, above: [] }])
      })
      test('what was never introduced must say hello', async () => {
        const agent = createTestAgent(`agent-${++agents}`)
        const first = agent.epoch('first')
        const unknown = await refusal(world.store, agent, first, first.segment(1, [point(0, 1)]))
        assert.equal(unknown.kind, 'need-hello')
        await agent.introduce(world.store, first)
        const lane = first.segment(1, [point(0, 1)], { lane: 2 })
        assert.equal((await refusal(world.store, agent, first, lane)).kind, 'need-hello')
      })
    })

    describe('once in effect', () => {
      test('a resent segment is a duplicate and touches no row', async () => {
        const { agent, first } = await given()
        const frames = [1, 2].map((seq) => first.segment(seq, [point(0, seq), point(1, seq)]))
        assert.deepEqual(statuses(await commit(world.store, agent, first, ...frames)), [
          'committed',
          'committed',
        ])
        const again = await commit(world.other, agent, first, ...frames)
        assert.deepEqual(statuses(again), ['duplicate', 'duplicate'])
        assert.deepEqual(again.lanes, [{ lane: 1, contiguous: 2, above: [] }])
        assert.equal((await audit(agent)).length, 4)
        assert.equal((await points(agent)).length, 4)
      })
      test('the same segment committed by several nodes at once has its effect once', async () => {
        const { agent, first } = await given()
        for (let seq = 1; seq <= 5; seq++) {
          const frame = first.segment(
            seq,
            Array.from({ length: 200 }, (_, n) => point(n % 8, seq * 1000 + n)),
          )
          const answers = await Promise.all(
            [world.store, world.other, world.store, world.other].map((store) =>
              commit(store, agent, first, frame),
            ),
          )
          const said = answers.flatMap(statuses).sort()
          assert.deepEqual(said, ['committed', 'duplicate', 'duplicate', 'duplicate'])
        }
        assert.equal((await audit(agent)).length, 1000)
        const listed = await world.store.agents()
        assert.ok(listed.kind === 'ok')
        assert.equal(listed.agents.find((row) => row.agent === agent.name)?.points, 1000)
      })
      test('what meets no row of points is counted once too: tombstones and replays, at once', async () => {
        const { agent, first } = await given()
        const stores = [world.store, world.other, world.store, world.other]
        for (let seq = 1; seq <= 10; seq += 2) {
          const lost = first.tombstone(seq, seq, { count: 7 })
          const replayed = first.segment(seq + 1, [point(0, seq), point(1, seq)], { replay: true })
          await Promise.all(stores.map((store) => commit(store, agent, first, lost)))
          await Promise.all(stores.map((store) => commit(store, agent, first, replayed)))
        }
        const listed = await world.store.agents()
        assert.ok(listed.kind === 'ok')
        const row = listed.agents.find((each) => each.agent === agent.name)
        assert.deepEqual([row?.points, row?.declaredLost], [10, 35])
        assert.deepEqual(await standing(world.store, first), [10, []])
        assert.equal((await audit(agent)).length, 10)
      })
      test('several commits of one lane in flight at once all stand', async () => {
        const { agent, first } = await given()
        const seqs = Array.from({ length: 24 }, (_, n) => n + 1)
        await Promise.all(
          seqs.map((seq) =>
            commit(
              seq % 2 ? world.store : world.other,
              agent,
              first,
              first.segment(seq, [point(seq % 8, seq)]),
            ),
          ),
        )
        assert.deepEqual(await standing(world.store, first), [24, []])
        assert.equal((await audit(agent)).length, 24)
      })
      test('seqs out of order are kept above, and fold when the hole closes', async () => {
        const { agent, first } = await given()
        const segment = (seq: Seq) => first.segment(seq, [point(0, seq)])
        await commit(world.store, agent, first, segment(3), segment(5))
        assert.deepEqual(await standing(world.store, first), [
          0,
          [
            [3, 3],
            [5, 5],
          ],
        ])
        assert.deepEqual(statuses(await commit(world.store, agent, first, segment(5))), [
          'duplicate',
        ])
        await commit(world.store, agent, first, segment(1))
        await commit(world.store, agent, first, segment(4))
        assert.deepEqual(await standing(world.store, first), [1, [[3, 5]]])
        const answer = await commit(world.store, agent, first, segment(2))
        assert.deepEqual(answer.lanes, [{ lane: 1, contiguous: 5, above: [] }])
        assert.equal((await audit(agent)).length, 5)
      })
      test('the number of ranges above is bounded, and the refusal has no effect', async () => {
        const { agent, first } = await given()
        const frames = Array.from({ length: 256 }, (_, n) => first.tombstone(2 * n + 2, 2 * n + 2))
        await commit(world.store, agent, first, ...frames)
        const more = await refusal(world.store, agent, first, first.segment(1000, [point(0, 1)]))
        assert.equal(more.kind, 'later')
        assert.deepEqual(await points(agent), [])
        await commit(world.store, agent, first, first.segment(1, [point(0, 1)]))
        assert.equal((await standing(world.store, first))[0], 2)
      })
      test('a request is taken as a whole or not at all', async () => {
        const { agent, first } = await given()
        const foreign = agent.epoch('never introduced')
        const answer = await refusal(
          world.store,
          agent,
          first,
          first.segment(1, [point(0, 1)]),
          foreign.segment(2, [point(0, 2)]),
        )
        assert.equal(answer.kind, 'need-hello')
        assert.deepEqual(await points(agent), [])
        assert.deepEqual(await standing(world.store, first), [0, []])
      })
      test('a request that was given up before it began changes nothing', async () => {
        const { agent, first } = await given()
        const frame = first.segment(1, [point(0, 1)])
        const answer = await world.store.commit(
          agent.name,
          first.epoch,
          [frame],
          AbortSignal.abort(),
        )
        assert.equal(answer.kind, 'later')
        assert.deepEqual(await standing(world.store, first), [0, []])
      })
    })

    describe('losses', () => {
      test('a tombstone answers its seqs and is counted once', async () => {
        const { agent, first } = await given()
        const gap = { reason: 'quota', count: 70, source: 's', timeUsMin: 5, timeUsMax: 9 } as const
        const frame = first.tombstone(1, 3, gap)
        assert.deepEqual(statuses(await commit(world.store, agent, first, frame)), ['committed'])
        assert.deepEqual(statuses(await commit(world.other, agent, first, frame)), ['duplicate'])
        assert.deepEqual(await standing(world.store, first), [3, []])
        assert.deepEqual(await world.readBack.gapsOf(agent.name), [
          { epoch: first.epoch, lane: 1, seq: 1, seqLast: 3, ...gap },
        ])
      })
      test('a tombstone that has grown adds only what is new', async () => {
        const { agent, first } = await given()
        await commit(world.store, agent, first, first.tombstone(1, 3, { count: 30 }))
        await commit(world.store, agent, first, first.tombstone(1, 6, { count: 50 }))
        assert.deepEqual(await standing(world.store, first), [6, []])
        const gaps = await world.readBack.gapsOf(agent.name)
        assert.deepEqual(
          gaps.map(({ seq, seqLast, count }) => [seq, seqLast, count]),
          [[1, 6, 50]],
        )
        const listed = await world.store.agents()
        assert.ok(listed.kind === 'ok')
        const row = listed.agents.find((each) => each.agent === agent.name)
        assert.deepEqual([row?.points, row?.declaredLost], [0, 50])
      })
    })

    describe('one table, whatever the order', () => {
      test('within a segment the last accepted point stands', async () => {
        const { agent, first } = await given()
        await commit(
          world.store,
          agent,
          first,
          first.segment(1, [point(0, 5, 1), point(0, 2, 2), point(0, 5, 3), point(1, 5, 4)]),
        )
        const rows = await points(agent)
        assert.equal(rows.length, 3)
        const standing = rows.find((row) => row.seriesId === agent.id(0) && row.timeUs === at(5))
        assert.equal(standing?.bits, 0x4008_0000_0000_0000n)
      })
      test('a replay repairs what was deleted, and what stands is not touched', async () => {
        const { agent, first } = await given()
        const frames = [1, 2].map((seq) => first.segment(seq, [point(0, seq), point(1, seq)]))
        await commit(world.store, agent, first, ...frames)
        await world.age()
        const before = await points(agent)
        await world.losePoints(agent.name)
        assert.deepEqual(await points(agent), [])
        await commit(world.store, agent, first, ...frames)
        assert.deepEqual(await points(agent), [], 'a resend is no replay')
        const replayed = frames.map((frame) => ({ ...frame, replay: true }))
        await commit(world.store, agent, first, ...replayed)
        assert.deepEqual(await points(agent), before)
        const touched = (await audit(agent)).length
        await commit(world.store, agent, first, ...replayed)
        assert.equal((await audit(agent)).length, touched)
        const listed = await world.store.agents()
        assert.ok(listed.kind === 'ok')
        assert.equal(listed.agents.find((row) => row.agent === agent.name)?.points, 4)
      })
      test('a copy stands where what it was copied from does, whenever it comes', async () => {
        const { agent, first } = await given()
        const second = agent.epoch('second', first, { 1: 2 })
        await agent.introduce(world.store, second)
        const old = first.segment(1, [point(0, 1, 1), point(1, 1, 1)])
        const correction = first.segment(2, [point(0, 1, 2)])
        const copyOf = { epoch: first.epoch, sealNumber: 1 }
        const late = second.segment(3, [point(0, 1, 1), point(2, 1, 1)], { copyOf })
        // Of a correction that came by no other way.
        const newer = { epoch: second.epoch, sealNumber: 4 }
        const only = second.segment(4, [point(1, 1, 3)], { copyOf: newer })
        const unknown = { epoch: 'e'.repeat(32), sealNumber: 9_999 }
        const strange = second.segment(5, [point(0, 1, 9), point(3, 1, 9)], { copyOf: unknown })
        for (const frame of [strange, old, correction, late, only, { ...late, replay: true }])
          await commit(world.store, agent, second, frame)
        const rows = (await points(agent)).map((row) => [keyOf(row), numberOf(row)])
        const expected = [2, 3, 1, 9].map((value, n) => [`${agent.id(n)}/${at(1)}`, value])
        assert.deepEqual(Object.fromEntries(rows), Object.fromEntries(expected))
      })
      test('corrections give the same table in any order of arrival', async () => {
        await fc.assert(
          fc.asyncProperty(
            fc.array(
              fc.array(fc.tuple(fc.nat(2), fc.nat(4), fc.nat(1000)), {
                minLength: 1,
                maxLength: 6,
              }),
              { minLength: 1, maxLength: 6 },
            ),
            fc.infiniteStream(fc.nat(1_000_000)),
            async (segments, chance) => {
              const { agent, first } = await given()
              const second = agent.epoch('second', first, { 1: Math.ceil(segments.length / 2) })
              await agent.introduce(world.store, second)
              const frames = segments.map((rows, n) => {
                const epoch = n < segments.length / 2 ? first : second
                return epoch.segment(
                  n + 1,
                  rows.map(([series, second, value]) => point(series, second, value)),
                )
              })
              const expected = new Map<string, number>()
              for (const rows of segments)
                for (const [series, second, value] of rows)
                  expected.set(`${agent.id(series)}/${at(second)}`, value)
              const order = frames
                .flatMap((frame) => [frame, frame])
                .map((frame) => ({ frame, key: chance.next().value as number }))
                .sort((a, b) => a.key - b.key)
              for (const { frame, key } of order) {
                if (key % 2 === 0) await world.age()
                await commit(world.store, agent, second, { ...frame, replay: key % 3 === 0 })
              }
              const rows = await points(agent)
              const found = new Map(rows.map((row) => [keyOf(row), numberOf(row)]))
              assert.deepEqual([...found].sort(), [...expected].sort())
              assert.deepEqual(await standing(world.store, second), [segments.length, []])
            },
          ),
          { numRuns: 25 },
        )
      })
    })

    describe('windows', () => {
      testWindowViews(() => world)
      test('points of statistic series are one row a window, the last revision standing', async () => {
        const name = `agent-${++agents}`
        const names = ['rev', 'count', 'good_count', 'sum', 'max', 'last', 'time_in_state']
        const keys = names.map((statistic) => ({
          name: 'oven',
          tags: [
            ['@every', '60000000'],
            ['@statistic', statistic],
            ['line', '2'],
          ] as const,
        }))
        const agent = createTestAgent(name, 1, keys)
        const first = agent.epoch('first')
        await agent.introduce(world.store, first)
        const row = (second: number, values: readonly TestPoint['value'][]) =>
          values.map((value, n) => point(n + 1, second, value))
        const rows = [
          first.segment(1, [...row(0, [0n, 3n, 2n, 7.5, 6, 1, '{"on":4.5}']), point(0, 0, 9)]),
          first.segment(2, [
            ...row(0, [1n, 4n, 3n, 9, 6.5, Number.NaN, '{"on":5.5}']),
            ...row(60, [0n, 1n, 1n, -2, -2, -2]),
          ]),
        ]
        for (const frame of rows.reverse()) await commit(world.store, agent, first, frame)
        const found = await world.query(
          `select series, rev, count, sum, mean, max, good_pct, last, unit, time_in_state from windows where agent = '${name}' order by start`,
        )
        const [first1, second1] = found.map((one) =>
          Object.entries(one).map(([column, value]) =>
            ['series', 'unit'].includes(column) || value === null
              ? value
              : column === 'time_in_state'
                ? typeof value === 'string'
                  ? JSON.parse(value)
                  : value
                : Number(value),
          ),
        )
        assert.deepEqual(first1, ['oven', 1, 4, 9, 3, 6.5, 75, null, '°C', { on: 5.5 }])
        assert.deepEqual(second1?.slice(0, 9), ['oven', 0, 1, -2, -2, -2, 100, -2, '°C'])
        const readings = await world.query(`select * from readings where agent = '${name}'`)
        assert.equal(readings.length, 1, 'statistics are no readings')
      })
      test('each row has the contract it was thinned under, whenever that is said', async () => {
        const name = `agent-${++agents}`
        const thin = { name: 'thin', tags: [] }
        const band = (deviation: number): Contract => {
          return { method: 'deadband', deviation, interpolation: 'step', heartbeatUs: null }
        }
        const versions: readonly ContractVersion[] = [
          { fromUs: at(1), contract: band(5) },
          { fromUs: at(3), contract: band(50) },
          { fromUs: at(5), contract: null },
        ]
        const agent = createTestAgent(name, 0, [thin])
        const first = agent.epoch('first')
        await agent.introduce(world.store, first)
        const points = [0, 1, 2, 3, 4, 5, 6].map((second) => point(0, second))
        await commit(world.store, agent, first, first.segment(1, points))
        const key = agent.entries[0] as SeriesEntry
        const say = async (place: number, contracts?: readonly ContractVersion[]) => {
          const entry = contracts === undefined ? key : { ...key, contracts }
          const answer = await world.store.addSeries(name, first.epoch, place, [entry, entry])
          assert.deepEqual(answer, { kind: 'ok', known: place + 2 })
        }
        const shown = async (view: string) => {
          const rows = await world.query(`select * from ${view} where agent = '${name}'`)
          return rows
            .map(({ contract, ...row }) => [
              Number(row.value),
              (typeof contract === 'string' ? JSON.parse(contract) : contract)?.deviation ?? null,
            ])
            .sort(([a], [b]) => Number(a) - Number(b))
            .map(([, deviation]) => deviation)
        }
        assert.deepEqual(await shown('readings'), [null, null, null, null, null, null, null])
        await say(1, versions.slice(0, 1))
        assert.deepEqual(await shown('readings'), [null, 5, 5, 5, 5, 5, 5])
        await say(3, versions.slice(0, 2))
        assert.deepEqual(await shown('readings'), [null, 5, 5, 50, 50, 50, 50])
        await say(5, versions)
        const ended = [null, 5, 5, 50, 50, null, null]
        assert.deepEqual(await shown('readings'), ended)
        assert.deepEqual(await shown('readings_latest'), [null])
        // Nothing said changes nothing; nor does an older epoch that is told once more.
        await say(7)
        await say(9, versions)
        assert.deepEqual(await shown('readings'), ended)
        assert.deepEqual((await world.readBack.contractsOf(name)).get('thin'), versions)
        // At the same time the later word stands.
        await say(11, [...versions.slice(0, 2), { fromUs: at(5), contract: band(1) }])
        assert.deepEqual(await shown('readings'), [null, 5, 5, 50, 50, 1, 1])
      })
      test('a contract without a time holds from the newest row on, the very first for all', async () => {
        const name = `agent-${++agents}`
        const undated = (deviation: number | null) => {
          const how = { method: 'deadband', interpolation: 'step', heartbeatUs: null } as const
          const contract = deviation === null ? null : { ...how, deviation }
          return [{ fromUs: null, contract }]
        }
        const agent = createTestAgent(name, 0, [{ name: 'thin', tags: [], contracts: undated(5) }])
        const first = agent.epoch('first')
        await agent.introduce(world.store, first)
        await commit(world.store, agent, first, first.segment(1, [point(0, 1), point(0, 2)]))
        const key = agent.entries[0] as SeriesEntry
        const shown = async () => {
          const rows = await world.query(
            `select value, contract from readings where agent = '${name}' order by time`,
          )
          return rows.map(({ contract }) => {
            const found = typeof contract === 'string' ? JSON.parse(contract) : contract
            return found?.deviation ?? null
          })
        }
        let place = 1
        const say = (contracts: readonly ContractVersion[]) =>
          world.store.addSeries(name, first.epoch, place++, [{ ...key, contracts }])
        await say(undated(5))
        assert.deepEqual(await shown(), [5, 5])
        await say(undated(50))
        await commit(world.store, agent, first, first.segment(2, [point(0, 3)]))
        assert.deepEqual(await shown(), [5, 50, 50])
        // As it stands before dated ones it is the first of all, or nothing new.
        await say([...undated(5), { fromUs: at(3), contract: null }])
        assert.deepEqual(await shown(), [5, 50, null])
      })
      test('a series carries the contract it was thinned under', async () => {
        const name = `agent-${++agents}`
        const contract: Contract = {
          method: 'deadband',
          deviation: 0.5,
          interpolation: 'step',
          heartbeatUs: null,
        }
        const agent = createTestAgent(name, 0, [
          { name: 'thin', tags: [], contracts: [{ fromUs: null, contract }] },
        ])
        const first = agent.epoch('first')
        await agent.introduce(world.store, first)
        await commit(world.store, agent, first, first.segment(1, [point(0, 1)]))
        const [found] = await world.query(`select contract from readings where agent = '${name}'`)
        const stored = found?.contract
        assert.deepEqual(typeof stored === 'string' ? JSON.parse(stored) : stored, contract)
      })
    })

    describe('bit for bit', () => {
      test('every kind and pattern comes back as it went in', async () => {
        const { agent, first } = await given()
        const patterns: [Kind, bigint | string][] = [
          ...[
            0n,
            0x8000_0000_0000_0000n,
            0x7ff0_0000_0000_0000n,
            0xfff0_0000_0000_0000n,
            0x7ff8_0000_0000_0000n,
            0x7ff0_0000_0000_0001n,
            0xfff8_dead_beef_0001n,
            1n,
            0x000f_ffff_ffff_ffffn,
            0x7fef_ffff_ffff_ffffn,
            0x3fb9_9999_9999_999an,
          ].map((bits): [Kind, bigint] => [kinds.float, bits]),
          ...[
            0n,
            0x8000_0000_0000_0000n,
            0x7fff_ffff_ffff_ffffn,
            0xffff_ffff_ffff_ffffn,
            0x0020_0000_0000_0001n,
          ].map((bits): [Kind, bigint] => [kinds.int, bits]),
          [kinds.bool, 0n],
          [kinds.bool, 1n],
          ...['', 'ä€😀', 'a\nb\tc\\N', '\u{10ffff}', 'null', 'x'.repeat(5000)].map(
            (text): [Kind, string] => [kinds.string, text],
          ),
        ]
        const frame = first.segment(
          1,
          patterns.map((_, n) => point(3, n, 0)),
        )
        const texts: string[] = []
        patterns.forEach(([kind, bits], n) => {
          frame.points.kinds[n] = kind
          frame.points.qualities[n] = (n * 37) % 256
          frame.points.bits[n] = typeof bits === 'string' ? BigInt(texts.push(bits) - 1) : bits
        })
        const times = frame.points.timeUs
        times[0] = -1
        times[1] = 0
        times[2] = 8_999_999_999_999_999
        const sent = { ...frame, points: { ...frame.points, texts } }
        await commit(world.store, agent, first, sent)
        const rows = await points(agent)
        const found = new Map(rows.map((row) => [row.timeUs, row]))
        patterns.forEach(([kind, bits], n) => {
          const row = found.get(times[n] as number)
          assert.deepEqual(
            [row?.kind, row?.bits, row?.quality],
            [kind, bits, (n * 37) % 256],
            `${n}`,
          )
          assert.deepEqual(row?.tags, { line: 'l0' })
          assert.equal(row?.name, `${agent.name}.series-3`)
        })
        assert.equal(rows.length, patterns.length)
      })
      test('a text that would come out altered is refused', async () => {
        const { agent, first } = await given()
        for (const text of ['a\0b', '\ud800']) {
          const answer = await refusal(
            world.store,
            agent,
            first,
            first.segment(1, [point(0, 1, text)]),
          )
          assert.ok(answer.kind === 'blocked' && answer.code === 'HF-D022', JSON.stringify(answer))
        }
        assert.deepEqual(await points(agent), [])
      })
    })

    describe('dictionary', () => {
      test('entries may be sent again, in pieces, and are asked for where they are missing', async () => {
        const agent = createTestAgent(`agent-${++agents}`)
        const first = agent.epoch('first')
        const add = (from: number, to: number) =>
          world.store.addSeries(agent.name, first.epoch, from, agent.entries.slice(from, to))
        assert.equal((await add(0, 3)).kind, 'need-hello')
        await world.store.hello(first.hello())
        const frame = first.segment(1, [point(0, 1)])
        const missing = { kind: 'need-series', epoch: first.epoch, first: 0 }
        assert.deepEqual(await refusal(world.store, agent, first, frame), missing)
        assert.deepEqual(await add(0, 3), { kind: 'ok', known: 3 })
        assert.deepEqual(await add(5, 8), { ...missing, first: 3 })
        assert.deepEqual(await add(1, 5), { kind: 'ok', known: 5 })
        assert.deepEqual(await refusal(world.other, agent, first, frame), { ...missing, first: 5 })
        assert.deepEqual(await add(0, 8), { kind: 'ok', known: 8 })
        assert.deepEqual(await add(0, 8), { kind: 'ok', known: 8 })
        await commit(world.other, agent, first, frame)
      })
      test('another history under the same names is a fork', async () => {
        const { agent, first } = await given()
        const [a, b] = agent.entries
        assert.ok(a && b)
        const swapped = await world.store.addSeries(agent.name, first.epoch, 0, [b, a])
        assert.equal(swapped.kind, 'fork')
        const second = agent.epoch('second', first, { 1: 0 })
        await world.store.hello(second.hello())
        const renamed = { ...a, name: 'another name' }
        const collided = await world.store.addSeries(agent.name, second.epoch, 0, [renamed])
        assert.equal(collided.kind, 'fork')
        const frame = first.segment(1, [point(0, 1)])
        const hash = { ...frame, dictionaryHash: '1'.repeat(32) }
        assert.equal((await refusal(world.store, agent, first, hash)).kind, 'fork')
        await commit(world.store, agent, first, frame)
        const other = first.segment(1, [point(0, 9)], { variant: 'other' })
        assert.equal((await refusal(world.store, agent, first, other)).kind, 'fork')
        const next = first.segment(2, [point(0, 9)], { previousHash: '2'.repeat(32) })
        assert.equal((await refusal(world.store, agent, first, next)).kind, 'fork')
        assert.equal((await points(agent)).length, 1)
      })
    })

    describe('clones', () => {
      test('a restart follows its parent, also over openings nobody heard of', async () => {
        const { agent, first } = await given()
        await commit(world.store, agent, first, first.segment(1, [point(0, 1)]))
        const silent = agent.epoch('never heard', first, { 1: 1 })
        const third = agent.epoch('third', silent, { 1: 1 })
        const hello = third.hello({ epochs: [third.link] })
        const answer = await world.store.hello(hello)
        assert.equal(answer.kind, 'ok', JSON.stringify(answer))
        assert.deepEqual(answer.kind === 'ok' && answer.lanes, [
          { lane: 1, contiguous: 1, above: [] },
        ])
      })
      test('an opening left out and named again takes its place, below what came after it', async () => {
        const { agent, first } = await given()
        await commit(world.store, agent, first, first.segment(1, [point(0, 1)]))
        const second = agent.epoch('second', first, { 1: 1 })
        const third = agent.epoch('third', second, { 1: 2 })
        // The agent held nothing of the second while it said hello; this database has never heard of it.
        await agent.introduce(world.store, third, { epochs: [third.link] })
        await commit(world.store, agent, third, third.segment(3, [point(0, 1, 33)]))
        // It went back, and holds it again.
        const held = { epochs: [second.link, third.link] }
        assert.deepEqual(await standing(world.store, third, held), [1, [[3, 3]]])
        const { entries, name } = agent
        assert.equal((await world.store.addSeries(name, second.epoch, 0, entries)).kind, 'ok')
        await commit(
          world.store,
          agent,
          third,
          second.segment(2, [point(0, 1, 22), point(1, 1, 22)]),
        )
        assert.deepEqual(await standing(world.store, third, held), [3, []])
        const values = new Map((await points(agent)).map((row) => [row.seriesId, numberOf(row)]))
        assert.deepEqual([values.get(agent.id(0)), values.get(agent.id(1))], [33, 22])
      })
      test('a database that forgot all hears of the oldest opening last: that begins where it is, the younger behind it', async () => {
        const agent = createTestAgent(`agent-${++agents}`)
        const first = agent.epoch('first')
        const empty = agent.epoch('held nothing', first, { 1: 3 })
        const second = agent.epoch('second', empty, { 1: 3 })
        const identity = await world.store.identity()
        assert.ok(identity.kind === 'ok')
        const lastRegion = identity.region
        // The agent holds nothing of the first any more, and is asked for it all the same.
        await agent.introduce(world.store, second, { lastRegion, epochs: [second.link] })
        assert.deepEqual(
          await standing(world.store, second, { lastRegion, epochs: [second.link] }),
          [0, []],
        )
        // What it can only declare by a name unknown there is booked where the lane stands.
        await commit(world.store, agent, second, first.tombstone(1, 1, { count: 7 }))
        await commit(world.store, agent, second, second.segment(4, [point(0, 4)]))
        const both = { lastRegion, epochs: [first.link, empty.link, second.link] }
        assert.deepEqual(await standing(world.store, second, both), [1, [[4, 4]]])
        const { entries, name } = agent
        assert.equal((await world.store.addSeries(name, first.epoch, 0, entries)).kind, 'ok')
        await commit(world.store, agent, second, first.tombstone(1, 1, { count: 7 }))
        await commit(world.store, agent, second, first.segment(2, [point(0, 2)]))
        assert.deepEqual(await standing(world.store, second, both), [2, [[4, 4]]])
        await commit(world.store, agent, second, first.tombstone(3, 3, { count: 1 }))
        assert.deepEqual(await standing(world.store, second, both), [4, []])
        assert.deepEqual(
          await standing(world.store, second, { lastRegion, epochs: [second.link] }),
          [4, []],
        )
        const listed = await world.store.agents()
        assert.ok(listed.kind === 'ok')
        const row = listed.agents.find((each) => each.agent === agent.name)
        assert.deepEqual([row?.points, row?.declaredLost], [2, 8])
      })
      test('a late request of a parent that is gone fences nobody', async () => {
        const { agent, first } = await given()
        const second = agent.epoch('second', first, { 1: 2 })
        await agent.introduce(world.store, second)
        await commit(world.store, agent, first, first.segment(2, [point(0, 2)]))
        await commit(world.store, agent, second, second.segment(3, [point(0, 3)]))
        const answer = await commit(world.store, agent, second, first.segment(1, [point(0, 1)]))
        assert.deepEqual(answer.lanes, [{ lane: 1, contiguous: 3, above: [] }])
      })
      test('a parent that lives on after its child spoke: the child is the clone', async () => {
        const { agent, first } = await given()
        await commit(world.store, agent, first, first.segment(1, [point(0, 1)]))
        const clone = agent.epoch('clone', first, { 1: 1 })
        await agent.introduce(world.store, clone)
        await commit(world.store, agent, clone, clone.segment(2, [point(1, 2)]))
        await commit(world.store, agent, first, first.segment(2, [point(0, 2)]))
        const fenced = await refusal(world.store, agent, clone, clone.segment(3, [point(1, 3)]))
        assert.equal(fenced.kind, 'fenced')
        assert.equal((await world.other.hello(clone.hello())).kind, 'fenced')
        const heir = agent.epoch('heir of the clone', clone, { 1: 3 })
        assert.equal(
          (await world.store.hello(heir.hello())).kind,
          'fenced',
          'a restart frees nobody',
        )
        await commit(world.store, agent, first, first.segment(3, [point(0, 3)]))
        const listed = await world.store.agents()
        assert.ok(listed.kind === 'ok')
        const row = listed.agents.find((each) => each.agent === agent.name)
        assert.equal(row?.epoch, first.epoch)
        assert.ok(row?.fenced.includes(clone.epoch))
      })
      test('two children of one parent: the second is fenced until the first falls silent', async () => {
        const { agent, first } = await given()
        await commit(world.store, agent, first, first.segment(1, [point(0, 1)]))
        const left = agent.epoch('left', first, { 1: 1 })
        const right = agent.epoch('right', first, { 1: 1 })
        await agent.introduce(world.store, left)
        assert.equal((await world.store.hello(right.hello())).kind, 'fenced')
        const entries = agent.entries.slice(0, 1)
        const added = await world.store.addSeries(agent.name, right.epoch, 0, entries)
        assert.equal(added.kind, 'need-hello')
        await world.pass(599_000)
        assert.equal((await world.store.hello(right.hello())).kind, 'fenced')
        await world.store.hello(left.hello())
        await world.pass(300_000)
        assert.equal((await world.store.hello(right.hello())).kind, 'fenced')
        await world.pass(301_000)
        await agent.introduce(world.store, right)
        await commit(world.store, agent, right, right.segment(2, [point(0, 2)]))
        assert.deepEqual(await standing(world.store, right), [2, []])
        assert.equal(
          (await world.store.hello(left.hello())).kind,
          'fenced',
          'now the other one is late',
        )
      })
      test('a clock that was a day ahead keeps nobody out for a day', async () => {
        const { agent, first } = await given()
        const left = agent.epoch('left', first)
        const right = agent.epoch('right', first)
        await agent.introduce(world.store, left)
        await world.pass(-86_400_000)
        assert.equal((await world.store.hello(right.hello())).kind, 'fenced')
        await world.pass(601_000)
        assert.equal((await world.store.hello(right.hello())).kind, 'ok')
      })
      test('an operator admits a fenced one; then the other is fenced', async () => {
        const { agent, first } = await given()
        const left = agent.epoch('left', first, { 1: 0 })
        const right = agent.epoch('right', first, { 1: 0 })
        await agent.introduce(world.store, left)
        assert.equal((await world.store.hello(right.hello())).kind, 'fenced')
        assert.deepEqual(await world.store.admit(agent.name, right.epoch), { kind: 'ok' })
        await agent.introduce(world.store, right)
        await commit(world.store, agent, right, right.segment(1, [point(0, 1)]))
        const late = await refusal(world.store, agent, left, left.segment(1, [point(0, 1)]))
        assert.equal(late.kind, 'fenced')
        assert.notEqual((await world.store.admit(agent.name, 'f'.repeat(32))).kind, 'ok')
      })
    })

    describe('a database that forgot', () => {
      test('says so at the next hello and in the next ack', async () => {
        const { agent, first } = await given()
        const segment = (seq: Seq) => first.segment(seq, [point(0, seq)])
        await commit(world.store, agent, first, segment(1), segment(2))
        const identity = await world.store.identity()
        const back = await world.save()
        await commit(world.store, agent, first, segment(3), segment(4))
        const restored = await back()
        const now = await restored.identity()
        assert.ok(identity.kind === 'ok' && now.kind === 'ok')
        assert.equal(now.region, identity.region)
        const answer = await commit(restored, agent, first, segment(5))
        assert.deepEqual(answer.lanes, [{ lane: 1, contiguous: 2, above: [[5, 5]] }])
        assert.deepEqual(await standing(restored, first, { lastRegion: now.region, acked: 4 }), [
          2,
          [[5, 5]],
        ])
        await commit(restored, agent, first, segment(3), segment(4), segment(5))
        assert.deepEqual(await standing(restored, first), [5, []])
      })
      test('asks again for a dictionary and an epoch it no longer has', async () => {
        const { agent, first } = await given()
        await commit(world.store, agent, first, first.segment(1, [point(0, 1)]))
        const back = await world.save()
        const second = agent.epoch('second', first, { 1: 1 })
        await agent.introduce(world.store, second)
        await commit(world.store, agent, second, second.segment(2, [point(0, 2)]))
        const restored = await back()
        const frame = second.segment(3, [point(0, 3)])
        assert.equal((await refusal(restored, agent, second, frame)).kind, 'need-hello')
        assert.equal((await restored.hello(second.hello())).kind, 'ok')
        assert.equal((await refusal(restored, agent, second, frame)).kind, 'need-series')
        await agent.introduce(restored, second)
        await commit(restored, agent, second, second.segment(2, [point(0, 2)]), frame)
        assert.deepEqual(await standing(restored, second), [3, []])
      })
      test('takes what is gone for good as tombstones of epochs it never knew', async () => {
        const { agent, first } = await given()
        await commit(world.store, agent, first, first.segment(1, [point(0, 1)]))
        const gone = agent.epoch('lost with the restore', first, { 1: 3 })
        const third = agent.epoch('third', gone, { 1: 6 })
        const hello = third.hello({ epochs: [third.link] })
        const answer = await world.store.hello(hello)
        assert.ok(answer.kind === 'ok', JSON.stringify(answer))
        assert.deepEqual(answer.lanes, [{ lane: 1, contiguous: 1, above: [] }])
        const lost = gone.tombstone(2, 6, { reason: 'forgotten', count: 5 })
        const after = await commit(world.store, agent, third, lost)
        assert.deepEqual(after.lanes, [{ lane: 1, contiguous: 6, above: [] }])
      })
    })
  })
}

const keyOf = (row: ReadPoint): string => `${row.seriesId}/${row.timeUs}`
const numberOf = (row: ReadPoint): number =>
  new Float64Array(new BigUint64Array([row.bits as bigint]).buffer)[0] as number
