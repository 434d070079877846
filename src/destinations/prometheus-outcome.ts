/**
 * What an answer to a remote write means; pure. Invariants: an ack is a 2xx without a page (`isAck`); a refusal says
 * neither which sample is meant nor that it is not there already; what is not understood is `later`; what only a person
 * can mend is `blocked`.
 */
import type { Outcome } from '../model.ts'
import { renewHint } from './login.ts'
import { blocked, later } from './relay-outcome.ts'
import type { RelayReply } from './relay-transport.ts'
import { retryAfterMs } from './retry-after.ts'

export type PrometheusSetback = Extract<Outcome, { kind: 'later' | 'blocked' }>
export type PrometheusReading =
  | { readonly kind: 'taken' }
  /** Nothing of the request was taken because of some sample in it: find it. */
  | { readonly kind: 'suspect'; readonly text: string }
  | { readonly kind: 'too-big'; readonly text: string }
  | {
      readonly kind: 'setback'
      readonly setback: PrometheusSetback
      /** Nothing came back in time, the size may be to blame. */
      readonly stalled?: boolean
      /** A 5xx in these words: the server's own trouble, or that of something in the request. */
      readonly fault?: string
    }

/** Codes of this destination, all in docs/operate/codes.md. */
export const prometheusCodes = {
  credentials: 'HF-F160',
  notFound: 'HF-F161',
  refusesAll: 'HF-F162',
  noQuery: 'HF-F163',
} as const
export const lateHint =
  'It takes samples only in order and near its newest: set storage.tsdb.out_of_order_time_window there to the ' +
  'longest outage, and out_of_order_window here. Nothing was dropped; see docs/operate/destinations.md.'

/** Only a receiver says these: its highest version, and what it has written (remote write 2.0). */
const receiverHeaders = [
  'x-prometheus-remote-write-version',
  'x-prometheus-remote-write-samples-written',
] as const
/**
 * Remote write 1.0: success is any 2xx, and its body should be empty. A captive portal says 200 too, but to show its
 * page: so a body is believed only beside a receiver's own header, and a page never.
 */
const isAck = ({ status, headers, body }: RelayReply, isPage: boolean): boolean =>
  status >= 200 &&
  status < 300 &&
  !isPage &&
  (body.length === 0 || receiverHeaders.some((name) => headers[name] !== undefined))

const textMax = 300
export const readPrometheusReply = (reply: RelayReply, nowUs: number): PrometheusReading => {
  const { status, headers, body } = reply
  const isPage = headers['content-type']?.startsWith('text/html') === true
  if (isAck(reply, isPage)) return { kind: 'taken' }
  const said = Buffer.from(body).toString('utf8').replace(/\s+/g, ' ').trim().slice(0, textMax)
  const text = `HTTP ${status}: ${isPage ? 'a web page' : said}`
  const setback = (one: PrometheusSetback): PrometheusReading => ({ kind: 'setback', setback: one })
  if (status < 400)
    return setback(later(`${text}; a write is answered without a body: a captive portal?`))
  if (status === 413) return { kind: 'too-big', text }
  if (status === 401 || status === 403 || status === 407) {
    const hint = `Check token, or username and password, tenant, and that they may write. ${renewHint}`
    return setback(
      blocked(prometheusCodes.credentials, `the server refuses the credentials: ${text}`, hint),
    )
  }
  if (status === 404 || status === 405 || status === 410) {
    const hint =
      'Start Prometheus with --web.enable-remote-write-receiver, or correct url and path (Mimir and Cortex take ' +
      '/api/v1/push, Thanos /api/v1/receive).'
    return setback(blocked(prometheusCodes.notFound, `there is nothing to write to: ${text}`, hint))
  }
  // Beyond an out-of-order window Prometheus says so with a 500.
  if ((status === 400 && !isPage) || (status === 500 && said === 'too old sample'))
    return { kind: 'suspect', text: said }
  const afterMs = retryAfterMs(headers['retry-after'], headers.date, nowUs)
  const fault = status >= 500 && afterMs === undefined ? { fault: text } : {}
  return { kind: 'setback', setback: later(text, afterMs), ...fault }
}

/** What a query found of one series: values by millisecond. */
export interface HeldSeries {
  readonly labels: Readonly<Record<string, string>>
  readonly values: ReadonlyMap<number, number>
}
interface Matrix {
  readonly data: {
    readonly result: readonly {
      readonly metric: Readonly<Record<string, string>>
      readonly values: readonly (readonly [number, string])[]
    }[]
  }
}
/** What a query for a range of samples found: a matrix of `[seconds, "value"]`. */
export const readHeld = ({
  status,
  body,
}: RelayReply): readonly HeldSeries[] | PrometheusSetback => {
  if (status === 429 || status >= 500) return later(`the query is answered with HTTP ${status}`)
  try {
    const { data } = JSON.parse(Buffer.from(body).toString('utf8')) as Matrix
    return data.result.map(({ metric, values }) => ({
      labels: metric,
      values: new Map(
        values.map(([seconds, text]) => [
          Math.round(seconds * 1_000),
          Number(text.replace('Inf', 'Infinity')),
        ]),
      ),
    }))
  } catch {
    const text = `after a refused write the server must be asked what it holds, and answers HTTP ${status}`
    return blocked(
      prometheusCodes.noQuery,
      text,
      'Let this agent read /api/v1/query there too, or say under query_url where it is.',
    )
  }
}
