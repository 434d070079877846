/**
 * Who may talk to the HTTP door: where it listens, token, Host and Origin.
 *
 * Invariants: without a token only this machine can reach the door, and no web page a browser on it has open (the
 * Host must be one of ours, an Origin is refused); a token is compared in constant time and never logged.
 */
import { isIP } from 'node:net'
import { createTokenCheck, type TokenNow } from '../renewed.ts'

export interface ListenAddress {
  readonly host: string
  readonly port: number
}
/**
 * `127.0.0.1:8086`, `[::1]:8086`, `gateway.local:8086`, `:8086` or `*:8086` (every address);
 * undefined when it is none of these.
 */
export const parseListen = (text: string): ListenAddress | undefined => {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]*)):(\d{1,5})$/.exec(text)
  const port = Number(match?.[3])
  if (match === null || port > 65_535) return undefined
  if (match[1] !== undefined && isIP(match[1]) !== 6) return undefined
  const host = match[1] ?? match[2] ?? ''
  return { host: host === '' || host === '*' ? '::' : host, port }
}
export const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))

export interface Asking {
  readonly host: string | undefined
  readonly origin: string | undefined
  readonly authorization: string | undefined
  /** `u`, `p` and `token` of the URL, as InfluxDB 1 clients send them. */
  readonly query: Readonly<Record<string, unknown>>
}
export type Verdict =
  | { readonly kind: 'welcome' }
  | { readonly kind: 'forbidden' | 'unauthorized'; readonly text: string }

export interface GuardParts {
  readonly address: ListenAddress
  /** Asked at each request that writes; once more, `doubted`, where it came with another. */
  readonly token: TokenNow
  /** Names besides the loopback's own that a Host header may hold. */
  readonly hosts: readonly string[]
}
export interface Guard {
  /** For every request. */
  readonly enter: (asking: Asking) => Verdict
  /** For requests that write. */
  readonly write: (asking: Asking) => Verdict
}

const welcome: Verdict = { kind: 'welcome' }

export const createGuard = ({ address, token, hosts }: GuardParts): Guard => {
  const allowed = new Set(['localhost', '127.0.0.1', '[::1]', address.host, ...hosts])
  const isToken = createTokenCheck(token)
  return {
    enter: ({ host, origin }) => {
      if (origin !== undefined) return { kind: 'forbidden', text: 'no door for web pages' }
      // A name that resolves to us may be an attacker's; behind a token that does not matter.
      if (!isLoopback(address.host) || allowed.has(nameOf(host ?? ''))) return welcome
      return { kind: 'forbidden', text: 'the Host header names another machine' }
    },
    write: (asking) =>
      isToken(tokensOf(asking))
        ? welcome
        : { kind: 'unauthorized', text: 'a token is needed, and this is not it' },
  }
}

const nameOf = (host: string): string => host.toLowerCase().replace(/:\d{1,5}$/, '')

/**
 * What may be the token, wherever InfluxDB clients put one: `Token`, `Bearer`, the password of
 * `Basic`, `p` of the URL.
 */
const tokensOf = ({ authorization, query }: Asking): readonly string[] => {
  if (authorization === undefined) return typeof query.p === 'string' ? [query.p] : []
  const match = /^(\w+) +(\S+) *$/.exec(authorization)
  const scheme: string = match?.[1]?.toLowerCase() ?? ''
  const value = match?.[2] ?? ''
  if (scheme === 'bearer') return [value]
  const pair = scheme === 'basic' ? Buffer.from(value, 'base64').toString('utf8') : value
  const password = pair.slice(pair.indexOf(':') + 1)
  // Clients of InfluxDB 1.8 that speak version 2 send "user:password" as a token.
  return scheme === 'basic' ? [password] : scheme === 'token' ? [value, password] : []
}
