/**
 * The destination contract over the stand-ins of `test/standins` (InfluxDB 2 and 3, GreptimeDB, TDengine), real TLS
 * before them, and what only a server of theirs would do to our points. It proves no dialect: `proven.ts` is for real ones.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { influxDestination } from '../../src/destinations/influx.ts'
import type { Outcome } from '../../src/model.ts'
import { openGreptimedb } from '../standins/greptimedb.ts'
import type { StoredField } from '../standins/held.ts'
import type { Shell } from '../standins/http-shell.ts'
import { openInfluxdb2 } from '../standins/influxdb2.ts'
import { openInfluxdb3 } from '../standins/influxdb3.ts'
import { openTaosadapter } from '../standins/taosadapter.ts'
import { start } from '../support/processes.ts'
import { cliPath } from '../support/site.ts'
import { type RigOptions, runDestinationContract } from './destination.ts'
import { type HttpRig, makeHttpRig } from './destination-http.ts'
import { createTestLog, type LogPoint, type TestLog } from './destination-log.ts'
import { hostilePoints, saidOf } from './destination-names.ts'
import { configOf, shape, type Tried } from './destination-tried.ts'

const signal = new AbortController().signal
const stored = { kind: 'stored', rejected: [] }
const baseUs = Date.UTC(2026, 0, 1) * 1_000
const later = (log: TestLog): TestLog => ({
  ...log,
  add: (points) => log.add(points.map((point) => ({ ...point, timeUs: baseUs + point.timeUs }))),
})

interface Server extends Shell {
  readonly held: () => StoredField[]
  readonly config: object
  readonly wrong: object
}
type Name = 'influxdb2' | 'influxdb3' | 'greptimedb' | 'tdengine'
type Small = { readonly bodyBytesMax?: number; readonly keepDays?: number; readonly place?: string }
const open: Readonly<Record<Name, (small?: Small) => Promise<Server>>> = {
  influxdb2: async ({ bodyBytesMax, keepDays = 0, place = 'history' } = {}) => {
    const more = bodyBytesMax === undefined ? {} : { bodyBytesMax }
    const server = await openInfluxdb2({ buckets: { history: keepDays * 86_400 }, ...more })
    const config = { dialect: 'influxdb2', org: 'plant', bucket: place, token: 'token-of-plant' }
    return { ...server, held: () => server.stored('history'), config, wrong: { token: 'x' } }
  },
  influxdb3: async ({ bodyBytesMax, place = 'history' } = {}) => {
    const server = await openInfluxdb3(bodyBytesMax === undefined ? {} : { bodyBytesMax })
    const config = { dialect: 'influxdb3', database: place, token: 'apiv3_plant' }
    return { ...server, held: () => server.stored('history'), config, wrong: { token: 'x' } }
  },
  greptimedb: async ({ bodyBytesMax, place } = {}) => {
    const server = await openGreptimedb(bodyBytesMax === undefined ? {} : { bodyBytesMax })
    const where = place === undefined ? {} : { database: place }
    const config = { dialect: 'greptimedb', username: 'plant', password: 'secret', ...where }
    return { ...server, held: () => server.stored('public'), config, wrong: { password: 'x' } }
  },
  tdengine: async ({ keepDays = 3_650, place = 'plant' } = {}) => {
    const databases = {
      plant: { precision: 'us', keepDays },
      coarse: { precision: 'ms', keepDays },
    } as const
    const server = await openTaosadapter({ databases })
    const login = { username: 'root', password: 'taosdata' }
    const config = { dialect: 'tdengine', database: place, ...login }
    return { ...server, held: () => server.stored('plant'), config, wrong: { password: 'x' } }
  },
}
const names = Object.keys(open) as Name[]
/** Those with one measurement a name, where a field has one type. */
const typed = names.filter((name) => name !== 'tdengine')

interface StandInRig extends HttpRig {
  readonly server: Server
  readonly held: () => StoredField[]
}
const makeRig = async (
  name: Name,
  options: RigOptions = {},
  small: Small = {},
): Promise<StandInRig> => {
  const server = await open[name](small)
  const held = () => server.held().filter(({ table }) => table !== 'holdfast_gaps')
  const far = { url: server.url, arrived: async () => held().length }
  const config = { ...server.config, ...(options.fault === 'credentials' ? server.wrong : {}) }
  const log = later(createTestLog('gw-7'))
  const rig = await makeHttpRig(influxDestination, far, log, config, options, Number.NaN)
  const close = async () => {
    await rig[Symbol.asyncDispose]()
    await server[Symbol.asyncDispose]()
  }
  return { ...rig, server, held, [Symbol.asyncDispose]: close }
}
for (const name of names)
  runDestinationContract(`stand-in, ${name}`, (options) => makeRig(name, options), [
    'answers',
    'bad-point',
    'credentials',
    'lost-answer',
    'server-expired',
    'server-of-other-ca',
    'server-of-other-host',
  ])

const losing = (outcome: Outcome) =>
  outcome.kind !== 'stored' || outcome.rejected.length > 0
    ? outcome
    : (outcome.lost ?? []).map(({ seq, count }) => [seq, count])
const valuesOf = (rows: readonly StoredField[]) => rows.map(({ value }) => value.value)

test('stand-ins: every kind of value comes back as it went, and once', async () => {
  const floats = [0.1, -0, 5e-324, 1.7976931348623157e308, 3.0000000000000004, 1e21, -1e-7]
  const ints = [9_223_372_036_854_775_807n, -9_223_372_036_854_775_807n, 0n]
  const texts = ['a "b" \\', 'two\\\\', ' , = ', 'grün 🌡', '']
  const points: LogPoint[] = [
    ...floats.map((value, at) => ({ name: 'm_1.float', timeUs: at, value })),
    ...ints.map((value, at) => ({ name: 'm_1.int', timeUs: at, value })),
    ...texts.map((value, at) => ({ name: 'm_1.text', timeUs: at, value })),
    { name: 'm_1.on', timeUs: 0, value: true },
  ]
  for (const name of names) {
    await using rig = await makeRig(name)
    const batch = rig.log.batch([rig.log.add(points)])
    for (const _ of ['sent', 'sent again'])
      assert.deepEqual(await rig.destination.send(batch, signal), stored, name)
    const of = (field: string) =>
      rig
        .held()
        .filter((row) =>
          name === 'tdengine'
            ? row.table === 'points' && row.tags.series === `m_1.${field}`
            : row.table === 'm_1' && row.field === field,
        )
    const all = { float: floats, int: ints, text: texts, on: [true] }
    for (const [field, values] of Object.entries(all)) {
      assert.deepEqual(valuesOf(of(field)), values, `${name}: ${field}`)
      assert.deepEqual(
        of(field).map((row) => Number(row.timeNs / 1_000n) - baseUs),
        values.map((_, at) => at),
      )
    }
    assert.equal(of('float')[0]?.tags.plant, 'north')
  }
})

test('stand-ins: a string with a line break is stored as it is, or declared lost', async () => {
  for (const name of names) {
    await using rig = await makeRig(name)
    const points = ['a\nb', 'plain'].map((value, timeUs) => ({ name: 'm.t', timeUs, value }))
    const outcome = await rig.destination.send(rig.log.batch([rig.log.add(points)]), signal)
    assert.deepEqual(losing(outcome), name === 'tdengine' ? [[1, 1]] : [], name)
    assert.deepEqual(valuesOf(rig.held()), name === 'tdengine' ? ['plain'] : ['a\nb', 'plain'])
  }
})

test('stand-ins: one point among 10,000 that the server refuses is found; the others stand', async () => {
  for (const name of typed) {
    await using rig = await makeRig(name)
    const { destination, log, leftOut } = rig
    const first = log.add([{ name: 'm.v', timeUs: 0, value: 1 }])
    assert.deepEqual(await destination.send(log.batch([first]), signal), stored, name)
    const many = Array.from({ length: 10_000 }, (_, at) => ({
      name: 'm.v',
      timeUs: 1 + at,
      value: at === 7_321 ? 'offline' : at / 7,
    }))
    const batch = log.batch([log.add(many)])
    assert.deepEqual(losing(await destination.send(batch, signal)), [[2, 1]], name)
    assert.equal(await rig.arrived(), 10_000, name)
    assert.deepEqual(leftOut, { refused: 1 }, name)
    // InfluxDB 3 says which line it was, and each request waits there for its log to be flushed.
    if (name === 'influxdb3') assert.ok(rig.server.asked() < 8, `${rig.server.asked()} requests`)
  }
})

test('stand-ins: a series of another type there costs its own points, whatever their number', async () => {
  for (const name of typed) {
    await using rig = await makeRig(name)
    const { destination, log, server } = rig
    const text = log.add([{ name: 'm.v', timeUs: 0, value: 'on' }])
    assert.deepEqual(await destination.send(log.batch([text]), signal), stored, name)
    const mixed = Array.from({ length: 1_000 }, (_, at) => ({
      name: at % 2 === 0 ? 'm.v' : 'n.v',
      timeUs: 1 + at,
      value: at,
    }))
    const outcome = await destination.send(log.batch([log.add(mixed)]), signal)
    assert.deepEqual(losing(outcome), [[2, 500]], name)
    assert.equal(await rig.arrived(), 501, name)
    assert.ok(server.asked() < 200, `${name}: ${server.asked()} requests`)
  }
})

test('stand-ins: a database that is not there pauses, with its own code', async () => {
  for (const name of names) {
    if (name === 'influxdb3') continue
    await using rig = await makeRig(name, {}, { place: 'nowhere' })
    const batch = rig.log.batch([rig.log.add([{ name: 'm.v', timeUs: 0, value: 1 }])])
    const said = await rig.destination.send(batch, signal)
    assert.ok(said.kind === 'blocked' && said.code === 'HF-F121', `${name} ${JSON.stringify(said)}`)
  }
})

test('stand-ins: each throttles in its own way', async () => {
  const afterMs = {
    influxdb2: 1_000,
    influxdb3: undefined,
    greptimedb: undefined,
    tdengine: 120_000,
  }
  for (const name of names) {
    await using rig = await makeRig(name)
    const batch = rig.log.batch([rig.log.add([{ name: 'm.v', timeUs: 0, value: 1 }])])
    rig.server.overload(1)
    const said = await rig.destination.send(batch, signal)
    assert.ok(
      said.kind === 'later' && said.afterMs === afterMs[name],
      `${name} ${JSON.stringify(said)}`,
    )
    assert.deepEqual(await rig.destination.send(batch, signal), stored, name)
  }
})

test('stand-ins: a segment larger than the server takes is cut until it fits', async () => {
  for (const name of typed) {
    await using rig = await makeRig(name, {}, { bodyBytesMax: 20_000 })
    const { destination, log, leftOut } = rig
    const many = Array.from({ length: 5_000 }, (_, at) => ({
      name: 'm.v',
      timeUs: at,
      value: Math.sin(at),
    }))
    assert.deepEqual(await destination.send(log.batch([log.add(many)]), signal), stored, name)
    assert.equal(await rig.arrived(), 5_000, name)
    assert.deepEqual(leftOut, {}, name)
  }
})

test('stand-ins: points older than the server keeps are counted, whatever their number, and the young stand', async () => {
  for (const name of ['influxdb2', 'tdengine'] as const) {
    await using rig = await makeRig(name, {}, { keepDays: 30 })
    const { destination, log, leftOut, server } = rig
    const nowUs = Date.now() * 1_000 - baseUs
    const ago = (days: number, at: number) => nowUs - days * 86_400_000_000 + at
    const old = Array.from({ length: 2_000 }, (_, at) => ({
      name: 'm.v',
      timeUs: ago(60, at),
      value: at,
    }))
    assert.deepEqual(
      losing(await destination.send(log.batch([log.add(old)]), signal)),
      [[1, 2_000]],
      name,
    )
    assert.ok(server.asked() < 10, `${name}: ${server.asked()} requests for nothing but old points`)
    const young = old.map((point, at) => ({ ...point, timeUs: ago(1, at) }))
    const both = log.add([...old, ...young])
    assert.deepEqual(losing(await destination.send(log.batch([both]), signal)), [[2, 2_000]], name)
    assert.equal(await rig.arrived(), 2_000, name)
    assert.deepEqual(leftOut, { retention: 4_000 }, name)
    // Their gap records, whose own times are too old as well, are told as of now.
    const gaps = server
      .held()
      .filter(({ table, field }) => table === 'holdfast_gaps' && field === 'count')
    assert.deepEqual(
      gaps.map(({ value }) => value.value),
      [2_000n, 2_000n],
      name,
    )
    assert.ok(server.asked() < 80, `${name}: ${server.asked()} requests`)
  }
})

test('stand-in, influxdb2: at the edge of its retention a point is stored or declared lost, never both', async () => {
  await using rig = await makeRig('influxdb2', {}, { keepDays: 30 })
  const nowUs = Date.now() * 1_000 - baseUs
  // What a shard of a day covers is taken beside a younger point of it, and refused without one.
  const points = Array.from({ length: 200 }, (_, at) => ({
    name: 'm.v',
    timeUs: nowUs - 32 * 86_400_000_000 + ((at * 7) % 200) * 1_800_000_000,
    value: at,
  }))
  const outcome = await rig.destination.send(rig.log.batch([rig.log.add(points)]), signal)
  assert.ok(outcome.kind === 'stored', JSON.stringify(outcome))
  const refused = outcome.lost?.flatMap((one) => one.refused?.flatMap(({ at }) => at) ?? []) ?? []
  const held = new Set(rig.held().map(({ timeNs }) => Number(timeNs / 1_000n)))
  const both = refused.filter((at) => held.has(baseUs + (points[at]?.timeUs ?? 0)))
  assert.deepEqual(both, [])
  assert.equal(held.size + refused.length, points.length)
  assert.ok(held.size > 90 && refused.length > 40, `${held.size} ${refused.length}`)
})

test('stand-ins: hostile names and tags are stored as they are, or declared lost', async () => {
  for (const name of names) {
    await using rig = await makeRig(name)
    const { destination, log } = rig
    const points = hostilePoints
    // Each many times: a name that cannot be must not stop the others by the number of its points.
    const all = Array.from({ length: 30 }, (_, round) =>
      points.map((point) => ({ ...point, timeUs: point.timeUs + round * 10_000 })),
    ).flat()
    const outcome = await destination.send(log.batch([log.add(all)]), signal)
    assert.ok(outcome.kind === 'stored', `${name} ${JSON.stringify(outcome)}`)
    const held = rig.held()
    const lost = outcome.lost?.reduce((sum, { count }) => sum + count, 0) ?? 0
    assert.equal(held.length + lost, all.length, `${name}: ${held.length} stored, ${lost} lost`)
    assert.ok(rig.leftOut.refused === undefined, `${name}: ${JSON.stringify(rig.leftOut)}`)
    for (const { table, field, tags, timeNs } of held) {
      const at = (Number(timeNs / 1_000n) - baseUs) % 10_000
      const point = points.find(({ timeUs }) => timeUs === at) as LogPoint
      const [[key, value] = ['plant', 'north']] = point.tags ?? []
      assert.equal(tags[key], value, `${name} ${JSON.stringify([point.name, tags])}`)
      if (name === 'tdengine') {
        assert.equal(tags.series, point.name)
        continue
      }
      assert.deepEqual([table, field], saidOf(point.name), name)
    }
    assert.ok(
      held.length > 30 * 25,
      `${name}: only ${held.length / 30} of ${points.length} names can be said`,
    )
  }
})

test('stand-in, influxdb3: a limit of its schema pauses, and drops nothing', async () => {
  await using rig = await makeRig('influxdb3')
  const { destination, log, leftOut } = rig
  const wide = Array.from({ length: 600 }, (_, at) => ({ name: `m.f${at}`, timeUs: 0, value: at }))
  const said = await destination.send(log.batch([log.add(wide)]), signal)
  assert.ok(said.kind === 'blocked' && said.code === 'HF-F122', JSON.stringify(said))
  assert.match(said.text, /columns per table limit of 500/)
  assert.deepEqual(leftOut, {})
})

test('stand-in, tdengine: a database of milliseconds would lose points without a word: it pauses', async () => {
  await using rig = await makeRig('tdengine', {}, { place: 'coarse' })
  const said = await rig.destination.standing(rig.log.standing(0), signal)
  assert.ok(said.kind === 'blocked' && said.code === 'HF-F124', JSON.stringify(said))
  // "destination test" says it too.
  await using server = await open.tdengine({ place: 'coarse' })
  const path = configOf([{ name: 'taos', type: 'influx', url: server.url, ...server.config }])
  const asked = ['destination', 'test', 'taos', '--json', '-c', path]
  const running = start(process.execPath, [cliPath, ...asked])
  assert.equal(await running.ended, 1)
  const { steps } = JSON.parse(running.output()) as Tried
  assert.deepEqual(shape(steps), ['dns ok', 'tcp ok', 'hello ok', 'ready BAD'])
  assert.equal(steps.at(-1)?.code, 'HF-F124')
})

test('stand-in, tdengine: a string without end costs itself, not the numbers after it', async () => {
  await using rig = await makeRig('tdengine')
  const { destination, log } = rig
  const texts = [70_000, 65_516, 64_990, 10].map((length, timeUs) => ({
    name: 'm.t',
    timeUs,
    value: '"'.repeat(length / 2),
  }))
  const outcome = await destination.send(log.batch([log.add(texts)]), signal)
  assert.deepEqual(losing(outcome), [[1, 2]])
  const kinds = [1.5, 2n, true].map((value, at) => ({ name: 'm.n', timeUs: at, value }))
  assert.deepEqual(await destination.send(log.batch([log.add(kinds)]), signal), stored)
  assert.equal(await rig.arrived(), 5)
})

test('stand-in, tdengine: 1970 itself is no time there, and is declared lost', async () => {
  await using rig = await makeRig('tdengine')
  const points = [-baseUs, 1].map((timeUs) => ({ name: 'm.v', timeUs, value: 1 }))
  const batch = rig.log.batch([rig.log.add(points)])
  assert.deepEqual(losing(await rig.destination.send(batch, signal)), [[1, 1]])
  assert.equal(await rig.arrived(), 1)
})

test('stand-ins: "destination test" is told what a write of nothing is told', async () => {
  for (const name of names)
    for (const right of [true, false]) {
      await using server = await open[name]()
      const config = {
        type: 'influx',
        url: server.url,
        ...server.config,
        ...(right ? {} : server.wrong),
      }
      const links = influxDestination.link?.(influxDestination.config.parse(config), 'gw-7')
      const hello = [links ?? []].flat()[0]?.hello
      assert.ok(hello !== undefined)
      const { path, headers = {}, body } = hello
      const answer = await fetch(`${server.url}${path}`, {
        method: 'POST',
        headers,
        body: new Uint8Array(body as Uint8Array),
      })
      const reply = {
        status: answer.status,
        headers: Object.fromEntries(answer.headers),
        body: new Uint8Array(await answer.arrayBuffer()),
      }
      const said = hello.read(reply)
      assert.deepEqual(
        [said.good, said.code],
        right ? [true, ''] : [false, 'HF-F120'],
        `${name} ${said.text}`,
      )
    }
})
