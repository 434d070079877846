/**
 * Who speaks, where TLS ends at a proxy: checks the signature that stands in each request's
 * headers. Invariants: nothing unsigned is believed; a signature made for another region, or used
 * before, is refused.
 */
import type { FastifyRequest } from 'fastify'
import type { Host } from '../host.ts'
import {
  createCounters,
  identityHeaders,
  type Verified,
  verifyRequest,
} from '../protocol/identity.ts'
import { relayHeaders } from '../protocol/relay.ts'
import { certificatesIn, type TlsFiles } from '../tls.ts'

export type Identity = (request: FastifyRequest, body: Uint8Array) => Verified
export interface SignedOptions {
  /** Its `ca` signed the agents' certificates. */
  readonly agents: TlsFiles
  /** Host and port as agents name this region in their configuration; each may stand for it. */
  readonly audiences: readonly string[]
}

const headerOf = (request: FastifyRequest, name: string): string => {
  const value = request.headers[name]
  return typeof value === 'string' ? value : ''
}

export const createSignedIdentity = (
  { agents, audiences }: SignedOptions,
  clock: Pick<Host['clock'], 'nowUs'>,
): Identity => {
  const counters = createCounters()
  const rootsNow = () => certificatesIn(agents.current().ca ?? '')
  let roots = rootsNow()
  agents.onChange(() => {
    roots = rootsNow()
  })
  return (request, body) => {
    const audience = headerOf(request, identityHeaders.audience)
    if (!audiences.includes(audience)) return { refused: `signed for "${audience}", not for here` }
    const parts = {
      method: request.method,
      path: request.url,
      agent: headerOf(request, relayHeaders.agent),
      epoch: headerOf(request, relayHeaders.epoch),
      audience,
      counter: Number(headerOf(request, identityHeaders.counter)),
      body,
    }
    const headers = {
      certificate: headerOf(request, identityHeaders.certificate),
      signature: headerOf(request, identityHeaders.signature),
    }
    const verified = verifyRequest(parts, headers, roots, clock.nowUs() / 1000)
    if ('refused' in verified) return verified
    return counters.take(parts.agent, parts.epoch, parts.counter)
      ? verified
      : { refused: `request ${parts.counter} came before` }
  }
}
