/**
 * The regional side of the relay, free of transport: a request with a verified identity in, an
 * answer out. The HTTPS server and the simulation use it as it is.
 *
 * Invariants: stateless over the store, so any number of nodes may stand behind one address; 200 to
 * `/v1/segments` is said only after the store has committed; what is held at once (requests,
 * bodies, decoded points) has a ceiling, above which the answer is 429 before anything is decoded.
 */
import { formatVersions } from '../codec/segment.ts'
import { seriesIdOf } from '../codec/series-id.ts'
import { commitOrFindPoison } from '../database/frames.ts'
import type { CommitFrame, RegionStore } from '../database/store.ts'
import { isFailure, textOf } from '../errors.ts'
import type { Host } from '../host.ts'
import {
  regionalBytesMax,
  regionalDecodedBytesMax,
  regionalRequestsMax,
  relayBodyBytesMax,
  relayFramesMax,
  requestDecodedBytesMax,
} from '../limits.ts'
import type { SeriesEntry } from '../model.ts'
import { protocolVersion, relayHeaders, relayPaths } from '../protocol/relay.ts'
import {
  helloAnswer,
  helloRequest,
  type RelayError,
  segmentsAnswer,
  seriesAnswer,
  seriesRequest,
} from '../protocol/relay-messages.ts'
import {
  badRequest,
  type Refusal,
  type RelayResponse,
  refusalOf,
  respond,
  respondError,
} from './answers.ts'
import { openFrames, weighFrames } from './frames.ts'

export type { RelayResponse }

export interface RelayRequest {
  readonly method: string
  readonly path: string
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly body: Uint8Array
  /** Who the transport has proven this to be. */
  readonly agent: string
  readonly signal: AbortSignal
}
export interface RegionalLimits {
  readonly requestsMax: number
  /** Of all bodies held at once. */
  readonly bytesMax: number
  readonly bodyBytesMax: number
  readonly framesMax: number
  readonly requestDecodedBytesMax: number
  readonly decodedBytesMax: number
}
export const regionalLimits: RegionalLimits = {
  requestsMax: regionalRequestsMax,
  bytesMax: regionalBytesMax,
  bodyBytesMax: relayBodyBytesMax,
  framesMax: relayFramesMax,
  requestDecodedBytesMax,
  decodedBytesMax: regionalDecodedBytesMax,
}
export interface RegionalParts {
  readonly store: RegionStore
  readonly host: Pick<Host, 'clock' | 'random' | 'log' | 'meter'>
  readonly limits?: Partial<RegionalLimits>
}
export interface Regional {
  readonly handle: (request: RelayRequest) => Promise<RelayResponse>
  readonly limits: RegionalLimits
  /**
   * Answers that something is too much, for transports that can say so before the body has come.
   */
  readonly refuse: (refusal: Refusal) => RelayResponse
  readonly busy: () => RelayResponse
}

/**
 * A series belongs to one agent: its id is made from the agent's name, so that nobody can claim
 * another's.
 */
const foreignSeries = (agent: string, entries: readonly SeriesEntry[]): string | null => {
  for (const entry of entries) {
    const sorted = entry.tags.every(
      ([name], at) => at === 0 || (entry.tags[at - 1]?.[0] ?? '') < name,
    )
    if (!sorted || seriesIdOf(agent, entry) !== entry.id)
      return `series ${entry.id} is not "${entry.name}" of agent ${agent}`
  }
  return null
}

/** What is held at once, by all requests of this node. */
interface Held {
  requests: number
  bytes: number
  decodedBytes: number
}
interface Work {
  readonly store: RegionStore
  readonly host: RegionalParts['host']
  readonly limits: RegionalLimits
  readonly held: Held
}

/** Spread over a few seconds, so that agents turned away together do not come back together. */
const busyRefusal = ({ host }: Pick<Work, 'host'>): Refusal => {
  const afterMs = 1_000 + Math.floor(host.random() * 4_000)
  return { status: 429, error: { code: 'busy', text: 'too much work at once', afterMs } }
}

const hello = async ({ store }: Work, { agent, body }: RelayRequest): Promise<RelayResponse> => {
  const said = await store.hello({ agent, ...helloRequest.decode(body) })
  if (said.kind !== 'ok') return respondError(refusalOf(said))
  const { region, timeline, lanes } = said
  return respond(helloAnswer.encode({ region, timeline, formats: formatVersions, lanes }))
}

const series = async ({ store }: Work, { agent, body }: RelayRequest): Promise<RelayResponse> => {
  const { epoch, first, entries } = seriesRequest.decode(body)
  const foreign = foreignSeries(agent, entries)
  if (foreign !== null) return respondError(badRequest(foreign))
  const added = await store.addSeries(agent, epoch, first, entries)
  if (added.kind !== 'ok') return respondError(refusalOf(added))
  return respond(seriesAnswer.encode({ epoch, known: added.known }))
}

const segments = async (
  work: Work,
  request: RelayRequest,
  speaker: string,
): Promise<RelayResponse> => {
  const { limits, held } = work
  const weighed = weighFrames(request.body, limits.framesMax)
  if ('refusal' in weighed) return refuseFrame(work, request, weighed.refusal)
  const { frames, decodedBytes } = weighed.value
  if (decodedBytes > limits.requestDecodedBytesMax && frames.length > 1) {
    const share = limits.requestDecodedBytesMax / decodedBytes
    const bytesMax = Math.max(1, Math.floor(request.body.length * share))
    const text = `the points would take ${decodedBytes} bytes`
    return respondError({ status: 413, error: { code: 'too-big', text, bytesMax } })
  }
  if (held.decodedBytes > 0 && held.decodedBytes + decodedBytes > limits.decodedBytesMax)
    return respondError(busyRefusal(work))
  held.decodedBytes += decodedBytes
  try {
    const opened = openFrames(weighed.value)
    if ('refusal' in opened) return refuseFrame(work, request, opened.refusal)
    return await commit(work, request, speaker, opened.value)
  } finally {
    held.decodedBytes -= decodedBytes
  }
}
const refuseFrame = ({ host }: Work, { agent }: RelayRequest, refusal: Refusal): RelayResponse => {
  host.log.warn('frame_refused', { agent, ...refusal.error })
  return respondError(refusal)
}

const commit = async (
  work: Work,
  request: RelayRequest,
  speaker: string,
  frames: readonly CommitFrame[],
): Promise<RelayResponse> => {
  const { store, host } = work
  const { agent, signal } = request
  const startedMs = host.clock.monotonicMs()
  const done = await commitOrFindPoison(store, [agent, speaker, frames], signal)
  if (done.kind === 'poison') {
    const { at, text } = done
    const where = { frame: at, lane: frames[at]?.lane, seq: frames[at]?.seq }
    const error = { code: 'bad-frame', text, ...where } as const
    return refuseFrame(work, request, { status: 400, error })
  }
  if (done.kind !== 'ok') return respondError(refusalOf(done))
  const tookMs = host.clock.monotonicMs() - startedMs
  host.meter.observe('holdfast_regional_commit_duration_seconds', tookMs / 1000)
  frames.forEach((frame, at) => {
    const status = done.results[at]?.status ?? 'committed'
    host.meter.count('holdfast_regional_segments_total', 1, { status })
    if (status !== 'committed') return
    if (frame.type === 'segment')
      host.meter.count('holdfast_regional_points_committed_total', frame.points.count)
    else {
      const { count, reason } = frame.gap
      host.meter.count('holdfast_regional_points_lost_total', count, { reason })
    }
  })
  const { region, timeline, results, lanes } = done
  return respond(segmentsAnswer.encode({ region, timeline, results, lanes }))
}

const route = async (work: Work, request: RelayRequest): Promise<RelayResponse> => {
  const { method, path, headers, agent } = request
  if (!paths.has(path))
    return respondError({ status: 404, error: { code: 'not-found', text: `no ${path} here` } })
  if (method !== 'POST') return respondError(badRequest(`${method} ${path}: use POST`, 405))
  const spoken = headers[relayHeaders.protocol]
  if (spoken !== String(protocolVersion)) {
    const text = `protocol ${spoken ?? 'unnamed'}; here speaks ${protocolVersion}`
    return respondError(badRequest(text))
  }
  if (headers[relayHeaders.agent] !== agent) {
    const said = headers[relayHeaders.agent] ?? ''
    const text = `the request speaks for "${said}", its certificate for "${agent}"`
    return respondError({ status: 403, error: { code: 'not-allowed', text } })
  }
  if (path === relayPaths.hello) return hello(work, request)
  const speaker = headers[relayHeaders.epoch] ?? ''
  if (!/^[0-9a-f]{32}$/.test(speaker))
    return respondError(badRequest(`${relayHeaders.epoch} is missing`))
  return path === relayPaths.series ? series(work, request) : segments(work, request, speaker)
}
const paths: ReadonlyMap<string, string> = new Map(
  Object.entries(relayPaths).map(([name, path]) => [path, name]),
)

const bounded = async (work: Work, request: RelayRequest): Promise<RelayResponse> => {
  const { host, limits, held } = work
  const { length } = request.body
  if (length > limits.bodyBytesMax) {
    const { bodyBytesMax: bytesMax } = limits
    const error: RelayError = { code: 'too-big', text: `body of ${length} bytes`, bytesMax }
    return respondError({ status: 413, error })
  }
  if (held.requests >= limits.requestsMax || held.bytes + length > limits.bytesMax)
    return respondError(busyRefusal(work))
  held.requests++
  held.bytes += length
  host.meter.count('holdfast_regional_bytes_received_total', length)
  host.meter.gauge('holdfast_regional_requests_in_flight', held.requests)
  try {
    return await route(work, request)
  } catch (error) {
    if (isFailure(error) && error.code.startsWith('HF-P'))
      return respondError(badRequest(error.message))
    host.log.error('request_failed', { path: request.path, error: textOf(error) })
    const text = 'the regional node failed at this request'
    return respondError({ status: 500, error: { code: 'unavailable', text } })
  } finally {
    held.requests--
    held.bytes -= length
    host.meter.gauge('holdfast_regional_requests_in_flight', held.requests)
  }
}

export const createRegional = ({ store, host, ...parts }: RegionalParts): Regional => {
  const limits: RegionalLimits = { ...regionalLimits, ...parts.limits }
  const work: Work = { store, host, limits, held: { requests: 0, bytes: 0, decodedBytes: 0 } }
  return {
    limits,
    refuse: respondError,
    busy: () => respondError(busyRefusal(work)),
    handle: async (request) => {
      const answer = await bounded(work, request)
      const labels = { route: paths.get(request.path) ?? 'other', status: String(answer.status) }
      host.meter.count('holdfast_regional_requests_total', 1, labels)
      return answer
    },
  }
}
