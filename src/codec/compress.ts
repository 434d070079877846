/**
 * The streams of a body in their stored form, each compressed apart, behind a table of their sizes.
 * Invariant: the size of what comes out is known and checked against limits.ts before a byte is decompressed; no
 * allocation is ever sized by bytes that came from outside.
 */
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { compressSync, uncompressSync } from 'lz4-napi'
import { Failure, textOf } from '../errors.ts'
import { segmentRawBytesMax, segmentTextBytesMax } from '../limits.ts'
import type { Compressor } from './header.ts'
import { streamCount, streamOfBits, streamOfTexts } from './layout.ts'
import { type Cursor, createSink, malformed, putVarint, takeVarint } from './streams.ts'

/** lz4-napi puts the size before its block; ours stands in the table. */
const lz4PrefixBytes = 4
/** A shorter stream gains nothing from a compressor. */
const compressBytesMin = 96

const bufferOf = (bytes: Uint8Array): Buffer =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)

const compressOne = (raw: Uint8Array, compressor: Compressor): Uint8Array => {
  if (compressor === 'none' || raw.length < compressBytesMin) return raw
  const stored =
    compressor === 'lz4'
      ? compressSync(bufferOf(raw)).subarray(lz4PrefixBytes)
      : zstdCompressSync(raw, {
          pledgedSrcSize: raw.length,
          chunkSize: raw.length + (raw.length >> 7) + 512,
          params: { [constants.ZSTD_c_compressionLevel]: 3 },
        })
  return stored.length < raw.length ? stored : raw
}

const uncompressOne = (
  stored: Uint8Array,
  compressor: Compressor,
  rawBytes: number,
): Uint8Array => {
  if (stored.length === rawBytes) return stored
  if (compressor === 'none') throw malformed('a stream that is not compressed has two sizes')
  try {
    if (compressor === 'zstd') {
      return zstdDecompressSync(stored, {
        maxOutputLength: rawBytes,
        chunkSize: Math.max(64, rawBytes),
        // A frame may ask for a window of its own choice; ours never needs more than the stream itself.
        params: { [constants.ZSTD_d_windowLogMax]: Math.max(10, 32 - Math.clz32(rawBytes)) },
      })
    }
    const block = Buffer.allocUnsafe(lz4PrefixBytes + stored.length)
    block.writeUInt32LE(rawBytes, 0)
    block.set(stored, lz4PrefixBytes)
    return uncompressSync(block)
  } catch (error) {
    throw malformed(`a stream does not decompress (${textOf(error)})`)
  }
}

/** Table (varint raw size and, unless 0, varint stored size, a stream), then the stored streams. */
export const packStreams = (
  streams: readonly Uint8Array[],
  compressor: Compressor,
): { readonly body: Uint8Array; readonly rawBytes: number } => {
  const stored = streams.map((raw, at) =>
    at === streamOfBits ? raw : compressOne(raw, compressor),
  )
  const table = createSink(streamCount * 8)
  let rawBytes = 0
  let bodyBytes = 0
  for (let at = 0; at < streamCount; at++) {
    const raw = streams[at] as Uint8Array
    putVarint(table, raw.length)
    if (raw.length > 0) putVarint(table, (stored[at] as Uint8Array).length)
    rawBytes += raw.length
    bodyBytes += (stored[at] as Uint8Array).length
  }
  const body = new Uint8Array(table.length + bodyBytes)
  body.set(table.bytes.subarray(0, table.length))
  let at = table.length
  for (const part of stored) {
    body.set(part, at)
    at += part.length
  }
  return { body, rawBytes }
}

/** What `pointCount` points can take: eight columns at most, each of a byte and 64 bits a point. */
const columnBytesMax = (pointCount: number): number => 72 * pointCount + 1024
const textsBytesMax = (pointCount: number): number => segmentTextBytesMax + 8 * pointCount

interface Sizes {
  readonly raw: number
  readonly stored: number
}
/** Reads the table and checks it against the limits; the cursor stands behind it. */
const takeSizes = (cursor: Cursor, pointCount: number): Sizes[] => {
  const sizes: Sizes[] = []
  let rawBytes = 0
  let columnBytes = 0
  let storedBytes = 0
  for (let at = 0; at < streamCount; at++) {
    const raw = takeVarint(cursor)
    const stored = raw === 0 ? 0 : takeVarint(cursor)
    if (stored > raw) throw malformed('a stream is larger stored than raw')
    sizes.push({ raw, stored })
    rawBytes += raw
    storedBytes += stored
    if (at !== streamOfTexts) columnBytes += raw
  }
  if (
    rawBytes > segmentRawBytesMax ||
    columnBytes > columnBytesMax(pointCount) ||
    rawBytes - columnBytes > textsBytesMax(pointCount)
  ) {
    throw new Failure('HF-K005', `a body of ${rawBytes} bytes for ${pointCount} points`)
  }
  if (cursor.at + storedBytes !== cursor.bytes.length) throw malformed('its streams do not add up')
  return sizes
}

/** The streams, or Failure HF-K006. What they come to is checked against the limits before any is decompressed. */
export const unpackStreams = (
  body: Uint8Array,
  compressor: Compressor,
  pointCount: number,
): readonly Uint8Array[] => {
  const cursor: Cursor = { bytes: body, at: 0 }
  const sizes = takeSizes(cursor, pointCount)
  let at = cursor.at
  return sizes.map(({ raw, stored }) => {
    const bytes = uncompressOne(body.subarray(at, at + stored), compressor, raw)
    at += stored
    if (bytes.length !== raw) throw malformed(`a stream has ${bytes.length} bytes, not ${raw}`)
    return bytes
  })
}
