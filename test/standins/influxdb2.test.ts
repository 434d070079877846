/**
 * The stand-in for InfluxDB 2 against what the vendor's source says (`influxdb2.ts` and `line-go.ts` name the places).
 * Where HOLDFAST_TEST_INFLUXD2 names a real server's program, it is asked all the same, and must answer the same to the
 * letter and hold the same.
 */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { influxd2, startInflux2 } from '../support/influxdb2.ts'
import { killAll } from '../support/processes.ts'
import { type Answered, type AskOptions, ask } from './ask.ts'
import { type Influxdb2Options, openInfluxdb2 } from './influxdb2.ts'

after(killAll)
const second = 10n ** 9n
const day = 86_400n * second
const real = influxd2 === undefined ? undefined : await startInflux2()
/** The real one has no clock but ours. */
const now = real === undefined ? 1_790_000_000n * second : BigInt(Date.now()) * 1_000_000n
const [writeToken, readToken] = ['token-of-plant', 'eye']
const login = { authorization: `Token ${writeToken}` }

/** The real one's words, its ids by the stand-in's names, and without the moment at which it was asked. */
const plain = (
  { status, body, headers }: Answered,
  names: readonly (readonly [string, string])[],
) => {
  const text = names.reduce((so, [from, to]) => so.replaceAll(from, to), body)
  const said = text.replaceAll(/(Lower Bound at )[\d-]+T[\d:.]+Z/g, '$1…')
  return { status, body: said, code: headers.get('x-platform-error-code') }
}
const openTwin = async (retentionSeconds: number | undefined, ids: readonly [string, string]) => {
  assert.ok(real !== undefined)
  const bucketId = await real.bucket('history', retentionSeconds)
  const tokens = [
    [writeToken, (await real.tokenFor(bucketId, 'write')).token],
    [readToken, (await real.tokenFor(bucketId, 'read')).token],
  ] as const
  const names = [
    [real.orgId, ids[0]],
    [bucketId, ids[1]],
  ] as const
  const mine = (text: string) => {
    const known = [...tokens, ...names.map(([its, ours]) => [ours, its] as const)]
    return known.reduce((so, [from, to]) => (so.endsWith(from) ? so.replace(from, to) : so), text)
  }
  const each = (all: Readonly<Record<string, string>> = {}) =>
    Object.fromEntries(Object.entries(all).map(([name, value]) => [name, mine(value)]))
  return {
    names,
    write: (body: string | Uint8Array, { query, headers, ...more }: AskOptions) =>
      ask(`${real.url}/api/v2/write`, body, {
        query: each(query),
        headers: each(headers),
        ...more,
      }),
    rows: () => real.rows('history'),
  }
}
/** `alone`: what the real one does only when it is made to. */
const open = async ({ alone = false, ...options }: Influxdb2Options & { alone?: boolean } = {}) => {
  const server = await openInfluxdb2({ nowNs: () => now, token: writeToken, readToken, ...options })
  const twin =
    real === undefined || alone
      ? undefined
      : await openTwin(options.buckets?.history, [server.orgId, server.bucketId('history')])
  const write = async (body: string | Uint8Array, more: AskOptions = {}) => {
    const query = { org: 'plant', bucket: 'history', precision: 'ns', ...more.query }
    const asked = { headers: login, ...more, query }
    const told = await ask(`${server.url}/api/v2/write`, body, asked)
    if (twin !== undefined)
      assert.deepEqual(plain(told, []), plain(await twin.write(body, asked), twin.names), 'unlike')
    return told
  }
  const stored = async () => {
    const rows = server.stored('history')
    if (twin !== undefined) assert.deepEqual(rows, await twin.rows(), 'the real one holds others')
    return rows
  }
  const values = async () =>
    (await stored()).map(({ table, field, value }) => [table, field, value.value])
  return { ...server, write, stored, values }
}
const partial = (reason: string, dropped: number) =>
  `{"code":"unprocessable entity","message":"failure writing points to database: partial write: ${reason} dropped=${dropped}"}`

test('models/points.go: one line that cannot be read, and nothing of the body is stored', async () => {
  await using server = await open()
  const answer = await server.write(`m f=1 ${now}\nm f= ${now}\nm f=2 ${now + 1n}`)
  assert.equal(answer.status, 400)
  assert.equal(
    answer.body,
    `{"code":"invalid","message":"unable to parse 'm f= ${now}': missing field value"}`,
  )
  assert.deepEqual(await server.values(), [])
})

test('tsdb/shard.go: a point of another type is left out alone, 422, and the first stays pinned', async () => {
  await using server = await open()
  const answer = await server.write(`m f=1 ${now}\nm f=1i ${now + 1n}\nm f=3 ${now + 2n}`)
  const reason = String.raw`field type conflict: input field \"f\" on measurement \"m\" is type integer, already exists as type float`
  assert.deepEqual([answer.status, answer.body], [422, partial(reason, 1)])
  assert.deepEqual(await server.values(), [
    ['m', 'f', 1],
    ['m', 'f', 3],
  ])
})

test('tsdb/shard.go: types are pinned by shard, so another type is taken two weeks earlier', async () => {
  await using server = await open()
  const answer = await server.write(`m f=1 ${now}\nm f=1i ${now - 14n * day}`)
  assert.equal(answer.status, 204)
  assert.deepEqual(await server.values(), [
    ['m', 'f', 1n],
    ['m', 'f', 1],
  ])
})

test('tsdb/field_validator.go: `time` is taken out of a point, a point of nothing else is left out', async () => {
  await using server = await open()
  const stripped = await server.write(`m time=1,f=2 ${now}`)
  assert.equal(stripped.status, 422)
  assert.match(stripped.body, /has been stripped from point\. dropped=0 for database/)
  assert.deepEqual(await server.values(), [['m', 'f', 2]])
  const alone = await server.write(`m time=1 ${now}`)
  const reason = String.raw`invalid field name: input field \"time\" on measurement \"m\" is invalid`
  assert.deepEqual([alone.status, alone.body], [422, partial(reason, 1)])
})

test('tsdb/engine/tsm1: what is taken out comes to the store all the same, which knows one type of it', async () => {
  await using server = await open()
  const answer = await server.write(`m time=1,f=2,time=3i ${now}`)
  const unexpected = 'unexpected error writing points to database: engine: field type conflict'
  assert.deepEqual([answer.status, JSON.parse(answer.body).message], [500, unexpected])
})

test('tsdb/field_validator.go: names are quoted as Go quotes them', async () => {
  await using server = await open()
  const answer = await server.write(`q"\tü f=1 ${now}\nq"\tü f=1i ${now}`)
  assert.match(JSON.parse(answer.body).message, /on measurement "q\\"\\tü" is type integer/)
})

test('tsdb/field_validator.go: a string of more than 1 MiB is left out', async () => {
  await using server = await open()
  const answer = await server.write(`m f="${'x'.repeat(1_048_577)}" ${now}\nm g="y" ${now}`)
  const reason = String.raw`input field \"f\" on measurement \"m\" is too long, 1048577 \u003e 1048576`
  assert.deepEqual([answer.status, answer.body], [422, partial(reason, 1)])
  assert.deepEqual(await server.values(), [['m', 'g', 'y']])
})

test('v1/coordinator/points_writer.go: too old is left out with 422, unless the shard of a younger one covers it', async () => {
  await using server = await open({ buckets: { history: 30 * 86_400 } })
  const old = await server.write(`m f=1 ${now - 40n * day}\nm f=2 ${now}`)
  assert.equal(old.status, 422)
  assert.match(
    old.body,
    /dropped 1 points outside retention policy of duration 720h0m0s - oldest point m/,
  )
  assert.deepEqual(await server.values(), [['m', 'f', 2]])
  const edge = now - 30n * day
  const minute = 60n * second
  const covered = await server.write(`m f=3 ${edge - minute}\nm f=4 ${edge + minute}`)
  assert.equal(covered.status, 204)
  assert.equal((await server.values()).length, 3)
})

test('models/points.go: NaN, Inf and what would be infinite are no numbers; -0 keeps its sign', async () => {
  await using server = await open()
  const why = async (value: string) => (await server.write(`m f=${value} ${now}`)).body
  assert.match(await why('NaN'), /invalid number/)
  assert.match(await why('inf'), /invalid boolean/)
  assert.match(await why('1e400'), /invalid float/)
  assert.match(await why('9223372036854775808i'), /value out of range/)
  assert.match(
    await why('18446744073709551616u'),
    /strconv\.ParseUint: parsing .*value out of range/,
  )
  assert.match(await why('-1u'), /invalid number/)
  assert.equal((await server.write(`m f=-0,g=18446744073709551615u ${now}`)).status, 204)
  assert.deepEqual(await server.values(), [
    ['m', 'f', -0],
    ['m', 'g', 18_446_744_073_709_551_615n],
  ])
})

test('models/points.go: tags — empty, twice, reserved, and one that ends with a backslash', async () => {
  await using server = await open()
  const why = async (tags: string) => (await server.write(`m,${tags} f=1 ${now}`)).body
  assert.match(await why('t='), /missing tag value/)
  assert.match(await why('a=1,a=2'), /duplicate tags/)
  assert.match(await why('time=x'), /cannot use reserved tag key/)
  assert.match(await why('t=a\\'), /invalid tag format/)
  assert.equal((await server.write(`m,b=2,a=\\ x\\,\\= f=1 ${now}`)).status, 204)
  assert.deepEqual((await server.stored())[0]?.tags, { b: '2', a: ' x,=' })
})

test('models/points.go: a newline within quotes, NUL and bytes that are no UTF-8 are taken; \\r is no time', async () => {
  await using server = await open()
  assert.equal((await server.write(`m f="a\nb\0c" ${now}`)).status, 204)
  assert.deepEqual(await server.values(), [['m', 'f', 'a\nb\0c']])
  assert.equal((await server.write(Buffer.from([0x6d, 0xff, 0x20, 0x66, 0x3d, 0x31]))).status, 204)
  assert.match((await server.write(`m f=1 ${now}\r\nm f=1 ${now}`)).body, /bad timestamp/)
})

test('a resend leaves one row; field sets of one series and time merge; a later value stands', async () => {
  await using server = await open()
  for (const body of [
    `m,t=1 f=1 ${now}`,
    `m,t=1 f=1 ${now}`,
    `m,t=1 g=2 ${now}`,
    `m,t=1 f=5 ${now}`,
  ])
    assert.equal((await server.write(body)).status, 204)
  assert.deepEqual(await server.values(), [
    ['m', 'f', 5],
    ['m', 'g', 2],
  ])
})

test('http/write_handler.go: login, precision, bucket and organization, in that order', async () => {
  await using server = await open()
  const told = async (more: AskOptions, body = `m f=1 ${now}`) => {
    const { status, body: text } = await server.write(body, more)
    return `${status} ${text === '' ? '' : JSON.parse(text).message}`
  }
  assert.equal(await told({ headers: {} }), '401 unauthorized access')
  assert.equal(await told({ headers: { authorization: 'Token x' } }), '401 unauthorized access')
  assert.equal(await told({ headers: { authorization: 'Basic eDp5' } }), '401 unauthorized access')
  assert.equal(
    await told({ headers: { authorization: 'Token eye' } }),
    '403 insufficient permissions for write',
  )
  assert.equal(await told({ headers: { authorization: 'Bearer token-of-plant' } }), '204 ')
  assert.match(await told({ query: { precision: 'u' } }), /^400 invalid precision/)
  assert.equal(await told({ query: { bucket: '' } }), '404 bucket not found')
  assert.equal(await told({ query: { bucket: 'x' } }), '404 bucket "x" not found')
  assert.equal(await told({ query: { org: 'x' } }), '404 organization name "x" not found')
  assert.equal(await told({ query: { org: '' } }), '400 Please provide either orgID or org')
  assert.equal(await told({ query: { org: server.orgId } }), '204 ')
  assert.equal(await told({ query: { org: 'ffffffffffffffff' } }), '404 organization not found')
  assert.equal(
    await told({ query: { org: '0000000000000000' } }),
    '404 organization name "0000000000000000" not found',
  )
  assert.equal(await told({ query: { bucket: server.bucketId('history') } }), '204 ')
  assert.equal(
    await told({ query: { bucket: 'ffffffffffffffff' } }),
    '404 bucket "ffffffffffffffff" not found',
  )
  const plainAsGzip = { 'content-encoding': 'gzip', ...login }
  assert.match(await told({ query: { org: 'x' }, headers: plainAsGzip }), /^500 /)
  assert.equal(await told({}, 'm f=1 1x'), "400 unable to parse 'm f=1 1x': bad timestamp")
})

test('models/time.go: precision scales, and what leaves 64 bits of nanoseconds is refused', async () => {
  await using server = await open()
  assert.equal((await server.write('m f=1 1700000000', { query: { precision: 's' } })).status, 204)
  assert.equal((await server.stored())[0]?.timeNs, 1_700_000_000n * 10n ** 9n)
  const longer = await server.write('m f=1 9223372036854775808')
  assert.match(longer.body, /strconv\.ParseInt: parsing .*value out of range/)
  const far = await server.write('m f=1 9223372037', { query: { precision: 's' } })
  assert.match(far.body, /time outside range -9223372036854775806 - 9223372036854775806/)
})

test('http/points: gzip; a body that is none is an internal error, as is one that was cut', async () => {
  await using server = await open()
  const gzip = { headers: { ...login, 'content-encoding': 'gzip' } }
  assert.equal((await server.write(`m f=1 ${now}`, { gzip: true })).status, 204)
  assert.equal((await server.write(`m f=1 ${now}`, gzip)).status, 500)
})

test('http/points/points_parser.go: the limit holds for the unpacked body', async () => {
  await using server = await open({ alone: true, bodyBytesMax: 64 })
  const answer = await server.write(`m f="${'x'.repeat(100)}" ${now}`, { gzip: true })
  assert.deepEqual(
    [answer.status, JSON.parse(answer.body)],
    [413, { code: 'request too large', message: 'unable to read data: points batch is too large' }],
  )
})

test('docs (api/v2/write): unavailable is 503 with Retry-After', async () => {
  await using server = await open({ alone: true })
  server.overload(1)
  const answer = await server.write(`m f=1 ${now}`)
  assert.deepEqual([answer.status, answer.headers.get('retry-after')], [503, '1'])
  assert.equal((await server.write(`m f=1 ${now}`)).status, 204)
})
