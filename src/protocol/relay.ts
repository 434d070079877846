/**
 * The relay protocol, pure: paths, message shapes, frame bytes. Byte for byte in
 * docs/formats/relay.md.
 *
 * Invariants: a decoder never allocates by a length it has not checked against the bytes at hand,
 * and answers foreign bytes with Failure HF-P…; payloads are views of the body, never copies; what
 * encodes decodes to itself.
 *
 * History: 1 = hello, series, segments over HTTPS; self-contained segments (frame kind 1); JSON
 * answers.
 */
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { z } from 'zod'
import { Failure } from '../errors.ts'
import { laneIdMax, relayBodyBytesMax, relayFramesMax, segmentBytesMax } from '../limits.ts'
import { type EpochId, type Gap, gapReasons, type LaneId, type Seq } from '../model.ts'

export const protocolVersion = 1
export const relayPaths = {
  hello: '/v1/hello',
  series: '/v1/series',
  segments: '/v1/segments',
} as const
export const relayHeaders = {
  protocol: 'holdfast-protocol',
  agent: 'holdfast-agent',
  epoch: 'holdfast-epoch',
} as const
export const contentTypes = {
  json: 'application/json',
  frames: 'application/vnd.holdfast.frames',
} as const

// ── frames ──────────────────────────────────────────────────────────────────────────────────────

export const frameHeaderBytes = 8
const frameTypes = { segment: 1, tombstone: 2 } as const
const replayFlag = 1
/**
 * `{lane, epoch, seq, seqLast, gap}` with a source name of the longest kind stays far below this.
 */
const tombstoneBytesMax = 8 * 1024

export interface TombstoneFrame {
  readonly type: 'tombstone'
  readonly lane: LaneId
  readonly epoch: EpochId
  readonly seq: Seq
  readonly seqLast: Seq
  readonly gap: Gap
}
export interface SegmentFrame {
  readonly type: 'segment'
  readonly replay: boolean
  /** The segment as it is stored. */
  readonly bytes: Uint8Array
}
export type RelayFrame = SegmentFrame | TombstoneFrame

const seq = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)
const lane = z.number().int().min(0).max(laneIdMax)
const hex32 = z.string().regex(/^[0-9a-f]{32}$/)
const timeUs = z.number().int()
/** In UTF-16 units: a series name or a source's name. */
export const gapSourceMax = 1_024
/** NUL and halves of surrogate pairs break databases. */
export const isCleanText = (text: string): boolean => text.isWellFormed() && !text.includes('\0')
/** The nearest text that is clean and no longer than `max` UTF-16 units. */
export const cleanedText = (text: string, max: number): string =>
  text.slice(0, max).toWellFormed().replaceAll('\0', '\ufffd')
const tombstoneSchema = z
  .object({
    lane,
    epoch: hex32,
    seq: seq.min(1),
    seqLast: seq.min(1),
    gap: z.object({
      reason: z.enum(gapReasons),
      count: seq,
      source: z.string().max(gapSourceMax).refine(isCleanText, 'is no clean Unicode'),
      timeUsMin: timeUs,
      timeUsMax: timeUs,
    }),
  })
  .refine((one) => one.seqLast >= one.seq, 'seqLast is before seq')

const badFrame = (text: string): Failure => new Failure('HF-P001', `bad frame: ${text}`)
export const badMessage = (text: string): Failure => new Failure('HF-P002', `bad message: ${text}`)

const writeHeader = (into: Buffer, at: number, type: number, flags: number, length: number) => {
  into[at] = type
  into[at + 1] = flags
  into.writeUInt16LE(0, at + 2)
  into.writeUInt32LE(length, at + 4)
}

/** The request body of `/v1/segments`. Segment bytes are copied once, unchanged. */
export const encodeFrames = (frames: readonly RelayFrame[]): Uint8Array => {
  const payloads = frames.map((frame) => {
    if (frame.type === 'segment') return frame.bytes
    const { type: _, ...message } = frame
    return Buffer.from(JSON.stringify(message), 'utf8')
  })
  const total = payloads.reduce((sum, one) => sum + frameHeaderBytes + one.length, 0)
  const bytes = Buffer.allocUnsafe(total)
  let at = 0
  frames.forEach((frame, index) => {
    const payload = payloads[index] as Uint8Array
    const flags = frame.type === 'segment' && frame.replay ? replayFlag : 0
    writeHeader(bytes, at, frameTypes[frame.type], flags, payload.length)
    bytes.set(payload, at + frameHeaderBytes)
    at += frameHeaderBytes + payload.length
  })
  return bytes
}

const decodeTombstone = (payload: Uint8Array): TombstoneFrame => {
  const parsed = tombstoneSchema.safeParse(parseJson(payload, badFrame))
  if (!parsed.success) throw badFrame(`tombstone: ${firstIssue(parsed.error)}`)
  return { type: 'tombstone', ...parsed.data }
}

/** Throws Failure HF-P001. Segment payloads are views of `body` and not yet looked into. */
export const decodeFrames = (body: Uint8Array, framesMax = relayFramesMax): RelayFrame[] => {
  const view = Buffer.from(body.buffer, body.byteOffset, body.length)
  const frames: RelayFrame[] = []
  let at = 0
  while (at < body.length) {
    if (frames.length === framesMax) throw badFrame(`more than ${framesMax} in one request`)
    if (body.length - at < frameHeaderBytes) throw badFrame('cut short inside a header')
    const [type, flags] = [view[at] as number, view[at + 1] as number]
    const length = view.readUInt32LE(at + 4)
    const from = at + frameHeaderBytes
    if (view.readUInt16LE(at + 2) !== 0) throw badFrame('reserved bytes are not zero')
    if (length > body.length - from) throw badFrame('cut short inside a payload')
    const payload = body.subarray(from, from + length)
    if (type === frameTypes.segment) {
      if (length > segmentBytesMax) throw badFrame(`segment of ${length} bytes`)
      if (flags > replayFlag) throw badFrame(`unknown flags ${flags}`)
      frames.push({ type: 'segment', replay: flags === replayFlag, bytes: payload })
    } else if (type === frameTypes.tombstone) {
      if (length > tombstoneBytesMax || flags !== 0) throw badFrame('tombstone header')
      frames.push(decodeTombstone(payload))
    } else throw badFrame(`unknown type ${type}`)
    at = from + length
  }
  return frames
}

// ── JSON ────────────────────────────────────────────────────────────────────────────────────────

const strictUtf8 = new TextDecoder('utf-8', { fatal: true })

export const parseJson = (bytes: Uint8Array, wrong: (text: string) => Failure): unknown => {
  try {
    return JSON.parse(strictUtf8.decode(bytes)) as unknown
  } catch {
    throw wrong('no JSON')
  }
}
const firstIssue = (error: z.ZodError): string => {
  const issue = error.issues[0]
  return issue === undefined ? 'unknown' : `${issue.path.join('.') || 'it'}: ${issue.message}`
}
const jsonBytes = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value), 'utf8')

/**
 * A pair that carries one message shape; `decode` throws Failure HF-P002 and drops fields it does
 * not know.
 */
export interface Message<T> {
  readonly encode: (message: T) => Uint8Array
  readonly decode: (bytes: Uint8Array) => T
}
/** First four bytes of a zstd frame; no JSON begins so. */
const zstdMagic = 0x28b52ffd
/** No frame of ours needs a larger window than the largest message. */
const windowLogMax = 31 - Math.clz32(relayBodyBytesMax)
const uncompressed = (bytes: Uint8Array): Uint8Array => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bytes.length < 4 || view.getUint32(0) !== zstdMagic) return bytes
  try {
    return zstdDecompressSync(bytes, {
      maxOutputLength: relayBodyBytesMax,
      params: { [constants.ZSTD_d_windowLogMax]: windowLogMax },
    })
  } catch {
    throw badMessage('does not decompress')
  }
}
/** As it is, or as a zstd frame: keys of series say the same again and again. */
export const compressed = <T>({ encode, decode }: Message<T>): Message<T> => ({
  encode: (message) => zstdCompressSync(encode(message)),
  decode: (bytes) => decode(uncompressed(bytes)),
})
export const messageOf = <T>(
  schema: z.ZodType<T>,
  toJson: (message: T) => unknown = (message) => message,
): Message<T> => ({
  encode: (message) => jsonBytes(toJson(message)),
  decode: (bytes) => {
    const parsed = schema.safeParse(parseJson(bytes, badMessage))
    if (!parsed.success) throw badMessage(firstIssue(parsed.error))
    return parsed.data
  },
})
export const fields = { seq, lane, hex32 } as const
