/**
 * `type: influx`: writes points as line protocol to InfluxDB and those that speak like it. Only the config and the
 * wiring stand here: `influx-dialects.ts` says what differs, `influx-send.ts` cuts and searches, `influx-outcome.ts`
 * reads answers, `http-exchange.ts` carries.
 *
 * Invariants: HTTPS, except to this machine itself; certificates are always verified; sending twice is harmless,
 * because (measurement, tags, field, time) is the point's identity there too, the agent's name one of its tags.
 */
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { z } from 'zod'
import type { Destination, Standing } from '../model.ts'
import { duration, size } from '../units.ts'
import { type DestinationDeps, defineDestination } from './destination.ts'
import { authorizationOf, checkLogin, checkUrl, httpShape, textSchema } from './http-config.ts'
import { createHttpExchange } from './http-exchange.ts'
import {
  type InfluxDialect,
  influxDialectNames,
  influxDialects,
  type Place,
  placeKeys,
} from './influx-dialects.ts'
import { agentTagDefault, lineStartOf, tableDefault } from './influx-names.ts'
import { type InfluxReading, influxCodes, readInfluxReply } from './influx-outcome.ts'
import { influxPlan, questdbReady, type Ready, tdengineReady } from './influx-plan.ts'
import { createInfluxSender } from './influx-send.ts'
import { createVictoriaClock, type VictoriaClock, victoriaReady } from './influx-victoria.ts'
import { type LinkTarget, unwell, well } from './link.ts'
import { createLogin } from './login.ts'
import { loadHttp } from './relay-http.ts'

const MiB = 1024 * 1024
/** Segments of one send: about 100,000 points. */
const segmentBytesOfSend = 128 * 1024
/** Gzipped lines beside the segments they come from, about. */
const lineBytesPerByte = 5
const influxConfig = z
  .strictObject({
    type: z.literal('influx'),
    dialect: z.enum(influxDialectNames).describe('What it speaks to'),
    ...httpShape,
    database: textSchema().optional().describe('Where to write; victoriametrics: label db'),
    retention_policy: textSchema().optional().describe('influxdb1: instead of the default one'),
    org: textSchema().optional().describe('influxdb2: organisation'),
    bucket: textSchema().optional().describe('influxdb2: where to write'),
    table: textSchema().optional().describe('questdb, tdengine: table of all points (points)'),
    agent_tag: z
      .string()
      .max(64)
      .regex(/^(?:[A-Za-z_][A-Za-z0-9_]*)?$/, 'must be letters, digits and _')
      .prefault(agentTagDefault)
      .describe('Tag with the agent’s name on every point; empty: none, series of two agents meet'),
    retention: duration()
      .optional()
      .describe('victoriametrics: its -retentionPeriod, where it does not say so itself'),
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
    if (config.retention !== undefined && dialect !== 'victoriametrics')
      miss('retention', `means nothing to ${dialect}: it refuses what it does not keep`)
    const place = { agent: 'a', agentTag: config.agent_tag, table: tableDefault }
    const plain = { name: 'a.b', tags: [], id: 0n, unit: '' }
    if ('why' in lineStartOf(influxDialects[dialect], place, plain))
      miss('agent_tag', `cannot be a tag of ${dialect}`)
    checkLogin(config, miss)
    checkUrl(['url', config.url], influxDialects[dialect].path, miss)
    if (config.username !== undefined && user === undefined)
      miss('username', `is not taken by ${dialect}: it has tokens`)
    if (config.token !== undefined && token === undefined)
      miss('token', 'cannot be used here: this product has a password')
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
const readyOf = (
  { dialect, table, database }: InfluxConfig,
  clock: VictoriaClock | undefined,
): Ready | undefined => {
  if (dialect === 'questdb') return questdbReady(table)
  if (clock !== undefined) return victoriaReady(clock.keeps)
  return dialect === 'tdengine' && database !== undefined ? tdengineReady(database) : undefined
}
const pack = promisify(gzip)

const create = (deps: DestinationDeps, config: InfluxConfig): Destination => {
  const { host } = deps
  const http = createHttpExchange(host, config)
  const path = pathOf(config)
  const login = createLogin(config, deps.renewed, influxCodes.credentials)
  const dialect: InfluxDialect = influxDialects[config.dialect]
  const form = { 'content-type': 'text/plain; charset=utf-8', 'content-encoding': 'gzip' }
  const victoria =
    config.dialect === 'victoriametrics'
      ? createVictoriaClock(host.clock, config.retention)
      : undefined
  const post = async (lines: readonly string[], signal: AbortSignal): Promise<InfluxReading> => {
    const body = await pack(`${lines.join('\n')}\n`, { level: 3 })
    const used = login.current()
    const headers = { ...form, ...authOf(used) }
    const got = await http.ask({ path, headers, body }, signal)
    if ('trouble' in got) return { kind: 'setback', setback: got.trouble, stalled: got.stalled }
    victoria?.heard(got.reply)
    const said = readInfluxReply(got.reply, lines.length, host.clock.nowUs(), dialect.read)
    if (said.kind !== 'setback') return said
    return { ...said, setback: login.heard(used, said.setback) }
  }
  const ready = readyOf(config, victoria)
  const standing = async (_: unknown, signal: AbortSignal): Promise<Standing> => {
    let said: ReturnType<Ready['read']> | undefined
    let used = login.current()
    for (let asked = ready; asked !== undefined; ) {
      const { read, body, ...rest } = asked
      used = login.current()
      const request = { ...rest, headers: authOf(used), body: Buffer.from(body) }
      const got = await http.ask(request, signal)
      if (!('trouble' in got)) victoria?.heard(got.reply)
      said = 'trouble' in got ? got.trouble : read(got.reply)
      asked = said.kind === 'next' ? said.next : undefined
    }
    if (said === undefined || said.kind === 'next') return { kind: 'unknown' }
    return said.kind === 'blocked' || said.kind === 'later' ? login.heard(used, said) : said
  }
  const { body_max: bytesMax, table = tableDefault, agent_tag: agentTag, database = '' } = config
  const endpoint = `${config.url.origin}${path}`
  const place = { table, agentTag, database }
  const limits = victoria === undefined ? {} : { limits: victoria.limits }
  return {
    name: deps.name,
    type: 'influx',
    endpoint,
    bodyBytesMax: segmentBytesOfSend,
    bytesSent: http.bytesSent,
    wireBytesPerByte: lineBytesPerByte,
    standing,
    send: createInfluxSender({ deps, dialect, place, ...limits, bytesMax, endpoint, post }),
    [Symbol.asyncDispose]: http.close,
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
    read: (reply) => {
      const said = readInfluxReply(reply, 0, 0, influxDialects[config.dialect].read)
      // Nothing was refused, or the nothing that was sent.
      if (said.kind !== 'setback') return well('the server takes writes there')
      if (said.setback.kind === 'blocked')
        return unwell(said.setback.code, said.setback.text, said.setback.hint)
      const hint = 'Look at the server, and what stands before it.'
      return unwell('HF-N020', said.setback.text, hint)
    },
  },
})

export const influxDestination = defineDestination({
  type: 'influx',
  config: influxConfig,
  load: loadHttp,
  create,
  link,
  tryOut: 'one-point',
  plan: (config, options) => influxPlan(config.dialect, config, options),
})
