/** The demo's MQTT broker: aedes behind TLS with client certificates, in a process of its own. */
import { readFileSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { createServer } from 'node:tls'
import { Aedes } from 'aedes'

export interface BrokerOptions {
  readonly ca: string
  readonly cert: string
  readonly key: string
}

/** What of aedes its types leave out. */
interface Sent {
  readonly messageId?: number
  dup: boolean
}
interface Queues {
  readonly persistence: { outgoingStream: (client: unknown) => Readable }
}
/** aedes sends again without DUP what it sent before; MQTT-3.3.1-1 asks for the mark, and receivers rely on it. */
const markRedelivered = ({ persistence }: Queues): void => {
  const streamOf = persistence.outgoingStream.bind(persistence)
  persistence.outgoingStream = (client) =>
    streamOf(client).map((packet: Sent) => {
      if (packet.messageId !== undefined) packet.dup = true
      return packet
    })
}

/** Listens on a free loopback port and says so on stdout as one JSON line; ends with the process. */
export const runBroker = async (options: BrokerOptions): Promise<void> => {
  const broker = await Aedes.createBroker({ concurrency: 1_000, queueLimit: 1_000_000 })
  markRedelivered(broker as unknown as Queues)
  const server = createServer(
    {
      ca: readFileSync(options.ca),
      cert: readFileSync(options.cert),
      key: readFileSync(options.key),
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: 'TLSv1.3',
    },
    broker.handle,
  )
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  process.stdout.write(`${JSON.stringify({ port })}\n`)
  await new Promise<void>((resolve) => process.once('SIGTERM', resolve))
  broker.close()
  server.close()
}
