/**
 * The stream between mqtt.js and the broker. mqtt.js says hello, subscribes and pings through it; PUBLISH never
 * reaches mqtt.js but is handed to the source, which acks here whenever its points are durable. Only mqtt.js's
 * public `streamBuilder` is used.
 *
 * Invariants: acks go out in whole packets between mqtt.js's own; an ack never outlives its connection; while
 * reading is held back mqtt.js's pings still go out and are answered here, since the broker's answers stand
 * behind what is not read; `probe` answers only after the broker has processed every ack written before it.
 */

import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { createFrameSplitter, type Publish } from './mqtt-frames.ts'

export interface Wire {
  /** For mqtt.js. Its `close` is the end of the connection. */
  readonly stream: Duplex
  readonly ack: (packetIds: readonly number[]) => void
  /**
   * `answered` is called once the broker has processed everything written so far, unless the
   * connection dies first.
   */
  readonly probe: (answered: () => void) => void
  /** Stop taking from the socket, or go on. */
  readonly hold: (held: boolean) => void
}
export interface WireParts {
  readonly socket: Socket
  readonly version: 4 | 5
  readonly bodyBytesMax: number
  readonly sampleBytes: number
  /** CONNACK said whether the broker still has our session: before the first message. */
  readonly resumed: (resumed: boolean) => void
  /** Before the packets of one read are handed over, and after. */
  readonly reading: () => void
  readonly read: () => void
  readonly publish: (publish: Publish) => void
}

const pingRequest = Buffer.of(0xc0, 0)
const pingAnswer = Buffer.of(0xd0, 0)
const connackType = 2
const pingAnswerType = 13

export const createWire = (parts: WireParts): Wire => {
  const { socket } = parts
  /** Pings under way in the order they were written; the broker answers in that order. */
  const pings: ((() => void) | 'passOn' | 'swallow')[] = []
  let held = false
  const takeOther = (packet: Buffer) => {
    const type = (packet[0] as number) >> 4
    if (type === connackType && packet.length >= 4) {
      // Flags follow the header; mqtt.js judges the return code.
      parts.resumed(((packet[2] as number) & 1) === 1)
    }
    if (type === pingAnswerType) {
      const ping = pings.shift()
      if (ping === 'swallow') return
      if (typeof ping === 'function') return ping()
    }
    stream.push(Buffer.from(packet))
  }
  const splitter = createFrameSplitter(parts.version, parts.bodyBytesMax, parts.sampleBytes, {
    publish: parts.publish,
    other: takeOther,
  })
  /** Sees mqtt.js's packets go by, for its pings; CONNECT, SUBSCRIBE and the like are small. */
  const outgoing = createFrameSplitter(parts.version, 0, 0, {
    publish: () => {},
    other: (packet) => {
      if (packet[0] !== pingRequest[0]) return
      pings.push(held ? 'swallow' : 'passOn')
      if (held) stream.push(pingAnswer)
    },
  })
  const write = (data: Buffer) => {
    outgoing.push(data)
    socket.write(data)
  }
  const stream = new Duplex({
    // What mqtt.js gets are a few small packets: it need not hold them back.
    read: () => {},
    write: (data: Buffer, _encoding, done) => {
      write(data)
      done()
    },
    writev: (pieces, done) => {
      write(Buffer.concat(pieces.map(({ chunk }) => chunk as Buffer)))
      done()
    },
    final: (done) => {
      socket.end()
      done()
    },
    destroy: (error, done) => {
      socket.destroy()
      done(error)
    },
  })
  socket.setNoDelay(true)
  socket.on('data', (data: Buffer) => {
    parts.reading()
    const broken = splitter.push(data)
    parts.read()
    if (broken !== undefined) stream.destroy(new Error(`the broker sent ${broken}`))
  })
  socket.on('error', (error) => stream.destroy(error))
  socket.on('close', () => stream.destroy())
  return {
    stream,
    ack: (packetIds) => {
      if (packetIds.length === 0 || !socket.writable) return
      const packets = Buffer.allocUnsafe(packetIds.length * 4)
      packetIds.forEach((id, at) => {
        packets.writeUInt32BE(0x40_02_00_00 + id, at * 4)
      })
      socket.write(packets)
    },
    probe: (answered) => {
      if (!socket.writable) return
      pings.push(answered)
      socket.write(pingRequest)
    },
    hold: (hold) => {
      if (hold === held) return
      held = hold
      if (!held) {
        socket.resume()
        return
      }
      socket.pause()
      pings.forEach((ping, at) => {
        if (ping !== 'passOn') return
        pings[at] = 'swallow'
        stream.push(pingAnswer)
      })
    },
  }
}
