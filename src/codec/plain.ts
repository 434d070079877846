/** Columns as they are: count, text count, series, times, kinds, qualities, bits, texts in UTF-16. */
import { Failure } from '../errors.ts'
import type { PointBatch } from '../model.ts'

const malformed = () => new Failure('HF-K006', 'plain columns are malformed')

export const writeColumns = (points: PointBatch): Uint8Array => {
  const { count, texts } = points
  const textBytes = texts.reduce((sum, text) => sum + 4 + text.length * 2, 0)
  const bytes = Buffer.from(new ArrayBuffer(8 + count * 22 + textBytes))
  bytes.writeUInt32LE(count, 0)
  bytes.writeUInt32LE(texts.length, 4)
  let at = 8
  for (const column of [
    points.bits,
    points.timeUs,
    points.series,
    points.kinds,
    points.qualities,
  ]) {
    const part = column.subarray(0, count)
    bytes.set(new Uint8Array(part.buffer, part.byteOffset, part.byteLength), at)
    at += part.byteLength
  }
  for (const text of texts) {
    bytes.writeUInt32LE(text.length, at)
    bytes.write(text, at + 4, 'utf16le')
    at += 4 + text.length * 2
  }
  return bytes
}

export const readColumns = (bytes: Uint8Array): PointBatch => {
  if (bytes.length < 8) throw malformed()
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  const count = view.readUInt32LE(0)
  const textCount = view.readUInt32LE(4)
  let at = 8
  if (count * 22 + textCount * 4 + 8 > bytes.length) throw malformed()
  const take = (size: number) => {
    const part = new Uint8Array(count * size)
    part.set(view.subarray(at, at + count * size))
    at += count * size
    return part
  }
  const bits = new BigUint64Array(take(8).buffer)
  const timeUs = new Float64Array(take(8).buffer)
  const series = new Uint32Array(take(4).buffer)
  const kinds = take(1)
  const qualities = take(1)
  const texts: string[] = []
  for (let n = 0; n < textCount; n++) {
    if (at + 4 > bytes.length) throw malformed()
    const length = view.readUInt32LE(at)
    at += 4
    if (at + length * 2 > bytes.length) throw malformed()
    texts.push(view.toString('utf16le', at, at + length * 2))
    at += length * 2
  }
  if (at !== bytes.length) throw malformed()
  return { count, series, timeUs, kinds, qualities, bits, texts }
}
