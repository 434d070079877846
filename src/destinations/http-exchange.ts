/**
 * One request to an HTTP server and its answer, or the trouble on the way in words.
 *
 * Invariants: never rejects for trouble on the way; certificates are always verified; changed files are taken without a
 * restart.
 */
import { isFailure } from '../errors.ts'
import type { Host } from '../host.ts'
import type { Outcome } from '../model.ts'
import { openTlsFiles } from '../tls.ts'
import type { HttpConfig } from './http-config.ts'
import { createHttpTransport } from './relay-http.ts'
import { later } from './relay-outcome.ts'
import { type RelayPost, type RelayReply, timeoutMsFor } from './relay-transport.ts'
import { troubleOf } from './relay-trouble.ts'

export type HttpTrouble = Extract<Outcome, { kind: 'later' | 'blocked' }>
export interface HttpExchange {
  readonly ask: (
    request: Omit<RelayPost, 'timeoutMs'>,
    signal: AbortSignal,
  ) => Promise<
    | { readonly reply: RelayReply }
    /** `stalled`: nothing came back in time, the size may be to blame. */
    | { readonly trouble: HttpTrouble; readonly stalled: boolean }
  >
  readonly bytesSent: () => number
  readonly close: () => Promise<void>
}

export const createHttpExchange = (
  host: Host,
  config: Pick<HttpConfig, 'url' | 'tls' | 'request_timeout'>,
): HttpExchange => {
  const { url, request_timeout } = config
  const tls = openTlsFiles(config.tls, host, { watch: true })
  const http = createHttpTransport({ url, tls, host, sign: false })
  let answered = false
  return {
    ask: async (request, signal) => {
      try {
        const timeoutMs = timeoutMsFor(request_timeout, request.body.length)
        const reply = await http.transport({ ...request, timeoutMs }, signal)
        answered = true
        return { reply }
      } catch (error) {
        if (signal.aborted) return { trouble: later('given up'), stalled: false }
        const trouble = troubleOf(error, {
          authority: url.host,
          nowUs: host.clock.nowUs(),
          certificateExpiresAtUs: tls.expiresAtUs(),
          answered: answered || tls.expiresAtUs() === null,
        })
        // Not every filesystem tells of changes: look for mended files where certificates may be it.
        if (trouble.kind === 'blocked') tls.reload()
        return { trouble, stalled: isFailure(error, 'HF-N020') }
      }
    },
    bytesSent: http.bytesSent,
    close: async () => {
      await http.close()
      tls[Symbol.dispose]()
    },
  }
}
