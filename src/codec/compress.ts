/**
 * The block compressors behind a segment's body.
 * Invariant: the size of what comes out is known and checked against limits.ts before a byte is decompressed; no
 * allocation is ever sized by bytes that came from outside.
 */
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { compressSync, uncompressSync } from 'lz4-napi'
import { Failure, textOf } from '../errors.ts'
import { segmentRawBytesMax } from '../limits.ts'
import type { Compressor } from './header.ts'

/** lz4-napi puts the size before its block; ours stands in the header. */
const lz4PrefixBytes = 4

export const compress = (raw: Uint8Array, compressor: Compressor): Uint8Array => {
  switch (compressor) {
    case 'none':
      return raw
    case 'lz4':
      return compressSync(Buffer.from(raw.buffer, raw.byteOffset, raw.length)).subarray(
        lz4PrefixBytes,
      )
    case 'zstd':
      return zstdCompressSync(raw, {
        pledgedSrcSize: raw.length,
        chunkSize: Math.max(1024, raw.length + (raw.length >> 8) + 64),
        params: { [constants.ZSTD_c_compressionLevel]: 3 },
      })
  }
}

const uncompressZstd = (body: Uint8Array, rawBytes: number): Uint8Array =>
  zstdDecompressSync(body, {
    maxOutputLength: Math.max(1, rawBytes),
    chunkSize: Math.max(1024, rawBytes),
    // The frame may ask for a window; ours never needs more than the body itself.
    params: {
      [constants.ZSTD_d_windowLogMax]: Math.max(10, 32 - Math.clz32(rawBytes)),
    },
  })

const uncompressLz4 = (body: Uint8Array, rawBytes: number): Uint8Array => {
  const block = Buffer.allocUnsafe(lz4PrefixBytes + body.length)
  block.writeUInt32LE(rawBytes, 0)
  block.set(body, lz4PrefixBytes)
  return uncompressSync(block)
}

/** Exactly `rawBytes` bytes, or Failure HF-K006. */
export const uncompress = (
  body: Uint8Array,
  compressor: Compressor,
  rawBytes: number,
): Uint8Array => {
  if (rawBytes > segmentRawBytesMax) throw new Failure('HF-K005', `body of ${rawBytes} bytes`)
  let raw = body
  try {
    if (compressor === 'zstd') raw = uncompressZstd(body, rawBytes)
    else if (compressor === 'lz4') raw = uncompressLz4(body, rawBytes)
  } catch (error) {
    throw new Failure('HF-K006', `segment body does not decompress: ${textOf(error)}`)
  }
  if (raw.length !== rawBytes) {
    throw new Failure('HF-K006', `segment body has ${raw.length} bytes instead of ${rawBytes}`)
  }
  return raw
}
