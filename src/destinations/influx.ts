/**
 * `type: influx`: writes points as line protocol to InfluxDB and those that speak like it. Only the config and the
 * wiring stand here: `influx-dialects.ts` says what differs, `influx-send.ts` cuts and searches, `influx-outcome.ts`
 * reads answers, `relay-http.ts` carries.
 *
 * Invariants: HTTPS, except to this machine itself; certificates are always verified; sending twice is harmless,
 * because (measurement, tags, field, time) is the point's identity there too.
 */
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { z } from 'zod'
import type { Destination, Outcome, Standing } from '../model.ts'
import { openTlsFiles } from '../tls.ts'
import { duration, size } from '../units.ts'
import { type DestinationDeps, defineDestination } from './destination.ts'
import { authorizationOf, textSchema, tlsSchema, urlSchema } from './http-config.ts'
import {
  type InfluxDialect,
  influxDialectNames,
  influxDialects,
  type Place,
  placeKeys,
} from './influx-dialects.ts'
import { type InfluxReading, readInfluxReply } from './influx-outcome.ts'
import { influxPlan, questdbReady } from './influx-plan.ts'
import { createInfluxSender } from './influx-send.ts'
import { type LinkTarget, unwell, well } from './link.ts'
import { createHttpTransport } from './relay-http.ts'
import { later } from './relay-outcome.ts'
import type { RelayPost, RelayReply } from './relay-transport.ts'
import { troubleOf } from './relay-trouble.ts'

const MiB = 1024 * 1024
/** Segments of one send: about 100,000 points. */
const segmentBytesOfSend = 128 * 1024
const influxConfig = z
  .strictObject({
    type: z.literal('influx'),
    dialect: z.enum(influxDialectNames).describe('What it speaks to'),
    url: urlSchema.describe('Address of the server; http only to this machine'),
    database: textSchema().optional().describe('Where to write; victoriametrics: label db'),
    retention_policy: textSchema().optional().describe('influxdb1: instead of the default one'),
    org: textSchema().optional().describe('influxdb2: organisation'),
    bucket: textSchema().optional().describe('influxdb2: where to write'),
    table: textSchema().optional().describe('questdb, tdengine: table of all points (points)'),
    token: textSchema().optional().describe('API token, where the product takes one'),
    username: textSchema().optional().describe('With password, where the product takes them'),
    password: textSchema().optional().describe('A reference to a secret'),
    tls: tlsSchema,
    request_timeout: duration().prefault('30s').describe('Then a request is sent again'),
    body_max: size()
      .prefault('1MiB')
      .pipe(
        z
          .number()
          .min(1024)
          .max(16 * MiB),
      )
      .describe('Largest request before compression'),
  })
  .superRefine((config, context) => {
    const miss = (key: string, why: string) =>
      context.addIssue({ code: 'custom', path: [key], message: why })
    const { dialect } = config
    const { needs, takes, token, user } = influxDialects[dialect]
    for (const key of needs) if (config[key] === undefined) miss(key, `is needed for ${dialect}`)
    for (const key of placeKeys)
      if (config[key] !== undefined && !takes.includes(key))
        miss(key, `means nothing to ${dialect}`)
    if ((config.username === undefined) !== (config.password === undefined))
      miss('username', 'and password belong together')
    if (config.username !== undefined && user === undefined)
      miss('username', `is not taken by ${dialect}: it has tokens`)
    if (config.token !== undefined && (config.username !== undefined || token === undefined))
      miss('token', 'cannot be used here: this product, or this user, has a password')
  })
type InfluxConfig = z.output<typeof influxConfig>

const pathOf = (config: InfluxConfig): string => {
  const { path, query } = influxDialects[config.dialect]
  const place: Place = config
  const search = new URLSearchParams()
  for (const [name, from] of Object.entries(query)) {
    const value = from.startsWith('=') ? from.slice(1) : place[from as keyof Place]
    if (value !== undefined) search.set(name, value)
  }
  return `${path}?${search}`
}
const authOf = (config: InfluxConfig): Record<string, string> => {
  const { token: word = 'Bearer', user } = influxDialects[config.dialect]
  const { username, password } = config
  if (user === 'token' && username !== undefined)
    return { authorization: `token ${username}:${password}` }
  return authorizationOf(config, word)
}
const pack = promisify(gzip)
type Trouble = Extract<Outcome, { kind: 'later' | 'blocked' }>

const create = (deps: DestinationDeps, config: InfluxConfig): Destination => {
  const { host } = deps
  const { url } = config
  const tls = openTlsFiles(config.tls, host, { watch: true })
  const http = createHttpTransport({ url, tls, host, sign: false })
  const path = pathOf(config)
  const dialect: InfluxDialect = influxDialects[config.dialect]
  const headers = {
    'content-type': 'text/plain; charset=utf-8',
    'content-encoding': 'gzip',
    ...authOf(config),
  }
  let answered = false
  const ask = async <T>(
    request: Omit<RelayPost, 'timeoutMs'>,
    signal: AbortSignal,
    read: (reply: RelayReply) => T,
  ): Promise<T | { readonly kind: 'setback'; readonly setback: Trouble }> => {
    try {
      const timeoutMs = config.request_timeout
      const reply = await http.transport({ ...request, timeoutMs }, signal)
      answered = true
      return read(reply)
    } catch (error) {
      if (signal.aborted) return { kind: 'setback', setback: later('given up') }
      const trouble = troubleOf(error, {
        authority: url.host,
        nowUs: host.clock.nowUs(),
        certificateExpiresAtUs: tls.expiresAtUs(),
        answered: answered || tls.expiresAtUs() === null,
      })
      // Not every filesystem tells of changes: look for mended files where certificates may be it.
      if (trouble.kind === 'blocked') tls.reload()
      return { kind: 'setback', setback: trouble }
    }
  }
  const post = async (lines: readonly string[], signal: AbortSignal): Promise<InfluxReading> => {
    const body = await pack(`${lines.join('\n')}\n`, { level: 3 })
    return await ask({ path, headers, body }, signal, (reply) =>
      readInfluxReply(reply, lines.length, host.clock.nowUs(), dialect.read),
    )
  }
  const ready = config.dialect === 'questdb' ? questdbReady(config.table) : undefined
  const standing = async (_: unknown, signal: AbortSignal): Promise<Standing> => {
    if (ready === undefined) return { kind: 'unknown' }
    const request = {
      method: 'GET',
      path: ready.path,
      headers: authOf(config),
      body: new Uint8Array(0),
    } as const
    const said = await ask(request, signal, ready.read)
    return said.kind === 'setback' ? said.setback : said
  }
  const { body_max: bytesMax, table } = config
  const where = table === undefined ? {} : { table }
  return {
    name: deps.name,
    type: 'influx',
    bodyBytesMax: segmentBytesOfSend,
    standing,
    send: createInfluxSender({ deps, dialect, ...where, bytesMax, post }),
    [Symbol.asyncDispose]: async () => {
      await http.close()
      tls[Symbol.dispose]()
    },
  }
}

/** A write of nothing: what refuses it has looked at the credentials and the place first. */
const link = (config: InfluxConfig): LinkTarget => ({
  url: config.url,
  tls: config.tls,
  hello: {
    path: pathOf(config),
    headers: { 'content-type': 'text/plain; charset=utf-8', ...authOf(config) },
    body: new Uint8Array(0),
    read: ({ status }) => {
      if (status < 300 || status === 400) return well('the server takes writes there')
      if (status === 401 || status === 403)
        return unwell(
          'HF-F120',
          `HTTP ${status}: credentials refused`,
          'Token, or user and password, with the right to write there.',
        )
      if (status === 404)
        return unwell(
          'HF-F121',
          'no such database, bucket or path',
          'Create it, or correct the configuration.',
        )
      return unwell('HF-N020', `HTTP ${status}`, 'Look at the server, and what stands before it.')
    },
  },
})

export const influxDestination = defineDestination({
  type: 'influx',
  config: influxConfig,
  create,
  link,
  tryOut: 'one-point',
  plan: (config) => influxPlan(config.dialect, config),
})
