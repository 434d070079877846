/**
 * The regional node's HTTPS door: proves who each agent is, bounds what comes in, and hands
 * requests to `handle.ts`.
 *
 * Invariants: an agent is who its certificate names, proven by TLS or, behind a proxy that ends
 * TLS, by a signature over the request, never by a bare header; a body is read only while there is
 * room for it; new certificates are taken without closing a connection; stopping lets requests that
 * are at work be answered.
 */

import { once } from 'node:events'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TLSSocket } from 'node:tls'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { Failure, textOf } from '../errors.ts'
import type { Host } from '../host.ts'
import { relayHeaders } from '../protocol/relay.ts'
import { bearerOf, createTokenCheck, type TokenNow } from '../renewed.ts'
import { schemaController } from '../schemaless.ts'
import { type TlsFiles, tlsVersionMin } from '../tls.ts'
import type { Regional, RelayResponse } from './handle.ts'
import { createSignedIdentity, type Identity, type SignedOptions } from './identify.ts'

export interface RegionalServerOptions {
  readonly regional: Regional
  readonly host: Pick<Host, 'clock' | 'log'>
  readonly listen: { readonly address: string; readonly port: number }
  /** Own certificate and the agents' CA. Left out only behind a proxy on the same machine. */
  readonly tls?: TlsFiles
  /** TLS ends at a proxy: who an agent is says its signature. Without it mTLS is required. */
  readonly proxy?: SignedOptions
  /**
   * `/metrics` and `/healthz` without a certificate, on an address of their own; with a bearer
   * token if given.
   */
  readonly monitor?: {
    readonly address: string
    readonly port: number
    readonly token: TokenNow
  }
  readonly metrics: {
    readonly text: () => Promise<string>
    readonly contentType: string
  }
  readonly health: () => Promise<{ readonly good: boolean; readonly text: string }>
}
export interface RegionalServer extends AsyncDisposable {
  readonly address: string
  readonly port: number
  readonly monitorPort: number | null
}

/** 8 MiB at 8 kB/s take 17 minutes; a slower sender sends less at once. */
const requestMs = 20 * 60_000
const headersMs = 20_000
/** Longer than an idle agent's minute between two hellos. */
const keepAliveMs = 100_000
const stopGraceMs = 10_000

/** In mTLS the certificate was verified by TLS itself: only its name is read here. */
const mutualTls: Identity = ({ raw }) => {
  const socket = raw.socket as TLSSocket
  const name: unknown = socket.authorized ? socket.getPeerCertificate().subject?.CN : undefined
  return typeof name === 'string' && name !== ''
    ? { agent: name }
    : { refused: 'the client certificate names no agent (CN)' }
}

const send = (reply: FastifyReply, { status, headers, body }: RelayResponse): FastifyReply =>
  reply
    .code(status)
    .headers(headers)
    .send(Buffer.from(body.buffer, body.byteOffset, body.length))

/** Fires when the other side is gone before it was answered. */
const goneSignal = (response: ServerResponse): AbortSignal => {
  const gone = new AbortController()
  response.once('close', () => {
    if (!response.writableFinished) gone.abort()
  })
  return gone.signal
}

/** Counts what is being received, so that bodies are refused before they are read. */
const createReception = (bytesMax: number, bodyBytesMax: number) => {
  let receiving = 0
  return {
    admit: (request: IncomingMessage, response: ServerResponse): boolean => {
      const length = Number(request.headers['content-length'] ?? bodyBytesMax)
      const bytes = Math.min(length, bodyBytesMax)
      if (receiving + bytes > bytesMax) return false
      receiving += bytes
      response.once('close', () => {
        receiving -= bytes
      })
      return true
    },
  }
}

const requireToken = (app: FastifyInstance, token: TokenNow) => {
  const isToken = createTokenCheck(token)
  app.addHook('onRequest', async ({ headers }, reply) => {
    if (isToken([bearerOf(headers.authorization)])) return
    await reply.code(401).header('www-authenticate', 'Bearer').send({ status: 'unauthorized' })
  })
}

const addMonitoring = (app: FastifyInstance, options: RegionalServerOptions) => {
  app.get('/metrics', async (_, reply) =>
    reply.header('content-type', options.metrics.contentType).send(await options.metrics.text()),
  )
  app.get('/healthz', async (_, reply) => {
    const { good, text } = await options.health()
    return reply.code(good ? 200 : 503).send({ status: good ? 'ok' : 'unhealthy', text })
  })
}

const addRelay = (app: FastifyInstance, options: RegionalServerOptions) => {
  const { regional, host } = options
  const identify = options.proxy ? createSignedIdentity(options.proxy, host.clock) : mutualTls
  const { bodyBytesMax, bytesMax } = regional.limits
  const reception = createReception(bytesMax, bodyBytesMax)
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
  app.addHook('onRequest', async (request, reply) => {
    if (reception.admit(request.raw, reply.raw)) return undefined
    return send(reply.header('connection', 'close'), regional.busy())
  })
  app.post('/v1/*', async (request, reply) => {
    const signal = goneSignal(reply.raw)
    const body = Buffer.isBuffer(request.body) ? request.body : new Uint8Array(0)
    const who = identify(request, body)
    const path = request.url.split('?', 1)[0] as string
    if ('refused' in who) {
      host.log.warn('agent_refused', { reason: who.refused, from: request.ip })
      const error = { code: 'not-allowed', text: who.refused } as const
      return send(reply, regional.refuse({ status: 403, error }))
    }
    const headers = request.headers as Record<string, string | undefined>
    const { agent } = who
    return send(
      reply,
      await regional.handle({ method: 'POST', path, headers, body, agent, signal }),
    )
  })
  app.setNotFoundHandler((request, reply) => {
    const text = `no ${request.method} ${request.url.slice(0, 200)} here`
    return send(reply, regional.refuse({ status: 404, error: { code: 'not-found', text } }))
  })
  app.setErrorHandler((error: Error & { code?: string; statusCode?: number }, _, reply) => {
    if (error.code === 'FST_ERR_CTP_BODY_TOO_LARGE') {
      const refusal = { code: 'too-big', text: error.message, bytesMax: bodyBytesMax } as const
      return send(reply, regional.refuse({ status: 413, error: refusal }))
    }
    const status = error.statusCode ?? 500
    if (status >= 500) host.log.error('request_failed', { error: textOf(error) })
    const code = status >= 500 ? 'unavailable' : 'bad-request'
    const text = status >= 500 ? 'the regional node failed at this request' : error.message
    return send(reply, regional.refuse({ status, error: { code, text } }))
  })
}

const logRequest =
  (host: Pick<Host, 'log'>) => async (request: FastifyRequest, reply: FastifyReply) => {
    host.log.debug('request', {
      agent: request.headers[relayHeaders.agent],
      method: request.method,
      path: request.url.slice(0, 200),
      status: reply.statusCode,
      bytes: Number(request.headers['content-length'] ?? 0),
      ms: Math.round(reply.elapsedTime),
    })
  }

/** Agents only see that somebody hung up; the reason stands here. Strangers who scan are no news. */
const logRefusedTls = (host: Pick<Host, 'log'>) => (error: Error, socket: TLSSocket) => {
  const from = socket.remoteAddress
  const reason = socket.authorizationError as unknown
  if (reason) host.log.warn('agent_refused', { reason: String(reason), from })
  else host.log.debug('tls_failed', { error: error.message, from })
}

const createApp = (options: RegionalServerOptions): FastifyInstance => {
  const common = {
    bodyLimit: options.regional.limits.bodyBytesMax,
    keepAliveTimeout: keepAliveMs,
    requestTimeout: requestMs,
    logger: false,
    forceCloseConnections: 'idle',
    return503OnClosing: true,
    exposeHeadRoutes: false,
    schemaController,
  } as const
  const mutual = options.proxy === undefined
  if (mutual && options.tls?.current().ca === undefined)
    throw new Failure('HF-R002', 'a regional node needs TLS files with the CA of its agents')
  const app =
    options.tls === undefined
      ? Fastify({ ...common, http: { headersTimeout: headersMs } })
      : (Fastify({
          ...common,
          https: {
            ...options.tls.current(),
            minVersion: tlsVersionMin,
            requestCert: mutual,
            rejectUnauthorized: true,
            headersTimeout: headersMs,
          },
        }) as unknown as FastifyInstance)
  addMonitoring(app, options)
  addRelay(app, options)
  app.server.on('tlsClientError', logRefusedTls(options.host))
  app.addHook('onResponse', logRequest(options.host))
  return app
}

const listen = async (
  app: FastifyInstance,
  { address, port }: { readonly address: string; readonly port: number },
): Promise<number> => {
  try {
    // To name every address, Fastify asks for all interfaces over netlink, which the unit may not.
    if (address === '0.0.0.0') {
      await app.ready()
      app.server.listen({ host: address, port })
      await once(app.server, 'listening')
    } else await app.listen({ host: address, port })
  } catch (error) {
    const text = `cannot listen on ${address}:${port}: ${textOf(error)}`
    throw new Failure('HF-R001', text, 'Is another regional node running, or the address not here?')
  }
  return (app.server.address() as AddressInfo).port
}

/** Answers what is at work, closes idle connections at once and the others after a grace. */
const stop = async (app: FastifyInstance, clock: Host['clock']): Promise<void> => {
  const cancel = clock.after(stopGraceMs, () => (app.server as Server).closeAllConnections())
  await app.close()
  cancel()
}

/** Throws Failure HF-R001 when the address cannot be had. */
export const openRegionalServer = async (
  options: RegionalServerOptions,
): Promise<RegionalServer> => {
  const { host, tls } = options
  const app = createApp(options)
  const port = await listen(app, options.listen)
  let monitor: FastifyInstance | undefined
  let monitorPort: number | null = null
  if (options.monitor !== undefined) {
    monitor = Fastify({ logger: false, forceCloseConnections: true, schemaController })
    requireToken(monitor, options.monitor.token)
    addMonitoring(monitor, options)
    monitorPort = await listen(monitor, options.monitor).catch(async (error: unknown) => {
      await stop(app, host.clock)
      throw error
    })
  }
  const stopListening = tls?.onChange(() => {
    const server = app.server as unknown as { setSecureContext: (options: object) => void }
    server.setSecureContext({ ...tls.current(), minVersion: tlsVersionMin })
  })
  const { address } = options.listen
  host.log.info('regional_listening', { address, port, monitorPort })
  return {
    address,
    port,
    monitorPort,
    [Symbol.asyncDispose]: async () => {
      stopListening?.()
      await monitor?.close()
      await stop(app, host.clock)
    },
  }
}
