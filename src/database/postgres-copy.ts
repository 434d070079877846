/**
 * Rows of points as PostgreSQL's binary COPY, straight from columns, one Buffer a segment.
 *
 * Invariants: 64-bit patterns are copied, never converted (NaN payloads and -0 stand); every row of numbers has
 * 70 bytes, so the Buffer's size is known beforehand.
 */
import { endianness } from 'node:os'
import { Failure } from '../errors.ts'
import { kinds } from '../model.ts'
import type { SegmentRows } from './rows.ts'

export const pointColumns = 'series_id, time, kind, value, value_int, value_text, quality, ord'
/** Signature, no flags, no extension. */
export const copyHeader: Buffer = Buffer.from('PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1')
export const copyTrailer: Buffer = Buffer.from([0xff, 0xff])

const columnCount = 8
const rowBytes = 70
/** PostgreSQL counts from 2000-01-01. */
export const epoch2000Us = 946_684_800_000_000
const nothing = -1
const two32 = 2 ** 32

/** Texts may be shared by points, so they are summed by point. */
const textBytesOf = ({ points, order, count }: SegmentRows, words: Uint32Array): number => {
  let bytes = 0
  for (let row = 0; row < count; row++) {
    const from = order === null ? row : (order[row] as number)
    if (points.kinds[from] !== kinds.string) continue
    bytes += Buffer.byteLength(points.texts[words[from * 2] as number] as string)
  }
  return bytes
}

export const encodeRows = (rows: SegmentRows): Buffer => {
  if (endianness() !== 'LE')
    throw new Failure('HF-D004', 'only little-endian machines are supported')
  const { points, ids, ord, order, count } = rows
  const { series, timeUs, kinds: kindColumn, qualities, texts } = points
  const words = new Uint32Array(points.bits.buffer, points.bits.byteOffset, points.count * 2)
  const textBytes = texts.length === 0 ? 0 : textBytesOf(rows, words)
  const out = Buffer.allocUnsafe(count * rowBytes + textBytes)
  const view = new DataView(out.buffer, out.byteOffset, out.byteLength)
  const ordHigh = Number(ord >> 32n)
  const ordLow = Number(ord & 0xffff_ffffn)
  let idHigh = 0
  let idLow = 0
  let index = -1
  let at = 0
  for (let row = 0; row < count; row++) {
    const from = order === null ? row : (order[row] as number)
    const kind = kindColumn[from] as number
    if (series[from] !== index) {
      index = series[from] as number
      const id = ids[index]
      if (id === undefined) throw new Failure('HF-D005', `point of unknown series ${index}`)
      idHigh = Number(id >> 32n)
      idLow = Number(id & 0xffff_ffffn)
    }
    const time = (timeUs[from] as number) - epoch2000Us
    const timeHigh = Math.floor(time / two32)
    view.setInt16(at, columnCount)
    view.setInt32(at + 2, 8)
    view.setInt32(at + 6, idHigh)
    view.setInt32(at + 10, idLow)
    view.setInt32(at + 14, 8)
    view.setInt32(at + 18, timeHigh)
    view.setInt32(at + 22, time - timeHigh * two32)
    view.setInt32(at + 26, 2)
    view.setInt16(at + 30, kind)
    at += 32
    if (kind === kinds.string) {
      const text = texts[words[from * 2] as number] as string
      view.setInt32(at, nothing)
      view.setInt32(at + 4, nothing)
      const length = out.write(text, at + 12, 'utf8')
      view.setInt32(at + 8, length)
      at += 12 + length
    } else {
      // float: value then no value_int; int and bool: no value, then value_int.
      const float = kind === kinds.float
      const value = float ? at + 4 : at + 8
      view.setInt32(float ? at + 12 : at, nothing)
      view.setInt32(value - 4, 8)
      view.setInt32(value, words[from * 2 + 1] as number)
      view.setInt32(value + 4, words[from * 2] as number)
      view.setInt32(at + 16, nothing)
      at += 20
    }
    view.setInt32(at, 2)
    view.setInt16(at + 4, qualities[from] as number)
    view.setInt32(at + 6, 8)
    view.setInt32(at + 10, ordHigh)
    view.setInt32(at + 14, ordLow)
    at += 18
  }
  return out.subarray(0, at)
}
