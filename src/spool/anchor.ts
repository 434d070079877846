/**
 * The anchor: a small file beside the database that says how far it had got, so that a database which
 * comes back older
 * (a flipped bit in the write-ahead log, a restored copy) is noticed and the loss declared.
 *
 * Invariants: two slots written in turn, each with its own checksum, so a torn write leaves the other;
 * written only after
 * a commit, flushed at each seal. Slot: magic, spool id, epoch, commit number, lanes (id, accepted, pending), CRC32.
 */
import { closeSync, constants, fstatSync, fsyncSync, openSync, readSync, writeSync } from 'node:fs'
import { crc32 } from 'node:zlib'
import type { EpochId, LaneId } from '../model.ts'

export interface AnchorLane {
  readonly lane: LaneId
  readonly accepted: number
  /** What the slowest reader had not yet passed. */
  readonly pending: number
}
export interface AnchorFacts {
  readonly spoolId: string
  readonly epoch: EpochId
  readonly commitNumber: number
  readonly lanes: readonly AnchorLane[]
}
/** The file operations, so that the simulation can keep an anchor in memory. */
export interface AnchorFile {
  readonly read: (offset: number, length: number) => Uint8Array
  readonly write: (offset: number, bytes: Uint8Array) => void
  readonly sync: () => void
  readonly close: () => void
}
export interface Anchor {
  readonly found: AnchorFacts | null
  readonly write: (facts: AnchorFacts) => void
  readonly sync: () => void
  readonly close: () => void
}

const magic = 0x48464131
/** 511 lanes of 18 bytes and the head fit. */
const slotBytes = 12_288
const headBytes = 4 + 16 + 16 + 8 + 8 + 2
const laneBytes = 18

const encode = (facts: AnchorFacts, turn: number): Uint8Array => {
  const bytes = Buffer.alloc(headBytes + facts.lanes.length * laneBytes + 4)
  bytes.writeUInt32LE(magic, 0)
  bytes.write(facts.spoolId, 4, 16, 'hex')
  bytes.write(facts.epoch, 20, 16, 'hex')
  bytes.writeDoubleLE(facts.commitNumber, 36)
  bytes.writeDoubleLE(turn, 44)
  bytes.writeUInt16LE(facts.lanes.length, 52)
  facts.lanes.forEach((lane, at) => {
    const offset = headBytes + at * laneBytes
    bytes.writeUInt16LE(lane.lane, offset)
    bytes.writeDoubleLE(lane.accepted, offset + 2)
    bytes.writeDoubleLE(lane.pending, offset + 10)
  })
  bytes.writeUInt32LE(crc32(bytes.subarray(0, bytes.length - 4)), bytes.length - 4)
  return bytes
}

const decode = (slot: Uint8Array): (AnchorFacts & { readonly turn: number }) | null => {
  const bytes = Buffer.from(slot.buffer, slot.byteOffset, slot.length)
  if (bytes.length < headBytes + 4 || bytes.readUInt32LE(0) !== magic) return null
  const count = bytes.readUInt16LE(52)
  const end = headBytes + count * laneBytes
  if (end + 4 > bytes.length || bytes.readUInt32LE(end) !== crc32(bytes.subarray(0, end))) {
    return null
  }
  return {
    spoolId: bytes.toString('hex', 4, 20),
    epoch: bytes.toString('hex', 20, 36),
    commitNumber: bytes.readDoubleLE(36),
    turn: bytes.readDoubleLE(44),
    lanes: Array.from({ length: count }, (_, at) => {
      const offset = headBytes + at * laneBytes
      return {
        lane: bytes.readUInt16LE(offset),
        accepted: bytes.readDoubleLE(offset + 2),
        pending: bytes.readDoubleLE(offset + 10),
      }
    }),
  }
}

export const openAnchor = (file: AnchorFile): Anchor => {
  const slots = [0, 1].map((slot) => decode(file.read(slot * slotBytes, slotBytes)))
  const found = slots.reduce((a, b) => ((b?.turn ?? -1) > (a?.turn ?? -1) ? b : a), null) ?? null
  let turn = found?.turn ?? 0
  return {
    found,
    write: (facts) => {
      turn++
      file.write((turn % 2) * slotBytes, encode(facts, turn))
    },
    sync: file.sync,
    close: file.close,
  }
}

export const openAnchorFile = (path: string): AnchorFile => {
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600)
  // Its blocks are taken now, so that a full disk does not stop it later.
  const { size } = fstatSync(fd)
  if (size < slotBytes * 2) writeSync(fd, Buffer.alloc(slotBytes * 2 - size), 0, undefined, size)
  return {
    read: (offset, length) => {
      const bytes = Buffer.alloc(length)
      return bytes.subarray(0, readSync(fd, bytes, 0, length, offset))
    },
    write: (offset, bytes) => {
      writeSync(fd, bytes, 0, bytes.length, offset)
    },
    sync: () => fsyncSync(fd),
    close: () => closeSync(fd),
  }
}

/** An anchor that lives as long as the simulation keeps it. */
export const createMemoryAnchor = (): AnchorFile => {
  const bytes = new Uint8Array(slotBytes * 2)
  return {
    read: (offset, length) => bytes.slice(offset, offset + length),
    write: (offset, part) => bytes.set(part, offset),
    sync: () => {},
    close: () => {},
  }
}
