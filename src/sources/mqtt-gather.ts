/**
 * What has come in since the last emit: points in columns, losses with a sample each, ids to ack, bytes held.
 *
 * Invariants: reasons of loss are few per intake however many messages fail; points with a time of their own never
 * share an intake with points waiting for a trusted clock.
 */
import { type BatchBuilder, createBatchBuilder, emptyBatch } from '../batch.ts'
import { messageBytesMax, quarantineSampleBytesMax } from '../limits.ts'
import type { Intake, Kept, Loss, SeriesTable } from '../model.ts'
import { decodeText } from '../pipeline/json.ts'
import { createMapper, type Mapper, type Mapping, type PointSink } from '../pipeline/map.ts'
import type { Stamper } from '../pipeline/stamp.ts'
import type { Publish } from './mqtt-frames.ts'

export interface Subscription extends Mapping {
  /** A topic filter, maybe `$share/GROUP/FILTER`. */
  readonly topic: string
  readonly qos: 0 | 1
}
export interface Gathered {
  /** In the order in which they must be emitted; the ids may be acked when all of them are durable. */
  readonly intakes: readonly Intake[]
  readonly packetIds: readonly number[]
  readonly messages: number
  readonly bytes: number
}
export interface Gather {
  /** Look at the clock, before the messages of one read. */
  readonly look: () => void
  /** Takes a message's points, unless it is a duplicate, and its id for the ack. */
  readonly add: (message: Publish, duplicate: boolean) => void
  readonly messages: () => number
  readonly bytes: () => number
  readonly take: (kept: readonly Kept[], urgent: boolean) => Gathered
}

interface Route {
  readonly topic: string
  readonly mapper: Mapper
}
const routesMax = 400_000
const lossTextsMax = 16
/** Columns, digest and bookkeeping of one message beside its payload. */
const messageOverheadBytes = 64

/** `+` is one level, a last `#` all that follow; neither meets `$SYS` and its like at the first level. */
export const topicMatches = (filter: string, topic: string): boolean => {
  const plain = filter.startsWith('$share/') ? filter.split('/').slice(2).join('/') : filter
  const wanted = plain.split('/')
  const levels = topic.split('/')
  if (topic.startsWith('$') && (wanted[0] === '+' || wanted[0] === '#')) return false
  for (const [at, level] of wanted.entries()) {
    if (level === '#') return true
    if (at >= levels.length || (level !== '+' && level !== levels[at])) return false
  }
  return wanted.length === levels.length
}

export const createGather = (
  source: string,
  subscriptions: readonly Subscription[],
  series: SeriesTable,
  stamper: Stamper,
): Gather => {
  const mappers = subscriptions.map((one) => [one.topic, createMapper(one, series)] as const)
  /** By the topic's bytes as latin1; a string where no mapper takes the topic. */
  const routes = new Map<string, Route | string>()
  let builder = createBatchBuilder()
  /** Points stamped on arrival while the clock is not trusted. */
  let waiting = createBatchBuilder(1)
  let losses = new Map<string, Loss>()
  let packetIds: number[] = []
  let messages = 0
  let bytes = 0
  let now: Publish | undefined

  const routeOf = (message: Publish): Route | string => {
    const key = message.buffer.toString('latin1', message.topicStart, message.topicEnd)
    const known = routes.get(key)
    if (known !== undefined) return known
    if (routes.size >= routesMax) routes.clear()
    const topic = decodeText(message.buffer.subarray(message.topicStart, message.topicEnd))
    const found =
      topic === undefined ? undefined : mappers.find(([filter]) => topicMatches(filter, topic))
    const route =
      topic === undefined || found === undefined
        ? 'no subscription takes this topic'
        : { topic, mapper: found[1] }
    routes.set(key, route)
    return route
  }
  const lose: PointSink['lose'] = (reason, text, count) => {
    const full = losses.size >= lossTextsMax && !losses.has(`${reason} ${text}`)
    const said = full ? 'other reasons' : text
    const known = losses.get(`${reason} ${said}`)
    if (known) {
      losses.set(`${reason} ${said}`, { ...known, count: known.count + count })
      return
    }
    losses.set(`${reason} ${said}`, { source, reason, count, text: said, ...sampleOf(now) })
  }
  let trusted = true
  const sinkNow = (): PointSink => ({
    timed: builder,
    stamped: trusted ? builder : waiting,
    stampUs: stamper.stampUs,
    lose,
  })
  let sink = sinkNow()
  const takeBatch = (from: BatchBuilder) => (from.count() === 0 ? emptyBatch : from.take())
  return {
    look: () => {
      if (stamper.look() === trusted) return
      trusted = !trusted
      sink = sinkNow()
    },
    add: (message, duplicate) => {
      messages++
      bytes += message.payloadEnd - message.payloadStart + messageOverheadBytes
      if (message.packetId !== 0) packetIds.push(message.packetId)
      if (duplicate) return
      now = message
      const route = routeOf(message)
      if (message.tooBigBytes > 0) {
        lose('malformed', `a message of more than ${messageBytesMax} bytes`, 1)
      } else if (typeof route === 'string') lose('malformed', route, 1)
      else
        route.mapper.map(
          route.topic,
          message.buffer.subarray(message.payloadStart, message.payloadEnd),
          sink,
        )
      now = undefined
    },
    messages: () => messages,
    bytes: () => bytes,
    take: (kept, urgent) => {
      const rest = { kept, losses: [...losses.values()], urgent }
      const points = takeBatch(builder)
      const later = takeBatch(waiting)
      // Builders afresh, as large as was needed just now: one that grew in a burst would stay that large.
      builder = createBatchBuilder(Math.max(64, points.count))
      waiting = createBatchBuilder(Math.max(1, later.count))
      sink = sinkNow()
      // The points that bring their time go first: sent again after a crash between the two, they
      // are the same points.
      const intakes: Intake[] =
        later.count === 0
          ? [{ points, ...rest }]
          : [
              ...(points.count > 0 ? [{ points }] : []),
              { points: later, timeBase: 'monotonic' as const, ...rest },
            ]
      const taken: Gathered = { intakes, packetIds, messages, bytes }
      losses = new Map()
      packetIds = []
      messages = bytes = 0
      return taken
    },
  }
}

const sampleOf = (message: Publish | undefined): { sample?: Uint8Array } => {
  if (message === undefined) return {}
  const { buffer, topicStart, topicEnd, payloadStart, payloadEnd } = message
  // Topic, a line break, the payload's beginning: what a person needs to find the sender.
  const sample = Buffer.concat([
    buffer.subarray(topicStart, Math.min(topicEnd, topicStart + 256)),
    Buffer.from('\n'),
    buffer.subarray(payloadStart, Math.min(payloadEnd, payloadStart + quarantineSampleBytesMax)),
  ])
  return { sample: new Uint8Array(sample.subarray(0, quarantineSampleBytesMax)) }
}
