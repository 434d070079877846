/**
 * `type: influx`: writes points as line protocol to InfluxDB 1, InfluxDB 2 or VictoriaMetrics. Only the config and the
 * wiring stand here: `influx-send.ts` cuts and searches, `influx-outcome.ts` reads answers, `relay-http.ts` carries.
 *
 * Invariants: HTTPS, except to this machine itself; certificates are always verified; sending twice is harmless,
 * because (measurement, tags, field, time) is the point's identity there too.
 */
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { z } from 'zod'
import type { Destination, Value } from '../model.ts'
import { openTlsFiles } from '../tls.ts'
import { duration, size } from '../units.ts'
import { type DestinationDeps, defineDestination } from './destination.ts'
import { authorizationOf, textSchema, tlsSchema, urlSchema } from './http-config.ts'
import type { Unholdable } from './influx-lines.ts'
import { type InfluxReading, readInfluxReply } from './influx-outcome.ts'
import { createInfluxSender } from './influx-send.ts'
import { type LinkTarget, unwell, well } from './link.ts'
import { createHttpTransport } from './relay-http.ts'
import { later } from './relay-outcome.ts'
import { troubleOf } from './relay-trouble.ts'

const MiB = 1024 * 1024
/** Segments of one send: about 100,000 points. */
const segmentBytesOfSend = 128 * 1024
const influxConfig = z
  .strictObject({
    type: z.literal('influx'),
    dialect: z.enum(['influxdb1', 'influxdb2', 'victoriametrics']).describe('What it speaks to'),
    url: urlSchema.describe('Address of the server; http only to this machine'),
    database: textSchema()
      .optional()
      .describe('influxdb1: where to write; victoriametrics: label db'),
    retention_policy: textSchema().optional().describe('influxdb1: instead of the default one'),
    org: textSchema().optional().describe('influxdb2: organisation'),
    bucket: textSchema().optional().describe('influxdb2: where to write'),
    token: textSchema().optional().describe('influxdb2: API token; victoriametrics: bearer token'),
    username: textSchema().optional().describe('influxdb1, victoriametrics: basic authentication'),
    password: textSchema().optional(),
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
    const needed = { influxdb1: ['database'], influxdb2: ['org', 'bucket', 'token'] } as const
    const { dialect } = config
    for (const key of dialect === 'victoriametrics' ? [] : needed[dialect])
      if (config[key] === undefined) miss(key, `is needed for ${dialect}`)
    if ((config.username === undefined) !== (config.password === undefined))
      miss('username', 'and password belong together')
    if (config.token !== undefined && (config.username !== undefined || dialect === 'influxdb1'))
      miss('token', 'cannot be used here: influxdb1 and users have passwords')
  })
type InfluxConfig = z.output<typeof influxConfig>

const pathOf = (config: InfluxConfig): string => {
  const { dialect, database, retention_policy: rp, org, bucket } = config
  const v2 = dialect === 'influxdb2'
  const given = v2 ? { org, bucket, precision: 'us' } : { db: database, rp, precision: 'u' }
  const query = new URLSearchParams()
  for (const [key, value] of Object.entries(given)) if (value !== undefined) query.set(key, value)
  return `${v2 ? '/api/v2/write' : '/write'}?${query}`
}
const authOf = (config: InfluxConfig) =>
  authorizationOf(config, config.dialect === 'influxdb2' ? 'Token' : 'Bearer')
/** VictoriaMetrics holds float64 alone, and would write a string as 0. */
const noFloat: Unholdable = (value: Value) => {
  if (typeof value === 'string') return 'VictoriaMetrics holds no strings'
  const exact = typeof value !== 'bigint' || BigInt(Number(value)) === value
  return exact ? undefined : `VictoriaMetrics holds no integer as large as ${value}`
}
const pack = promisify(gzip)

const create = (deps: DestinationDeps, config: InfluxConfig): Destination => {
  const { host } = deps
  const { url } = config
  const tls = openTlsFiles(config.tls, host, { watch: true })
  const http = createHttpTransport({ url, tls, host, sign: false })
  const path = pathOf(config)
  const headers = {
    'content-type': 'text/plain; charset=utf-8',
    'content-encoding': 'gzip',
    ...authOf(config),
  }
  let answered = false
  const post = async (lines: readonly string[], signal: AbortSignal): Promise<InfluxReading> => {
    const body = await pack(`${lines.join('\n')}\n`, { level: 3 })
    try {
      const request = { path, headers, body, timeoutMs: config.request_timeout }
      const reply = await http.transport(request, signal)
      answered = true
      return readInfluxReply(reply, lines.length, host.clock.nowUs())
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
  const victoria = config.dialect === 'victoriametrics'
  const unholdable: Unholdable = victoria ? noFloat : () => undefined
  const gaps = { timeUnitUs: victoria ? 1_000 : 1, strings: !victoria }
  return {
    name: deps.name,
    type: 'influx',
    bodyBytesMax: segmentBytesOfSend,
    standing: async () => ({ kind: 'unknown' }),
    send: createInfluxSender({ deps, unholdable, gaps, bytesMax: config.body_max, post }),
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
})
