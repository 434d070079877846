/** The open segment's journal: one commit window of points, order kept, bit exact, with its own CRC-32C. */
import { Failure } from '../errors.ts'
import type { PointBatch } from '../model.ts'
import { crc32c } from './crc32c.ts'
import { readColumns, writeColumns } from './plain.ts'

export const encodeJournal = (points: PointBatch): Uint8Array => {
  const columns = writeColumns(points)
  const bytes = Buffer.from(new ArrayBuffer(columns.length + 4))
  bytes.set(columns)
  bytes.writeUInt32LE(crc32c(columns), columns.length)
  return bytes
}

export const decodeJournal = (bytes: Uint8Array): PointBatch => {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  const end = bytes.length - 4
  if (end < 0 || view.readUInt32LE(end) !== crc32c(view.subarray(0, end))) {
    throw new Failure('HF-K010', 'journal row is damaged')
  }
  return readColumns(view.subarray(0, end))
}
