/**
 * The HTTP door: InfluxDB 1 and 2 writes in line protocol (Telegraf and every InfluxDB client, unchanged), and JSON.
 *
 * Invariants: a 2xx, and a 400 that names bad lines, leave only after everything good in the body is durable; a body
 * that was cut off leaves nothing; what is held in memory is bounded; without a token nobody but
 * this machine gets in.
 */
import {
  createServer as createHttpServer,
  type RequestListener,
  type Server,
  type ServerOptions,
} from 'node:http'
import { createServer as createHttpsServer, type Server as HttpsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { Failure, textOf } from '../errors.ts'
import { aborted, type Clock } from '../host.ts'
import { httpConnectionsMax } from '../limits.ts'
import { mappingShape } from '../pipeline/map.ts'
import { openTlsFiles, type TlsFiles } from '../tls.ts'
import { duration } from '../units.ts'
import { openDoor } from './http-door.ts'
import { isLoopback, type ListenAddress, parseListen } from './http-guard.ts'
import { defineSource } from './source.ts'

const tlsSchema = z.strictObject({
  cert: z.string().min(1).describe('PEM file'),
  key: z.string().min(1).describe('PEM file of its key'),
  ca: z
    .string()
    .min(1)
    .optional()
    .describe('Certificates of these authorities are asked of every client'),
  min_version: z.enum(['1.2', '1.3']).default('1.3').describe('For senders that cannot do TLS 1.3'),
})
const httpConfig = z
  .strictObject({
    type: z.literal('http'),
    listen: z.string().default('127.0.0.1:8086').describe('ADDRESS:PORT'),
    token: z
      .string()
      .min(16)
      .optional()
      .describe('What senders must bring; needed beyond loopback'),
    tls: tlsSchema.optional(),
    hosts: z
      .array(z.string().min(1).toLowerCase())
      .default([])
      .describe("Names that a Host header may hold besides the loopback's own"),
    json: z
      .strictObject(mappingShape)
      .optional()
      .describe('How `/api/v1/points` reads JSON; without, it takes `[{series, value, …}]`'),
    request_timeout: duration()
      .prefault('30s')
      .describe('A whole request must have arrived by then'),
    commit_timeout: duration()
      .prefault('10s')
      .describe(
        'A commit that takes longer is answered 503; it goes on, and the sender sends again',
      ),
  })
  .superRefine((config, context) => {
    const address = parseListen(config.listen)
    const complain = (path: string, message: string) =>
      context.addIssue({ code: 'custom', path: [path], message })
    if (address === undefined) {
      complain('listen', `must be host:port such as "127.0.0.1:8086", got "${config.listen}"`)
    } else if (config.token === undefined && !isLoopback(address.host)) {
      complain('token', `is needed to listen on ${config.listen}: other machines can reach it`)
    }
  })
export type HttpConfig = z.output<typeof httpConfig>

export const httpSource = defineSource({
  type: 'http',
  config: httpConfig,
  create: (deps, config) => ({
    name: deps.name,
    run: async (emit, signal) => {
      const { log, meter, clock } = deps.host
      const source = deps.name
      // The schema has checked it.
      const address = parseListen(config.listen) as ListenAddress
      using tls = config.tls && openTlsFiles(config.tls, deps.host, { watch: true })
      const server = serverMaker(config, tls)
      const app = openDoor({ deps, config, address, emit, server })
      try {
        await listen(app, address)
        const { port } = app.server.address() as AddressInfo
        log.info('source_listening', { source, listen: config.listen, port })
        if (config.tls === undefined && !isLoopback(address.host)) {
          log.warn('source_without_tls', {
            source,
            hint: 'Its token crosses the network in clear.',
          })
        }
        meter.gauge('holdfast_source_up', 1, { source })
        await aborted(signal)
      } finally {
        meter.gauge('holdfast_source_up', 0, { source })
        await shut(app, clock)
      }
    },
  }),
})

/** Deadlines against senders that dawdle; Node's own timers hold them, for every connection. */
const serverMaker = (config: HttpConfig, tls: TlsFiles | undefined) => {
  const options: ServerOptions = {
    requestTimeout: config.request_timeout,
    headersTimeout: Math.min(10_000, config.request_timeout),
    connectionsCheckingInterval: Math.min(5_000, Math.ceil(config.request_timeout / 4)),
    keepAliveTimeout: 75_000,
    keepAlive: true,
    noDelay: true,
  }
  return (handler: RequestListener): Server => {
    const server = tls
      ? createHttpsServer({ ...options, ...secureOptions(config, tls) }, handler)
      : createHttpServer(options, handler)
    server.maxConnections = httpConnectionsMax
    // Connections that stand keep the certificate they began with.
    tls?.onChange(() => (server as HttpsServer).setSecureContext(secureOptions(config, tls)))
    return server
  }
}
const secureOptions = (config: HttpConfig, tls: TlsFiles) => ({
  ...tls.current(),
  minVersion: `TLSv${config.tls?.min_version ?? '1.3'}` as const,
  requestCert: config.tls?.ca !== undefined,
})
const listen = async (app: FastifyInstance, address: ListenAddress): Promise<void> => {
  try {
    await app.listen(address)
  } catch (error) {
    const hint = 'Is another program on that port, or is the address not of this machine?'
    throw new Failure('HF-I040', `cannot listen: ${textOf(error)}`, hint, { cause: error })
  }
}
/** What is being committed gets its answer; what takes longer than this is cut, unanswered. */
const graceMs = 5_000
const shut = async (app: FastifyInstance, clock: Clock): Promise<void> => {
  const cancel = clock.after(graceMs, () => app.server.closeAllConnections())
  try {
    await app.close()
  } finally {
    cancel()
  }
}
