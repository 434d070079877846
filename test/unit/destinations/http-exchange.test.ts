/** One request and its answer over real sockets: how long an answer may take grows with the body. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { createHttpExchange } from '../../../src/destinations/http-exchange.ts'
import { createSystemHost, silentLog } from '../../../src/host.ts'

const { signal } = new AbortController()

test('a large body gets the time that a slow link needs; a small one that is not answered is later', async () => {
  const server = createServer((request, response) => {
    let bytes = 0
    request.on('data', (piece: Buffer) => {
      bytes += piece.length
    })
    // As late as a body that came slowly would be answered; a small one is not answered at all.
    request.on('end', () => bytes > 1_000 && setTimeout(() => response.writeHead(204).end(), 600))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const http = createHttpExchange(createSystemHost({ log: silentLog }), {
    url: new URL(`http://127.0.0.1:${port}`),
    tls: {},
    request_timeout: 200,
  })
  const ask = (bytes: number) =>
    http.ask({ path: '/write', headers: {}, body: new Uint8Array(bytes) }, signal)
  const large = await ask(400_000)
  assert.ok('reply' in large && large.reply.status === 204, JSON.stringify(large))
  const small = await ask(10)
  assert.ok('trouble' in small && small.trouble.kind === 'later', JSON.stringify(small))
  assert.match(small.trouble.text, /no answer within 202 ms/)
  await http.close()
  server.closeAllConnections()
  server.close()
})
