/** The relay's transport over real sockets: proxy, certificates that change, servers that never answer. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer as createPlainServer, type Server as PlainServer } from 'node:http'
import { createServer, type Server } from 'node:https'
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net'
import { test } from 'node:test'
import type { TLSSocket } from 'node:tls'
import { createHttpTransport, type HttpOptions } from '../../../src/destinations/relay-http.ts'
import { troubleOf } from '../../../src/destinations/relay-trouble.ts'
import { createSystemHost } from '../../../src/host.ts'
import { openTlsFiles } from '../../../src/tls.ts'
import { createCertificates } from '../../support/certificates.ts'

const host = createSystemHost()
const certificates = await createCertificates()
const client = await certificates.agent('gw')
const context = {
  authority: 'region:1',
  nowUs: host.clock.nowUs(),
  certificateExpiresAtUs: null,
  answered: true,
}
const never = new AbortController().signal
const post = { path: '/v1/hello', headers: {}, body: Buffer.from('{}'), timeoutMs: 10_000 }

const listening = async <S extends Server | PlainServer | ReturnType<typeof createTcpServer>>(
  server: S,
) => {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    server,
    port: (server.address() as AddressInfo).port,
    connections: () => sockets.size,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}
/** Answers with who asked, by which certificate. */
const echoServer = () =>
  listening(
    createServer(
      {
        ca: readFileSync(certificates.ca),
        cert: readFileSync(certificates.server.cert),
        key: readFileSync(certificates.server.key),
        requestCert: true,
        rejectUnauthorized: true,
      },
      (request, response) => {
        const socket = request.socket as TLSSocket
        request.resume()
        request.on('end', () =>
          response.end(
            JSON.stringify({
              name: socket.getPeerCertificate().subject.CN,
              protocol: socket.getProtocol(),
              http: request.httpVersion,
              path: request.url,
            }),
          ),
        )
      },
    ),
  )
const open = (port: number, more: Partial<HttpOptions> = {}) => {
  const tls = openTlsFiles({ ca: certificates.ca, ...client }, host)
  const url = new URL(`https://localhost:${port}`)
  const http = createHttpTransport({ url, tls, host, sign: false, ...more })
  const said = async (path = post.path) => {
    const reply = await http.transport({ ...post, path }, never)
    return JSON.parse(Buffer.from(reply.body).toString()) as Record<string, string>
  }
  return { ...http, tls, said, [Symbol.asyncDispose]: http.close }
}

test('TLS 1.3 and HTTP/1.1 with the certificate of the agent, over few connections that are kept', async () => {
  await using server = await echoServer()
  await using http = open(server.port, { url: new URL(`https://localhost:${server.port}/edge/`) })
  assert.deepEqual(await http.said(), {
    name: 'gw',
    protocol: 'TLSv1.3',
    http: '1.1',
    path: '/edge/v1/hello',
  })
  await Promise.all(Array.from({ length: 20 }, () => http.said()))
  assert.ok(server.connections() <= 8, String(server.connections()))
})

test('a new client certificate is used from the next request on', async () => {
  await using server = await echoServer()
  const files = await certificates.agent('before')
  const tls = openTlsFiles({ ca: certificates.ca, ...files }, host)
  await using http = open(server.port, { tls })
  assert.equal((await http.said()).name, 'before')
  const next = await certificates.authority.agent('after')
  writeFileSync(files.cert, next.certPem)
  writeFileSync(files.key, next.keyPem)
  assert.ok(tls.reload())
  assert.equal((await http.said()).name, 'after')
})

test('a proxy that tunnels, one that wants a password, one that refuses', async () => {
  await using server = await echoServer()
  const wanted = `Basic ${Buffer.from('edge:s3cret').toString('base64')}`
  await using proxy = await listening(
    createPlainServer().on('connect', (request, near: Socket) => {
      if (request.headers['proxy-authorization'] !== wanted)
        return void near.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n')
      const far = connect(server.port, '127.0.0.1', () => {
        near.write('HTTP/1.1 200 OK\r\n\r\n')
        near.pipe(far).pipe(near)
      })
      far.on('error', () => near.destroy())
      near.on('close', () => far.destroy())
    }),
  )
  const through = (user: string) => new URL(`http://${user}127.0.0.1:${proxy.port}`)
  await using good = open(server.port, { proxy: through('edge:s3cret@') })
  assert.equal((await good.said()).name, 'gw')
  await using bare = open(server.port, { proxy: through('') })
  const error = await bare.transport(post, never).catch((one: unknown) => one)
  const trouble = troubleOf(error, context)
  assert.ok(trouble.kind === 'blocked', JSON.stringify(trouble))
  assert.equal(trouble.code, 'HF-F116')
})

test('a server that accepts and never answers is given up at the deadline, then works again', async () => {
  let silent = true
  await using server = await echoServer()
  await using front = await listening(
    createTcpServer((near) => {
      if (silent) return
      const far = connect(server.port, '127.0.0.1')
      far.on('error', () => near.destroy())
      near.pipe(far).pipe(near)
      near.on('close', () => far.destroy())
    }),
  )
  await using http = open(front.port)
  const error = await http.transport({ ...post, timeoutMs: 50 }, never).catch((one: unknown) => one)
  assert.deepEqual(troubleOf(error, context), {
    kind: 'later',
    text: 'no answer from region:1: no answer within 50 ms',
  })
  silent = false
  assert.equal((await http.said()).name, 'gw')
})

test('giving up ends the request', async () => {
  await using server = await listening(createTcpServer())
  await using http = open(server.port)
  const stop = new AbortController()
  const answer = http.transport(post, stop.signal)
  stop.abort()
  await assert.rejects(answer)
})

test('no TLS at the address, and no TLS 1.3, have a sentence', async () => {
  await using plain = await listening(createPlainServer((_, response) => response.end()))
  await using old = await listening(
    createServer({
      cert: readFileSync(certificates.server.cert),
      key: readFileSync(certificates.server.key),
      maxVersion: 'TLSv1.2',
    }),
  )
  for (const { port } of [plain, old]) {
    await using http = open(port)
    const error = await http.transport(post, never).catch((one: unknown) => one)
    const trouble = troubleOf(error, context)
    assert.ok(trouble.kind === 'blocked', JSON.stringify(trouble))
    assert.equal(trouble.code, 'HF-N015')
  }
})

test('a signed request carries who it is', async () => {
  const seen: unknown[] = []
  await using server = await listening(
    createServer(
      {
        cert: readFileSync(certificates.server.cert),
        key: readFileSync(certificates.server.key),
      },
      (request, response) => {
        seen.push(request.headers['holdfast-counter'], request.headers['holdfast-audience'])
        request.resume()
        response.end()
      },
    ),
  )
  await using http = open(server.port, { sign: true })
  await http.transport(post, never)
  await http.transport(post, never)
  const audience = `localhost:${server.port}`
  assert.deepEqual(seen, ['1', audience, '2', audience])
})
