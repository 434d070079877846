/**
 * One connection to the broker, from CONNECT to its end: messages in, points out, acks back.
 *
 * Invariants: messages are acked on the connection that brought them and on no other; when `runSession` resolves no
 * timer, socket or client is left, and no emit is under way (unless the agent ends and the spool does not answer).
 */
import type { Socket } from 'node:net'
import { MqttClient } from 'mqtt'
import { textOf } from '../errors.ts'
import type { Host } from '../host.ts'
import { messageBytesMax, quarantineSampleBytesMax } from '../limits.ts'
import type { Emit } from '../model.ts'
import { createCommits } from './mqtt-commits.ts'
import type { Gather } from './mqtt-gather.ts'
import type { Redelivery } from './mqtt-redelivery.ts'
import { createWire } from './mqtt-wire.ts'

const connectMsMax = 30_000
/** How long the last commits may take, and then the farewell, when the agent ends. */
const drainMsMax = 5_000
const farewellMsMax = 1_000

export interface Ended {
  readonly text: string
  /** MQTT's own code of a refusal or disconnect, where one was given. */
  readonly code: number | undefined
  /** 0 when the broker never accepted us. */
  readonly connectedMs: number
}
export interface SessionParts {
  readonly host: Host
  readonly source: string
  readonly emit: Emit
  readonly gather: Gather
  readonly redelivery: Redelivery
  /** Throws when certificates cannot be read. */
  readonly connect: () => Socket
  readonly version: 4 | 5
  readonly login: {
    readonly clientId: string
    readonly clean: boolean
    readonly keepalive: number
    readonly username?: string
    readonly password?: string
    readonly properties?: {
      readonly sessionExpiryInterval: number
      readonly receiveMaximum: number
    }
  }
  /** Called once the broker has accepted us. */
  readonly subscribe: (client: MqttClient, resumed: boolean) => Promise<void>
}

export const runSession = async (parts: SessionParts, signal: AbortSignal): Promise<Ended> => {
  const { host, gather, redelivery } = parts
  const { resolve: end, promise: over } = Promise.withResolvers<Pick<Ended, 'text' | 'code'>>()
  let resumed = false
  let acceptedMs: number | undefined
  const wire = createWire({
    socket: parts.connect(),
    version: parts.version,
    bodyBytesMax: messageBytesMax,
    sampleBytes: quarantineSampleBytesMax,
    resumed: (still) => {
      resumed = still
      redelivery.begin(still)
    },
    reading: gather.look,
    read: () => {
      if (gather.messages() > 0) commits.arrived()
    },
    publish: (message) => gather.add(message, message.packetId !== 0 && redelivery.seen(message)),
  })
  const commits = createCommits({
    ...parts,
    wire,
    failed: (error) => end({ text: `not stored: ${textOf(error)}`, code: undefined }),
  })
  const client = new MqttClient(() => wire.stream, {
    ...parts.login,
    protocolId: 'MQTT',
    protocolVersion: parts.version,
    reconnectPeriod: 0,
    resubscribe: false,
    connectTimeout: connectMsMax,
  })
  const accepted = async () => {
    acceptedMs = host.clock.monotonicMs()
    if (!resumed) await commits.forgetBefore()
    await parts.subscribe(client, resumed)
  }
  client.on('connect', () => {
    accepted().catch((error: unknown) => end({ text: textOf(error), code: undefined }))
  })
  client.on('disconnect', (packet) =>
    end({ text: 'the broker ended the session', code: packet.reasonCode }),
  )
  client.on('error', (error) =>
    end({ text: textOf(error), code: 'code' in error ? Number(error.code) : undefined }),
  )
  client.on('close', () => end({ text: 'the connection was closed', code: undefined }))
  const leave = () => end({ text: 'the agent ends', code: undefined })
  if (signal.aborted) leave()
  signal.addEventListener('abort', leave, { once: true })
  try {
    const why = await over
    await withinDrain(host, commits.settle(), signal)
    if (signal.aborted) await farewell(host, client)
    return {
      ...why,
      connectedMs: acceptedMs === undefined ? 0 : host.clock.monotonicMs() - acceptedMs,
    }
  } finally {
    signal.removeEventListener('abort', leave)
    client.end(true)
    wire.stream.destroy()
  }
}

/** Waits for `work`; when the agent ends no longer than `drainMsMax`. */
const withinDrain = async (host: Host, work: Promise<void>, signal: AbortSignal): Promise<void> => {
  const { resolve: giveUp, promise: tooLong } = Promise.withResolvers<void>()
  let cancel = () => {}
  const bound = () => {
    cancel = host.clock.after(drainMsMax, giveUp)
  }
  if (signal.aborted) bound()
  else signal.addEventListener('abort', bound, { once: true })
  await Promise.race([work, tooLong])
  signal.removeEventListener('abort', bound)
  cancel()
}
/** DISCONNECT, so that the broker need not find out by itself. */
const farewell = async (host: Host, client: MqttClient): Promise<void> => {
  if (!client.connected) return
  const { resolve: gone, promise } = Promise.withResolvers<void>()
  const cancel = host.clock.after(farewellMsMax, gone)
  client.end(false, {}, () => gone())
  await promise
  cancel()
}
