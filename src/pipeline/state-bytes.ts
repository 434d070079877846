/**
 * The saved state of a stage as bytes: a head with kind, version and checksum, then fields in the order they are put.
 *
 * Invariants: what is read is what was put, bit for bit; bytes of another kind or version, damaged ones, and a
 * read beyond the end throw RangeError: never a wrong state.
 * Layout: "HFst", u8 version, u8 kind, u32 CRC-32C of all behind it, the fields; little-endian.
 */
import { crc32c } from '../codec/crc32c.ts'
import type { SeriesEntry } from '../model.ts'

const magic = 0x7473_4648
const headBytes = 10
/** Far above what 200,000 series with 8 windows each take; no state is read beyond it. */
const stateBytesMax = 1024 * 1024 * 1024

export interface StateWriter {
  readonly byte: (value: number) => void
  readonly uint: (value: number) => void
  readonly float: (value: number) => void
  readonly id: (value: bigint) => void
  readonly text: (value: string) => void
  /** Bytes as they are, without their length. */
  readonly raw: (bytes: Uint8Array) => void
  readonly finish: () => Uint8Array
}
export interface StateReader {
  readonly byte: () => number
  readonly uint: () => number
  readonly float: () => number
  readonly id: () => bigint
  readonly text: () => string
  readonly raw: (length: number) => Uint8Array
}

export const createStateWriter = (kind: number, version: number): StateWriter => {
  let bytes = new Uint8Array(4096)
  let view = new DataView(bytes.buffer)
  let length = headBytes
  const room = (more: number): number => {
    const at = length
    length += more
    if (length > bytes.length) {
      const larger = new Uint8Array(Math.max(length, bytes.length * 2))
      larger.set(bytes)
      bytes = larger
      view = new DataView(bytes.buffer)
    }
    return at
  }
  const raw = (added: Uint8Array) => {
    const at = room(added.length)
    bytes.set(added, at)
  }
  const uint = (value: number) => {
    const at = room(4)
    view.setUint32(at, value, true)
  }
  return {
    byte: (value) => {
      const at = room(1)
      bytes[at] = value
    },
    uint,
    float: (value) => {
      const at = room(8)
      view.setFloat64(at, value, true)
    },
    id: (value) => {
      const at = room(8)
      view.setBigUint64(at, value, true)
    },
    text: (value) => {
      // UTF-16: a string of the codec may hold lone surrogates, which UTF-8 would lose.
      const encoded = Buffer.from(value, 'utf16le')
      uint(encoded.length)
      raw(encoded)
    },
    raw,
    finish: () => {
      view.setUint32(0, magic, true)
      bytes[4] = version
      bytes[5] = kind
      view.setUint32(6, crc32c(bytes.subarray(headBytes, length)), true)
      return bytes.slice(0, length)
    },
  }
}

export const openState = (state: Uint8Array, kind: number, version: number): StateReader => {
  // A Buffer (what a database gives) would answer `slice` with a view, at any alignment, instead of a copy.
  const bytes = new Uint8Array(state.buffer, state.byteOffset, state.length)
  const refuse = (): never => {
    throw new RangeError('not a state of this stage')
  }
  if (bytes.length < headBytes || bytes.length > stateBytesMax) refuse()
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  if (view.getUint32(0, true) !== magic || bytes[4] !== version || bytes[5] !== kind) refuse()
  if (view.getUint32(6, true) !== crc32c(bytes.subarray(headBytes))) refuse()
  let at = headBytes
  const take = (length: number): number => {
    if (!(length <= bytes.length - at)) throw new RangeError('state ends early')
    const from = at
    at += length
    return from
  }
  const uint = () => view.getUint32(take(4), true)
  const raw = (length: number) => bytes.subarray(take(length), at)
  return {
    byte: () => bytes[take(1)] as number,
    uint,
    float: () => view.getFloat64(take(8), true),
    id: () => view.getBigUint64(take(8), true),
    text: () => Buffer.from(raw(uint())).toString('utf16le'),
    raw,
  }
}

export const putEntry = (to: StateWriter, entry: SeriesEntry): void => {
  to.id(entry.id)
  to.text(entry.name)
  to.text(entry.unit)
  to.uint(entry.tags.length)
  for (const [name, value] of entry.tags) {
    to.text(name)
    to.text(value)
  }
}
export const takeEntry = (from: StateReader): SeriesEntry => {
  const id = from.id()
  const name = from.text()
  const unit = from.text()
  const count = from.uint()
  const tags: (readonly [string, string])[] = []
  for (let at = 0; at < count; at++) tags.push([from.text(), from.text()])
  return { id, name, unit, tags }
}
