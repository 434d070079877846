/**
 * `type: prometheus`: remote write 1.0 to Prometheus or whatever takes it. Only the config and the wiring stand here:
 * `prometheus-send.ts` cuts and searches, `prometheus-outcome.ts` reads answers, `http-exchange.ts` carries.
 *
 * Invariants: HTTPS, except to this machine itself; certificates are always verified; unless the server takes samples
 * out of order, a lane's samples are sent in order, one request at a time.
 */
import { z } from 'zod'
import { snappyCompress } from '../codec/snappy.ts'
import type { Destination } from '../model.ts'
import { encodeWriteRequest, type Sample } from '../protocol/remote-write.ts'
import { duration } from '../units.ts'
import { type DestinationDeps, defineDestination } from './destination.ts'
import { authorizationOf, checkLogin, httpShape, urlSchema } from './http-config.ts'
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
const writePath = '/api/v1/write'

const prometheusConfig = z
  .strictObject({
    type: z.literal('prometheus'),
    ...httpShape,
    url: urlSchema.describe(
      'Address of the server without /api/v1/write; http only to this machine',
    ),
    out_of_order_window: duration()
      .prefault('0s')
      .describe('What out_of_order_time_window is there; 0s sends strictly in order'),
  })
  .superRefine((config, context) => {
    checkLogin(config, (key, message) => {
      context.addIssue({ code: 'custom', path: [key], message })
    })
  })
type PrometheusConfig = z.output<typeof prometheusConfig>

const writeHeaders = (config: PrometheusConfig) => ({
  'content-type': 'application/x-protobuf',
  'content-encoding': 'snappy',
  'x-prometheus-remote-write-version': '0.1.0',
  ...authorizationOf(config),
})
const bodyOf = (samples: readonly Sample[]) => snappyCompress(encodeWriteRequest(samples))

const create = (deps: DestinationDeps, config: PrometheusConfig): Destination => {
  const { host } = deps
  const http = createHttpExchange(host, config)
  const login = createLogin(config, deps.renewed, prometheusCodes.credentials)
  const post = async (
    samples: readonly Sample[],
    signal: AbortSignal,
  ): Promise<PrometheusReading> => {
    const used = login.current()
    const request = { path: writePath, headers: writeHeaders(used), body: bodyOf(samples) }
    const got = await http.ask(request, signal)
    if ('trouble' in got) return { kind: 'setback', setback: got.trouble }
    const said = readPrometheusReply(got.reply, host.clock.nowUs())
    if (said.kind !== 'setback') return said
    return { kind: 'setback', setback: login.heard(used, said.setback) }
  }
  const held: AskHeld = async ({ selector, fromMs, toMs }, signal) => {
    const time = (toMs / 1_000).toFixed(3)
    const query = `${selector}[${toMs - fromMs + 1}ms]`
    const headers = {
      'content-type': 'application/x-www-form-urlencoded',
      ...authorizationOf(login.current()),
    }
    const body = Buffer.from(new URLSearchParams({ query, time }).toString(), 'utf8')
    const got = await http.ask({ path: '/api/v1/query', headers, body }, signal)
    return 'trouble' in got ? got.trouble : readHeld(got.reply)
  }
  return {
    name: deps.name,
    type: 'prometheus',
    endpoint: `${config.url.origin}${writePath}`,
    bodyBytesMax: segmentBytesOfSend,
    inOrder: config.out_of_order_window === 0,
    standing: async () => ({ kind: 'unknown' }),
    send: createPrometheusSender({ deps, post, held }),
    [Symbol.asyncDispose]: http.close,
  }
}

/** A write of nothing. */
const link = (config: PrometheusConfig): LinkTarget => ({
  url: config.url,
  tls: config.tls,
  hello: {
    path: writePath,
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

export const prometheusDestination = defineDestination({
  type: 'prometheus',
  config: prometheusConfig,
  load: loadHttp,
  create,
  link,
  tryOut: 'one-point',
  spoiledByNow: ({ out_of_order_window: windowMs }) =>
    windowMs > 0
      ? undefined
      : 'without an out_of_order_window the server would refuse a backlog more than about an hour older than it',
})
