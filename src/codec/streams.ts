/**
 * The byte streams of a body while it is being written, and the cursors over them while it is being read.
 * Invariants: a sink only grows; a cursor never reads past its end (Failure HF-K006), whatever the bytes say.
 */
import { Failure } from '../errors.ts'

export const malformed = (text: string): Failure =>
  new Failure('HF-K006', `segment body is malformed: ${text}`)

/** Bytes being written; `bytes` is replaced when it grows. */
export interface Sink {
  bytes: Uint8Array
  length: number
}
/** Bits being written, low bit first: `held` has the `heldBits` (< 8) that do not fill a byte yet. */
export interface BitSink extends Sink {
  held: number
  heldBits: number
}
/** Bytes being read. */
export interface Cursor {
  bytes: Uint8Array
  at: number
}
/** Bits being read: `at` counts bits; `bytes` has 8 spare zero bytes behind `bits`. */
export interface BitCursor extends Cursor {
  bits: number
}

export const createSink = (capacity: number): Sink => ({
  bytes: new Uint8Array(capacity),
  length: 0,
})

/** Texts may be many megabytes; what one segment needed is not kept for all others. */
const sinkKeptBytesMax = 1024 * 1024
/** Begins again, in the bytes that are there. */
export const emptySink = (sink: Sink): void => {
  if (sink.bytes.length > sinkKeptBytesMax) sink.bytes = new Uint8Array(1024)
  sink.length = 0
}

/** Room for `more` bytes behind what is there. */
export const reserve = (sink: Sink, more: number): void => {
  const needed = sink.length + more
  if (needed <= sink.bytes.length) return
  const grown = new Uint8Array(Math.max(needed, sink.bytes.length * 2))
  grown.set(sink.bytes.subarray(0, sink.length))
  sink.bytes = grown
}
export const putByte = (sink: Sink, byte: number): void => {
  if (sink.length === sink.bytes.length) reserve(sink, 1)
  sink.bytes[sink.length++] = byte
}
/** LEB128 of a whole number from 0 to 2^53. */
export const putVarint = (sink: Sink, number: number): void => {
  let rest = number
  for (; rest >= 128; rest = Math.floor(rest / 128)) putByte(sink, (rest % 128) | 128)
  putByte(sink, rest)
}
/** The low `count` bits of the 64-bit number hi·2^32 + lo; the caller has reserved 9 bytes. */
export const putBits = (sink: BitSink, hi: number, lo: number, count: number): void => {
  const { bytes } = sink
  let { held, heldBits, length } = sink
  let low = lo
  let high = hi
  for (let left = count; left > 0; left -= 24) {
    const take = left < 24 ? left : 24
    held |= (low & ((1 << take) - 1)) << heldBits
    heldBits += take
    for (; heldBits >= 8; heldBits -= 8) {
      bytes[length++] = held
      held >>>= 8
    }
    low = (low >>> 24) | (high << 8)
    high >>>= 24
  }
  sink.held = held
  sink.heldBits = heldBits
  sink.length = length
}
export const endBits = (sink: BitSink): void => {
  if (sink.heldBits > 0) putByte(sink, sink.held)
  sink.held = 0
  sink.heldBits = 0
}

export const takeByte = (cursor: Cursor): number => {
  const byte = cursor.bytes[cursor.at++]
  if (byte === undefined) throw malformed('a stream ends early')
  return byte
}
export const takeVarint = (cursor: Cursor): number => {
  let number = 0
  for (let factor = 1; factor < 2 ** 56; factor *= 128) {
    const byte = takeByte(cursor)
    number += (byte & 127) * factor
    if (byte < 128) return number
  }
  throw malformed('a number is too long')
}
/** `count` <= 16 bits, known to be there. */
const take16 = (cursor: BitCursor, count: number): number => {
  const { bytes } = cursor
  const at = cursor.at >>> 3
  const word =
    (bytes[at] as number) | ((bytes[at + 1] as number) << 8) | ((bytes[at + 2] as number) << 16)
  const bits = (word >>> (cursor.at & 7)) & ((1 << count) - 1)
  cursor.at += count
  return bits
}
/** The words of the 64-bit number last read by `takeBits`: a tuple would be an allocation a point. */
export const taken = { hi: 0, lo: 0 }
export const takeBits = (cursor: BitCursor, count: number): void => {
  taken.hi = 0
  taken.lo = 0
  if (cursor.at + count > cursor.bits) throw malformed('the bits end early')
  for (let done = 0; done < count; done += 16) {
    const part = take16(cursor, Math.min(16, count - done))
    if (done < 32) taken.lo |= part << done
    else taken.hi |= part << (done - 32)
  }
}
