/**
 * A request's frames become the store's: checked, weighed, decoded. Invariants: nothing is decoded
 * before the whole request is known to fit; every segment's checksum was checked and its digest is
 * of the bytes received; no text that a database refuses gets past here.
 */
import { openSegment, readHeader, type SegmentHeader, segmentDigest } from '../codec/segment.ts'
import { decodedBytesOf, segmentFrameOf } from '../database/frames.ts'
import type { CommitFrame } from '../database/store.ts'
import { isFailure, textOf } from '../errors.ts'
import type { PointBatch } from '../model.ts'
import { decodeFrames, isCleanText, type RelayFrame } from '../protocol/relay.ts'
import type { Refusal } from './answers.ts'

export type Opened<T> = { readonly refusal: Refusal } | { readonly value: T }

export interface WeighedFrames {
  readonly frames: readonly RelayFrame[]
  /** One per frame, null for a tombstone. */
  readonly headers: readonly (SegmentHeader | null)[]
  readonly decodedBytes: number
}

const badFrame = (frame: number, error: unknown, header?: SegmentHeader): Refusal => {
  if (isFailure(error, 'HF-K002')) {
    // Not the segment's fault: this node is older than the agent.
    const hint = 'Upgrade the region before its agents.'
    return { status: 503, error: { code: 'blocked', text: textOf(error), hint } }
  }
  const where = header === undefined ? {} : { lane: header.lane, seq: header.seq }
  return { status: 400, error: { code: 'bad-frame', text: textOf(error), frame, ...where } }
}

/** Reads frames and headers only: what the request would cost to open. */
export const weighFrames = (body: Uint8Array, framesMax: number): Opened<WeighedFrames> => {
  let frames: readonly RelayFrame[]
  try {
    frames = decodeFrames(body, framesMax)
  } catch (error) {
    if (!isFailure(error)) throw error
    return { refusal: { status: 400, error: { code: 'bad-request', text: textOf(error) } } }
  }
  if (frames.length === 0)
    return { refusal: { status: 400, error: { code: 'bad-request', text: 'no frames' } } }
  const headers: (SegmentHeader | null)[] = []
  let decodedBytes = 0
  for (const [at, frame] of frames.entries()) {
    if (frame.type === 'tombstone') {
      headers.push(null)
      continue
    }
    try {
      const header = readHeader(frame.bytes)
      headers.push(header)
      decodedBytes += decodedBytesOf(header)
    } catch (error) {
      if (!isFailure(error)) throw error
      return { refusal: badFrame(at, error) }
    }
  }
  return { value: { frames, headers, decodedBytes } }
}

const textsAreClean = (points: PointBatch): boolean => points.texts.every(isCleanText)

/** Decodes what was weighed. */
export const openFrames = ({ frames, headers }: WeighedFrames): Opened<CommitFrame[]> => {
  const opened: CommitFrame[] = []
  for (const [at, frame] of frames.entries()) {
    if (frame.type === 'tombstone') {
      opened.push(frame)
      continue
    }
    try {
      const segment = openSegment(frame.bytes)
      if (!textsAreClean(segment.points)) {
        const text = 'a text holds NUL or half a surrogate pair, which databases refuse'
        return { refusal: badFrame(at, new Error(text), segment.header) }
      }
      opened.push(segmentFrameOf(segment, segmentDigest(frame.bytes), frame.replay))
    } catch (error) {
      if (!isFailure(error)) throw error
      return { refusal: badFrame(at, error, headers[at] ?? undefined) }
    }
  }
  return { value: opened }
}
