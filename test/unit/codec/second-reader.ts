/**
 * A second reader of segments, made from docs/formats/segment.md alone and for plainness, not for speed: it imports
 * nothing of the codec. Where the two readers disagree, the document, this file or the codec is wrong.
 */
import { zstdDecompressSync } from 'node:zlib'

export interface ReadPoint {
  readonly series: number
  readonly timeUs: number
  readonly kind: number
  readonly quality: number
  readonly bits: bigint
  readonly text: string | null
}
export interface ReadSegment {
  readonly header: Readonly<Record<string, string | number>>
  readonly points: readonly ReadPoint[]
}

const mask64 = (1n << 64n) - 1n
const unzigzag = (z: bigint): bigint => ((z & 1n) === 0n ? z >> 1n : -((z + 1n) >> 1n))
const assert = (good: boolean, text: string): void => {
  if (!good) throw new Error(text)
}

/** Bit by bit, from the polynomial. */
const crc32c = (bytes: Uint8Array): number => {
  let crc = 0xffff_ffff
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f6_3b78 : crc >>> 1
  }
  return ~crc >>> 0
}

/** One lz4 block. */
const lz4 = (block: Uint8Array, rawBytes: number): Uint8Array => {
  const out = new Uint8Array(rawBytes)
  let from = 0
  let to = 0
  const more = (start: number): number => {
    let length = start
    if (start === 15) {
      let byte: number
      do {
        byte = block[from++] as number
        length += byte
      } while (byte === 255)
    }
    return length
  }
  while (from < block.length) {
    const token = block[from++] as number
    const literals = more(token >> 4)
    out.set(block.subarray(from, from + literals), to)
    from += literals
    to += literals
    if (from >= block.length) break
    const offset = (block[from] as number) | ((block[from + 1] as number) << 8)
    from += 2
    const length = more(token & 15) + 4
    for (let i = 0; i < length; i++, to++) out[to] = out[to - offset] as number
  }
  assert(to === rawBytes, 'an lz4 block is of another size')
  return out
}

class Stream {
  readonly bytes: Uint8Array
  at = 0
  constructor(bytes: Uint8Array) {
    this.bytes = bytes
  }
  byte(): number {
    assert(this.at < this.bytes.length, 'a stream ends early')
    return this.bytes[this.at++] as number
  }
  varint(): bigint {
    let number = 0n
    for (let shift = 0n; ; shift += 7n) {
      const byte = this.byte()
      number |= BigInt(byte & 127) << shift
      if (byte < 128) return number
    }
  }
  /** As a string of bits; `at` counts bits. */
  bits(count: number): bigint {
    let number = 0n
    for (let i = 0; i < count; i++, this.at++) {
      const bit = ((this.bytes[this.at >> 3] as number) >> (this.at & 7)) & 1
      number |= BigInt(bit) << BigInt(i)
    }
    return number
  }
}

const names = ['modes', 'shapes', 'params', 'firsts', 'tokens', 'bits', 'texts'] as const
type Streams = Record<(typeof names)[number], Stream>

const openStreams = (body: Uint8Array, compressor: number, rawTotal: number): Streams => {
  const table = new Stream(body)
  const sizes = names.map((name) => {
    const raw = Number(table.varint())
    return { name, raw, stored: raw === 0 ? 0 : Number(table.varint()) }
  })
  assert(sizes.reduce((sum, { raw }) => sum + raw, 0) === rawTotal, 'raw sizes do not add up')
  let at = table.at
  const streams = sizes.map(({ name, raw, stored }) => {
    const bytes = body.subarray(at, at + stored)
    at += stored
    if (stored === raw) return [name, new Stream(bytes)] as const
    const opened = compressor === 1 ? lz4(bytes, raw) : new Uint8Array(zstdDecompressSync(bytes))
    assert(opened.length === raw, 'a stream is of another size')
    return [name, new Stream(opened)] as const
  })
  assert(at === body.length, 'something lies behind the streams')
  return Object.fromEntries(streams) as Streams
}

const token = (from: Stream, bits: Stream, shift: number): bigint => {
  const t = from.byte()
  const top = t < 16 ? t : 4 + (t % 4)
  const width = t < 16 ? shift : shift + 2 + Math.floor((t - 16) / 4)
  return (BigInt(top) << BigInt(width)) | bits.bits(width)
}
const first = ({ firsts, bits }: Streams): bigint => unzigzag(token(firsts, bits, 0))

const restored = (predictor: number, zs: readonly bigint[]): bigint[] => {
  if (predictor === 0) return [...zs]
  const ys = [0n]
  let slope = 0n
  let mean = 0
  for (const z of zs) {
    const r = unzigzag(z)
    const before = ys.at(-1) as bigint
    if (predictor === 1) ys.push(before + r)
    else if (predictor === 2) {
      slope += r
      ys.push(before + slope)
    } else {
      const y = BigInt(Math.floor(mean + 0.5)) + r
      mean += (Number(y) - mean) * 0.25
      ys.push(y)
    }
  }
  return ys
}

const integers = (streams: Streams, n: number): bigint[] => {
  if (n === 0) return []
  if (n === 1) return [first(streams)]
  const { shapes, params, tokens, bits } = streams
  const shape = shapes.byte()
  const start = first(streams)
  const index = Array.from({ length: n }, (_, i) => BigInt(i))
  if (shape & 4) {
    const drift = shape & 32 ? unzigzag(params.varint()) : 0n
    return index.map((i) => start + i * drift)
  }
  const shift = shapes.byte()
  if (shape & 8) {
    const values = [start]
    for (let i = 1; i < n; i++) {
      const delta = unzigzag(token(tokens, bits, shift))
      values.push(BigInt.asIntN(64, (values[i - 1] as bigint) + delta))
    }
    return values
  }
  const step = shape & 16 ? params.varint() : 1n
  const drift = shape & 32 ? unzigzag(params.varint()) : 0n
  const predictor = shape & 3
  const zs = Array.from({ length: predictor === 0 ? n : n - 1 }, () => token(tokens, bits, shift))
  return restored(predictor, zs).map((y, i) => start + step * (y + BigInt(i) * drift))
}

const patternOf = (value: number): bigint => {
  const view = new DataView(new ArrayBuffer(8))
  view.setFloat64(0, value)
  return view.getBigUint64(0)
}
const singleOf = (pattern: number): number => {
  const view = new DataView(new ArrayBuffer(4))
  view.setInt32(0, pattern < 0 ? pattern ^ 0x7fff_ffff : pattern)
  return view.getFloat32(0)
}

/** The 64-bit patterns of one group of values, and its kind. */
const values = (streams: Streams, n: number): { kind: number; bits: bigint[] } => {
  const mode = streams.modes.byte()
  const form = mode & 63
  const xs = integers(streams, n)
  if (form >= 40 && form <= 42) return { kind: form - 39, bits: xs.map((x) => x & mask64) }
  let bits: bigint[]
  if (form <= 22) bits = xs.map((x) => patternOf(Number(x) / Number(`1e${form}`)))
  else if (form <= 34)
    bits = xs.map((x) => patternOf(Math.fround(Number(x) / Number(`1e${form - 24}`))))
  else if (form >= 43) {
    bits = xs.map((x) => patternOf(Number(x) / (60 * Number(`1e${form - 43}`))))
  } else if (form === 35) bits = xs.map((x) => patternOf(singleOf(Number(x))))
  else bits = xs.map((x) => (x < 0n ? x ^ 0x7fff_ffff_ffff_ffffn : x) & mask64)
  if (mode & 128) {
    const offsets = integers(streams, n)
    bits = bits.map((pattern, i) => (pattern + (offsets[i] as bigint)) & mask64)
  }
  if (mode & 64) {
    const count = Number(streams.params.varint())
    const places = integers(streams, count)
    const patterns = integers(streams, count)
    for (let i = 0; i < count; i++) bits[Number(places[i])] = (patterns[i] as bigint) & mask64
  }
  return { kind: 0, bits }
}

const times = (streams: Streams, counts: readonly number[]): number[] => {
  const refs = integers(streams, counts.length).map(Number)
  const owners = counts.filter((_, r) => refs[r] === 1)
  const starts = integers(streams, owners.length).map(Number)
  const vectors = owners.map((count, v) =>
    count === 1 ? [starts[v] as number] : integers(streams, count).map(Number),
  )
  let current = -1
  let fresh = 0
  return counts.flatMap((count, r) => {
    const ref = refs[r] as number
    if (ref === 1) current = fresh++
    else if (ref > 1) current = ref - 2
    const vector = vectors[current] as number[]
    assert(vector.length === count, 'a run refers to times that are not its own')
    return vector
  })
}

const texts = (stream: Stream): string[] => {
  const found: string[] = []
  while (stream.at < stream.bytes.length) {
    const head = Number(stream.varint())
    const bytes = Buffer.from(stream.bytes.subarray(stream.at, stream.at + (head >> 1)))
    stream.at += head >> 1
    found.push(bytes.toString(head % 2 === 0 ? 'utf8' : 'utf16le'))
  }
  return found
}

const readBody = (streams: Streams, pointCount: number): ReadPoint[] => {
  const runCount = Number(streams.params.varint())
  const flags = Number(streams.params.varint())
  const series = integers(streams, runCount).map(Number)
  const counts = integers(streams, runCount).map(Number)
  const timeUs = times(streams, counts)
  const qualities =
    flags & 2
      ? integers(streams, pointCount).map(Number)
      : new Array<number>(pointCount).fill(streams.params.byte())
  const mixed = flags & 1 ? integers(streams, pointCount).map(Number) : null
  const allTexts = texts(streams.texts)
  const points: ReadPoint[] = []
  counts.forEach((count, run) => {
    const base = points.length
    const places = Array.from({ length: count }, (_, i) => base + i)
    const groups = mixed
      ? [0, 1, 2, 3].map((kind) => places.filter((place) => mixed[place] === kind))
      : [places]
    for (const group of groups.filter(({ length }) => length > 0)) {
      const { kind, bits } = values(streams, group.length)
      group.forEach((place, i) => {
        points[place] = {
          series: series[run] as number,
          timeUs: timeUs[place] as number,
          kind,
          quality: qualities[place] as number,
          bits: bits[i] as bigint,
          text: kind === 3 ? (allTexts[Number(bits[i])] as string) : null,
        }
      })
    }
  })
  for (const name of names) {
    const { at, bytes } = streams[name]
    assert(name === 'bits' ? bytes.length * 8 - at < 8 : at === bytes.length, `${name} left over`)
  }
  return points
}

export const readSegment = (bytes: Uint8Array): ReadSegment => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const hex = (from: number, to: number) => Buffer.from(bytes.subarray(from, to)).toString('hex')
  assert(Buffer.from(bytes.subarray(0, 4)).toString('latin1') === 'HFSG', 'no segment')
  assert((bytes[4] === 1 || bytes[4] === 2) && bytes[5] === 1, 'another version')
  assert(view.getUint32(8, true) === bytes.length, 'another length')
  const end = bytes.length - 4
  assert(view.getUint32(end, true) === crc32c(bytes.subarray(0, end)), 'the checksum differs')
  const bootLength = (bytes[128] as number) & 127
  const bootHex = ((bytes[128] as number) & 128) !== 0
  const bootEnd = 129 + bootLength
  const bodyAt = bootEnd + (bytes[4] === 2 ? 24 : 0)
  const pointCount = view.getUint32(16, true)
  const header = {
    compressor: ['none', 'lz4', 'zstd'][bytes[6] as number] as string,
    clockState: ['untrusted', 'trusted', 'rebased'][bytes[7] as number] as string,
    rawBytes: view.getUint32(12, true),
    pointCount,
    seriesCount: view.getUint32(20, true),
    dictionaryLength: view.getUint32(24, true),
    lane: view.getUint32(28, true),
    seq: Number(view.getBigUint64(32, true)),
    sealNumber: Number(view.getBigUint64(40, true)),
    configRevision: Number(view.getBigUint64(48, true)),
    timeUsMin: Number(view.getBigInt64(56, true)),
    timeUsMax: Number(view.getBigInt64(64, true)),
    monotonicUs: view.getFloat64(72, true),
    epoch: hex(80, 96),
    previousHash: hex(96, 112),
    dictionaryHash: hex(112, 128),
    bootId: bootHex
      ? hex(129, bootEnd)
      : Buffer.from(bytes.subarray(129, bootEnd)).toString('utf8'),
    bodyBytes: end - bodyAt,
  }
  const streams = openStreams(bytes.subarray(bodyAt, end), bytes[6] as number, header.rawBytes)
  return { header, points: readBody(streams, pointCount) }
}
