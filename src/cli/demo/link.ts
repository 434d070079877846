/**
 * The demo's wide-area link: a TCP relay between agent and region that can be cut and healed, counts its bytes, and may
 * be as thin as a cellular one.
 * Invariant: with a rate, no more than rate × span plus one packet goes up over any span, all connections together.
 */
import { connect, createServer, type Socket } from 'node:net'
import type { Clock } from '../../host.ts'

export interface Link extends AsyncDisposable {
  readonly port: number
  /** Bytes that went from the agent to the region, TLS and all. */
  readonly bytesUp: () => number
  readonly isUp: () => boolean
  readonly cut: () => void
  readonly heal: () => void
}

export interface Thin {
  readonly clock: Pick<Clock, 'monotonicMs' | 'sleep'>
  readonly bitsPerSecond: number
}

const packetBytes = 1_460

/** Resolves when so many bytes have passed at the rate. */
const createBucket = ({ clock, bitsPerSecond }: Thin) => {
  let freeAtMs = 0
  return async (bytes: number): Promise<void> => {
    const nowMs = clock.monotonicMs()
    freeAtMs = Math.max(nowMs, freeAtMs) + (bytes * 8_000) / bitsPerSecond
    await clock.sleep(freeAtMs - nowMs)
  }
}
/** What comes from one side goes to the other, in order; a side that ends or breaks ends the other. */
const carry = async (
  from: Socket,
  to: Socket,
  pass: (part: Buffer) => Promise<void>,
): Promise<void> => {
  try {
    for await (const data of from as AsyncIterable<Buffer>) {
      for (let at = 0; at < data.length; at += packetBytes) {
        const part = data.subarray(at, at + packetBytes)
        await pass(part)
        to.write(part)
      }
    }
    to.end()
  } catch {
    to.destroy()
  }
}

/** As fast as the machine, unless it is a thin one. */
export const openLink = async (regionPort: number, thin?: Thin): Promise<Link> => {
  let up = true
  let bytesUp = 0
  const sockets = new Set<Socket>()
  const take = thin && createBucket(thin)
  const upwards = async (part: Buffer) => {
    await take?.(part.length)
    bytesUp += part.length
  }
  const downwards = async () => {}
  const server = createServer((near) => {
    near.on('error', () => {})
    if (!up) return near.destroy()
    const far = connect(regionPort, '127.0.0.1')
    far.on('error', () => {})
    for (const socket of [near, far]) {
      sockets.add(socket)
      socket.once('close', () => sockets.delete(socket))
    }
    near.once('close', () => far.destroy())
    far.once('close', () => near.destroy())
    void carry(near, far, upwards)
    void carry(far, near, downwards)
    return undefined
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  const cut = () => {
    up = false
    for (const socket of sockets) socket.destroy()
  }
  return {
    port,
    bytesUp: () => bytesUp,
    isUp: () => up,
    cut,
    heal: () => {
      up = true
    },
    [Symbol.asyncDispose]: async () => {
      cut()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
