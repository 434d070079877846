/**
 * The HTTP door's routes and answers; `http.ts` opens and shuts it.
 *
 * Invariants: no success is answered before everything good in the body is durable; an answer that asks to send
 * again (429, 503) says when; a body's memory is given back when its commit has ended, not when its answer has left.
 */
import type { RequestListener, Server } from 'node:http'
import Fastify, {
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from 'fastify'
import { isFailure, textOf } from '../errors.ts'
import { httpBytesInFlightMax } from '../limits.ts'
import type { Emit } from '../model.ts'
import { createMapper } from '../pipeline/map.ts'
import { type TimeUnit, timeUnits } from '../pipeline/timestamp.ts'
import { createLineParser, linePrecisions } from '../protocol/line.ts'
import { createTokenNow } from '../renewed.ts'
import { schemaController } from '../schemaless.ts'
import type { HttpConfig } from './http.ts'
import { type BodyReader, type BodyTrouble, createBodyReader, createBudget } from './http-body.ts'
import { type Asking, createGuard, type Guard, type ListenAddress } from './http-guard.ts'
import {
  jsonReading,
  lineReading,
  mappedReading,
  type Reading,
  type Trouble,
} from './http-points.ts'
import type { SourceDeps } from './source.ts'

export interface DoorParts {
  readonly deps: SourceDeps
  readonly config: HttpConfig
  readonly address: ListenAddress
  readonly emit: Emit
  readonly server: (handler: RequestListener) => Server
}
/** Whose error bodies the sender reads: InfluxDB 1 `{error}`, or 2 `{code, message}`. */
type Flavour = 'v1' | 'v2'
interface Door extends DoorParts {
  readonly guard: Guard
  readonly bodies: BodyReader
}

const versionHeader = 'X-Influxdb-Version'
/** Clients choose their dialect by it; what it names is a dialect, not a program. */
const dialect = '1.8.10'

const tokenOf = ({ host, renewed }: SourceDeps, { token }: HttpConfig) =>
  createTokenNow(host.clock, token, () => (renewed?.() as HttpConfig | undefined)?.token)

export const openDoor = (parts: DoorParts): FastifyInstance => {
  const { deps, config, address } = parts
  const door: Door = {
    ...parts,
    guard: createGuard({ address, token: tokenOf(deps, config), hosts: config.hosts }),
    bodies: createBodyReader(createBudget(httpBytesInFlightMax)),
  }
  const app = Fastify({ schemaController, serverFactory: (handler) => parts.server(handler) })
  app.removeAllContentTypeParsers()
  // Bodies are read by the routes, which know their bounds.
  app.addContentTypeParser('*', (_request, _payload, done) => done(null))
  app.addHook('onRequest', async (request, reply) => {
    // The route says what a body is. Senders put anything here: curl calls line protocol a form.
    if (request.raw.headers['content-type'] !== undefined) {
      request.raw.headers['content-type'] = 'application/octet-stream'
    }
    reply.header(versionHeader, dialect).header('X-Influxdb-Build', 'Holdfast')
    const verdict = door.guard.enter(askingOf(request))
    if (verdict.kind !== 'welcome') await refuse(door, reply, flavourOf(request), 403, verdict.text)
  })
  app.setNotFoundHandler((request, reply) =>
    refuse(
      door,
      reply,
      flavourOf(request),
      404,
      `nothing is at ${request.method} ${pathOf(request)}`,
    ),
  )
  app.setErrorHandler((error: FastifyError, request, reply) => {
    const { statusCode: status = 500 } = error
    if (status < 500) return refuse(door, reply, flavourOf(request), status, error.message)
    deps.host.log.error('http_request_failed', { source: deps.name, text: textOf(error) })
    return refuse(door, reply, flavourOf(request), 500, 'an error inside Holdfast: see its log')
  })
  addStandingRoutes(app)
  addWriteRoutes(app, door)
  return app
}

const askingOf = ({ headers, query }: FastifyRequest): Asking => ({
  host: headers.host,
  origin: headers.origin,
  authorization: headers.authorization,
  query: query as Asking['query'],
})
const pathOf = (request: FastifyRequest): string => request.url.split('?', 1)[0] as string
const flavourOf = (request: FastifyRequest): Flavour =>
  request.url.startsWith('/api/') ? 'v2' : 'v1'

/** What clients ask before they write. */
const addStandingRoutes = (app: FastifyInstance): void => {
  app.get('/ping', (_request, reply) => reply.code(204).send())
  app.get('/health', (_request, reply) =>
    reply.send({
      ...{ name: 'holdfast', status: 'pass', version: dialect, checks: [] },
      message: 'ready for writes',
    }),
  )
  app.route({
    method: ['GET', 'POST'],
    url: '/query',
    // Telegraf creates its database before it writes; here there is nothing to create.
    handler: ({ query }, reply) => {
      const { q } = query as { q?: unknown }
      const known = typeof q === 'string' && /^\s*create\s+database\s/i.test(q)
      if (known) return reply.send({ results: [{ statement_id: 0 }] })
      return reply.code(400).send({ error: 'Holdfast takes points and answers no queries' })
    },
  })
}

const addWriteRoutes = (app: FastifyInstance, door: Door): void => {
  const { deps, config } = door
  const parser = createLineParser(deps.series)
  const writeLines = (request: FastifyRequest, reply: FastifyReply) => {
    const { precision = 'ns' } = request.query as { precision?: string }
    const known = Object.hasOwn(linePrecisions, precision) ? linePrecisions[precision] : undefined
    if (known !== undefined) {
      return write(door, request, reply, (bytes) => lineReading(parser.read(bytes, known)))
    }
    return refuse(door, reply, flavourOf(request), 400, 'precision is one of ns, us, ms, s, m, h')
  }
  app.post('/write', writeLines)
  app.post('/api/v2/write', writeLines)
  const mapper = config.json && createMapper(config.json, deps.series)
  app.post('/api/v1/points', (request, reply) => {
    const { precision = 'auto' } = request.query as { precision?: TimeUnit }
    if (!timeUnits.includes(precision)) {
      return refuse(door, reply, 'v2', 400, `precision is one of ${timeUnits.join(', ')}`)
    }
    return write(door, request, reply, (bytes) =>
      mapper ? mappedReading(bytes, mapper) : jsonReading(bytes, deps.series, precision),
    )
  })
}

/** One body: in, durable, answered. */
const write = async (
  door: Door,
  request: FastifyRequest,
  reply: FastifyReply,
  open: (bytes: Uint8Array) => Reading,
): Promise<FastifyReply> => {
  const { deps, guard, bodies } = door
  const { meter } = deps.host
  const source = deps.name
  const flavour = flavourOf(request)
  const verdict = guard.write(askingOf(request))
  if (verdict.kind !== 'welcome') return refuse(door, reply, flavour, 401, verdict.text)
  if (deps.blocked()) return later(door, reply, flavour, 503, 10, 'the spool has no room')
  const body = await bodies.read(request.raw)
  if (body.kind !== 'body') return refuseBody(door, reply, flavour, body.kind)
  meter.count('holdfast_messages_received_total', 1, { source })
  meter.count('holdfast_bytes_received_total', body.bytes.length, { source })
  const reading = open(body.bytes)
  const storing = store(door, reading).finally(body.release)
  const outcome = await inTime(door, storing)
  if (outcome === 'late') return later(door, reply, flavour, 503, 5, 'the commit takes too long')
  if (outcome !== 'stored') {
    if (!isFailure(outcome.error)) throw outcome.error
    return later(door, reply, flavour, 503, 5, outcome.error.message)
  }
  const troubles = reading.troubles()
  if (troubles.length > 0) return partial(reply, flavour, troubles)
  return reply.code(204).send()
}

/** Commits of one body on their way at once: the next part is read while the one before is flushed. */
const partsInFlight = 4
const store = async ({ deps, emit }: Door, reading: Reading): Promise<void> => {
  const waits: Promise<void>[] = []
  do {
    const points = reading.next()
    // Losses go with the last part: a body that fails on the way is sent again and counted then.
    const wait = emit({ points, losses: reading.done() ? reading.losses(deps.name) : [] })
    // Whoever waits for it hears of its failure; until then it must not count as unheard.
    wait.catch(() => {})
    waits.push(wait)
    if (waits.length >= partsInFlight) await waits.shift()
  } while (!reading.done())
  await Promise.all(waits)
}
const inTime = (
  { deps, config }: Door,
  storing: Promise<void>,
): Promise<'stored' | 'late' | { error: unknown }> =>
  new Promise((resolve) => {
    const cancel = deps.host.clock.after(config.commit_timeout, () => resolve('late'))
    const settle = (outcome: 'stored' | { error: unknown }) => {
      cancel()
      resolve(outcome)
    }
    storing.then(
      () => settle('stored'),
      (error: unknown) => settle({ error }),
    )
  })

// ── answers ─────────────────────────────────────────────────────────────────────────────────────

const codes: Readonly<Record<number, string>> = {
  400: 'invalid',
  401: 'unauthorized',
  403: 'forbidden',
  404: 'not found',
  413: 'request too large',
  415: 'unsupported media type',
  429: 'too many requests',
  500: 'internal error',
  503: 'unavailable',
}
const errorBody = (flavour: Flavour, status: number, text: string): Record<string, unknown> =>
  flavour === 'v1' ? { error: text } : { code: codes[status], message: text }

const refuse = (
  { deps }: Door,
  reply: FastifyReply,
  flavour: Flavour,
  status: number,
  text: string,
): FastifyReply => {
  const labels = { source: deps.name, reason: (codes[status] ?? 'other').replaceAll(' ', '_') }
  deps.host.meter.count('holdfast_messages_refused_total', 1, labels)
  if (status === 401) reply.header('WWW-Authenticate', 'Token realm="Holdfast"')
  return reply.code(status).send(errorBody(flavour, status, text))
}
const later = (
  door: Door,
  reply: FastifyReply,
  flavour: Flavour,
  status: 429 | 503,
  afterSeconds: number,
  text: string,
): FastifyReply => {
  reply.header('Retry-After', String(afterSeconds))
  return refuse(door, reply, flavour, status, `${text}: send again later`)
}
const refuseBody = (
  door: Door,
  reply: FastifyReply,
  flavour: Flavour,
  trouble: BodyTrouble,
): FastifyReply => {
  switch (trouble) {
    case 'too-big':
      return refuse(door, reply, flavour, 413, 'the body is too large: send fewer points at once')
    case 'busy':
      return later(door, reply, flavour, 429, 1, 'too much is on its way already')
    case 'unknown-encoding':
      return refuse(door, reply, flavour, 415, 'Content-Encoding is one of gzip, deflate, zstd')
    case 'not-readable':
      return refuse(door, reply, flavour, 400, 'the body cannot be unpacked as its encoding says')
    case 'cut-off':
      return refuse(door, reply, flavour, 400, 'the body ended early')
  }
}

const troublesInText = 10
/**
 * 400 for what was bad; the rest is durable. "partial write" and "unable to parse" are the words by which Telegraf
 * knows that sending the same again cannot help.
 */
const partial = (
  reply: FastifyReply,
  flavour: Flavour,
  troubles: readonly Trouble[],
): FastifyReply => {
  const shown = troubles.slice(0, troublesInText).map(({ where, text }) => `${where}: ${text}`)
  const more =
    troubles.length > troublesInText ? `; and ${troubles.length - troublesInText} more` : ''
  const text = `partial write: unable to parse ${shown.join('; ')}${more}; everything else is stored`
  return reply.code(400).send({ ...errorBody(flavour, 400, text), troubles })
}
