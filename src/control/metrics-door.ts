/**
 * `/metrics` and `/healthz` over plain HTTP, for Prometheus and load balancers; looks only.
 * Invariant: without a token it listens on loopback only (the configuration is refused otherwise).
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { Failure, textOf } from '../errors.ts'
import { bearerOf, createTokenCheck, type TokenNow } from '../renewed.ts'
import type { AgentView } from './view.ts'

export interface MetricsDoor extends AsyncDisposable {
  readonly port: number
}
export interface MetricsDoorOptions {
  readonly listen: string
  readonly token: TokenNow
  readonly view: Pick<AgentView, 'metrics' | 'status'>
}
const connectionsMax = 32

const answer = async (
  { view }: MetricsDoorOptions,
  isToken: ReturnType<typeof createTokenCheck>,
  request: IncomingMessage,
  reply: ServerResponse,
): Promise<void> => {
  const send = (status: number, text: string, type = 'text/plain; charset=utf-8') =>
    reply.writeHead(status, { 'content-type': type }).end(text)
  if (!isToken([bearerOf(request.headers.authorization)]))
    return void send(401, 'a token is needed: Authorization: Bearer …\n')
  if (request.method !== 'GET') return void send(405, 'GET only\n')
  const { pathname } = new URL(request.url ?? '/', 'http://x')
  if (pathname === '/metrics')
    return void send(200, await view.metrics(), 'text/plain; version=0.0.4; charset=utf-8')
  if (pathname !== '/healthz') return void send(404, 'there are /metrics and /healthz\n')
  const { verdict } = await view.status()
  const { state, code, reason, fix, safeOfflineHours } = verdict
  send(
    state === 'unhealthy' ? 503 : 200,
    `${JSON.stringify({ state, code, reason, fix, safeOfflineHours })}\n`,
    'application/json',
  )
}

export const openMetricsDoor = async (options: MetricsDoorOptions): Promise<MetricsDoor> => {
  const [, address = '', port = '0'] = /^(.*):(\d+)$/.exec(options.listen) ?? []
  const isToken = createTokenCheck(options.token)
  const server = createServer((request, reply) => {
    answer(options, isToken, request, reply).catch((error: unknown) => {
      if (reply.headersSent) reply.destroy()
      else reply.writeHead(503).end(`${textOf(error)}\n`)
    })
  })
  server.maxConnections = connectionsMax
  server.requestTimeout = 10_000
  server.listen({
    host: address.replace(/^\[|\]$/g, '').replace('*', '') || '::',
    port: Number(port),
  })
  try {
    await once(server, 'listening')
  } catch (error) {
    const hint = 'another program may listen there; change agent.metrics.listen'
    throw new Failure('HF-X013', `cannot listen on ${options.listen}: ${textOf(error)}`, hint)
  }
  return {
    port: (server.address() as { port: number }).port,
    [Symbol.asyncDispose]: async () => {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
}
