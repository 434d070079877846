/**
 * An agent before InfluxDB 1, VictoriaMetrics and QuestDB (InfluxDB 2 where there is one), all as processes: SIGKILLs of the agent, outages of the server,
 * points the server cannot hold. The checker judges by the publisher's journal and what is read from the server: its
 * rows, and its own gap records.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gapsMeasurement } from '../../src/destinations/influx-losses.ts'
import { influxPlan } from '../../src/destinations/influx-plan.ts'
import { kinds } from '../../src/model.ts'
import { check, type ExactPoint, type GapFound } from '../../src/verify/checker.ts'
import { influxUser, startInflux, startVictoria } from '../support/influx-servers.ts'
import { influxd2, startInflux2 } from '../support/influxdb2.ts'
import { createHttpPublisher } from '../support/publisher.ts'
import { questdbMissing, startQuestdb, statementsOf } from '../support/questdb.ts'
import { createSite } from '../support/site.ts'

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const bitsOf = (value: number) => new BigUint64Array(new Float64Array([value]).buffer)[0] as bigint
const kills = 20
const startUs = 1_790_000_000_000_000

interface Historian {
  readonly config: object
  readonly stop: () => Promise<void>
  /** As hard as it can be met without losing what it has acked. */
  readonly fall: () => Promise<void>
  readonly rise: () => Promise<void>
  /** Strings beside floats, too. */
  readonly holdsAll?: boolean
  readonly rows: () => Promise<readonly ExactPoint[]>
  readonly gaps: () => Promise<readonly GapFound[]>
}
const row = (series: string, timeUs: number, value: number | string): ExactPoint => ({
  ...{ series, timeUs, quality: 0 },
  ...(typeof value === 'string'
    ? { kind: kinds.string, bits: 0n, text: value }
    : { kind: kinds.float, bits: bitsOf(value), text: null }),
})

const influx1 = async (): Promise<Historian> => {
  const server = await startInflux()
  await server.query('CREATE DATABASE plant')
  return {
    config: { dialect: 'influxdb1', url: server.url, database: 'plant', ...influxUser },
    stop: server.stop,
    fall: server.kill,
    rise: server.restart,
    rows: async () =>
      (await server.points('plant')).map(([name, timeUs, value]) =>
        row(`${name}.value`, timeUs, value as number),
      ),
    gaps: async () =>
      (
        await server.query('SELECT "count", from_us, to_us, reason FROM holdfast_gaps', 'plant')
      ).map(([, count, timeUsMin, timeUsMax, reason]) => {
        assert.equal(reason, 'rejected')
        return { reason, count: Number(count), timeUsMin, timeUsMax } as GapFound
      }),
  }
}
const influx2 = async (): Promise<Historian> => {
  const server = await startInflux2()
  const id = await server.bucket('plant')
  const { token } = await server.tokenFor(id, 'write')
  const { org, url } = server
  return {
    config: { dialect: 'influxdb2', url, org, bucket: 'plant', token },
    stop: server.stop,
    fall: server.kill,
    rise: server.restart,
    rows: async () =>
      (await server.rows('plant'))
        .filter(({ table }) => table !== gapsMeasurement)
        .map(({ table, field, timeNs, value: { value } }) =>
          row(`${table}.${field}`, Number(timeNs / 1_000n), value as number | string),
        ),
    gaps: async () => {
      const all = (await server.rows('plant')).filter(({ table }) => table === gapsMeasurement)
      const records = Map.groupBy(all, ({ tags, timeNs }) => `${tags.reason} ${timeNs}`)
      return [...records.values()].map((fields) => {
        const of = (name: string) => Number(fields.find(({ field }) => field === name)?.value.value)
        const times = { timeUsMin: of('from_us'), timeUsMax: of('to_us') }
        return { reason: 'rejected', count: of('count'), ...times }
      })
    },
  }
}
const victoria = async (): Promise<Historian> => {
  const server = await startVictoria()
  const samples = () => server.samples('plant')
  return {
    config: { dialect: 'victoriametrics', url: server.url, database: 'plant' },
    stop: server.stop,
    // It answers before it has written anything to disk: a SIGKILL would lose what it has acked.
    fall: server.stop,
    rise: server.restart,
    rows: async () =>
      (await samples())
        .filter(([name]) => name.endsWith('_value'))
        .map(([name, ms, value]) => row(name.replace(/_value$/, '.value'), ms * 1_000, value)),
    gaps: async () => {
      const all = await samples()
      const at = (field: string) =>
        new Map(
          all
            .filter(([name]) => name === `holdfast_gaps_${field}`)
            .map(([, ms, value]) => [ms, value]),
        )
      const [from, to] = [at('from_us'), at('to_us')]
      return [...at('count')].map(([ms, count]) => {
        const times = { timeUsMin: from.get(ms) ?? -1, timeUsMax: to.get(ms) ?? -1 }
        return { reason: 'rejected', count, ...times }
      })
    },
  }
}

const questdb = async (): Promise<Historian> => {
  const server = await startQuestdb()
  for (const statement of statementsOf(influxPlan('questdb', {}))) await server.query(statement)
  return {
    config: { dialect: 'questdb', url: server.url, ...server.user },
    stop: server.stop,
    fall: server.kill,
    rise: server.restart,
    holdsAll: true,
    rows: async () =>
      (
        await server.query(
          'SELECT series, cast(timestamp AS long), coalesce(value_text, cast(value AS varchar)), value FROM points',
        )
      ).map(([series, timeUs, text, value]) =>
        row(String(series), Number(timeUs), value === null ? String(text) : Number(value)),
      ),
    gaps: async () => {
      assert.deepEqual(await server.query('SELECT * FROM holdfast_gaps'), [])
      return []
    },
  }
}

const suffer = async (open: () => Promise<Historian>) => {
  const historian = await open()
  const site = await createSite({
    destination: { name: 'historian', type: 'influx', tls: undefined, ...historian.config },
  })
  let agent = await site.startAgent()
  // Once each series is known as a float, now and then one says a word: only QuestDB can hold that.
  // Never -0 (the 17,750th would be): the text sent has none, the journal would.
  const valueAt = (nth: number) =>
    nth > 40 && nth % 89 === 0 ? 'offline' : Math.round(Math.sin(nth / 50) * 10_000) / 10 + 0
  const publisher = createHttpPublisher(() => site.door, { startUs, valueAt })
  await publisher.send(40)
  await site.drained(30, 40)
  const stop = new AbortController()
  const flood = publisher.flood(40, stop.signal)
  try {
    for (let kill = 0; kill < kills; kill++) {
      await publisher.ackedMore(80)
      await pause(100 + Math.random() * 200)
      const outage = kill % 5 === 1
      if (outage) await historian.fall()
      if (outage) await pause(300)
      await agent.kill()
      agent = await site.startAgent()
      if (outage) await historian.rise()
    }
  } finally {
    stop.abort()
    await flood
  }
  await publisher.send(10)
  const { lanes } = await site.drained(60)
  await agent.stop()

  const [rows, gaps, journal] = [
    await historian.rows(),
    await historian.gaps(),
    publisher.journal(),
  ]
  const evidence = { journal: [journal], rows: [rows], gaps, delivered: rows.length }
  const verdict = await check({ ...evidence, reduced: 0, pending: 0 })
  assert.deepEqual(verdict.reasons, [])
  assert.ok(verdict.accepted > kills * 40, `only ${verdict.accepted} points were accepted`)
  assert.equal(verdict.declared_lost === 0, historian.holdsAll === true)
  // What the agent itself says of it is the same.
  const [{ accepted, readers }] = lanes as [(typeof lanes)[0]]
  assert.deepEqual(
    readers.map(({ delivered, declaredLost, pending }) => [delivered, declaredLost, pending]),
    [[verdict.delivered, verdict.declared_lost, 0]],
  )
  assert.equal(accepted, verdict.accepted)
  // The checker can see: a row or a gap record less is a point missing.
  const less = [
    { ...evidence, rows: [rows.slice(1)], delivered: rows.length - 1 },
    ...(gaps.length === 0 ? [] : [{ ...evidence, gaps: [] }]),
  ]
  for (const one of less) assert.ok((await check({ ...one, reduced: 0, pending: 0 })).missing > 0)
  await historian.stop()
}

test(`InfluxDB 1: ${kills} × SIGKILL of the agent, SIGKILLs of the server: accepted = delivered + lost`, () =>
  suffer(influx1))
test(`VictoriaMetrics: ${kills} × SIGKILL of the agent, outages: accepted = delivered + lost`, () =>
  suffer(victoria))
test(
  `QuestDB: ${kills} × SIGKILL of the agent, SIGKILLs of the server: everything once`,
  {
    skip: questdbMissing,
  },
  () => suffer(questdb),
)
if (influxd2 !== undefined)
  test(`InfluxDB 2: ${kills} × SIGKILL of the agent, SIGKILLs of the server: accepted = delivered + lost`, () =>
    suffer(influx2))
