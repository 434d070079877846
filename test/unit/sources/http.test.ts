import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, request as httpRequest } from 'node:http'
import { Agent, request as httpsRequest } from 'node:https'
import { connect } from 'node:net'
import { test } from 'node:test'
import { connect as tlsConnect } from 'node:tls'
import { deflateSync, gzipSync, zstdCompressSync } from 'node:zlib'
import { InfluxDB, Point, setLogger } from '@influxdata/influxdb-client'
import { Failure } from '../../../src/errors.ts'
import { messageBytesMax, messageRawBytesMax } from '../../../src/limits.ts'
import { quality } from '../../../src/model.ts'
import { httpSource } from '../../../src/sources/http.ts'
import { createBodyReader, createBudget } from '../../../src/sources/http-body.ts'
import { createCertificates } from '../../support/certificates.ts'
import { gate, openTestDoor, raw } from './http-support.ts'

const token = 'a-token-of-a-test'
// The client prints what this file expects.
setLogger({ error: () => {}, warn: () => {} })
const shown = (points: readonly { name: string; value: unknown; timeUs: number }[]) =>
  points.map(({ name, value, timeUs }) => [name, value, timeUs])

test("InfluxDB's own client writes unchanged, value by value", async (t) => {
  const door = await openTestDoor(t, { token })
  for (const gzipThreshold of [0, 1_000_000]) {
    const writeOptions = { gzipThreshold, maxRetries: 0, batchSize: 100 }
    const api = new InfluxDB({ url: door.url, token }).getWriteApi('org', 'bucket', 'us', {
      ...writeOptions,
    })
    api.useDefaultTags({ site: 'A, B' })
    api.writePoint(
      new Point('we ather')
        .tag('room', 'x=1')
        .floatField('temp', -0.1)
        .intField('count', -7)
        .uintField('big', '9223372036854775807')
        .booleanField('on', true)
        .stringField('text', 'a "q" \\ ü\nnew')
        .timestamp(1_700_000_000_000_123),
    )
    await api.close()
    const at = 1_700_000_000_000_123
    assert.deepEqual(shown(door.points.splice(0)), [
      ['we ather.big', 2n ** 63n - 1n, at],
      ['we ather.count', -7n, at],
      ['we ather.on', true, at],
      ['we ather.temp', -0.1, at],
      ['we ather.text', 'a "q" \\ ü\nnew', at],
    ])
  }
  const wrong = new InfluxDB({ url: door.url, token: 'wrong' }).getWriteApi('o', 'b', 'us', {
    maxRetries: 0,
  })
  wrong.writePoint(new Point('m').floatField('v', 1))
  await assert.rejects(wrong.close(), /token/)
  assert.equal(door.points.length, 0)
})

test('no answer leaves before the commit: neither the 204 nor the 400 that names bad lines', async (t) => {
  const door = await openTestDoor(t)
  for (const [body, status] of [
    ['m v=1 1000', 204],
    ['m v=1 1000\nbad', 400],
  ] as const) {
    const [asked, committed] = [gate(), gate()]
    door.commit = () => {
      asked.open()
      return committed.opened
    }
    let answered = false
    const answer = door.post('/write', body).then((response) => {
      answered = true
      return response
    })
    await asked.opened
    // Another request goes all the way meanwhile: the answer had its chance to leave.
    await fetch(`${door.url}/ping`)
    assert.equal(answered, false)
    committed.open()
    assert.equal((await answer).status, status)
  }
  assert.equal(door.points.length, 2)
})

test('good lines are kept, bad ones named in both dialects, and each leaves its loss', async (t) => {
  const door = await openTestDoor(t)
  const body = 'm v=1 1000\nm v=\nm a=1,b=9223372036854775808u,c="x" 2000\nm v=NaN 3000'
  const v1 = await door.post('/write?db=plant&u=me&p=x', body)
  assert.equal(v1.status, 400)
  const one = (await v1.json()) as { error: string; troubles: unknown[] }
  assert.match(
    one.error,
    /^partial write: unable to parse line 2, column 5: .*line 3, column 9: .*2\^63.*line 4/,
  )
  assert.equal(one.troubles.length, 3)
  assert.deepEqual(shown(door.points.splice(0)), [
    ['m.v', 1, 1],
    ['m.a', 1, 2],
    ['m.c', 'x', 2],
  ])
  assert.deepEqual(
    door.losses.splice(0).map(({ source, reason, count }) => [source, reason, count]),
    [
      ['http', 'malformed', 1],
      ['http', 'refused', 2],
    ],
  )
  const v2 = await door.post('/api/v2/write?org=o&bucket=b&precision=ms', 'm v=1 1\noops')
  const two = (await v2.json()) as { code: string; message: string }
  assert.deepEqual([v2.status, two.code], [400, 'invalid'])
  assert.match(two.message, /line 2, column 1/)
  assert.deepEqual(shown(door.points), [['m.v', 1, 1000]])
  assert.equal(Buffer.from(door.losses[0]?.sample ?? []).toString(), 'oops')
})

test('a body of any size goes in by parts, all of it before the answer', async (t) => {
  const door = await openTestDoor(t)
  const sizes: number[] = []
  door.commit = async ({ points }) => {
    sizes.push(points.count)
  }
  const body = Array.from({ length: 130_000 }, (_, at) => `m v=${at} ${at}000`).join('\n')
  assert.equal((await door.post('/write', body)).status, 204)
  assert.ok(sizes.length > 5)
  assert.deepEqual(
    door.points.map(({ value }) => value),
    Array.from({ length: 130_000 }, (_, at) => at),
  )
})

test('gzip, deflate and zstd bodies; others are refused, broken ones too', async (t) => {
  const door = await openTestDoor(t)
  const body = 'm v=1 1000'
  const packers = { gzip: gzipSync, deflate: deflateSync, zstd: zstdCompressSync }
  for (const [encoding, pack] of Object.entries(packers)) {
    const packed = new Uint8Array(pack(body))
    const headers = { 'content-encoding': encoding }
    assert.equal((await door.post('/write', packed, headers)).status, 204, encoding)
    assert.equal((await door.post('/write', packed.subarray(0, -3), headers)).status, 400)
  }
  assert.equal((await door.post('/write', body, { 'content-encoding': 'br' })).status, 415)
  assert.equal(door.points.length, 3)
})

test('too big is 413: announced, chunked, or packed into a bomb', async (t) => {
  const door = await openTestDoor(t)
  const head = `POST /write HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n`
  const announced = await raw(
    door.port,
    `${head}Content-Length: ${messageBytesMax + 1}\r\n\r\n`,
    true,
  )
  assert.match(announced, /^HTTP\/1.1 413 /)
  const bomb = new Uint8Array(gzipSync(Buffer.alloc(messageRawBytesMax + 1, '\n')))
  assert.equal((await door.post('/write', bomb, { 'content-encoding': 'gzip' })).status, 413)
  const chunked = httpRequest(`${door.url}/write`, { method: 'POST' })
  chunked.write(Buffer.alloc(messageBytesMax, '\n'))
  chunked.end('\n\n')
  const [answer] = await once(chunked, 'response')
  assert.equal(answer.statusCode, 413)
  answer.resume()
  await once(answer, 'end')
  assert.deepEqual([door.points, door.losses], [[], []])
})

test('backpressure: a blocked spool, a late commit, a failed commit are 503 with Retry-After', async (t) => {
  const door = await openTestDoor(t, { commit_timeout: '20ms' })
  const expect503 = async () => {
    const response = await door.post('/write', 'm v=1 1000')
    assert.equal(response.status, 503)
    assert.match(response.headers.get('retry-after') ?? '', /^\d+$/)
    return ((await response.json()) as { error: string }).error
  }
  door.blocked = true
  assert.match(await expect503(), /no room/)
  door.blocked = false
  const committed = gate()
  door.commit = () => committed.opened
  assert.match(await expect503(), /too long/)
  committed.open()
  door.commit = async () => {
    throw new Failure('HF-S001', 'nothing was stored')
  }
  assert.match(await expect503(), /nothing was stored/)
  assert.deepEqual(door.errors, [])
  door.commit = async () => {
    throw new TypeError('a bug')
  }
  assert.equal((await door.post('/write', 'm v=1')).status, 500)
  assert.equal(door.errors.length, 1)
})

test('what is held is bounded: beyond the budget a body is busy, and gives back what it took', async (t) => {
  const budget = createBudget(100)
  const reader = createBodyReader(budget)
  const server = createServer(async (request, response) => {
    const body = await reader.read(request)
    response.end(body.kind)
    if (body.kind === 'body' && request.url !== '/keep') body.release()
  })
  t.after(() => server.close())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const send = async (
    path: string,
    body: string | Uint8Array<ArrayBuffer>,
    encoding = 'identity',
  ) => {
    const headers = { 'content-encoding': encoding, connection: 'close' }
    const url = `http://127.0.0.1:${port}${path}`
    return (await fetch(url, { method: 'POST', body, headers })).text()
  }
  assert.equal(await send('/', 'x'.repeat(101)), 'busy')
  assert.equal(budget.used(), 0)
  assert.equal(await send('/', new Uint8Array(gzipSync('x'.repeat(101))), 'gzip'), 'busy')
  assert.equal(budget.used(), 0)
  assert.equal(await send('/keep', 'x'.repeat(60)), 'body')
  assert.equal(await send('/', 'x'.repeat(60)), 'busy')
  assert.equal(await send('/', 'x'.repeat(40)), 'body')
  assert.equal(budget.used(), 60)
})

test('a body cut off in the middle leaves nothing, and the door goes on', async (t) => {
  const door = await openTestDoor(t)
  const head = 'POST /write HTTP/1.1\r\nHost: localhost\r\n'
  await raw(door.port, `${head}Content-Length: 40\r\n\r\nm v=1 1000\nm v=2`, true)
  await raw(
    door.port,
    `${head}Transfer-Encoding: chunked\r\n\r\nb\r\nm v=1 1000\n\r\n5\r\nm v`,
    true,
  )
  const socket = connect(door.port, '127.0.0.1')
  socket.write(`${head}Content-Length: 40\r\n\r\nm v=1 1000\n`)
  await once(socket, 'connect')
  socket.destroy()
  assert.equal((await door.post('/write', 'm v=3 1000')).status, 204)
  assert.deepEqual(shown(door.points), [['m.v', 3, 1]])
  assert.deepEqual(door.losses, [])
})

test('whatever Content-Type a sender claims, or none, the body is line protocol', async (t) => {
  const door = await openTestDoor(t)
  const types = [
    ...['', 'Content-Type: application/x-www-form-urlencoded\r\n', 'Content-Type: nonsense\r\n'],
    ...['Content-Type: application/json\r\n', 'Content-Type: multipart/form-data\r\n'],
  ]
  for (const type of types) {
    const head = `POST /write HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${type}`
    const whole = await raw(door.port, `${head}Content-Length: 10\r\n\r\nm v=1 1000`)
    assert.match(whole, /^HTTP\/1.1 204 /, type)
    const chunked = `${head}Transfer-Encoding: chunked\r\n\r\n4\r\nm v=\r\n6\r\n1 1000\r\n0\r\n\r\n`
    assert.match(await raw(door.port, chunked), /^HTTP\/1.1 204 /, type)
  }
  assert.equal(door.points.length, 2 * types.length)
})

test('senders that dawdle are cut: silent, in the headers, in the body', async (t) => {
  const door = await openTestDoor(t, { request_timeout: '100ms' })
  const head = 'POST /write HTTP/1.1\r\nHost: localhost\r\n'
  const answers = await Promise.all([
    raw(door.port, ''),
    raw(door.port, head),
    raw(door.port, `${head}Content-Length: 30\r\n\r\nm v=1`),
  ])
  for (const answer of answers) assert.match(answer, /^$|^HTTP\/1.1 408 /)
  assert.deepEqual(door.points, [])
})

test('one connection carries many requests', async (t) => {
  const door = await openTestDoor(t)
  const one = (connection: string) =>
    `POST /write HTTP/1.1\r\nHost: localhost\r\nConnection: ${connection}\r\nContent-Length: 10\r\n\r\nm v=1 1000`
  const answer = await raw(door.port, one('keep-alive') + one('close'))
  assert.equal(answer.match(/HTTP\/1.1 204 /g)?.length, 2)
  assert.equal(door.points.length, 2)
})

test('on the loopback no web page gets in: foreign Host or any Origin is 403, on every route', async (t) => {
  const door = await openTestDoor(t, { hosts: ['gateway.local'] })
  const ask = (method: string, path: string, host: string, more = '') =>
    raw(
      door.port,
      `${method} ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n${more}Content-Length: 5\r\n\r\nm v=1`,
    )
  const routes = [
    ['POST', '/write'],
    ['POST', '/api/v2/write'],
    ['POST', '/api/v1/points'],
    ['GET', '/ping'],
    ['GET', '/health'],
    ['GET', '/query'],
    ['GET', '/nowhere'],
  ] as const
  for (const [method, path] of routes) {
    for (const host of [
      'evil.example',
      'localhost.evil.example',
      '127.0.0.1.evil.example:8086',
      '',
    ]) {
      assert.match(await ask(method, path, host), /^HTTP\/1.1 403 /, `${path} ${host}`)
    }
    const answer = await ask(method, path, 'localhost', 'Origin: http://localhost\r\n')
    assert.match(answer, /^HTTP\/1.1 403 /)
    assert.doesNotMatch(answer, /access-control/i)
  }
  assert.deepEqual(door.points, [])
  for (const host of ['localhost', `127.0.0.1:${door.port}`, '[::1]:8086', 'Gateway.Local']) {
    assert.match(await ask('POST', '/write', host), /^HTTP\/1.1 204 /, host)
  }
})

test('a token is asked wherever clients put it, and nothing is taken without', async (t) => {
  const door = await openTestDoor(t, { token })
  const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`
  const write = async (authorization?: string, path = '/write') =>
    (await door.post(path, 'm v=1 1', authorization ? { authorization } : {})).status
  for (const wrong of [
    undefined,
    'Token wrong',
    'Token',
    'Bearer ',
    `Nonsense ${token}`,
    basic(`me:${token}x`),
  ]) {
    assert.equal(await write(wrong), 401, wrong)
    assert.equal(await write(wrong, '/api/v2/write'), 401)
    assert.equal(await write(wrong, '/api/v1/points'), 401)
  }
  assert.equal(await write(undefined, '/write?p=wrong&u=me'), 401)
  assert.equal(await write('Bearer wrong', `/write?p=${token}`), 401)
  assert.deepEqual(door.points, [])
  for (const right of [
    `Token ${token}`,
    `token me:${token}`,
    `Bearer ${token}`,
    basic(`me:${token}`),
  ]) {
    assert.equal(await write(right), 204, right)
  }
  assert.equal(await write(undefined, `/write?u=me&p=${token}`), 204)
  assert.equal((await fetch(`${door.url}/ping`)).status, 204)
})

test('a configuration that opens the door to other machines needs a token', () => {
  const check = (config: object) => httpSource.config.safeParse({ type: 'http', ...config })
  for (const listen of [
    '0.0.0.0:8086',
    ':8086',
    '*:8086',
    '[::]:8086',
    '192.168.1.4:8086',
    'gw:8086',
  ]) {
    const refused = check({ listen })
    assert.equal(refused.success, false, listen)
    assert.deepEqual(refused.error?.issues[0]?.path, ['token'])
    assert.equal(check({ listen, token }).success, true)
  }
  for (const listen of ['127.0.0.1:8086', '127.9.9.9:1', '[::1]:8086', 'localhost:8086']) {
    assert.equal(check({ listen }).success, true, listen)
  }
  for (const listen of ['8086', '127.0.0.1', '127.0.0.1:99999', '127.evil.example', '[x]:1']) {
    assert.equal(check({ listen, token }).success, false, listen)
  }
  assert.equal(check({ token: 'short' }).success, false)
  assert.equal(check({ tokn: token }).success, false)
  assert.deepEqual(check({}).data?.listen, '127.0.0.1:8086')
})

test('TLS 1.3, and certificates of clients where asked', async (t) => {
  const certificates = await createCertificates()
  const { cert, key } = certificates.server
  const door = await openTestDoor(t, { tls: { cert, key, ca: certificates.ca } })
  const { readFileSync } = await import('node:fs')
  const pair = await certificates.agent('gw')
  const ca = readFileSync(certificates.ca)
  const known = { cert: readFileSync(pair.cert), key: readFileSync(pair.key) }
  const post = (options: object) =>
    new Promise<number | string>((resolve) => {
      const agent = new Agent({ ca, ...options })
      const request = httpsRequest(`${door.url}/write`, { method: 'POST', agent }, (response) => {
        response.resume()
        response.once('end', () => {
          agent.destroy()
          resolve(response.statusCode ?? 0)
        })
      })
      request.once('error', (error) => {
        agent.destroy()
        resolve(error.message)
      })
      request.end('m v=1 1000')
    })
  assert.equal(await post(known), 204)
  assert.equal(typeof (await post({})), 'string')
  assert.equal(typeof (await post({ ...known, maxVersion: 'TLSv1.2' })), 'string')
  assert.equal(door.points.length, 1)
})

test('a renewed certificate is taken without a restart', async (t) => {
  const certificates = await createCertificates()
  const { cert, key } = certificates.server
  const door = await openTestDoor(t, { tls: { cert, key } })
  const { copyFileSync } = await import('node:fs')
  const serial = async () => {
    const socket = tlsConnect({ port: door.port, host: '127.0.0.1', rejectUnauthorized: false })
    await once(socket, 'secureConnect')
    const { serialNumber } = socket.getPeerCertificate()
    socket.destroy()
    return serialNumber
  }
  const before = await serial()
  const renewed = await certificates.serverFor('renewed', ['localhost'])
  const taken = door.heard('certificates_taken')
  copyFileSync(renewed.key, key)
  copyFileSync(renewed.cert, cert)
  await taken
  assert.notEqual(await serial(), before)
})

test('JSON: points with time, tags, quality and exact ints; bad items named, good ones kept', async (t) => {
  const door = await openTestDoor(t)
  const items = [
    '{"series":"a","value":1.5,"time":"2024-05-06T07:08:09.123456Z","tags":{"y":"2","x":"1"},"unit":"bar"}',
    '{"series":"a","value":-9007199254740993,"type":"int","time":1700000000000}',
    '{"series":"a","value":"9223372036854775807","type":"int","time":1700000000001}',
    '{"series":"b","value":"NaN","type":"float","quality":"bad","time":1700000000000}',
    '{"series":"b","value":"on"}',
    '{"series":"b","value":true,"quality":"uncertain"}',
    '{"series":"c","value":"9223372036854775808","type":"int"}',
    '{"series":"c\\u0000","value":1}',
    '{"series":"c","value":"\\ud800"}',
    '{"series":"c","value":[1]}',
    '{"series":"c","value":1,"colour":"red"}',
    '{"series":"c","value":1,"time":"yesterday"}',
    '{"series":"c","value":1,"tags":{"x":1}}',
    '{"series":"c","value":null}',
    '{"series":"c","value":18446744073709551615,"type":"int"}',
    '7',
  ]
  const response = await door.post('/api/v1/points', `[${items}]`)
  assert.equal(response.status, 400)
  const { troubles } = (await response.json()) as { troubles: { where: string }[] }
  assert.deepEqual(
    troubles.map(({ where }) => where),
    [...Array.from({ length: 10 }, (_, at) => `item ${at + 6}`)],
  )
  const at = 1_700_000_000_000_000
  assert.deepEqual(shown(door.points), [
    ['a', 1.5, 1_714_979_289_123_456],
    ['a', -9007199254740993n, at],
    ['a', 2n ** 63n - 1n, at + 1000],
    ['b', Number.NaN, at],
    ['b', 'on', Number.NaN],
    ['b', true, Number.NaN],
  ])
  assert.deepEqual(
    door.points.map((point) => point.quality),
    [0, 0, 0, quality.bad, 0, quality.uncertain],
  )
  assert.deepEqual(door.points[0]?.tags, [
    ['x', '1'],
    ['y', '2'],
  ])
  assert.deepEqual(
    door.losses.map(({ reason, count }) => [reason, count]),
    [['refused', 10]],
  )
  const one = await door.post('/api/v1/points?precision=s', '{"series":"a","value":1,"time":5}')
  assert.equal(one.status, 204)
  assert.equal(door.points.at(-1)?.timeUs, 5e6)
  const broken = await door.post('/api/v1/points', '[{"series":')
  assert.equal(broken.status, 400)
  assert.deepEqual(door.losses.at(-1)?.reason, 'malformed')
})

test('JSON by a mapping of the configuration, as MQTT messages are read', async (t) => {
  const json = { items: 'data', fields: { temp: 'float' }, time: 'ts', series: '{item.id}.{field}' }
  const door = await openTestDoor(t, { json })
  const body =
    '{"data":[{"id":"k1","temp":20.5,"ts":1700000000},{"id":"k2","temp":"x","ts":1700000000}]}'
  assert.equal((await door.post('/api/v1/points', body)).status, 400)
  assert.deepEqual(shown(door.points), [['k1.temp', 20.5, 1_700_000_000_000_000]])
  assert.deepEqual(
    door.losses.map(({ reason, count }) => [reason, count]),
    [['refused', 1]],
  )
})

test('clients are content: ping, health, create database; queries and unknown precisions are not', async (t) => {
  const door = await openTestDoor(t)
  const ping = await fetch(`${door.url}/ping`)
  assert.equal(ping.status, 204)
  assert.match(ping.headers.get('x-influxdb-version') ?? '', /^\d+\.\d+\.\d+/)
  assert.equal((await fetch(`${door.url}/ping`, { method: 'HEAD' })).status, 204)
  const health = (await (await fetch(`${door.url}/health`)).json()) as { status: string }
  assert.equal(health.status, 'pass')
  const query = (q: string) =>
    fetch(`${door.url}/query?q=${encodeURIComponent(q)}`, { method: 'POST' })
  assert.equal((await query('CREATE DATABASE "plant"')).status, 200)
  assert.equal((await query('SELECT * FROM m')).status, 400)
  assert.equal((await door.post('/write?precision=days', 'm v=1')).status, 400)
  assert.equal((await door.post('/write?precision=__proto__', 'm v=1')).status, 400)
  assert.equal((await door.post('/write', '')).status, 204)
  assert.equal((await fetch(`${door.url}/write`)).status, 404)
  assert.deepEqual(door.points, [])
})

test('shutting down answers what is being committed and lets go of the port', async (t) => {
  const door = await openTestDoor(t)
  const [asked, committed] = [gate(), gate()]
  door.commit = () => {
    asked.open()
    return committed.opened
  }
  const answer = door.post('/write', 'm v=1 1000', { connection: 'close' })
  await asked.opened
  const stopped = door.stop()
  committed.open()
  assert.equal((await answer).status, 204)
  await stopped
  const socket = connect(door.port, '127.0.0.1')
  const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException]
  assert.equal(error.code, 'ECONNREFUSED')
})

test('a port that is taken is a failure with a hint', async (t) => {
  const door = await openTestDoor(t)
  await assert.rejects(openTestDoor(t, { listen: `127.0.0.1:${door.port}` }), { code: 'HF-I040' })
})
