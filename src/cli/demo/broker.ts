/** The demo's MQTT broker: aedes behind TLS with client certificates, in a process of its own. */
import { readFileSync } from 'node:fs'
import { createServer } from 'node:tls'
import { Aedes } from 'aedes'

export interface BrokerOptions {
  readonly ca: string
  readonly cert: string
  readonly key: string
}

/** Listens on a free loopback port and says so on stdout as one JSON line; ends with the process. */
export const runBroker = async (options: BrokerOptions): Promise<void> => {
  const broker = await Aedes.createBroker({ concurrency: 1_000, queueLimit: 1_000_000 })
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
