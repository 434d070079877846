/**
 * A segment: points sealed into bytes that are made once, then stored, sent, checked and decoded as they are.
 * Invariants: what opens is exactly what was sealed (every 64-bit pattern, every string), grouped by
 * series index and
 * within a series in accept order; anything else is a Failure HF-K…; pure: no clock, no I/O.
 */
import { createHash } from 'node:crypto'
import type { PointBatch, SealOrder } from '../model.ts'
import { packStreams, unpackStreams } from './compress.ts'
import { decodeBody } from './decode.ts'
import { encodeBody } from './encode.ts'
import {
  type Compressor,
  formatVersions,
  readEnvelope,
  type SealHeader,
  type SegmentHeader,
  writeSegment,
} from './header.ts'
import { timeRange } from './layout.ts'
import { malformed } from './streams.ts'

export type { Compressor, SealHeader, SegmentHeader }
export { formatVersions }

/** `points.series` holds dictionary indexes. Throws Failure HF-K005 (too big) or HF-K007 (a point out of range). */
export const sealSegment = (
  header: SealHeader,
  points: PointBatch,
  compressor: Compressor,
): Uint8Array => {
  const { streams, runCount, timeUsMin, timeUsMax } = encodeBody(points)
  const { body, rawBytes } = packStreams(streams, compressor)
  return writeSegment(
    {
      ...header,
      timeUsMin,
      timeUsMax,
      seriesCount: runCount,
      formatVersion: header.copyOf === undefined ? 1 : 2,
      frameKind: 1,
      compressor,
      pointCount: points.count,
      rawBytes,
      bodyBytes: body.length,
    },
    body,
  )
}

/** Sealed under the order of others; nothing is checked. */
export const isCopy = (bytes: Uint8Array): boolean => bytes[4] === 2

/** Where its points stand in the order of all: a copy's are where those it was copied from do. */
export const orderOf = ({ copyOf, epoch, sealNumber }: SegmentHeader): SealOrder =>
  copyOf ?? { epoch, sealNumber }

/** Checks magic, version, length, limits and the checksum over everything, without touching the body. */
export const readHeader = (bytes: Uint8Array): SegmentHeader => readEnvelope(bytes).header

/** Points come grouped by series index, ascending; within a series in accept order. */
export const openSegment = (
  bytes: Uint8Array,
): { readonly header: SegmentHeader; readonly points: PointBatch } => {
  const { header, body } = readEnvelope(bytes)
  const streams = unpackStreams(body, header.compressor, header.pointCount)
  const rawBytes = streams.reduce((sum, stream) => sum + stream.length, 0)
  if (rawBytes !== header.rawBytes) throw malformed(`${rawBytes} bytes, not ${header.rawBytes}`)
  const points = decodeBody(streams, header.pointCount, header.seriesCount)
  checkAsAnnounced(header, points)
  return { header, points }
}

/** A sealer that disagrees with its own header is not believed. */
const checkAsAnnounced = (header: SegmentHeader, points: PointBatch): void => {
  const { timeUsMin, timeUsMax } = timeRange(points.timeUs)
  if (timeUsMin !== header.timeUsMin || timeUsMax !== header.timeUsMax) {
    throw malformed('its times are not as announced')
  }
  const { series, count } = points
  let seriesCount = count === 0 ? 0 : 1
  for (let i = 1; i < count; i++) {
    if (series[i] === series[i - 1]) continue
    if ((series[i] as number) < (series[i - 1] as number)) throw malformed('its series fall')
    seriesCount++
  }
  if (seriesCount !== header.seriesCount) throw malformed('its series are not as announced')
}

/** First 16 bytes of SHA-256 over the bytes, in hex. */
export const segmentDigest = (bytes: Uint8Array): string =>
  createHash('sha256').update(bytes).digest().toString('hex', 0, 16)
