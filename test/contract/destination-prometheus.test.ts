/** The destination contract over a real Prometheus, real TLS before it. */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, test } from 'node:test'
import { prometheusDestination } from '../../src/destinations/prometheus.ts'
import { killAll } from '../support/processes.ts'
import {
  type PrometheusOptions,
  prometheusUser,
  startPrometheus,
} from '../support/prometheus-server.ts'
import { type RigOptions, runDestinationContract } from './destination.ts'
import { type HttpRig, makeHttpRig } from './destination-http.ts'
import { createTestLog, type TestLog } from './destination-log.ts'

after(killAll)
const inOrder = startPrometheus()
const withWindow = startPrometheus({ outOfOrderWindow: '30m' })
const withLogin = startPrometheus({ login: true })
const signal = new AbortController().signal
const stored = { kind: 'stored', rejected: [] }

/** Prometheus takes what is near now: the log's microseconds are milliseconds of this run. */
const baseMs = Date.now() - 600_000
const atUs = (ms: number) => (baseMs + ms) * 1_000
const nearNow = (log: TestLog): TestLog => ({
  ...log,
  add: (points) => log.add(points.map((point) => ({ ...point, timeUs: atUs(point.timeUs) }))),
})
let agents = 0
interface PrometheusRig extends HttpRig {
  /** Name, milliseconds, value. */
  readonly samples: () => Promise<[string, number, string][]>
}
const makeRig = async (
  options: RigOptions = {},
  at = inOrder,
  config = {},
): Promise<PrometheusRig> => {
  const server = await at
  // Each rig has labels of its own in the one server.
  const agent = `gw-${agents++}`
  const samples = async () =>
    (await server.samples(`{agent="${agent}"}`)).map(
      ({ labels, ms, value }): [string, number, string] => [
        labels.__name__ ?? '',
        ms - baseMs,
        value,
      ],
    )
  const far = { url: server.url, arrived: async () => (await samples()).length }
  const log = nearNow(createTestLog('gw-7'))
  const of = {
    ...prometheusDestination,
    create: (deps, settings) => prometheusDestination.create({ ...deps, agent }, settings),
  } satisfies typeof prometheusDestination
  return { ...(await makeHttpRig(of, far, log, config, options, 'offline')), samples }
}
const window = { out_of_order_window: '30m' }
runDestinationContract('prometheus, in order', makeRig, [
  'answers',
  'bad-point',
  'lost-answer',
  'server-expired',
  'server-of-other-ca',
  'server-of-other-host',
])
runDestinationContract(
  'prometheus, with an out-of-order window',
  (options) => makeRig(options, withWindow, window),
  ['answers', 'lost-answer'],
)

const makeLoginRig = (options: RigOptions = {}) => {
  const password = options.fault === 'credentials' ? 'of-somebody-else' : prometheusUser.password
  return makeRig(options, withLogin, { ...prometheusUser, password })
}
runDestinationContract('prometheus, with a password', makeLoginRig, ['credentials', 'lost-answer'])

/** Mimir's paths and its tenant, and nothing else of it, before a real Prometheus. */
const openMimicry = async (url: string, tenant: string) => {
  const paths: Readonly<Record<string, string>> = {
    '/api/v1/push': '/api/v1/write',
    '/prometheus/api/v1/query': '/api/v1/query',
  }
  const asked = new Map<string, number>()
  const server = createServer(async (request, response) => {
    const path = paths[request.url ?? '']
    asked.set(request.url ?? '', (asked.get(request.url ?? '') ?? 0) + 1)
    const parts: Buffer[] = []
    for await (const part of request) parts.push(part as Buffer)
    if (path === undefined) return response.writeHead(404).end('404 page not found')
    if (request.headers['x-scope-orgid'] !== tenant) return response.writeHead(401).end('no org id')
    const headers = Object.fromEntries(
      ['content-type', 'content-encoding'].map((name) => [
        name,
        String(request.headers[name] ?? ''),
      ]),
    )
    const answer = await fetch(`${url}${path}`, {
      ...{ method: 'POST', headers, body: Buffer.concat(parts) },
    })
    // Mimir answers 200 without a body.
    const status = answer.status === 204 ? 200 : answer.status
    return response.writeHead(status).end(Buffer.from(await answer.arrayBuffer()))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  after(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}`, asked }
}
const mimicry = inOrder.then(({ url }) => openMimicry(url, 'plant'))
const makeMimicRig = async (options: RigOptions = {}, more = {}) => {
  const [server, { url }] = [await inOrder, await mimicry]
  const there = { path: '/api/v1/push', query_url: `${url}/prometheus`, tenant: 'plant', ...more }
  return makeRig(options, Promise.resolve({ ...server, url }), there)
}
runDestinationContract('prometheus, other paths and a tenant', makeMimicRig, [
  'bad-point',
  'lost-answer',
])
test('prometheus: a path or tenant that is not there pauses it; without a query nothing is lost either', async () => {
  const points = [{ name: 'm.v', timeUs: 1_000, value: 1 }]
  for (const [more, code] of [
    [{ path: '/api/v1/write' }, 'HF-F161'],
    [{ tenant: 'another' }, 'HF-F160'],
    [{ tenant: undefined }, 'HF-F160'],
  ] as const) {
    await using rig = await makeMimicRig({}, more)
    const said = await rig.destination.send(rig.log.batch([rig.log.add(points)]), signal)
    assert.ok(said.kind === 'blocked' && said.code === code, JSON.stringify(said))
  }
  await using rig = await makeMimicRig({}, { query_url: undefined })
  const batch = rig.log.batch([rig.log.add(points)])
  assert.deepEqual(await rig.destination.send(batch, signal), stored)
  const late = rig.log.batch([rig.log.add([{ name: 'm.v', timeUs: 500, value: 1 }])])
  const said = await rig.destination.send(late, signal)
  assert.ok(said.kind === 'blocked' && said.code === 'HF-F163', JSON.stringify(said))
  assert.match(said.hint, /query_url/)
  assert.ok(((await mimicry).asked.get('/prometheus/api/v1/query') ?? 0) > 0)
})

test('prometheus: two gateways whose series have a tag `agent` of the plant’s keep theirs apart', async () => {
  const rigs = [await makeRig(), await makeRig()]
  const server = await inOrder
  const tags = [['agent', 'robot-1']] as const
  for (const [nth, { destination, log }] of rigs.entries()) {
    const item = log.add([{ name: 'arm.angle', timeUs: 1_000, value: nth, tags }])
    assert.deepEqual(await destination.send(log.batch([item]), signal), stored)
  }
  const held = await server.samples('{exported_agent="robot-1"}')
  assert.deepEqual(held.map(({ value }) => value).sort(), ['0', '1'])
  assert.equal(new Set(held.map(({ labels }) => labels.agent)).size, 2)
  for (const rig of rigs) await rig[Symbol.asyncDispose]()
})

test('prometheus: what float64 and milliseconds hold comes back; the rest is left out and counted', async () => {
  await using rig = await makeRig()
  const values = [0.1, -0, 5e-324, 1.7976931348623157e308, Number.POSITIVE_INFINITY]
  const points = [
    ...values.map((value, at) => ({ name: 'm.float', timeUs: at, value })),
    { name: 'm.nan', timeUs: 0, value: Number.NaN },
    { name: 'm.on', timeUs: 0, value: true },
    { name: 'm.int', timeUs: 0, value: 9_007_199_254_740_992n },
    { name: 'm.int', timeUs: 1, value: 9_007_199_254_740_993n },
    { name: 'm.text', timeUs: 0, value: 'offline' },
    { name: 'm.twice', timeUs: 7, value: 1 },
    { name: 'm.twice', timeUs: 7.5, value: 2 },
  ]
  const said = await rig.destination.send(rig.log.batch([rig.log.add(points)]), signal)
  const times = { timeUsMin: atUs(0), timeUsMax: atUs(7) }
  const refused = [
    {
      why: 'value',
      text: 'Prometheus holds no integer as large as 9007199254740993',
      at: [8],
    },
    { why: 'value', text: 'Prometheus holds no strings', at: [9] },
    { why: 'time', text: 'a later point has the same millisecond', at: [10] },
  ]
  const lost = [{ seq: 1, reason: 'rejected', count: 3, source: '', ...times, refused }]
  assert.deepEqual(said, { ...stored, lost })
  assert.deepEqual(rig.leftOut, { value: 2, time: 1 })
  const held = new Map((await rig.samples()).map(([name, ms, value]) => [`${name}@${ms}`, value]))
  assert.deepEqual(
    values.map((_, at) => Number(held.get(`m_float@${at}`)?.replace('Inf', 'Infinity'))),
    values,
  )
  assert.deepEqual(
    ['m_nan@0', 'm_on@0', 'm_int@0', 'm_twice@7'].map((key) => held.get(key)),
    ['NaN', '1', '9007199254740992', '2'],
  )
  assert.equal(held.size, values.length + 4)
})

test('prometheus: points of one segment that came out of order are sent in order', async () => {
  await using rig = await makeRig()
  const points = [5, 1, 4, 4, 2].map((timeUs, value) => ({ name: 'm.v', timeUs, value }))
  const said = await rig.destination.send(rig.log.batch([rig.log.add(points)]), signal)
  assert.ok(said.kind === 'stored' && said.lost?.[0]?.count === 1, JSON.stringify(said))
  assert.deepEqual(
    (await rig.samples()).map(([, ms, value]) => [ms, value]),
    [
      [1, '1'],
      [2, '4'],
      [4, '3'],
      [5, '0'],
    ],
  )
})

test('prometheus: 10,000 points, one of them late: found, counted, the others stand', async () => {
  await using rig = await makeRig()
  const { destination, log, leftOut } = rig
  const first = [
    { name: 'm.v', timeUs: 1_000, value: 1 },
    { name: 'm.late', timeUs: 1_000, value: 1 },
  ]
  assert.deepEqual(await destination.send(log.batch([log.add(first)]), signal), stored)
  const many = Array.from({ length: 9_999 }, (_, at) => ({
    name: 'm.v',
    timeUs: 1_001 + at,
    value: at / 7,
  }))
  const item = log.add([...many, { name: 'm.late', timeUs: 500, value: 2 }])
  const times = { timeUsMin: atUs(500), timeUsMax: atUs(500) }
  const refused = [{ why: 'refused', text: 'out of order sample', at: [9_999] }]
  const lost = [{ seq: 2, reason: 'rejected', count: 1, source: 'm.late', ...times, refused }]
  assert.deepEqual(await destination.send(log.batch([item]), signal), { ...stored, lost })
  assert.equal(await rig.arrived(), 10_001)
  assert.deepEqual(leftOut, { refused: 1 })
  // Sent again: what was found once is there, what was late is late again.
  assert.deepEqual(await destination.send(log.batch([item]), signal), { ...stored, lost })
  assert.equal(await rig.arrived(), 10_001)
  assert.deepEqual(leftOut, { refused: 2 })
})

test('prometheus: a late sample anywhere in a segment is lost each time, and what is there is found', async () => {
  for (const [at, config] of [
    [inOrder, {}],
    [withWindow, window],
  ] as const) {
    await using rig = await makeRig({}, at, config)
    const { destination, log } = rig
    const steady = (name: string, from: number, count: number) =>
      Array.from({ length: count }, (_, nth) => ({ name, timeUs: from + nth, value: nth }))
    const first = [...steady('m.a', 1_000, 1), ...steady('m.late', 1_000, 1)]
    assert.deepEqual(await destination.send(log.batch([log.add(first)]), signal), stored)
    // A correction of a time that is there: no window takes it. A sibling holds what is looked for, under one label more.
    const late = { name: 'm.late', timeUs: 1_000, value: 2 }
    const sibling = { ...late, timeUs: 1_001, tags: [['x', 'y']] as const }
    for (const [place, from] of [0, 1, 17, 50, 98, 100].map((one, nth) => [
      one,
      2_000 + nth * 200,
    ])) {
      const points = steady('m.a', from ?? 0, 40).concat(steady('m.z', from ?? 0, 60))
      const item = log.add([...points.slice(0, place), late, ...points.slice(place)])
      const siblings = log.add([{ ...sibling, timeUs: (from ?? 0) + 1 }])
      const said = await destination.send(log.batch([item, siblings]), signal)
      assert.ok(
        said.kind === 'stored' && said.lost?.[0]?.count === 1,
        JSON.stringify([place, said]),
      )
      assert.deepEqual(said.lost[0].source, 'm.late')
      assert.deepEqual(
        await destination.send(log.batch([item, siblings]), signal),
        said,
        `${place}`,
      )
    }
    const held = await rig.samples()
    assert.equal(held.length, 2 + 6 * 101)
    assert.equal(held.find(([name, ms]) => name === 'm_late' && ms === 1_000)?.[2], '0')
  }
})

test('prometheus: late points are taken within the window, and pause it without one; nothing is dropped', async () => {
  for (const [at, config] of [
    [inOrder, {}],
    [withWindow, window],
  ] as const) {
    await using rig = await makeRig({}, at, config)
    const { destination, log, leftOut } = rig
    const points = (from: number) =>
      Array.from({ length: 200 }, (_, nth) => ({ name: 'm.v', timeUs: from + nth, value: nth }))
    assert.equal(destination.inOrder, at === inOrder)
    assert.deepEqual(await destination.send(log.batch([log.add(points(1_000))]), signal), stored)
    const said = await destination.send(log.batch([log.add(points(0))]), signal)
    if (at === withWindow) assert.deepEqual(said, stored)
    else {
      assert.ok(said.kind === 'blocked' && said.code === 'HF-F162', JSON.stringify(said))
      assert.match(said.text, /out of order sample/)
      assert.match(said.hint, /out_of_order_time_window/)
    }
    assert.deepEqual(leftOut, {})
    assert.equal(await rig.arrived(), at === withWindow ? 400 : 200)
  }
})

test('prometheus: older than the window, and a receiver that is off, pause it', async () => {
  await using rig = await makeRig({}, withWindow, window)
  const hour = Array.from({ length: 50 }, (_, at) => ({
    name: 'm.v',
    timeUs: at - 5_000_000,
    value: at,
  }))
  const old = await rig.destination.send(rig.log.batch([rig.log.add(hour)]), signal)
  assert.ok(old.kind === 'blocked' && old.code === 'HF-F162', JSON.stringify(old))
  const options: PrometheusOptions = { receiver: false }
  const off = startPrometheus(options)
  await using none = await makeRig({}, off)
  const said = await none.destination.send(none.log.batch([none.log.add(hour)]), signal)
  assert.ok(said.kind === 'blocked' && said.code === 'HF-F161', JSON.stringify(said))
  await (await off).stop()
})
