/**
 * A request's body, whole and unpacked, within bounds.
 *
 * Invariants: no byte is held that the budget has not granted; nothing is unpacked beyond `messageRawBytesMax`, and
 * one body at a time; a body that ends early is never looked at.
 */
import type { IncomingMessage } from 'node:http'
import { promisify } from 'node:util'
import { gunzip, inflate, zstdDecompress } from 'node:zlib'
import { messageBytesMax, messageRawBytesMax } from '../limits.ts'

export interface Budget {
  readonly take: (bytes: number) => boolean
  readonly free: (bytes: number) => void
  readonly used: () => number
}
export const createBudget = (bytesMax: number): Budget => {
  let used = 0
  return {
    take: (bytes) => {
      if (used + bytes > bytesMax) return false
      used += bytes
      return true
    },
    free: (bytes) => {
      used -= bytes
    },
    used: () => used,
  }
}

export type BodyTrouble = 'too-big' | 'busy' | 'unknown-encoding' | 'not-readable' | 'cut-off'
export type Body =
  | {
      readonly kind: 'body'
      readonly bytes: Uint8Array
      /** Gives the body's share of the budget back. */
      readonly release: () => void
    }
  | { readonly kind: BodyTrouble }

export interface BodyReader {
  readonly read: (request: IncomingMessage) => Promise<Body>
}
type Unpack = (packed: Uint8Array, options: { maxOutputLength: number }) => Promise<Uint8Array>
const unpackers = new Map<string, Unpack>([
  ['gzip', promisify(gunzip)],
  ['x-gzip', promisify(gunzip)],
  ['deflate', promisify(inflate)],
  ['zstd', promisify(zstdDecompress)],
])

export const createBodyReader = (budget: Budget): BodyReader => {
  let unpacking: Promise<unknown> = Promise.resolve()
  /** One after the other: their size is known only afterwards. */
  const inTurn = (unpack: Unpack, packed: Uint8Array): Promise<Uint8Array> => {
    const turn = unpacking.then(() => unpack(packed, { maxOutputLength: messageRawBytesMax }))
    unpacking = turn.catch(() => {})
    return turn
  }
  return {
    read: async (request) => {
      const encoding = (request.headers['content-encoding'] ?? 'identity').trim().toLowerCase()
      const unpack = unpackers.get(encoding)
      if (unpack === undefined && encoding !== 'identity') return { kind: 'unknown-encoding' }
      const packed = await collect(request, budget)
      if (packed.kind !== 'body' || unpack === undefined) return packed
      try {
        const bytes = await inTurn(unpack, packed.bytes)
        if (!budget.take(bytes.length)) return { kind: 'busy' }
        return { kind: 'body', bytes, release: () => budget.free(bytes.length) }
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException
        return { kind: code === 'ERR_BUFFER_TOO_LARGE' ? 'too-big' : 'not-readable' }
      } finally {
        packed.release()
      }
    },
  }
}

const collect = (request: IncomingMessage, budget: Budget): Promise<Body> =>
  new Promise((resolve) => {
    const parts: Buffer[] = []
    let length = 0
    const release = () => budget.free(length)
    const settle = (body: Body) => {
      request.off('data', onData)
      request.off('end', onEnd)
      request.off('close', onClose)
      request.off('error', onClose)
      if (body.kind !== 'body') release()
      // What still comes is thrown away, so that the answer can be read; the request's deadline ends it.
      request.resume()
      resolve(body)
    }
    const onData = (part: Buffer) => {
      if (length + part.length > messageBytesMax) return settle({ kind: 'too-big' })
      if (!budget.take(part.length)) return settle({ kind: 'busy' })
      length += part.length
      parts.push(part)
    }
    const onEnd = () => {
      const [only] = parts
      const bytes = parts.length === 1 && only !== undefined ? only : Buffer.concat(parts, length)
      settle({ kind: 'body', bytes, release })
    }
    const onClose = () => settle({ kind: 'cut-off' })
    if (Number(request.headers['content-length'] ?? 0) > messageBytesMax) {
      return settle({ kind: 'too-big' })
    }
    request.on('data', onData)
    request.on('end', onEnd)
    request.on('close', onClose)
    request.on('error', onClose)
  })
