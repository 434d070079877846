/**
 * `type: prometheus`: remote write 1.0 to Prometheus or whatever takes it. Only the config and the wiring stand here:
 * `prometheus-send.ts` cuts and searches, `prometheus-outcome.ts` reads answers, `http-exchange.ts` carries.
 *
 * Invariants: HTTPS, except to this machine itself; certificates are always verified; unless the server takes samples
 * out of order, a lane's samples are sent in order, one request at a time.
 */
import { z } from 'zod'
import { snappyCompress } from '../codec/snappy.ts'
import { Failure } from '../errors.ts'
import type { Destination } from '../model.ts'
import { encodeWriteRequest, type Sample } from '../protocol/remote-write.ts'
import { duration } from '../units.ts'
import { type DestinationDeps, defineDestination, type PlanOptions } from './destination.ts'
import { authorizationOf, checkLogin, checkUrl, httpShape, urlSchema } from './http-config.ts'
import { createHttpExchange } from './http-exchange.ts'
import { type LinkTarget, unwell, well } from './link.ts'
import { createLogin } from './login.ts'
import type { AskHeld } from './prometheus-held.ts'
import {
  type PrometheusReading,
  prometheusCodes,
  readHeld,
  readPrometheusReply,
} from './prometheus-outcome.ts'
import { createPrometheusSender } from './prometheus-send.ts'
import { loadHttp } from './relay-http.ts'

/** Segments of one send: about 50,000 points. */
const segmentBytesOfSend = 64 * 1024
/** Remote writes beside the segments they come from, about. */
const sampleBytesPerByte = 7
const writePathDefault = '/api/v1/write'
const queryPath = '/api/v1/query'

const prometheusConfig = z
  .strictObject({
    type: z.literal('prometheus'),
    ...httpShape,
    url: urlSchema.describe(
      'Address of the server without /api/v1/write; http only to this machine',
    ),
    path: z
      .string()
      .max(1_024)
      .regex(/^\/[\w\-.~/%]*$/, 'must begin with / and be a path')
      .prefault(writePathDefault)
      .describe(
        'Where it takes remote writes; Mimir, Cortex: /api/v1/push, Thanos: /api/v1/receive',
      ),
    query_url: urlSchema
      .optional()
      .describe('What /api/v1/query stands behind, if not url: https://mimir.example/prometheus'),
    tenant: z
      .string()
      .max(150)
      .regex(/^[\w!.*'()-]+$/, "must be letters, digits and !-_.*'()")
      .optional()
      .describe('Of Mimir and Cortex: sent as X-Scope-OrgID'),
    out_of_order_window: duration()
      .prefault('0s')
      .describe('What out_of_order_time_window is there; 0s sends strictly in order'),
  })
  .superRefine((config, context) => {
    const miss = (key: string, message: string) =>
      context.addIssue({ code: 'custom', path: [key], message })
    checkLogin(config, miss)
    checkUrl(['url', config.url], config.path, miss)
    checkUrl(['query_url', config.query_url], queryPath, miss)
  })
type PrometheusConfig = z.output<typeof prometheusConfig>

const whoHeaders = (config: PrometheusConfig): Record<string, string> => ({
  ...(config.tenant === undefined ? {} : { 'x-scope-orgid': config.tenant }),
  ...authorizationOf(config),
})
const writeHeaders = (config: PrometheusConfig) => ({
  'content-type': 'application/x-protobuf',
  'content-encoding': 'snappy',
  'x-prometheus-remote-write-version': '0.1.0',
  ...whoHeaders(config),
})
const bodyOf = (samples: readonly Sample[]) => snappyCompress(encodeWriteRequest(samples))

const create = (deps: DestinationDeps, config: PrometheusConfig): Destination => {
  const { host } = deps
  const http = createHttpExchange(host, config)
  const { query_url: queryUrl } = config
  const asks =
    queryUrl === undefined ? http : createHttpExchange(host, { ...config, url: queryUrl })
  const login = createLogin(config, deps.renewed, prometheusCodes.credentials)
  const post = async (
    samples: readonly Sample[],
    signal: AbortSignal,
  ): Promise<PrometheusReading> => {
    const used = login.current()
    const request = { path: config.path, headers: writeHeaders(used), body: bodyOf(samples) }
    const got = await http.ask(request, signal)
    if ('trouble' in got) return { kind: 'setback', setback: got.trouble, stalled: got.stalled }
    const said = readPrometheusReply(got.reply, host.clock.nowUs())
    if (said.kind !== 'setback') return said
    return { ...said, setback: login.heard(used, said.setback) }
  }
  const held: AskHeld = async ({ selector, fromMs, toMs }, signal) => {
    const time = (toMs / 1_000).toFixed(3)
    const query = `${selector}[${toMs - fromMs + 1}ms]`
    const headers = {
      'content-type': 'application/x-www-form-urlencoded',
      ...whoHeaders(login.current()),
    }
    const body = Buffer.from(new URLSearchParams({ query, time }).toString(), 'utf8')
    const got = await asks.ask({ path: queryPath, headers, body }, signal)
    return 'trouble' in got ? got.trouble : readHeld(got.reply)
  }
  return {
    name: deps.name,
    type: 'prometheus',
    endpoint: `${config.url.origin}${config.path}`,
    bodyBytesMax: segmentBytesOfSend,
    bytesSent: () => http.bytesSent() + (asks === http ? 0 : asks.bytesSent()),
    wireBytesPerByte: sampleBytesPerByte,
    inOrder: config.out_of_order_window === 0,
    standing: async () => ({ kind: 'unknown' }),
    send: createPrometheusSender({ deps, post, held }),
    [Symbol.asyncDispose]: async () => {
      await http.close()
      if (asks !== http) await asks.close()
    },
  }
}

/** A write of nothing. */
const link = (config: PrometheusConfig): LinkTarget => ({
  url: config.url,
  tls: config.tls,
  hello: {
    path: config.path,
    headers: writeHeaders(config),
    body: bodyOf([]),
    read: (reply) => {
      const said = readPrometheusReply(reply, 0)
      if (said.kind === 'taken') return well('the server takes remote writes')
      const text = said.kind === 'setback' ? said.setback.text : said.text
      if (said.kind === 'setback' && said.setback.kind === 'blocked')
        return unwell(said.setback.code, text, said.setback.hint)
      return unwell('HF-N020', text, 'Look at the server, and what stands before it.')
    },
  },
})

/** The window is for the longest outage: the configuration's, or a guess. */
const prometheusPlan = (
  { out_of_order_window: windowMs }: PrometheusConfig,
  options: PlanOptions,
) => {
  const given = options.role === undefined ? options.retention && '--retention' : '--role'
  if (given !== undefined)
    throw new Failure('HF-X002', `${given} means nothing to a plan for prometheus`, 'leave it out')
  const window = windowMs > 0 ? `${Math.ceil(windowMs / 60_000)}m` : '48h'
  return `# Prometheus: start it with --web.enable-remote-write-receiver, and in its configuration (the longest outage):
storage: {tsdb: {out_of_order_time_window: ${window}}}
# Mimir, Cortex: limits: {out_of_order_time_window: ${window}}; then out_of_order_window: ${window} here.
`
}

export const prometheusDestination = defineDestination({
  type: 'prometheus',
  config: prometheusConfig,
  load: loadHttp,
  create,
  link,
  tryOut: 'one-point',
  warnings: ({ out_of_order_window: windowMs }, lanes) =>
    windowMs > 0 || lanes.length < 2
      ? []
      : [
          `${lanes.length} lanes go there without an out_of_order_window: each in its own order, but one that is an ` +
            'hour behind the newest sample of another is refused as out of bounds, and the destination pauses: ' +
            'allow a window there and here, or send one lane',
        ],
  plan: prometheusPlan,
  spoiledByNow: ({ out_of_order_window: windowMs }) =>
    windowMs > 0
      ? undefined
      : 'without an out_of_order_window the server would refuse a backlog more than about an hour older than it',
})
