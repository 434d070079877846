/** The regional door with real TLS: who gets in, what is refused before it is read, reload and stop. */
import assert from 'node:assert/strict'
import { createPrivateKey } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { type OutgoingHttpHeaders, request as plainRequest } from 'node:http'
import { Agent, type RequestOptions, request } from 'node:https'
import { test } from 'node:test'
import { connect, type TLSSocket } from 'node:tls'
import { createSystemHost, type Log, silentLog } from '../../../src/host.ts'
import { encodeCertificates, identityHeaders, signRequest } from '../../../src/protocol/identity.ts'
import { helloAnswer, helloRequest } from '../../../src/protocol/relay-messages.ts'
import type { RegionalLimits, RelayRequest } from '../../../src/regional/handle.ts'
import { openRegionalServer, type RegionalServerOptions } from '../../../src/regional/server.ts'
import { certificatesIn, openTlsFiles } from '../../../src/tls.ts'
import { createTestRegion } from '../../contract/destination-region.ts'
import { createCertificates } from '../../support/certificates.ts'

const host = createSystemHost()
const certificates = await createCertificates()
const { ca, authority } = certificates
const caPem = authority.caPem
const pair = await authority.agent('gw-1')
const me = { ca: caPem, cert: pair.certPem, key: pair.keyPem }
const epoch = 'a'.repeat(32)
const hello = helloRequest.encode({
  spoolId: 's',
  epoch,
  epochs: [{ epoch, parent: null, lanes: [] }],
  lanes: [{ lane: 1, name: 'raw', acked: 0, floor: 1 }],
  lastRegion: '',
  formats: [1],
})
const relay = {
  'content-type': 'application/json',
  'holdfast-protocol': '1',
  'holdfast-agent': 'gw-1',
  'holdfast-epoch': epoch,
}

interface Reply {
  readonly status: number
  readonly headers: Record<string, unknown>
  readonly text: string
}
const ask = (
  options: RequestOptions,
  body: Uint8Array = hello,
  send: typeof request = request,
): Promise<Reply> =>
  new Promise((resolve, reject) => {
    const full = {
      host: 'localhost',
      method: 'POST',
      path: '/v1/hello',
      headers: relay,
      ...options,
    }
    const sent = send(full, (answer) => {
      let text = ''
      answer.on('data', (data: Buffer) => {
        text += data.toString('utf8')
      })
      answer.on('end', () =>
        resolve({ status: answer.statusCode ?? 0, headers: answer.headers, text }),
      )
    })
    sent.on('error', reject)
    sent.end(full.method === 'GET' ? undefined : body)
  })

const open = async (
  more: Partial<RegionalServerOptions> = {},
  limits: Partial<RegionalLimits> = {},
) => {
  const region = await createTestRegion(undefined, limits)
  const server = await openRegionalServer({
    regional: region.regional,
    host,
    listen: { address: '127.0.0.1', port: 0 },
    tls: openTlsFiles({ ca, ...certificates.server }, host),
    metrics: { text: async () => 'holdfast_up 1\n', contentType: 'text/plain' },
    health: async () => ({ good: true, text: 'fine' }),
    ...more,
  })
  return {
    region,
    server,
    port: server.port,
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]()
      await region[Symbol.asyncDispose]()
    },
  }
}

test('an agent with its certificate is heard', async () => {
  await using running = await open()
  const { port } = running
  const reply = await ask({ ...me, port })
  assert.equal(reply.status, 200)
  assert.deepEqual(helloAnswer.decode(Buffer.from(reply.text)).formats, [1, 2])
})

test('without a certificate of the right CA nothing is answered, and the log says why', async () => {
  const reasons: unknown[] = []
  const log: Log = { ...silentLog, warn: (_, fields) => reasons.push(fields?.reason) }
  await using running = await open({ host: { ...host, log } })
  const { port } = running
  const stranger = await (await createCertificates()).authority.agent('gw-1')
  await assert.rejects(ask({ ca: caPem, port }))
  await assert.rejects(ask({ ca: caPem, cert: stranger.certPem, key: stranger.keyPem, port }))
  const late = await authority.agent('gw-1', { fromMs: Date.now() - 3 * 86_400_000, days: 1 })
  await assert.rejects(ask({ ca: caPem, cert: late.certPem, key: late.keyPem, port }))
  const asServer = await authority.server(['gw-1'])
  await assert.rejects(ask({ ca: caPem, cert: asServer.certPem, key: asServer.keyPem, port }))
  await assert.rejects(ask({ ...me, port, maxVersion: 'TLSv1.2' }), /protocol version|alert/)
  // Whoever shows no certificate at all is told so by TLS itself, and is no news here.
  assert.equal(reasons.length, 3)
  for (const wanted of [/CERT_HAS_EXPIRED/, /INVALID_PURPOSE/])
    assert.ok(
      reasons.some((reason) => wanted.test(String(reason))),
      String(reasons),
    )
})

test('the header must name the same agent as the certificate', async () => {
  await using running = await open()
  const { port } = running
  for (const name of ['gw-2', '', undefined]) {
    const headers = { ...relay, 'holdfast-agent': name }
    const reply = await ask({
      ...me,
      port,
      headers: JSON.parse(JSON.stringify(headers)) as OutgoingHttpHeaders,
    })
    assert.equal(reply.status, 403)
    assert.match(reply.text, /"not-allowed"/)
  }
})

test('a body over the limit is answered with the limit; other words are refused in JSON', async () => {
  await using running = await open({}, { bodyBytesMax: 1_000 })
  const { port } = running
  const big = await ask({ ...me, port, path: '/v1/segments' }, new Uint8Array(1_001))
  assert.equal(big.status, 413)
  assert.equal((JSON.parse(big.text) as { error: { bytesMax: number } }).error.bytesMax, 1_000)
  assert.equal((await ask({ ...me, port, path: '/v2/hello' })).status, 404)
  assert.equal((await ask({ ...me, port, method: 'PUT' })).status, 404)
  assert.equal((await ask({ ...me, port }, Buffer.from('{'))).status, 400)
  const wrongProtocol = await ask({ ...me, port, headers: { ...relay, 'holdfast-protocol': '9' } })
  assert.match(wrongProtocol.text, /protocol 9; here speaks 1/)
})

test('no room for bodies: 429 with Retry-After before the body is read', async () => {
  await using running = await open({}, { bytesMax: 5_000, bodyBytesMax: 4_000 })
  const { port } = running
  const socket = connect({ ...me, host: 'localhost', port })
  const headers = Object.entries(relay).map(([name, value]) => `${name}: ${value}`)
  socket.write(
    `POST /v1/hello HTTP/1.1\r\nhost: x\r\ncontent-length: 4000\r\n${headers.join('\r\n')}\r\n\r\nhalf`,
  )
  // The half body counts; answers show when it has been counted.
  let reply = await ask({ ...me, port, path: '/v1/segments' }, new Uint8Array(2_000))
  while (reply.status !== 429)
    reply = await ask({ ...me, port, path: '/v1/segments' }, new Uint8Array(2_000))
  assert.match(String(reply.headers['retry-after']), /^[1-5]$/)
  socket.destroy()
  while ((await ask({ ...me, port })).status !== 200);
})

test('a new certificate is taken without closing what is open', async () => {
  const files = await certificates.serverFor('rotating', ['localhost'])
  const tls = openTlsFiles({ ca, ...files }, host)
  await using running = await open({ tls })
  const { port } = running
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  const presented = () =>
    new Promise<string>((resolve, reject) => {
      const socket: TLSSocket = connect({ ...me, host: 'localhost', port }, () => {
        resolve(socket.getPeerCertificate().serialNumber)
        socket.destroy()
      })
      socket.on('error', reject)
    })
  assert.equal((await ask({ ...me, port, agent })).status, 200)
  const before = await presented()
  const next = await authority.server(['localhost'])
  writeFileSync(files.cert, next.certPem)
  writeFileSync(files.key, next.keyPem)
  assert.equal(tls.reload(), true)
  assert.notEqual(await presented(), before)
  assert.equal((await ask({ ...me, port, agent })).status, 200)
  agent.destroy()
})

test('stopping answers what is at work', async () => {
  await using region = await createTestRegion()
  let arrived = () => {}
  const there = new Promise<void>((resolve) => {
    arrived = resolve
  })
  let goOn = () => {}
  const held = new Promise<void>((resolve) => {
    goOn = resolve
  })
  const regional = {
    ...region.regional,
    handle: async (one: RelayRequest) => {
      arrived()
      await held
      return region.regional.handle(one)
    },
  }
  await using running = await open({ regional })
  const reply = ask({ ...me, port: running.port })
  await there
  const stopped = running.server[Symbol.asyncDispose]()
  goOn()
  assert.equal((await reply).status, 200)
  await stopped
  await assert.rejects(ask({ ...me, port: running.port, agent: false }), /ECONNREFUSED/)
})

test('a port that is taken is said with a code', async () => {
  await using running = await open()
  await assert.rejects(open({ listen: { address: '127.0.0.1', port: running.port } }), {
    code: 'HF-R001',
  })
})

test('health and metrics: behind the certificate, and on an address of their own', async () => {
  let good = true
  await using running = await open({
    monitor: { address: '127.0.0.1', port: 0, token: () => 'a-long-enough-token' },
    health: async () => ({ good, text: 'says why' }),
  })
  const { port } = running
  const get = { method: 'GET', headers: {} }
  assert.equal((await ask({ ...me, port, ...get, path: '/metrics' })).text, 'holdfast_up 1\n')
  const plain = (path: string, headers = {}) =>
    ask({ ...get, port: running.server.monitorPort, path, headers }, hello, plainRequest)
  const token = { authorization: 'Bearer a-long-enough-token' }
  assert.equal((await plain('/healthz', token)).status, 200)
  good = false
  const bad = await plain('/healthz', token)
  assert.equal(bad.status, 503)
  assert.match(bad.text, /says why/)
  assert.equal((await plain('/metrics')).status, 401)
  assert.equal((await plain('/metrics', token)).text, 'holdfast_up 1\n')
  assert.equal(
    (await ask({ port: running.server.monitorPort, headers: token }, hello, plainRequest)).status,
    404,
  )
})

test('behind a proxy only the signature counts', async () => {
  const agents = openTlsFiles({ ca }, host)
  const tls = openTlsFiles({ ...certificates.server }, host)
  await using running = await open({ tls, proxy: { agents, audiences: ['region:8443'] } })
  const { port } = running
  const parts = {
    method: 'POST',
    path: '/v1/hello',
    agent: 'gw-1',
    epoch,
    audience: 'region:8443',
    counter: 1,
    body: hello,
  }
  const signed = (change: Partial<typeof parts> = {}, headers: object = {}) => {
    const real = { ...parts, ...change }
    return ask({
      ca: caPem,
      port,
      headers: {
        ...relay,
        [identityHeaders.certificate]: encodeCertificates(certificatesIn(pair.certPem)),
        [identityHeaders.audience]: real.audience,
        [identityHeaders.counter]: String(real.counter),
        [identityHeaders.signature]: signRequest(real, createPrivateKey(pair.keyPem)),
        ...headers,
      },
    })
  }
  assert.equal((await signed()).status, 200)
  const refused = async (reply: Promise<Reply>, why: RegExp) => {
    const { status, text } = await reply
    assert.equal(status, 403)
    assert.match(text, why)
  }
  await refused(signed(), /came before/)
  await refused(signed({ counter: 2, audience: 'elsewhere:1' }), /not for here/)
  await refused(signed({ counter: 3, body: Buffer.from('other') }), /signature/)
  await refused(signed({ counter: 4, path: '/v1/series' }), /signature/)
  await refused(
    signed({ counter: 5 }, { 'holdfast-agent': 'gw-2' }),
    /certificate names .*gw-1.*gw-2/,
  )
  await refused(signed({ counter: 6 }, { [identityHeaders.counter]: '7' }), /signature/)
  await refused(ask({ ca: caPem, port }), /not for here/)
  const other = (await (await createCertificates()).authority.agent('gw-1')).certPem
  const foreign = { [identityHeaders.certificate]: encodeCertificates(certificatesIn(other)) }
  await refused(signed({ counter: 8 }, foreign), /does not lead to a CA/)
})
