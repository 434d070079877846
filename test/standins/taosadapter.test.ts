/** The stand-in for TDengine behind taosAdapter against what their source says (`taosadapter.ts` and `line-taos.ts` name the places). */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { type AskOptions, ask } from './ask.ts'
import { openTaosadapter, type TaosadapterOptions } from './taosadapter.ts'

const now = 1_790_000_000n * 10n ** 9n
const login = { authorization: `Basic ${Buffer.from('root:taosdata').toString('base64')}` }
const open = async (options: TaosadapterOptions = {}) => {
  const server = await openTaosadapter({ nowNs: () => now, ...options })
  const write = async (body: string | Uint8Array, more: AskOptions = {}) =>
    ask(`${server.url}/influxdb/v1/write`, body, {
      headers: login,
      ...more,
      query: { db: 'plant', precision: 'ns', ...more.query },
    })
  const why = async (body: string) => {
    const answer = await write(body)
    return `${answer.status} ${answer.body === '' ? '' : JSON.parse(answer.body).message}`
  }
  const values = () =>
    server.stored('plant').map(({ table, field, value }) => [table, field, value.value])
  return { ...server, write, why, values }
}

test('plugin.go: a point that cannot be read is a 500, and nothing of the body is stored', async () => {
  await using server = await open()
  const answer = await server.write(`m,t=a f=1 ${now}\nm,t=a f=wrong ${now}`)
  assert.equal(answer.status, 500)
  assert.deepEqual(JSON.parse(answer.body), {
    code: 'internal error',
    message: `[0x203] smlParseValue error:wrong ${now}`,
  })
  assert.deepEqual(server.values(), [])
})

test('plugin.go, db/commonpool: a wrong password and a missing database are 500 too; only no login is 401', async () => {
  await using server = await open({ token: 'key' })
  const told = async (more: AskOptions) => {
    const { status, body } = await server.write(`m f=1 ${now}`, more)
    return `${status} ${body === '' ? '' : JSON.parse(body).message}`
  }
  assert.equal(await told({ headers: {} }), '401 no auth info found')
  const wrong = `Basic ${Buffer.from('root:x').toString('base64')}`
  assert.equal(
    await told({ headers: { authorization: wrong } }),
    '500 [0x357] Authentication failure',
  )
  assert.equal(await told({ query: { db: 'nowhere' } }), '500 [0x388] Database not exist')
  assert.equal(await told({ query: { db: '' } }), '400 db required')
  assert.equal(await told({ query: { req_id: 'x' } }), '400 req_id must be numeric')
  assert.equal(await told({ query: { ttl: 'x' } }), '400 ttl must be numeric')
  assert.equal(await told({ headers: {}, query: { u: 'root', p: 'taosdata' } }), '204 ')
  assert.equal(await told({ headers: { authorization: 'Bearer key' } }), '204 ')
})

test('db/tool/createdb.go: smlAutoCreateDB makes databases of nanoseconds', async () => {
  await using server = await open({ createDatabases: true })
  assert.equal((await server.write(`m f=1 ${now + 1n}`, { query: { db: 'new' } })).status, 204)
  assert.equal(server.stored('new')[0]?.timeNs, now + 1n)
})

test('driver/wrapper/schemaless.go: microseconds are `u`; `us` is no precision, and none is nanoseconds', async () => {
  await using server = await open()
  const body = `m f=1 ${now / 1_000n}`
  assert.equal((await server.write(body, { query: { precision: 'u' } })).status, 204)
  assert.equal(server.stored('plant')[0]?.timeNs, now)
  // Taken for nanoseconds it lies in 1970, out of what is kept.
  const us = await server.write(body, { query: { precision: 'us' } })
  assert.match(us.body, /\[0x60b\] Timestamp data out of range/)
})

test('clientSml.c: the precision of the database rounds times down, so finer points fall on one row', async () => {
  await using server = await open({ databases: { plant: { precision: 'ms' } } })
  await server.write(`m f=1 ${now + 1_000n}\nm f=2 ${now + 2_000n}`)
  assert.deepEqual(
    server.stored('plant').map(({ timeNs, value }) => [timeNs, value.value]),
    [[now, 2]],
  )
  assert.equal(server.changed('plant'), 1)
})

test('clientSml.c: types — among the lines of a body 0x3004, against the table a bare 0x3002', async () => {
  await using server = await open()
  assert.match(
    await server.why(`m f=1 ${now}\nm f=1i ${now}`),
    /^500 \[0x3004\] the type is not the same/,
  )
  assert.deepEqual(server.values(), [])
  assert.equal(await server.why(`m f=1 ${now}`), '204 ')
  assert.equal(await server.why(`n f=1 ${now}\nm f=1i ${now}`), '500 [0x3002] Invalid data format')
  assert.deepEqual(server.values(), [['m', 'f', 1]])
})

test('taosadapter plugin_test.go TestInfAndNaN: NaN and infinite values are stored', async () => {
  await using server = await open()
  assert.equal(await server.why(`m a=nan,b=inf,c=-inf,d=-0,e=1e400 ${now}`), '204 ')
  assert.deepEqual(
    server.values().map(([, , value]) => value),
    [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0, Number.POSITIVE_INFINITY],
  )
})

test('clientSml.c smlParseNumber: suffixes; 64 bits are exact, past them refused; 1.5i is 1', async () => {
  await using server = await open()
  assert.equal(
    await server.why(`m a=9223372036854775807i,b=18446744073709551615u,c=1.5i,d=7i8,e=2f64 ${now}`),
    '204 ',
  )
  assert.deepEqual(
    server.values().map(([, , value]) => value),
    [9_223_372_036_854_775_807n, 18_446_744_073_709_551_615n, 1n, 7n, 2],
  )
  assert.match(await server.why(`m x=9223372036854775808i ${now}`), /\[0x203\]/)
  assert.match(await server.why(`m x=-1u ${now}`), /\[0x203\]/)
})

test('clientSml.c getLine: a newline ends a line also within quotes; an empty line is no line', async () => {
  await using server = await open()
  assert.match(await server.why(`m f="a\nb" ${now}`), /^500 \[0x3002\] unbalanced quotes/)
  assert.match(await server.why(`m f=1 ${now}\n\nm f=2 ${now}`), /^500 \[0x20a\] measure is empty/)
  assert.equal(await server.why(`# note\nm f=1 ${now}\n`), '204 ')
  assert.match(await server.why(''), /\[0x3002\] line num is invalid/)
})

test('clientSmlLine.c: escapes — a backslash before a delimiter hides it even when it is escaped itself', async () => {
  await using server = await open()
  assert.equal(await server.why(`m\\,x,t\\ 1=a\\=b\\\\c f="q\\"s\\\\" ${now}`), '204 ')
  const [row] = server.stored('plant')
  assert.deepEqual(
    [row?.table, row?.tags, row?.value.value],
    ['m,x', { 't 1': 'a=b\\\\c' }, 'q"s\\'],
  )
  assert.match(await server.why(`m,t=a\\ f=1 ${now}`), /^500 /)
  assert.match(await server.why(`m,t= f=1 ${now}`), /\[0x3002\] invalid value/)
})

test('clientSmlLine.c: time 0 and no time are now; before 1970 is no time', async () => {
  await using server = await open()
  assert.equal(await server.why('m f=1 0'), '204 ')
  assert.equal(server.stored('plant')[0]?.timeNs, now)
  assert.match(await server.why('m f=1 -1'), /\[0x127\]/)
  assert.match(await server.why('m f=1 1x'), /\[0x127\] invalid timestamp:1x/)
})

test('tdef.h: names of 64 and 192 bytes, 128 tags; a name twice in a line', async () => {
  await using server = await open()
  assert.match(
    await server.why(`m ${'f'.repeat(65)}=1 ${now}`),
    /\[0x21f\] invalid key or key is too long/,
  )
  assert.match(
    await server.why(`${'m'.repeat(193)} f=1 ${now}`),
    /\[0x20a\] measure is empty or too large than 192/,
  )
  const tags = Array.from({ length: 129 }, (_, at) => `t${at}=1`).join(',')
  assert.match(await server.why(`m,${tags} f=1 ${now}`), /\[0x2643\]/)
  for (const line of ['m f=1,f=2', 'm,t=1,t=2 f=1', 'm _ts=1'])
    assert.match(await server.why(`${line} ${now}`), /\[0x124\] Duplicate key/, line)
})

test('tdef.h, clientSml.c: what strings reserve — 65,517 bytes a value, 65,531 a row, 16,384 for all tags', async () => {
  await using server = await open()
  assert.match(await server.why(`m f="${'x'.repeat(65_518)}" ${now}`), /\[0x2642\]/)
  assert.equal(await server.why(`a f="${'x'.repeat(65_517)}" ${now}`), '204 ')
  // The column keeps its room: one more of any kind and the row is too long for good.
  assert.match(await server.why(`a g=1 ${now}`), /\[0x263e\] Row length exceeds max length/)
  assert.equal(await server.why(`b,t=${'x'.repeat(4_095)} f=1 ${now}`), '204 ')
  assert.match(
    await server.why(`c,t=${'x'.repeat(4_096)} f=1 ${now}`),
    /\[0x263d\] Tags length exceeds/,
  )
})

test('docs 07-develop/04-schemaless.md: dots become underscores in table names, and two names one table', async () => {
  await using server = await open()
  await server.write(`a.b f=1 ${now}\na_b f=2 ${now}`)
  assert.deepEqual(server.values(), [['a_b', 'f', 2]])
})

test('vnodeSvr.c: a time out of keep refuses what its vgroup was sent, and the other vgroup keeps its rows', async () => {
  await using server = await open({ databases: { plant: { precision: 'ns', keepDays: 30 } } })
  const old = now - 40n * 86_400n * 10n ** 9n
  const lines = Array.from({ length: 16 }, (_, at) => `m,t=${at} f=${at} ${now}`)
  const answer = await server.why([...lines, `m,t=0 f=1 ${old}`].join('\n'))
  assert.equal(answer, '500 [0x60b] Timestamp data out of range')
  const kept = server.values().length
  assert.ok(kept > 0 && kept < 16, `${kept} of 16`)
})

test('parInsertSml.c: columns absent from a row keep what an earlier row gave them; a resend leaves one', async () => {
  await using server = await open()
  for (const body of [`m,t=1 f=1 ${now}`, `m,t=1 f=1 ${now}`, `m,t=1 g=2 ${now}`])
    assert.equal(await server.why(body), '204 ')
  assert.deepEqual(server.values(), [
    ['m', 'f', 1],
    ['m', 'g', 2],
  ])
})

test('system/main.go: gzip on every route; what is none is 400 without a word, what was cut 400 with one', async () => {
  await using server = await open()
  assert.equal((await server.write(`m f=1 ${now}`, { gzip: true })).status, 204)
  const headers = { ...login, 'content-encoding': 'gzip' }
  const none = await server.write(`m f=1 ${now}`, { headers })
  assert.deepEqual([none.status, none.body], [400, ''])
  const cut = await server.write(new Uint8Array(gzipSync(`m f=1 ${now}`).subarray(0, 20)), {
    headers,
  })
  assert.equal(JSON.parse(cut.body).message, 'read line error')
})

test('plugin.go: memory above its threshold is 503 with Retry-After: 120, the pool 503 without', async () => {
  await using server = await open()
  server.overload(1)
  const memory = await server.write(`m f=1 ${now}`)
  assert.deepEqual(
    [memory.status, memory.headers.get('retry-after'), memory.body],
    [503, '120', '"memory exceeds threshold"'],
  )
})
