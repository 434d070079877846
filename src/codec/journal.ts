/**
 * The open segment's journal: one commit window's points, order kept, in the body's own coding.
 * Invariants: what decodes is exactly what was encoded, in accept order; a row that changed is Failure HF-K010.
 * Layout: u32 CRC-32C of all behind it, u8 version (1), u8 compressor, varint points, varint runs, the body.
 */
import { Failure } from '../errors.ts'
import { segmentPointsMax } from '../limits.ts'
import type { PointBatch } from '../model.ts'
import { packStreams, unpackStreams } from './compress.ts'
import { crc32c } from './crc32c.ts'
import { decodeBody } from './decode.ts'
import { encodeRuns } from './encode.ts'
import { groupNeighbours } from './group.ts'
import { type Compressor, compressors } from './header.ts'
import { createSink, putVarint, takeVarint } from './streams.ts'

const version = 1
const headBytes = 6

export const encodeJournal = (points: PointBatch, compressor: Compressor = 'lz4'): Uint8Array => {
  const { streams, runCount } = encodeRuns(points, groupNeighbours(points))
  const { body } = packStreams(streams, compressor)
  const counts = createSink(16)
  putVarint(counts, points.count)
  putVarint(counts, runCount)
  const bytes = new Uint8Array(headBytes + counts.length + body.length)
  bytes[4] = version
  bytes[5] = compressors.indexOf(compressor)
  bytes.set(counts.bytes.subarray(0, counts.length), headBytes)
  bytes.set(body, headBytes + counts.length)
  new DataView(bytes.buffer).setUint32(0, crc32c(bytes.subarray(4)), true)
  return bytes
}

const damaged = (): Failure => new Failure('HF-K010', 'a journal row is damaged')

export const decodeJournal = (bytes: Uint8Array): PointBatch => {
  if (bytes.length < headBytes) throw damaged()
  const crc = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true)
  if (crc32c(bytes.subarray(4)) !== crc) throw damaged()
  const compressor = compressors[bytes[5] as number]
  if (bytes[4] !== version || compressor === undefined) {
    throw new Failure('HF-K002', `journal version ${bytes[4]} is newer than this program reads`)
  }
  const cursor = { bytes, at: headBytes }
  const count = takeVarint(cursor)
  const runCount = takeVarint(cursor)
  if (count > segmentPointsMax) throw damaged()
  return decodeBody(unpackStreams(bytes.subarray(cursor.at), compressor, count), count, runCount)
}
