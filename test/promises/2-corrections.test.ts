/**
 * "The last accepted value standing, in whatever order it was sent": one history of corrections, told through three
 * doors to an agent with a calm life and to one with a stormy one, gives one table.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connectAsync, type MqttClient } from 'mqtt'
import { openLink } from '../../src/cli/demo/link.ts'
import type { Value } from '../../src/model.ts'
import { createRandom } from '../bench/recordings.ts'
import { databaseKinds, openDatabase, type TestDatabase } from '../support/databases.ts'
import { freePort } from '../support/processes.ts'
import { postPatiently } from '../support/publisher.ts'
import { startMosquitto } from '../support/servers.ts'
import { acceptedIn, createSite, type Site } from '../support/site.ts'
import { exact, type JournalPoint } from './checker.ts'

const doors = ['line', 'json', 'mqtt'] as const
interface Letter {
  readonly door: (typeof doors)[number]
  readonly points: readonly {
    readonly key: number
    readonly timeUs: number
    readonly value: Value
  }[]
}
const letters = 150
const pointsEach = 60

/** Few keys and many letters: each key is written over and over, by values of every kind, by every door. */
const history = ((): readonly Letter[] => {
  const random = createRandom(20_261_121)
  const made: readonly (() => Value)[] = [
    () => random() * 1e6 - 5e5,
    () => BigInt(Math.floor(random() * 2 ** 52)) * 1_000n,
    () => random() < 0.5,
    () => `correction ${Math.floor(random() * 1e9)} “ä”`,
  ]
  return Array.from({ length: letters }, (_, at) => ({
    door: doors[Math.floor(random() * doors.length)] as Letter['door'],
    points: Array.from({ length: pointsEach }, () => ({
      key: Math.floor(random() * 4),
      // A tail of new times, and corrections far behind it.
      timeUs: 1_800_000_000_000_000 + Math.floor(random() * (40 + at * 10)) * 1_000_000,
      value: (made[Math.floor(random() * 4)] as () => Value)(),
    })),
  }))
})()
const journal: readonly JournalPoint[] = history.flatMap(({ points }) =>
  points.map(({ key, timeUs, value }) => ({ ...exact(`fix.k${key}`, timeUs, value), acked: true })),
)
const total = journal.length

const inJson = (value: Value) => (typeof value === 'string' ? JSON.stringify(value) : String(value))
const typeOf = (value: Value) =>
  ({ number: 'float', bigint: 'int', boolean: 'bool', string: 'string' })[typeof value as 'number']

/** The rows of the region, as text: series, time, kind, bits or text, quality; not the order they were sent in. */
type Table = readonly string[]
interface Told {
  readonly table: Table
  /** How far behind the newest seal already there a row came in, and rows that a later one replaced. */
  readonly mostBehind: bigint
  readonly replaced: number
}

/** A letter is sent once the agent has accepted it: only then has "the last accepted" a meaning across doors. */
const createSender = (site: Site, publisher: MqttClient) => {
  const post = async (path: string, body: string) =>
    assert.equal(await postPatiently(site.door + path, body), 204)
  let accepted = 0
  return async ({ door, points }: Letter) => {
    accepted += points.length
    if (door === 'mqtt') {
      const items = points.map(
        ({ key, timeUs, value }) =>
          `{"key":${key},"at":${timeUs},"${typeOf(value)}":${inJson(value)}}`,
      )
      await publisher.publishAsync('fix/x', `{"points":[${items.join()}]}`, { qos: 1 })
      return void (await site.when((seen) => acceptedIn(seen) >= accepted))
    }
    if (door === 'json') {
      const items = points.map(
        ({ key, timeUs, value }) =>
          `{"series":"fix.k${key}","time":${timeUs},"type":"${typeOf(value)}","value":${inJson(value)}}`,
      )
      return await post('/api/v1/points?precision=us', `[${items.join()}]`)
    }
    const lines = points.map(
      ({ key, timeUs, value }) =>
        `fix k${key}=${inJson(value)}${typeof value === 'bigint' ? 'i' : ''} ${timeUs}`,
    )
    await post('/write?precision=us', lines.join('\n'))
  }
}

const ascending = (a: string, b: string) => (a < b ? -1 : 1)
const readTable = (site: Site): Promise<Told> =>
  site.withReadBack(async (back) => {
    const table: string[] = []
    for await (const row of back.readBack(site.name))
      table.push([row.name, row.timeUs, row.kind, row.bits, row.quality].join(' '))
    let [newest, mostBehind, replaced] = [0n, 0n, 0]
    for await (const { ord, op } of back.auditOf(site.name)) {
      if (op === 'update') replaced++
      if (ord > newest) newest = ord
      else if (newest - ord > mostBehind && ord >> 40n === newest >> 40n) mostBehind = newest - ord
    }
    return { table: table.toSorted(ascending), mostBehind, replaced }
  })

const tell = async (database: TestDatabase, name: string, stormy: boolean): Promise<Told> => {
  const broker = await startMosquitto({ quiet: true })
  const regionPort = await freePort()
  const link = await openLink(regionPort)
  const site = await createSite({
    ...database.site,
    ...{ agent: name, regionPort, relayPort: link.port },
    lanes: { raw: { max_delay: '1ms' } },
    spool: { commit_window: '5ms' },
    // So slow that what is corrected while the backlog drains overtakes it.
    destination: stormy ? { body_max: '16KiB', bandwidth: '50 kB/s', requests_in_flight: 2 } : {},
    sources: [
      {
        ...{ name: 'plant', type: 'mqtt', url: broker.url },
        subscribe: [
          {
            ...{ topic: 'fix/+', time: 'at', time_unit: 'us', items: 'points' },
            series: 'fix.k{item.key}',
            fields: { float: 'float', int: 'int', bool: 'bool', string: 'string' },
          },
        ],
      },
    ],
  })
  let regional = await site.startRegional()
  const startAgent = async () => {
    const running = await site.startAgent()
    await running.says('"connected"')
    return running
  }
  let agent = await startAgent()
  const publisher = await connectAsync(broker.url, { reconnectPeriod: 0 })
  const send = createSender(site, publisher)
  for (const [at, letter] of history.entries()) {
    if (stormy && at === 10) link.cut()
    // A correction may belong to a later epoch than what it corrects.
    if (stormy && at === 60) {
      await agent.kill()
      agent = await startAgent()
    }
    if (stormy && at === 110) {
      link.heal()
      // Corrections from here on overtake a backlog that is on its way.
      await site.when((seen) => seen.destinations[0]?.state === 'up')
    }
    if (stormy && at > 110) await new Promise((resolve) => setTimeout(resolve, 20))
    if (stormy && at === 130) {
      await regional.kill()
      regional = await site.startRegional()
    }
    await send(letter)
  }
  await site.drained(90, total)
  await agent.stop()
  await regional.stop()
  await publisher.endAsync()
  await broker.stop()
  await link[Symbol.asyncDispose]()
  const verdict = await site.verdict(journal)
  assert.deepEqual(verdict.reasons, [])
  assert.equal(verdict.delivered, total)
  return await readTable(site)
}

const tables = new Map<string, Table>()
for (const kind of databaseKinds) {
  test(`corrections by three doors, in order and through cuts and restarts: one table in ${kind}`, async () => {
    const database = await openDatabase(kind)
    const calm = await tell(database, 'calm', false)
    const stormy = await tell(database, 'stormy', true)
    await database.stop()
    assert.deepEqual(stormy.table, calm.table)
    assert.ok(calm.replaced > 0 && stormy.replaced > 0)
    // Else the storm was none: newer segments must have come long before older ones.
    assert.ok(stormy.mostBehind > 16n, `at most ${stormy.mostBehind} seals out of order`)
    tables.set(kind, calm.table)
  })
}
test('the embedded store holds the very table that PostgreSQL holds', () => {
  assert.deepEqual(tables.get('embedded'), tables.get('postgres'))
  assert.ok((tables.get('postgres') ?? []).length > 1_000)
})
