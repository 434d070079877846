/**
 * What an answer to a write means; pure. Invariants: only 204 is an ack; a 400 never says by itself which points are
 * bad, its count and its message mislead; what is not understood is `later`; what only a person can mend is `blocked`.
 */
import type { Outcome } from '../model.ts'
import { renewHint } from './login.ts'
import { blocked, later } from './relay-outcome.ts'
import type { RelayReply } from './relay-transport.ts'
import { retryAfterMs } from './retry-after.ts'

export type InfluxReading =
  | { readonly kind: 'taken' }
  /**
   * Some line of the request is refused: find it. `lines` of it are blamed, the first is 0: where to look first. Or
   * `tooOld` of them are said to be older than what the server keeps: the oldest ones, if that is so.
   */
  | {
      readonly kind: 'suspect'
      readonly text: string
      readonly lines?: readonly number[]
      readonly tooOld?: number
    }
  /** Every line of the request is older than what the server keeps. */
  | { readonly kind: 'too-old'; readonly text: string }
  /** Some line is of a time that the server does not keep, and nothing is known of the others. */
  | { readonly kind: 'out-of-keep'; readonly text: string }
  | { readonly kind: 'too-big'; readonly text: string }
  | {
      readonly kind: 'setback'
      readonly setback: Extract<Outcome, { kind: 'later' | 'blocked' }>
      /** Nothing came back in time, the size may be to blame. */
      readonly stalled?: boolean
      /** A 5xx in these words: the server's own trouble, or that of something in the request. */
      readonly fault?: string
    }

/** Codes of this destination, all in docs/operate/codes.md. */
export const influxCodes = {
  credentials: 'HF-F120',
  notFound: 'HF-F121',
  refusesAll: 'HF-F122',
  proxy: 'HF-F123',
  plan: 'HF-F124',
} as const

const textMax = 300
/** What InfluxDB 3 says of the first line it refuses, or of the only one. */
const reasonOf = (data: unknown): string => {
  const first = (Array.isArray(data) ? data[0] : data) as { error_message?: unknown } | undefined
  return typeof first?.error_message === 'string' ? `: ${first.error_message}` : ''
}
/** InfluxDB 1 says `error`, 2 says `message`, 3 `error` and why in `data`; VictoriaMetrics writes plain text. */
const wordsOf = (body: Uint8Array): string => {
  const text = Buffer.from(body).toString('utf8')
  try {
    const { error, message, data } = JSON.parse(text) as Record<string, unknown>
    const said = typeof message === 'string' ? message : error
    if (typeof said === 'string') return `${said}${reasonOf(data)}`.slice(0, textMax)
  } catch {
    // Not JSON.
  }
  return text.replace(/\s+/g, ' ').trim().slice(0, textMax)
}
/** InfluxDB 3 numbers the lines it refuses, from 1, and stores the others. */
const blamedIn = (body: Uint8Array): readonly number[] => {
  try {
    const { data } = JSON.parse(Buffer.from(body).toString('utf8')) as { data?: unknown }
    const all = Array.isArray(data) ? (data as { line_number?: unknown }[]) : []
    const numbers = all.map(({ line_number: line }) => (typeof line === 'number' ? line - 1 : -1))
    return [...new Set(numbers.filter((line) => line >= 0))]
  } catch {
    return []
  }
}
const setback = (one: Extract<Outcome, { kind: 'later' | 'blocked' }>): InfluxReading => ({
  kind: 'setback',
  setback: one,
})

export const readInfluxReply = (
  { status, headers, body }: RelayReply,
  lineCount: number,
  nowUs: number,
  /** What the product's answers mean otherwise. */
  dialect: (status: number, words: string) => InfluxReading | undefined = () => undefined,
): InfluxReading => {
  if (status === 204) return { kind: 'taken' }
  const isPage = headers['content-type']?.startsWith('text/html') === true
  const words = isPage ? 'a web page' : wordsOf(body)
  const text = `HTTP ${status}: ${words}`
  if (status < 400)
    return setback(later(`${text}; a write is answered with 204: a captive portal?`))
  const special = isPage ? undefined : dialect(status, words)
  if (special !== undefined) return special
  // Go's words, of all servers in it.
  if (status === 400 && /^Client sent an HTTP request to an HTTPS server/.test(words))
    return setback(blocked(influxCodes.notFound, text, 'Begin the url with https://.'))
  if (status === 413) return { kind: 'too-big', text }
  if (status === 401 || status === 403)
    return setback(
      blocked(
        influxCodes.credentials,
        `the server refuses the credentials: ${text}`,
        `Check token, or username and password, and that they may write to this database. ${renewHint}`,
      ),
    )
  if (status === 407)
    return setback(
      blocked(
        influxCodes.proxy,
        `a proxy before the server wants credentials: ${text}`,
        'Let this agent through there without a password: it is given none for a proxy.',
      ),
    )
  if (
    status === 404 ||
    status === 405 ||
    status === 410 ||
    /^retention policy not found/.test(words)
  )
    return setback(
      blocked(
        influxCodes.notFound,
        `there is nothing to write to: ${text}`,
        'Create the database, bucket or retention policy, or correct url, dialect and names.',
      ),
    )
  if ((status === 400 || status === 422) && !isPage) {
    // Of 1.6 and of 2.9.
    const dropped =
      /beyond retention policy dropped=(\d+)/.exec(words) ??
      /dropped (\d+) points outside retention policy/.exec(words)
    const tooOld = Number(dropped?.[1] ?? 0)
    if (tooOld > 0 && tooOld === lineCount) return { kind: 'too-old', text: words }
    return { kind: 'suspect', text: words, lines: blamedIn(body), tooOld }
  }
  const afterMs = retryAfterMs(headers['retry-after'], headers.date, nowUs)
  const fault = status >= 500 && afterMs === undefined ? { fault: text } : {}
  return { kind: 'setback', setback: later(text, afterMs), ...fault }
}
