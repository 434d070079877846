/** The request each dialect makes: path, credentials, compression. Of unproven ones this and the reading of answers is all. */
import assert from 'node:assert/strict'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { gunzipSync } from 'node:zlib'
import { influxDestination } from '../../../src/destinations/influx.ts'
import { influxPlan } from '../../../src/destinations/influx-plan.ts'
import { prometheusDestination } from '../../../src/destinations/prometheus.ts'
import { createSystemHost } from '../../../src/host.ts'
import { createTestLog } from '../../contract/destination-log.ts'

interface Seen {
  readonly url: string
  readonly authorization: string
  readonly text: string
}
const requestOf = async (config: object): Promise<Seen> => {
  const seen: Seen[] = []
  const take = async (request: IncomingMessage) => {
    const parts: Buffer[] = []
    for await (const part of request) parts.push(part as Buffer)
    // What TDengine and VictoriaMetrics are asked before the first send.
    if (request.url === '/base/rest/sql' || request.url === '/base/flags') return
    assert.equal(request.headers['content-encoding'], 'gzip')
    const { authorization = '' } = request.headers
    const text = gunzipSync(Buffer.concat(parts)).toString('utf8')
    seen.push({ url: request.url ?? '', authorization, text })
  }
  const server = createServer((request, response) => {
    void take(request).finally(() => response.writeHead(204).end())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  try {
    const log = createTestLog('gw-7')
    const settings = influxDestination.config.parse({
      type: 'influx',
      url: `http://127.0.0.1:${port}/base/`,
      ...config,
    })
    const host = createSystemHost()
    const deps = { host, name: 'influx', agent: 'gw-7', spool: log.spool, farTime: () => {} }
    await using destination = influxDestination.create(deps, settings)
    const { signal } = new AbortController()
    assert.deepEqual(await destination.standing(log.standing(0), signal), { kind: 'unknown' })
    const batch = log.batch([log.add([{ name: 'm.v', timeUs: 7, value: 1.5 }])])
    assert.deepEqual(await destination.send(batch, signal), { kind: 'stored', rejected: [] })
  } finally {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
  assert.equal(seen.length, 1)
  return seen[0] as Seen
}
const text = 'm,agent=gw-7,plant=north v=1.5 7\n'

test('influxdb1: database, retention policy, basic authentication', async () => {
  const config = { dialect: 'influxdb1', database: 'a b', retention_policy: 'week' }
  assert.deepEqual(await requestOf({ ...config, username: 'u', password: 'p:ä' }), {
    url: '/base/write?db=a+b&rp=week&precision=ns',
    authorization: `Basic ${Buffer.from('u:p:ä').toString('base64')}`,
    text: 'm,agent=gw-7,plant=north v=1.5 7000\n',
  })
})
test('influxdb2: organisation, bucket, token', async () => {
  const config = { dialect: 'influxdb2', org: 'plant & co', bucket: 'b', token: 'secret' }
  assert.deepEqual(await requestOf(config), {
    url: '/base/api/v2/write?org=plant+%26+co&bucket=b&precision=us',
    authorization: 'Token secret',
    text,
  })
})
test('victoriametrics: nothing is needed; a bearer token may be', async () => {
  assert.deepEqual(await requestOf({ dialect: 'victoriametrics' }), {
    url: '/base/write?precision=u',
    authorization: '',
    text,
  })
  const { authorization } = await requestOf({ dialect: 'victoriametrics', token: 'secret' })
  assert.equal(authorization, 'Bearer secret')
})
test('influxdb3: database, partial writes, bearer token', async () => {
  const config = { dialect: 'influxdb3', database: 'plant', token: 'secret' }
  assert.deepEqual(await requestOf(config), {
    url: '/base/api/v3/write_lp?db=plant&precision=microsecond&accept_partial=true',
    authorization: 'Bearer secret',
    text,
  })
})
test('greptimedb: its own word for user and password', async () => {
  const config = { dialect: 'greptimedb', database: 'plant', username: 'u', password: 'p' }
  assert.deepEqual(await requestOf(config), {
    url: '/base/v1/influxdb/api/v2/write?db=plant&precision=us',
    authorization: 'token u:p',
    text,
  })
})
test('tdengine: taosAdapter, rows of one table', async () => {
  const config = { dialect: 'tdengine', database: 'plant', table: 'readings' }
  assert.deepEqual(await requestOf({ ...config, username: 'u', password: 'p' }), {
    url: '/base/influxdb/v1/write?db=plant&precision=u',
    authorization: `Basic ${btoa('u:p')}`,
    text: 'readings,series=m.v,agent=gw-7,plant=north value=1.5 7\n',
  })
})
test('greptimedb: the plan makes the database that is written to, and no other', () => {
  assert.match(influxPlan('greptimedb', { database: 'works' }), /^CREATE DATABASE .*"works";$/m)
  assert.doesNotMatch(influxPlan('greptimedb', {}), /CREATE/)
})
test('an address with the path in it, as people paste it, is refused: it would stand there twice', () => {
  const influx = { type: 'influx', dialect: 'influxdb1', database: 'plant' }
  const prom = { type: 'prometheus' }
  const why = (config: object): string | undefined => {
    const of = 'dialect' in config ? influxDestination : prometheusDestination
    return of.config
      .safeParse(config)
      .error?.issues.map(({ path, message }) => `${path} ${message}`)[0]
  }
  const at = 'https://far.example'
  assert.match(why({ ...influx, url: `${at}/write` }) ?? '', /^url must end before \/write,/)
  assert.match(why({ ...prom, url: `${at}/api/v1/write/` }) ?? '', /^url must end before/)
  const query = { query_url: `${at}/prometheus/api/v1/query` }
  assert.match(why({ ...prom, url: at, ...query }) ?? '', /^query_url must end before/)
  for (const one of [influx, prom]) assert.equal(why({ ...one, url: `${at}/write/to` }), undefined)
})
