/**
 * The stand-in for InfluxDB 3 Core against what the vendor's source says (`influxdb3.ts` and `line-iox.ts` name the
 * places). Its reader of lines gave what the published crate `influxdb-line-protocol` 2.0.0 gives, on 20,000 bodies.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { type AskOptions, ask } from './ask.ts'
import { type Influxdb3Options, openInfluxdb3 } from './influxdb3.ts'

const now = 1_790_000_000n * 10n ** 9n
const login = { authorization: 'Bearer apiv3_plant' }
const open = async (options: Influxdb3Options = {}) => {
  const server = await openInfluxdb3({ nowNs: () => now, ...options })
  const write = async (body: string | Uint8Array, more: AskOptions = {}) => {
    const query = { db: 'history', precision: 'nanosecond', ...more.query }
    return ask(`${server.url}/api/v3/write_lp`, body, { headers: login, ...more, query })
  }
  const writeV2 = async (body: string, query = {}) =>
    ask(`${server.url}/api/v2/write`, body, {
      headers: login,
      query: { bucket: 'history', precision: 'ns', ...query },
    })
  const values = () =>
    server.stored('history').map(({ table, field, value }) => [table, field, value.value])
  return { ...server, write, writeV2, values }
}
const partial = 'partial write of line protocol occurred'

test('write_buffer/validator.rs: good lines are stored beside wrong ones, which are told by number and 20 bytes', async () => {
  await using server = await open()
  const answer = await server.write(
    `m f=1 ${now}\n\n# note\nm f= ${now}\nlong_name_of_a_table f=x ${now}\nm f=2 ${now + 1n}`,
  )
  assert.equal(answer.status, 400)
  const { error, data } = JSON.parse(answer.body)
  assert.equal(error, partial)
  // Numbers count the lines that hold something; the text is of the body's line of that number.
  assert.deepEqual(data, [
    { error_message: 'No fields were provided', line_number: 2, original_line: '' },
    { error_message: 'No fields were provided', line_number: 3, original_line: '# note' },
  ])
  assert.deepEqual(server.values(), [
    ['m', 'f', 1],
    ['m', 'f', 2],
  ])
  const long = await server.write(`table_of_many_letters_é f=1x ${now}`)
  assert.equal(JSON.parse(long.body).data[0].original_line, 'table_of_many_letter')
})

test('versions/v3/transaction.rs: a column has one type for ever, tags and fields share their names', async () => {
  await using server = await open()
  const answer = await server.write(
    `m,t=a f=1 ${now}\nm f=1i ${now}\nm t=1 ${now}\nm,f=x g=1 ${now}`,
  )
  const messages = JSON.parse(answer.body).data.map(
    (one: { error_message: string }) => one.error_message,
  )
  assert.equal(answer.status, 400)
  assert.deepEqual(messages, [
    "invalid column type for column 'f', expected iox::column_type::field::float, got iox::column_type::field::integer",
    "invalid column type for column 't', expected iox::column_type::tag, got iox::column_type::field::float",
    "invalid column type for column 'f', expected iox::column_type::field::float, got iox::column_type::tag",
  ])
  assert.deepEqual(server.values(), [['m', 'f', 1]])
})

test('write_buffer/validator.rs: what a refused line added to the schema before its fault stays', async () => {
  await using server = await open()
  await server.write(`m f=1 ${now}`)
  assert.equal((await server.write(`m g=1,f=1i ${now}`)).status, 400)
  assert.match(
    (await server.write(`m g=1i ${now}`)).body,
    /column 'g', expected iox::column_type::field::float/,
  )
})

test('influxdb3_types/src/http.rs: accept_partial=false and /api/v2/write store all or nothing', async () => {
  await using server = await open()
  const body = `m f=1 ${now}\nm f=1i ${now}`
  const whole = await server.write(body, { query: { accept_partial: 'false' } })
  assert.equal(whole.status, 400)
  assert.equal(JSON.parse(whole.body).error, 'line protocol parsing error')
  assert.equal(JSON.parse(whole.body).data.line_number, 2)
  const v2 = await server.writeV2(body)
  assert.equal(v2.status, 400)
  assert.match(
    JSON.parse(v2.body).message,
    /^write buffer error: line protocol parse failed: invalid column type/,
  )
  assert.equal(JSON.parse(v2.body).code, 'invalid')
  assert.deepEqual(server.values(), [])
  // Nothing of it was pinned either.
  assert.equal((await server.writeV2(`m f=1i ${now}`)).status, 204)
})

test('serve.rs: Core holds 5 databases, 2000 tables, 500 columns; past them 422, as partial for lines', async () => {
  await using server = await open({ limits: { databases: 2, tables: 2, columns: 3 } })
  const answer = await server.write(
    `m,t=a f=1,g=1 ${now}\nm h=1 ${now}\nn f=1 ${now}\no f=1 ${now}`,
  )
  assert.equal(answer.status, 422)
  const { error, data } = JSON.parse(answer.body)
  assert.equal(error, partial)
  assert.deepEqual(
    data.map((one: { error_message: string }) => one.error_message),
    [
      'Update to schema would exceed number of columns per table limit of 3 columns',
      'Update to schema would exceed number of tables limit: attempted to create table but already have 2 table(s) (limit: 2)',
    ],
  )
  assert.equal(server.values().length, 3)
  assert.equal((await server.write('', { query: { db: 'second' } })).status, 400)
  const third = await server.write(`m f=1 ${now}`, { query: { db: 'third' } })
  assert.deepEqual(
    [third.status, third.body],
    [422, '{"error":"Adding a new database would exceed limit of 2 databases"}'],
  )
})

test('core/influxdb_line_protocol: no NaN, no Inf, no bare points; an infinite magnitude is taken as infinite', async () => {
  await using server = await open()
  for (const value of [
    'NaN',
    'inf',
    '.5',
    '5.',
    '+1',
    '9223372036854775808i',
    '-1u',
    '1e',
    'tru',
    '"open',
  ])
    assert.equal((await server.write(`m f=${value} ${now}`)).status, 400, value)
  assert.equal((await server.write(`m f=-0,g=1e400,h=18446744073709551615u ${now}`)).status, 204)
  assert.deepEqual(server.values(), [
    ['m', 'f', -0],
    ['m', 'g', Number.POSITIVE_INFINITY],
    ['m', 'h', 18_446_744_073_709_551_615n],
  ])
})

test('core/influxdb_line_protocol: names and tag values may not end with a backslash, nor be empty', async () => {
  await using server = await open()
  const why = async (line: string) =>
    JSON.parse((await server.write(`${line} ${now}`)).body).data[0].error_message
  const backslash = 'Measurements, tag keys and values, and field keys may not end with a backslash'
  assert.equal(await why('m,t=a\\\\ f=1'), backslash)
  assert.equal(await why('m f\\\\=1'), backslash)
  assert.match(await why('m,t= f=1'), /^Expected tag value, got ` f=1 /)
  assert.match(await why('m,=a f=1'), /^Expected tag key/)
  assert.match(await why('m,t f=1'), /^Tag set malformed: could not find equals sign/)
  assert.equal(await why('\0m f=1'), 'Invalid measurement was provided')
  assert.equal(
    await why('m f=1,f=2'),
    "invalid line protocol - multiple instances of 'f' field found",
  )
  assert.equal((await server.write(`m,t=a\\\\b\\,\\=\\ c f=1 ${now}`)).status, 204)
  assert.deepEqual(server.stored('history')[0]?.tags, { t: 'a\\b,= c' })
})

test('catalog.rs: `time` is a reserved column, `__chunk_order` too', async () => {
  await using server = await open()
  await server.write(`m f=1 ${now}`)
  for (const line of [`m time=1 ${now}`, `m,time=x f=1 ${now}`, `m __chunk_order=1 ${now}`])
    assert.match(
      (await server.write(line)).body,
      /invalid column type for column 'time'|is a reserved column/,
    )
})

test('core/influxdb_line_protocol: strings up to 1 MiB, with newlines; \\r after a time is left over', async () => {
  await using server = await open()
  assert.equal((await server.write(`m f="a\nb" ${now}`)).status, 204)
  assert.deepEqual(server.values(), [['m', 'f', 'a\nb']])
  const long = await server.write(`m f="${'x'.repeat(1_048_577)}" ${now}`)
  assert.equal(JSON.parse(long.body).data[0].error_message, 'String is greater than 1MB')
  assert.match((await server.write(`m f=1 ${now}\r\nm f=1 ${now}`)).body, /Found trailing content/)
})

test('influxdb3_types/src/write.rs: `auto` guesses by magnitude; a named precision does not', async () => {
  await using server = await open()
  const auto = { query: { precision: 'auto' } }
  await server.write('m a=1 1700000000\nm b=1 1700000000000\nm c=1 1700000000000000', auto)
  assert.deepEqual(
    server.stored('history').map((row) => row.timeNs),
    [1, 1, 1].map(() => 1_700_000_000n * 10n ** 9n),
  )
  const far = await server.write('m f=1 9223372037', { query: { precision: 'second' } })
  assert.match(far.body, /timestamp, 9223372037, out of range for precision: Second/)
  assert.equal((await server.write('m f=1 1', { query: { precision: 'x' } })).status, 400)
})

test('http.rs: 401 without or with a wrong token, 400 with a malformed header; Token, Bearer and Basic are taken', async () => {
  await using server = await open()
  const status = async (authorization?: string) => {
    const headers: Record<string, string> = authorization === undefined ? {} : { authorization }
    return (await server.write(`m f=1 ${now}`, { headers })).status
  }
  assert.deepEqual(
    [
      await status(),
      await status('Bearer x'),
      await status('Digest x'),
      await status('Bearer a b'),
    ],
    [401, 401, 400, 400],
  )
  const basic = `Basic ${Buffer.from('any:apiv3_plant').toString('base64')}`
  assert.deepEqual([await status('Token apiv3_plant'), await status(basic)], [204, 204])
})

test('http.rs: a database is made by its first write; names that are none are 400', async () => {
  await using server = await open()
  assert.equal((await server.write(`m f=1 ${now}`, { query: { db: 'new_one' } })).status, 204)
  for (const db of ['_x', 'a b', 'é', 'a/b/c', ''])
    assert.equal((await server.write(`m f=1 ${now}`, { query: { db } })).status, 400, db)
})

test('http.rs read_body: 10 MiB before and after gzip; several members; text or nothing', async () => {
  await using server = await open({ bodyBytesMax: 200 })
  const members = Buffer.concat([gzipSync(`m f=1 ${now}\n`), gzipSync(`m f=2 ${now + 1n}`)])
  const gzip = { headers: { ...login, 'content-encoding': 'gzip' } }
  assert.equal((await server.write(new Uint8Array(members), gzip)).status, 204)
  assert.equal(server.values().length, 2)
  const big = await server.write(`m f="${'x'.repeat(300)}" ${now}`, { gzip: true })
  assert.deepEqual([big.status, big.body], [413, 'max request size (200 bytes) exceeded'])
  assert.equal((await server.write('plain', gzip)).status, 400)
  assert.match(
    (await server.write(Buffer.from([0x6d, 0xff]))).body,
    /^body content is not valid utf8/,
  )
  const empty = await server.write('# nothing\n')
  assert.deepEqual([empty.status, empty.body], [400, 'incoming write was empty'])
})

test('http.rs RequestLimit: overload is 429 without Retry-After', async () => {
  await using server = await open()
  server.overload(1)
  const answer = await server.write(`m f=1 ${now}`)
  assert.deepEqual([answer.status, answer.headers.get('retry-after')], [429, null])
})

test('docs (v3 line protocol): which of two unlike values stands is open, so it is counted', async () => {
  await using server = await open()
  await server.write(`m f=1 ${now}`)
  await server.write(`m f=1 ${now}`)
  assert.equal(server.changed('history'), 0)
  await server.write(`m f=2 ${now}`)
  assert.equal(server.changed('history'), 1)
})
