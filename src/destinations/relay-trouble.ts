/**
 * What it means when a request brings no answer: which side is wrong, and what a person can do;
 * pure. Invariants: what may pass by itself is `later`; certificates and addresses that somebody
 * must mend are `blocked`, and are still tried once a minute, so that mending them is enough.
 */
import { textOf } from '../errors.ts'
import type { Outcome } from '../model.ts'
import { blocked, later, relayCodes } from './relay-outcome.ts'

type Trouble = Extract<Outcome, { kind: 'later' | 'blocked' }>
export interface TroubleContext {
  /** Host and port. */
  readonly authority: string
  readonly nowUs: number
  /** When the own certificate expires, null without one. */
  readonly certificateExpiresAtUs: number | null
  /** The far side has answered something since the start. */
  readonly answered: boolean
}

/**
 * Errors wrap each other (`cause`), and several addresses give several (`errors`): the first with a
 * code speaks.
 */
const codesOf = (error: unknown, depth = 0): string[] => {
  if (!(error instanceof Error) || depth > 4) return []
  const { code, cause } = error as Error & { code?: unknown }
  const inner = error instanceof AggregateError ? (error.errors as unknown[]) : []
  return [
    ...[cause, ...inner].flatMap((one) => codesOf(one, depth + 1)),
    ...(typeof code === 'string' ? [code] : []),
  ]
}
const deepestOf = (error: unknown, depth = 0): unknown =>
  error instanceof Error && error.cause instanceof Error && depth < 4
    ? deepestOf(error.cause, depth + 1)
    : error

const untrusted = new Set([
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'CERT_SIGNATURE_FAILURE',
  'CERT_UNTRUSTED',
  'CERT_REJECTED',
  'INVALID_CA',
  'INVALID_PURPOSE',
  'CERT_REVOKED',
])
const day = (us: number): string => new Date(us / 1000).toISOString().slice(0, 10)

const serverCertificate = (code: string, error: unknown, at: string): Trouble | undefined => {
  const text = textOf(deepestOf(error))
  if (code === 'CERT_HAS_EXPIRED')
    return blocked(
      relayCodes.serverExpired,
      `the certificate of ${at} has expired`,
      'Renew it over there. If it is in date, the clock of this machine is ahead.',
    )
  if (code === 'CERT_NOT_YET_VALID')
    return later(`the certificate of ${at} is not valid yet: the clock of this machine is behind?`)
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return blocked(
      relayCodes.serverName,
      `the certificate of ${at} is for another name: ${text}`,
      'Use the name of the certificate in the url, or issue one that names this host.',
    )
  if (untrusted.has(code))
    return blocked(
      relayCodes.serverUntrusted,
      `the certificate of ${at} is not signed by the configured CA (${code})`,
      'Set tls.ca to the CA that signed it. If that is right, something in between opens TLS.',
    )
  return undefined
}
/** OpenSSL's own words stand between numbers and names: `…:0A00010B:SSL routines:f:wrong version number:…` */
const reasonOf = (text: string): string => /:SSL routines:[^:]*:([^:]+):/.exec(text)?.[1] ?? text
const handshake = (codes: readonly string[], error: unknown, at: string): Trouble | undefined => {
  const text = reasonOf(textOf(deepestOf(error)))
  const alert = codes.find((code) => code.startsWith('ERR_SSL_'))
  if (alert === undefined && !codes.includes('EPROTO')) return undefined
  if (/CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED/.test(alert ?? ''))
    return blocked(
      relayCodes.clientRefused,
      `${at} refused the certificate of this agent (${alert})`,
      'It must be in date, made for clients, and signed by a CA that the far side trusts.',
    )
  const hint = 'Is there an HTTPS server with TLS 1.3 at this address? Check url and port.'
  return blocked(relayCodes.noTls, `no TLS 1.3 with ${at}: ${text}`, hint)
}

export const troubleOf = (error: unknown, context: TroubleContext): Trouble => {
  const { authority: at, certificateExpiresAtUs: expiresUs, nowUs } = context
  const codes = codesOf(error)
  for (const code of codes) {
    const trouble = serverCertificate(code, error, at)
    if (trouble !== undefined) return trouble
  }
  const tls = handshake(codes, error, at)
  if (tls !== undefined && tls.kind === 'blocked' && tls.code !== relayCodes.clientRefused)
    return tls
  const gone = codes.some((code) => /^(?:ECONNRESET|UND_ERR_SOCKET|EPIPE)$/.test(code))
  // Some servers hang up on a certificate they do not take, without a word.
  if ((gone || tls !== undefined) && expiresUs !== null && expiresUs < nowUs)
    return blocked(
      relayCodes.clientExpired,
      `${at} hung up: the certificate of this agent expired on ${day(expiresUs)}`,
      'Renew it; new files are taken without a restart.',
    )
  if (tls !== undefined) return tls
  const proxy = /Proxy response \((\d+)\)/.exec(textOf(deepestOf(error)))
  if (proxy?.[1] === '407')
    return blocked(
      relayCodes.proxy,
      `the proxy wants a password for ${at}`,
      'Put user and password into proxy.',
    )
  const text = `no answer from ${at}: ${textOf(deepestOf(error))}`
  return later(
    gone && !context.answered ? `${text} (does it trust this agent's certificate?)` : text,
  )
}
