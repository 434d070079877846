/** The stand-in for GreptimeDB against what the vendor's source says (`greptimedb.ts` names the places). */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type AskOptions, ask } from './ask.ts'
import { type GreptimedbOptions, openGreptimedb } from './greptimedb.ts'

const now = 1_790_000_000n * 10n ** 9n
const login = { authorization: 'token plant:secret' }
const open = async (options: GreptimedbOptions = {}) => {
  const server = await openGreptimedb({ nowNs: () => now, ...options })
  const write = async (body: string | Uint8Array, more: AskOptions = {}) =>
    ask(`${server.url}/v1/influxdb/api/v2/write`, body, {
      headers: login,
      ...more,
      query: { bucket: 'public', ...more.query },
    })
  const values = () =>
    server.stored('public').map(({ table, field, value }) => [table, field, value.value])
  return { ...server, write, values }
}

test('src/servers/src/influxdb.rs: one line that cannot be read refuses the whole body, unnumbered', async () => {
  await using server = await open()
  const answer = await server.write(`m f=1 ${now}\nm f=NaN ${now}`)
  assert.deepEqual(
    [answer.status, answer.body],
    [400, '{"error":"Failed to parse InfluxDB line protocol: No fields were provided"}'],
  )
  assert.deepEqual(server.values(), [])
})

test('src/servers/src/row_writer.rs: within a body a column has one type and one meaning', async () => {
  await using server = await open()
  const types = await server.write(`m f=1 ${now}\nm f=1i ${now}`)
  assert.equal(types.status, 400)
  assert.match(types.body, /Column: f, datatype incompatible, expected: 10, actual: 4/)
  const meanings = await server.write(`m,t=a f=1 ${now}\nm t="a" ${now}`)
  assert.match(meanings.body, /Column: t, semantic_type incompatible, expected: 0, actual: 1/)
  assert.match(
    (await server.write(`m greptime_timestamp=1 ${now}`)).body,
    /Column: greptime_timestamp, datatype incompatible/,
  )
  assert.deepEqual(server.values(), [])
})

test("src/mito2/src/request.rs: against its table a column of another type refuses the table's rows, others stay", async () => {
  await using server = await open()
  await server.write(`m f=1 ${now}`)
  const answer = await server.write(`n f=1 ${now}\nm f=1i ${now + 1n}\nm g=1 ${now + 2n}`)
  assert.equal(answer.status, 400)
  assert.match(
    answer.body,
    /reason: column f expect type Float64\(Float64Type\), given: INT64\(4\)/,
  )
  assert.deepEqual(server.values(), [
    ['m', 'f', 1],
    ['n', 'f', 1],
  ])
})

test('src/operator/src/insert.rs: rows merge by last_non_null; a resend leaves one; a field named twice keeps the later', async () => {
  await using server = await open()
  for (const body of [`m,t=1 f=1 ${now}`, `m,t=1 f=1 ${now}`, `m,t=1 g=2,g=3 ${now}`])
    assert.equal((await server.write(body)).status, 204)
  assert.deepEqual(server.values(), [
    ['m', 'f', 1],
    ['m', 'g', 3],
  ])
})

test('src/servers/src/http/authorize.rs: `token user:password`, Basic, u and p; no Bearer; 401 with a code', async () => {
  await using server = await open()
  const told = async (headers: Record<string, string>, query = {}) => {
    const { status, body } = await server.write(`m f=1 ${now}`, { headers, query })
    return [status, body === '' ? 0 : JSON.parse(body).code]
  }
  assert.deepEqual(await told({}), [401, 7003])
  assert.deepEqual(await told({ authorization: 'token plant:wrong' }), [401, 7002])
  assert.deepEqual(await told({ authorization: 'token who:secret' }), [401, 7000])
  assert.deepEqual(await told({ authorization: 'token plain' }), [401, 7004])
  assert.deepEqual(await told({ authorization: 'Bearer plant:secret' }), [401, 7004])
  assert.deepEqual(await told({}, { u: 'plant' }), [401, 1004])
  assert.deepEqual(await told({}, { u: 'plant', p: 'secret' }), [204, 0])
  const basic = `Basic ${Buffer.from('plant:secret').toString('base64')}`
  assert.deepEqual(await told({ authorization: basic }), [204, 0])
})

test('src/servers/src/http/authorize.rs: db stands over bucket; none is `public`; a missing one is 400, not made', async () => {
  await using server = await open({ databases: ['line_1'] })
  const to = async (query: Record<string, string>, path = '/v1/influxdb/write') =>
    ask(`${server.url}${path}`, `m f=1 ${now}`, { headers: login, query })
  assert.equal((await to({ db: 'line_1' })).status, 204)
  assert.equal(server.stored('line_1').length, 1)
  assert.equal((await to({ bucket: 'line_1' })).status, 204)
  assert.equal(server.stored('public').length, 1)
  const missing = await to({ db: 'nowhere' })
  assert.deepEqual(
    [missing.status, missing.body],
    [400, '{"error":"Failed to find schema, schema info: greptime.nowhere"}'],
  )
})

test('src/operator/src/statement/ddl.rs: names of tables', async () => {
  await using server = await open()
  for (const name of ['temp.1', 'a:b-c@d#e', '_x', '-x'])
    assert.equal((await server.write(`${name} f=1 ${now}`)).status, 204, name)
  for (const name of ['1x', 'a\\ b', 'é', 'a/b'])
    assert.match((await server.write(`${name} f=1 ${now}`)).body, /Invalid table name/, name)
})

test('src/servers/src/http/influxdb.rs: precision, nanoseconds unless named; overflow is 400', async () => {
  await using server = await open()
  for (const [precision, time] of [
    ['n', now],
    ['us', now / 1_000n],
    ['ms', now / 1_000_000n],
    ['s', now / 10n ** 9n],
  ] as const)
    assert.equal(
      (await server.write(`m ${precision}=1 ${time}`, { query: { precision } })).status,
      204,
    )
  assert.deepEqual(new Set(server.stored('public').map((row) => row.timeNs)), new Set([now]))
  const unknown = await server.write(`m f=1 ${now}`, { query: { precision: 'x' } })
  assert.match(unknown.body, /Failed to convert time precision, name: x/)
  assert.match(
    (await server.write('m f=1 9223372037', { query: { precision: 's' } })).body,
    /Timestamp overflow/,
  )
})

test('src/servers/src/http.rs: 64 MB of unpacked body, as plain text; gzip; UTF-8 only', async () => {
  await using server = await open({ bodyBytesMax: 100 })
  assert.equal((await server.write(`m f=1 ${now}`, { gzip: true })).status, 204)
  const big = await server.write(`m f="${'x'.repeat(200)}" ${now}`, { gzip: true })
  assert.deepEqual(
    [big.status, big.body],
    [413, 'Failed to buffer the request body: length limit exceeded'],
  )
  const bytes = await server.write(Buffer.from([0x6d, 0xff]))
  assert.match(bytes.body, /^Request body didn't contain valid UTF-8/)
})

test('src/servers/src/http/memory_limit.rs: 429 in plain text, without Retry-After', async () => {
  await using server = await open()
  server.overload(1)
  const answer = await server.write(`m f=1 ${now}`)
  assert.deepEqual([answer.status, answer.headers.get('retry-after')], [429, null])
})
