/**
 * The relay over any transport: a ledger's side (`ledger-side.ts`) that speaks in requests and answers.
 *
 * Invariant: nothing counts as an answer but the region's own words (`relay-outcome.ts`).
 */
import { isFailure } from '../errors.ts'
import type { Destination, Outcome } from '../model.ts'
import {
  contentTypes,
  encodeFrames,
  type Message,
  protocolVersion,
  relayHeaders,
  relayPaths,
} from '../protocol/relay.ts'
import {
  helloAnswer,
  helloRequest,
  segmentsAnswer,
  seriesAnswer,
  seriesRequest,
} from '../protocol/relay-messages.ts'
import type { DestinationDeps } from './destination.ts'
import { createLedgerClient } from './ledger-client.ts'
import type { LedgerSide, Said } from './ledger-side.ts'
import { later, notTheRegion, type Reading, readReply } from './relay-outcome.ts'
import { type RelayReply, type RelayTransport, timeoutMsFor } from './relay-transport.ts'

export interface RelayOptions {
  readonly transport: RelayTransport
  readonly requestTimeoutMs: number
  readonly bodyBytesMax: number
  readonly bytesSent: () => number
  /** What a rejection of the transport means. */
  readonly troubleOf: (error: unknown) => Extract<Outcome, { kind: 'later' | 'blocked' }>
  readonly close: () => Promise<void>
}

/** The transport's deadline passed. */
const stalledCode = 'HF-N020'

/** One exchange with the region; never rejects for trouble on the way. */
type Ask = (path: string, body: Uint8Array, signal: AbortSignal) => Promise<Reading>

const createAsk =
  ({ host, agent, spool, farTime }: DestinationDeps, options: RelayOptions): Ask =>
  async (path, body, signal) => {
    const headers = {
      'content-type': path === relayPaths.segments ? contentTypes.frames : contentTypes.json,
      [relayHeaders.protocol]: String(protocolVersion),
      [relayHeaders.agent]: agent,
      [relayHeaders.epoch]: spool.epoch,
    }
    const timeoutMs = timeoutMsFor(options.requestTimeoutMs, body.length)
    let reply: RelayReply
    try {
      reply = await options.transport({ path, headers, body, timeoutMs }, signal)
    } catch (error) {
      if (signal.aborted) return { kind: 'setback', setback: later('given up') }
      const stalled = isFailure(error, stalledCode)
      return { kind: 'setback', setback: options.troubleOf(error), stalled }
    }
    const reading = readReply(reply, host.clock.nowUs())
    // Every answer tells the time, so that a clock that jumps is noticed between two hellos.
    const farMs = Date.parse(reply.headers.date ?? '')
    if (reading.kind === 'answer' && !Number.isNaN(farMs)) farTime(farMs * 1000)
    return reading
  }

const said = <T>(reading: Reading, message: Message<T>): Said<T> => {
  if (reading.kind !== 'answer') return reading
  try {
    return { kind: 'answer', answer: message.decode(reading.body) }
  } catch (error) {
    if (!isFailure(error)) throw error
    return { kind: 'setback', setback: notTheRegion(error) }
  }
}
const createRelaySide = (ask: Ask): LedgerSide => ({
  hello: async (hello, signal) =>
    said(await ask(relayPaths.hello, helloRequest.encode(hello), signal), helloAnswer),
  series: async (series, signal) =>
    said(await ask(relayPaths.series, seriesRequest.encode(series), signal), seriesAnswer),
  segments: async (parcels, signal) => {
    const body = encodeFrames(parcels.map(({ frame }) => frame))
    return said(await ask(relayPaths.segments, body, signal), segmentsAnswer)
  },
})

export const createRelayClient = (deps: DestinationDeps, options: RelayOptions): Destination => {
  const { bodyBytesMax, bytesSent, close } = options
  const side = createRelaySide(createAsk(deps, options))
  return createLedgerClient(deps, { side, type: 'relay', bodyBytesMax, bytesSent, close })
}
