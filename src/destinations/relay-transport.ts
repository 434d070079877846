/**
 * How the relay destination reaches the region: one POST there, one answer back. HTTPS in
 * production (`relay-http.ts`), a function call in the simulation.
 */
export interface RelayPost {
  /** POST, unless it says GET (which sends no body). */
  readonly method?: 'GET'
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array
  /** Without an answer for so long the request is given up: the connection may be half open. */
  readonly timeoutMs: number
}
export interface RelayReply {
  readonly status: number
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly body: Uint8Array
}
/** Rejects when there is no whole answer; `relay-outcome.ts` knows what each error means. */
export type RelayTransport = (request: RelayPost, signal: AbortSignal) => Promise<RelayReply>

/** A link of 64 kbit/s still gets a full body through in time. */
const slowestBytesPerMs = 8
/** How long an answer may take to a body of so many bytes, where `requestTimeoutMs` is for an empty one. */
export const timeoutMsFor = (requestTimeoutMs: number, bodyBytes: number): number =>
  requestTimeoutMs + Math.ceil(bodyBytes / slowestBytesPerMs)
