/**
 * What an answer of the region, or of something in between, means; pure. Invariants: nothing but
 * the region's own JSON counts as an answer; whatever is not understood is `later`, never a loss;
 * what only a person can mend is `blocked`, with what to do.
 */
import { isFailure, textOf } from '../errors.ts'
import type { Outcome } from '../model.ts'
import { contentTypes } from '../protocol/relay.ts'
import { errorAnswer, type RelayError } from '../protocol/relay-messages.ts'
import type { RelayReply } from './relay-transport.ts'
import { retryAfterMs } from './retry-after.ts'

export type Setback = Extract<Outcome, { kind: 'later' | 'blocked' | 'smaller' }>
/** What the sender itself answers: the region asks for something, or refuses one frame. */
export type Demand = Extract<RelayError['code'], 'need-series' | 'need-hello' | 'bad-frame'>
export type Reading =
  | { readonly kind: 'answer'; readonly body: Uint8Array }
  | { readonly kind: 'demand'; readonly code: Demand; readonly error: RelayError }
  /** `stalled`: nothing came back in time, the size may be to blame. */
  | { readonly kind: 'setback'; readonly setback: Setback; readonly stalled?: boolean }

export const later = (text: string, afterMs?: number): Extract<Outcome, { kind: 'later' }> => ({
  kind: 'later',
  text,
  ...(afterMs === undefined ? {} : { afterMs }),
})
export const blocked = (
  code: string,
  text: string,
  hint: string,
): Extract<Outcome, { kind: 'blocked' }> => ({
  kind: 'blocked',
  code,
  text,
  hint,
})

/** Codes of this destination, all in docs/operate/codes.md. */
export const relayCodes = {
  fenced: 'HF-F110',
  fork: 'HF-F111',
  notAllowed: 'HF-F112',
  notUnderstood: 'HF-F113',
  regionBlocked: 'HF-F114',
  wrongAddress: 'HF-F115',
  proxy: 'HF-F116',
  helloTooBig: 'HF-F117',
  serverExpired: 'HF-N010',
  serverUntrusted: 'HF-N011',
  serverName: 'HF-N012',
  clientRefused: 'HF-N013',
  clientExpired: 'HF-N014',
  noTls: 'HF-N015',
} as const

/** What a refusal in the region's words means here. */
export const setbackOf = (error: RelayError, afterMs: number | undefined): Setback => {
  const { code, text } = error
  switch (code) {
    case 'fenced': {
      const hint =
        'Two copies of this spool are running. Stop one. If the other is gone, this one is let in ' +
        'ten minutes after it fell silent.'
      return blocked(relayCodes.fenced, text, hint)
    }
    case 'fork': {
      const hint = 'The region holds another history under this name. Give this agent another name.'
      return blocked(relayCodes.fork, text, hint)
    }
    case 'not-allowed': {
      const hint =
        'The certificate must name this agent (CN) and be signed by the CA of the region.'
      return blocked(relayCodes.notAllowed, text, hint)
    }
    case 'too-big': {
      const { bytesMax } = error
      return { kind: 'smaller', text, ...(bytesMax === undefined ? {} : { bytesMax }) }
    }
    case 'blocked': {
      const hint = error.hint ?? 'See the log of the regional node.'
      return blocked(relayCodes.regionBlocked, `the region is blocked: ${text}`, hint)
    }
    case 'not-found':
      return blocked(relayCodes.wrongAddress, text, 'Check the url of the destination.')
    case 'bad-request': {
      const hint = 'Agent and region may be too far apart in version: upgrade the region first.'
      return blocked(relayCodes.notUnderstood, `the region did not understand: ${text}`, hint)
    }
    default:
      return later(text, error.afterMs ?? afterMs)
  }
}

/** Not the region's own words: a proxy, a load balancer, a portal, another server. */
const ofStatus = (status: number, afterMs: number | undefined): Setback => {
  const text = `HTTP ${status}, not in the words of a regional node`
  if (status === 413) return { kind: 'smaller', text }
  if (status === 401 || status === 403)
    return blocked(relayCodes.notAllowed, text, 'Something in between refuses this agent.')
  if (status === 407)
    return blocked(relayCodes.proxy, text, 'Give the proxy url a user and password.')
  if (status === 404 || status === 405 || status === 410 || status === 421)
    return blocked(relayCodes.wrongAddress, text, 'Check the url of the destination.')
  if (status < 400) return later(`${text}: a captive portal?`)
  return later(text, afterMs)
}

const errorIn = (body: Uint8Array): RelayError | undefined => {
  try {
    return errorAnswer.decode(body).error
  } catch (error) {
    if (isFailure(error)) return undefined
    throw error
  }
}

export const readReply = ({ status, headers, body }: RelayReply, nowUs: number): Reading => {
  const afterMs = retryAfterMs(headers['retry-after'], headers.date, nowUs)
  const isJson = headers['content-type']?.split(';')[0]?.trim() === contentTypes.json
  if (status === 200 && isJson) return { kind: 'answer', body }
  const error = isJson ? errorIn(body) : undefined
  if (error === undefined) return { kind: 'setback', setback: ofStatus(status, afterMs) }
  const { code } = error
  if (code === 'need-series' || code === 'need-hello' || code === 'bad-frame')
    return { kind: 'demand', code, error }
  const stalled = error.stalled === true
  return { kind: 'setback', setback: setbackOf(error, afterMs), stalled }
}

/** A 200 that does not read: somebody else's JSON. */
export const notTheRegion = (error: unknown): Extract<Outcome, { kind: 'later' }> =>
  later(`HTTP 200, but not a regional node's answer (${textOf(error)}): a captive portal?`)
