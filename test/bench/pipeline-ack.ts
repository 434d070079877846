/**
 * How long a message waits for its ack at 100,000 points a second: the publisher writes the time into it, and a tap on
 * the wire between mosquitto and the agent sees the agent's PUBACK, which leaves only after the commit. The whole way
 * behind it runs too. The broker answers its publishers itself, so their own acks would say nothing of the agent.
 */
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import mqttPacket from 'mqtt-packet'
import type { TestCertificates } from '../support/certificates.ts'
import { type Postgres, startMosquitto } from '../support/servers.ts'
import { countFrom, createRig, percentile } from './rig.ts'

const fields = 10
const messagesPerSecond = 10_000
const seconds = countFrom('HOLDFAST_BENCH_ACK_SECONDS', 15)
/** The first seconds warm the agent up and are not counted. */
const warmSeconds = 3
const devices = 100

/** Calls `take` with each whole MQTT packet; what is begun waits for the rest. */
const packetsOf = (take: (packet: Buffer) => void) => {
  let rest: Buffer = Buffer.alloc(0)
  return (data: Buffer) => {
    const bytes = rest.length === 0 ? data : Buffer.concat([rest, data])
    let at = 0
    for (;;) {
      let [length, shift, head] = [0, 0, at + 1]
      for (; head < bytes.length; shift += 7) {
        const byte = bytes[head++] as number
        length |= (byte & 127) << shift
        if (byte < 128) break
        if (head === bytes.length) head++
      }
      if (head > bytes.length || head === at + 1 || head + length > bytes.length) break
      take(bytes.subarray(at, head + length))
      at = head + length
    }
    rest = bytes.subarray(at)
  }
}

interface Tap {
  readonly port: number
  readonly waitsMs: number[]
  readonly unanswered: () => number
  readonly close: () => void
}
/** A wire to the broker that notes when each PUBLISH was written by its publisher and when its PUBACK passes. */
const openTap = async (brokerPort: number, nowMs: () => number): Promise<Tap> => {
  const waitsMs: number[] = []
  const sentMs = new Map<number, number>()
  const sockets = new Set<Socket>()
  const server = createServer((agent) => {
    const broker = connect(brokerPort, '127.0.0.1')
    for (const socket of [agent, broker]) {
      socket.setNoDelay(true)
      socket.on('error', () => {})
      sockets.add(socket)
    }
    agent.on('close', () => broker.destroy())
    broker.on('close', () => agent.destroy())
    const down = packetsOf((packet) => {
      if ((packet[0] as number) >> 4 !== 3) return
      // The id stands behind the topic; both behind the packet's length of one to four bytes.
      let at = 1
      while ((packet[at++] as number) >= 128);
      at += 2 + packet.readUInt16BE(at)
      const text = packet.toString('latin1', at, Math.min(packet.length, at + 40))
      sentMs.set(packet.readUInt16BE(at), Number(/"ts":([\d.]+)/.exec(text)?.[1]))
    })
    const up = packetsOf((packet) => {
      if ((packet[0] as number) >> 4 !== 4) return
      const id = packet.readUInt16BE(2)
      const since = sentMs.get(id)
      if (since === undefined) return
      sentMs.delete(id)
      waitsMs.push(nowMs() - since)
    })
    broker.on('data', (data: Buffer) => {
      agent.write(data)
      down(data)
    })
    agent.on('data', (data: Buffer) => {
      broker.write(data)
      up(data)
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as { port: number }).port,
    waitsMs,
    unanswered: () => sentMs.size,
    close: () => {
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  }
}

const openPublisher = async (port: number): Promise<Socket> => {
  const socket = connect(port, '127.0.0.1')
  socket.setNoDelay(true)
  const [cmd, clientId, protocolId] = ['connect', 'bench-publisher', 'MQTT'] as const
  const hello = {
    cmd,
    clientId,
    protocolId,
    protocolVersion: 4,
    clean: true,
    keepalive: 0,
  } as const
  socket.write(mqttPacket.generate(hello))
  await once(socket, 'data')
  socket.resume()
  return socket
}

/** A steady stream, a few messages every few milliseconds; what a busy machine kept it from sending is not made up for. */
const publish = async (socket: Socket, nowMs: () => number): Promise<number> => {
  const startMs = nowMs()
  let at = 0
  for (let lastMs = startMs; nowMs() - startMs < seconds * 1000; ) {
    await sleep(4)
    const elapsedMs = Math.min(100, nowMs() - lastMs)
    lastMs = nowMs()
    const batch: Buffer[] = []
    for (let left = Math.round((elapsedMs * messagesPerSecond) / 1000); left > 0; left--, at++) {
      // Sixteenths of a microsecond keep the times of one device apart.
      const ts = (nowMs() + left / 1e4).toFixed(4)
      const values = Array.from({ length: fields }, (_, no) => `"v${no}":${(at + no) % 997}.25`)
      batch.push(
        mqttPacket.generate({
          cmd: 'publish',
          topic: `plant/line${at % 10}/device${at % devices}/state`,
          payload: `{"ts":${ts},${values.join(',')}}`,
          ...{ qos: 1, messageId: 1 + (at % 65_000), dup: false, retain: false },
        }),
      )
    }
    socket.write(Buffer.concat(batch))
  }
  return at
}

export const measureAcks = async (postgres: Postgres, certificates: TestCertificates) => {
  const nowMs = () => performance.timeOrigin + performance.now()
  const broker = await startMosquitto({ quiet: true })
  const tap = await openTap(broker.port, nowMs)
  const mqtt = {
    ...{ name: 'mqtt', type: 'mqtt', url: `mqtt://127.0.0.1:${tap.port}`, version: '3.1.1' },
    subscribe: [{ topic: 'plant/#', time: 'ts', time_unit: 'ms' }],
  }
  const rig = await createRig({ sources: [mqtt], postgres, certificates, name: 'bench-ack' })
  const regional = await rig.startRegional()
  const agent = await rig.startAgent()
  try {
    await sleep(1_500)
    const publisher = await openPublisher(broker.port)
    const startMs = nowMs()
    const warm = sleep(warmSeconds * 1000).then(() => tap.waitsMs.splice(0))
    const messages = await publish(publisher, nowMs)
    const elapsed = (nowMs() - startMs) / 1000
    await warm
    await sleep(500)
    publisher.destroy()
    if (tap.waitsMs.length < messages / 10)
      throw new Error(
        `${tap.waitsMs.length} acks of ${messages} messages, ${tap.unanswered()} waiting:\n${agent.output().slice(-2_000)}`,
      )
    return {
      ack_ms_p50: percentile(tap.waitsMs, 0.5),
      ack_ms_p99: percentile(tap.waitsMs, 0.99),
      ack_points_per_s: Math.round((messages * fields) / elapsed),
    }
  } finally {
    await agent.stop()
    await regional.stop()
    tap.close()
    await broker.stop()
  }
}
