/**
 * The segment's header: fixed little-endian fields, then the boot id, then the body, then CRC-32C over
 * all before it.
 * Invariants: a header that reads was written whole (lengths and checksum agree), and every count in it is within
 * limits.ts before anything is allocated by it. Layout: docs/formats/segment.md.
 */
import { Failure } from '../errors.ts'
import { laneIdMax, segmentBytesMax, segmentPointsMax, segmentRawBytesMax } from '../limits.ts'
import type { EpochId, LaneId, SealOrder, Seq } from '../model.ts'
import { crc32c } from './crc32c.ts'

/** Every one ever released reads; 2 is 1 with the order of a copy's source, and only copies are sealed in it. */
export const formatVersions = [1, 2] as const
export const compressors = ['none', 'lz4', 'zstd'] as const
export type Compressor = (typeof compressors)[number]
const clockStates = ['untrusted', 'trusted', 'rebased'] as const

export interface SegmentHeader {
  readonly formatVersion: number
  readonly frameKind: 1
  readonly compressor: Compressor
  readonly epoch: EpochId
  readonly lane: LaneId
  readonly seq: Seq
  readonly sealNumber: number
  /** Of a copy: the seal that its points' order is of, in place of its own. */
  readonly copyOf?: SealOrder
  /** Digest of the segment sealed before in this lane, 32 hex; zeros for the first. */
  readonly previousHash: string
  readonly configRevision: number
  /** Entries of the epoch's dictionary that the series indexes need, and their running hash (32 hex). */
  readonly dictionaryLength: number
  readonly dictionaryHash: string
  /** When and on which boot it was sealed. */
  readonly bootId: string
  readonly monotonicUs: number
  readonly clockState: (typeof clockStates)[number]
  readonly pointCount: number
  readonly seriesCount: number
  /** 0 and 0 when there are no points. */
  readonly timeUsMin: number
  readonly timeUsMax: number
  /** Size of the body before compression, and as stored. */
  readonly rawBytes: number
  readonly bodyBytes: number
}
/** What the sealer says; the rest follows from the points. */
export type SealHeader = Omit<
  SegmentHeader,
  | 'formatVersion'
  | 'frameKind'
  | 'compressor'
  | 'pointCount'
  | 'seriesCount'
  | 'timeUsMin'
  | 'timeUsMax'
  | 'rawBytes'
  | 'bodyBytes'
>

const magic = 0x47_53_46_48 // "HFSG"
const fixedBytes = 129
const bootIdBytesMax = 64
const crcBytes = 4
/** Epoch and seal number of a copy's source, behind the boot id. */
const orderBytes = 24
/** No segment is shorter than this. */
const segmentBytesMin = fixedBytes + crcBytes
/** Set in the boot id's length byte: its text is that many bytes in lower-case hex. */
const hexFlag = 0x80

const damaged = (text: string): Failure =>
  new Failure('HF-K003', `segment is damaged: ${text}`, 'The bytes changed after they were sealed.')

const bootIdBytes = (bootId: string): { flag: number; bytes: Buffer } =>
  /^(?:[0-9a-f]{2}){1,32}$/.test(bootId)
    ? { flag: hexFlag, bytes: Buffer.from(bootId, 'hex') }
    : { flag: 0, bytes: Buffer.from(bootId, 'utf8') }

const checkSealed = (header: SegmentHeader, boot: Uint8Array): void => {
  const { copyOf = header } = header
  const hex = [header.epoch, header.previousHash, header.dictionaryHash, copyOf.epoch]
  const numbers = [header.seq, header.sealNumber, header.configRevision, header.dictionaryLength]
  const whole = [...numbers, copyOf.sealNumber]
  const good =
    hex.every((text) => /^[0-9a-f]{32}$/.test(text)) &&
    whole.every((number) => Number.isSafeInteger(number) && number >= 0) &&
    header.dictionaryLength <= 0xffff_ffff &&
    Number.isInteger(header.lane) &&
    header.lane >= 0 &&
    header.lane <= laneIdMax &&
    boot.length <= bootIdBytesMax
  if (!good) throw new Failure('HF-K007', 'a segment header has a field out of its range')
}

/** Header + body + checksum in fresh bytes of exactly the right length. */
export const writeSegment = (header: SegmentHeader, body: Uint8Array): Uint8Array => {
  const boot = bootIdBytes(header.bootId)
  checkSealed(header, boot.bytes)
  const { copyOf } = header
  const orderAt = fixedBytes + boot.bytes.length
  const headerBytes = orderAt + (copyOf === undefined ? 0 : orderBytes)
  const total = headerBytes + body.length + crcBytes
  if (total > segmentBytesMax || header.rawBytes > segmentRawBytesMax) {
    throw new Failure(
      'HF-K005',
      `segment of ${header.pointCount} points would take ${total} bytes (limit ${segmentBytesMax})`,
      'Seal fewer points at a time.',
    )
  }
  // A buffer of its own, never a slice of Node's pool: it is transferred between threads.
  const bytes = new Uint8Array(total)
  const view = Buffer.from(bytes.buffer)
  view.writeUInt32LE(magic, 0)
  view[4] = header.formatVersion
  view[5] = header.frameKind
  view[6] = compressors.indexOf(header.compressor)
  view[7] = clockStates.indexOf(header.clockState)
  view.writeUInt32LE(total, 8)
  view.writeUInt32LE(header.rawBytes, 12)
  view.writeUInt32LE(header.pointCount, 16)
  view.writeUInt32LE(header.seriesCount, 20)
  view.writeUInt32LE(header.dictionaryLength, 24)
  view.writeUInt32LE(header.lane, 28)
  view.writeBigUInt64LE(BigInt(header.seq), 32)
  view.writeBigUInt64LE(BigInt(header.sealNumber), 40)
  view.writeBigUInt64LE(BigInt(header.configRevision), 48)
  view.writeBigInt64LE(BigInt(header.timeUsMin), 56)
  view.writeBigInt64LE(BigInt(header.timeUsMax), 64)
  view.writeDoubleLE(header.monotonicUs, 72)
  view.write(header.epoch, 80, 16, 'hex')
  view.write(header.previousHash, 96, 16, 'hex')
  view.write(header.dictionaryHash, 112, 16, 'hex')
  view[128] = boot.flag | boot.bytes.length
  bytes.set(boot.bytes, fixedBytes)
  if (copyOf !== undefined) {
    view.write(copyOf.epoch, orderAt, 16, 'hex')
    view.writeBigUInt64LE(BigInt(copyOf.sealNumber), orderAt + 16)
  }
  bytes.set(body, headerBytes)
  view.writeUInt32LE(crc32c(bytes.subarray(0, total - crcBytes)), total - crcBytes)
  return bytes
}

const orderIn = (view: Buffer, at: number): SealOrder => ({
  epoch: view.toString('hex', at, at + 16),
  sealNumber: Number(view.readBigUInt64LE(at + 16)),
})
const checkEnvelope = (view: Buffer): void => {
  if (view.length < 4 || view.readUInt32LE(0) !== magic) {
    throw new Failure('HF-K001', 'these bytes are no segment')
  }
  if (view.length < segmentBytesMin) throw damaged(`cut short at ${view.length} bytes`)
  if (!formatVersions.some((version) => version === view[4]) || view[5] !== 1) {
    throw new Failure(
      'HF-K002',
      `segment format ${view[4]}.${view[5]} is newer than this program reads (${formatVersions.at(-1)}.1)`,
      'Upgrade the reading side first.',
    )
  }
  const total = view.readUInt32LE(8)
  if (total !== view.length) throw damaged(`${view.length} bytes instead of ${total}`)
  const crc = view.readUInt32LE(total - crcBytes)
  if (crc32c(view.subarray(0, total - crcBytes)) !== crc) throw damaged('checksum does not match')
}

/** Reads and checks everything but the body's inside; also returns where the body lies. */
export const readEnvelope = (bytes: Uint8Array): { header: SegmentHeader; body: Uint8Array } => {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  checkEnvelope(view)
  const compressor = compressors[view[6] as number]
  const clockState = clockStates[view[7] as number]
  const bootLength = (view[128] as number) & ~hexFlag
  const orderAt = fixedBytes + bootLength
  const bodyAt = orderAt + (view[4] === 1 ? 0 : orderBytes)
  const bodyBytes = view.length - crcBytes - bodyAt
  const rawBytes = view.readUInt32LE(12)
  const pointCount = view.readUInt32LE(16)
  const seriesCount = view.readUInt32LE(20)
  if (compressor === undefined || clockState === undefined || bodyBytes < 0) {
    throw damaged('a header field has no meaning')
  }
  if (
    view.length > segmentBytesMax ||
    rawBytes > segmentRawBytesMax ||
    pointCount > segmentPointsMax ||
    seriesCount > pointCount
  ) {
    throw new Failure('HF-K005', `segment over the limits: ${pointCount} points, ${rawBytes} bytes`)
  }
  const encoding = (view[128] as number) & hexFlag ? 'hex' : 'utf8'
  const header: SegmentHeader = {
    formatVersion: view[4] as number,
    frameKind: 1,
    compressor,
    epoch: view.toString('hex', 80, 96),
    lane: view.readUInt32LE(28),
    seq: Number(view.readBigUInt64LE(32)),
    sealNumber: Number(view.readBigUInt64LE(40)),
    previousHash: view.toString('hex', 96, 112),
    configRevision: Number(view.readBigUInt64LE(48)),
    dictionaryLength: view.readUInt32LE(24),
    dictionaryHash: view.toString('hex', 112, 128),
    bootId: view.toString(encoding, fixedBytes, orderAt),
    monotonicUs: view.readDoubleLE(72),
    clockState,
    pointCount,
    seriesCount,
    timeUsMin: Number(view.readBigInt64LE(56)),
    timeUsMax: Number(view.readBigInt64LE(64)),
    rawBytes,
    bodyBytes,
    ...(view[4] === 1 ? {} : { copyOf: orderIn(view, orderAt) }),
  }
  return { header, body: bytes.subarray(bodyAt, bodyAt + bodyBytes) }
}
