/**
 * MQTT intake, durable: a real mosquitto, QoS 1, each message acked after the commit into a real spool; the CPU time of
 * the subscriber's process alone (all threads: receiving, mapping, worker, codec, SQLite) is what counts. Baseline in
 * the same run: mqtt.js with JSON.parse and no storage. Version 5 has mosquitto's
 * default window of 20 unacked messages, which 2.0.11 does not apply to 3.1.1 once acks flow.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import mqtt from 'mqtt'
import mqttPacket from 'mqtt-packet'
import { startMosquitto } from '../support/servers.ts'

const devices = 200
const messagesWarm = 20_000
const messagesMeasured = 80_000

/** One message: `fields` values with two decimals and a time in ms, about 60 bytes with one field. */
const messageOf = (fields: number, at: number): { topic: string; payload: string } => {
  const device = at % devices
  const second = Math.floor(at / devices)
  const pairs = Array.from(
    { length: fields },
    (_, field) =>
      `"value${field}":${(20 + ((device * 7 + second * 3 + field) % 997) / 100).toFixed(2)}`,
  )
  return {
    topic: `plant/line${device % 10}/device${device}/state`,
    payload: `{"ts":${1_700_000_000_000 + second * 1000 + device},${pairs.join(',')}}`,
  }
}

/** Publishes at QoS 1 over a bare socket, as fast as the broker takes it; the acks are not waited for one by one. */
const publish = async (port: number, fields: number, from: number, count: number) => {
  const socket = connect(port, '127.0.0.1')
  socket.write(
    mqttPacket.generate({
      cmd: 'connect',
      clientId: `publisher-${from}`,
      protocolId: 'MQTT',
      protocolVersion: 4,
      clean: true,
      keepalive: 0,
    }),
  )
  await once(socket, 'data')
  let acks = 0
  let batch: Buffer[] = []
  const { promise, resolve } = Promise.withResolvers<void>()
  socket.on('data', (data) => {
    acks += data.length / 4
    if (acks >= count) resolve()
  })
  for (let at = from; at < from + count; at++) {
    batch.push(
      mqttPacket.generate({
        cmd: 'publish',
        ...messageOf(fields, at),
        qos: 1,
        messageId: 1 + (at % 65_000),
        dup: false,
        retain: false,
      }),
    )
    if (batch.length < 50) continue
    if (!socket.write(Buffer.concat(batch))) await once(socket, 'drain')
    batch = []
    // What is under way stays bounded, so that the broker need not queue without end.
    while (at - from - acks > 2_000) await once(socket, 'data')
  }
  socket.write(Buffer.concat(batch))
  await promise
  socket.destroy()
}

interface Look {
  readonly latenciesMs: readonly number[]
  readonly cpuUs: number
  readonly points: number
}
interface Subscriber {
  readonly port: number
  readonly look: () => Promise<Look>
  /** Waits until so many points were stored. */
  readonly reach: (points: number) => Promise<Look>
}
type Mode = 'plain' | 'holdfast' | 'latency'
type Version = '3.1.1' | '5'
const withSubscriber = async <T>(
  mode: Mode,
  version: Version,
  work: (subscriber: Subscriber) => Promise<T>,
): Promise<T> => {
  const broker = await startMosquitto({ quiet: true })
  const program = new URL('./intake-mqtt-subscriber.ts', import.meta.url)
  const child = fork(program, [mode, broker.url, 'plant/#', version])
  const gone = once(child, 'exit').then(() => Promise.reject(new Error('the subscriber has ended')))
  gone.catch(() => {})
  const heard = () => Promise.race([once(child, 'message'), gone])
  const look = async (): Promise<Look> => {
    child.send('look')
    return ((await heard()) as [Look])[0]
  }
  const reach = async (points: number): Promise<Look> => {
    for (;;) {
      const now = await look()
      if (now.points >= points) return now
      await sleep(50)
    }
  }
  try {
    await heard()
    await sleep(300)
    return await work({ port: broker.port, look, reach })
  } finally {
    if (child.connected) {
      child.disconnect()
      await once(child, 'exit')
    }
    await broker.stop()
  }
}

const measure = (mode: Mode, fields: number, version: Version) =>
  withSubscriber(mode, version, async ({ port, reach }) => {
    await publish(port, fields, 0, messagesWarm)
    const before = await reach(messagesWarm * fields)
    const startMs = performance.now()
    await publish(port, fields, messagesWarm, messagesMeasured)
    const after = await reach((messagesWarm + messagesMeasured) * fields)
    const cpuUs = after.cpuUs - before.cpuUs
    return {
      kmsgPerCpuS: (messagesMeasured * 1e3) / cpuUs,
      mptsPerCpuS: (messagesMeasured * fields) / cpuUs,
      kmsgPerS: messagesMeasured / (performance.now() - startMs),
    }
  })

/** Publish → durable and acked, with messages coming evenly: 20 every 10 ms. */
const measureLatency = (version: Version) =>
  withSubscriber('latency', version, async ({ port, reach }) => {
    const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${port}`)
    const messages = 6_000
    for (let at = 0; at < messages; at++) {
      const ts = performance.timeOrigin + performance.now()
      client.publish(`plant/a/device${at % devices}/state`, `{"ts":${ts},"value0":1.5}`, { qos: 1 })
      if (at % 20 === 19) await sleep(10)
    }
    const { latenciesMs } = await reach(messages)
    await client.endAsync()
    const sorted = latenciesMs.toSorted((a, b) => a - b)
    const at = (share: number) => sorted[Math.floor(sorted.length * share)] ?? Number.NaN
    return { p50: at(0.5), p99: at(0.99) }
  })

export const bench = async () => {
  const plain = await measure('plain', 1, '3.1.1')
  const one = await measure('holdfast', 1, '3.1.1')
  const ten = await measure('holdfast', 10, '3.1.1')
  const one5 = await measure('holdfast', 1, '5')
  const latency = await measureLatency('3.1.1')
  const latency5 = await measureLatency('5')
  return {
    mqtt_1pt_kmsg_per_cpu_s: one.kmsgPerCpuS,
    mqtt_10pt_mpts_per_cpu_s: ten.mptsPerCpuS,
    mqtt_1pt_plain_kmsg_per_cpu_s: plain.kmsgPerCpuS,
    mqtt_1pt_ratio_to_plain: one.kmsgPerCpuS / plain.kmsgPerCpuS,
    mqtt_1pt_kmsg_per_s: one.kmsgPerS,
    mqtt_1pt_plain_kmsg_per_s: plain.kmsgPerS,
    mqtt5_1pt_kmsg_per_cpu_s: one5.kmsgPerCpuS,
    mqtt5_1pt_kmsg_per_s: one5.kmsgPerS,
    mqtt_ack_ms_p50: latency.p50,
    mqtt_ack_ms_p99: latency.p99,
    mqtt5_ack_ms_p50: latency5.p50,
    mqtt5_ack_ms_p99: latency5.p99,
  }
}
