/**
 * A file of points as text: blocks, each a header line and the lines it counts. Written by the `file` destination,
 * read back by `holdfast import`; docs/formats/points-file.md. Pure.
 *
 * Invariants: a block says its length and checksum before its lines, so that no text in a point can be taken for a
 * header and a torn end is found; NDJSON holds every 64-bit pattern, every string and every quality; line protocol
 * holds what `line-write.ts` can say.
 */
import { type BatchBuilder, createBatchBuilder, valueAt } from '../batch.ts'
import { Failure } from '../errors.ts'
import {
  type EpochId,
  type Gap,
  gapReasons,
  kinds,
  type LaneId,
  type PointBatch,
  type Seq,
  type SeriesKey,
  type SeriesTable,
} from '../model.ts'
import { crc32c } from './crc32c.ts'

export type PointsFormat = 'ndjson' | 'lines'
/** What one block stands for. A segment makes one block or several, a gap one without lines. */
export interface BlockHeader {
  readonly format: PointsFormat
  readonly agent: string
  readonly lane: string
  readonly laneId: LaneId
  readonly epoch: EpochId
  readonly seq: Seq
  readonly seqLast: Seq
  /** From 0; the last one of a segment says so. */
  readonly part: number
  readonly last: boolean
  /** Lines of points below. */
  readonly points: number
  /** Points of these seqs that the format cannot hold. */
  readonly leftOut: number
  /** Of the segment; 0 when unknown. */
  readonly timeUsMin: number
  readonly timeUsMax: number
  readonly gap: Gap | null
  /** Sent again on purpose. */
  readonly replay: boolean
}
export interface Block {
  readonly header: BlockHeader
  readonly body: Uint8Array
}

/** A block is closed at the first line beyond this. */
export const blockBytesTarget = 1024 * 1024
const headerBytesMax = 16 * 1024
/** Target, and one line more: the longest string, each character escaped to six bytes, and the longest name so too. */
export const blockBytesMax = 2 * 1024 * 1024
const newline = 10

export const encodeBlock = ({ header, body }: Block): Uint8Array => {
  const check = { bytes: body.length, crc32c: crc32c(body).toString(16).padStart(8, '0') }
  const text = JSON.stringify({ holdfast: 1, ...header, ...check })
  const head = Buffer.from(header.format === 'lines' ? `# ${text}\n` : `${text}\n`, 'utf8')
  return Buffer.concat([head, body])
}

const bad = (text: string): Failure =>
  new Failure('HF-K020', text, 'Is this file whole, and made by Holdfast? Copy it again.')
const isCount = (value: unknown): value is number => Number.isSafeInteger(value)
const isText = (value: unknown): value is string => typeof value === 'string'

const gapOf = (value: unknown): Gap | null => {
  if (value === null) return null
  const { reason, count, source, timeUsMin, timeUsMax } = value as Record<string, unknown>
  const known = gapReasons.find((one) => one === reason)
  if (known === undefined || !isCount(count) || !isText(source)) throw bad('a gap does not read')
  if (!isCount(timeUsMin) || !isCount(timeUsMax)) throw bad('a gap does not read')
  return { reason: known, count, source, timeUsMin, timeUsMax }
}
const headerOf = (text: string): { header: BlockHeader; bytes: number; crc: string } => {
  let all: Record<string, unknown>
  try {
    all = JSON.parse(text.replace(/^# /, '')) as Record<string, unknown>
  } catch {
    throw bad('a block begins with no header')
  }
  const { holdfast, format, agent, lane, laneId, epoch, seq, seqLast, part, last } = all
  const { points, leftOut, timeUsMin, timeUsMax, gap, replay, bytes, crc32c: crc } = all
  if (holdfast !== 1) throw bad(`a block of version ${holdfast}, this reads version 1`)
  if (format !== 'ndjson' && format !== 'lines') throw bad('a block of an unknown format')
  const numbers = [laneId, seq, seqLast, part, points, leftOut, timeUsMin, timeUsMax, bytes]
  if (!numbers.every(isCount) || (seq as number) < 1 || (seqLast as number) < (seq as number))
    throw bad('a header does not read')
  if (!isText(agent) || !isText(lane) || !isText(crc)) throw bad('a header does not read')
  if (!isText(epoch) || !/^[0-9a-f]{32}$/.test(epoch)) throw bad('a header names no epoch')
  const header = { format, agent, lane, laneId, epoch, seq, seqLast, part, points } as BlockHeader
  const more = { leftOut, timeUsMin, timeUsMax, last: last === true, replay: replay === true }
  const whole = { ...header, ...more, gap: gapOf(gap) } as BlockHeader
  return { header: whole, bytes: bytes as number, crc }
}

/**
 * The block at `at` and where the next one begins; undefined where it is not all there. Throws Failure HF-K020 when
 * what is there is no block, or another than was written.
 */
export const readBlock = (
  bytes: Uint8Array,
  at: number,
): { readonly block: Block; readonly end: number } | undefined => {
  const line = bytes.indexOf(newline, at)
  if (line < 0 || line - at > headerBytesMax) {
    if (bytes.length - at > headerBytesMax) throw bad('a block begins with no header')
    return undefined
  }
  const text = Buffer.from(bytes.buffer, bytes.byteOffset + at, line - at).toString('utf8')
  const { header, bytes: length, crc } = headerOf(text)
  if (length < 0 || length > blockBytesMax) throw bad(`a block of ${length} bytes`)
  const end = line + 1 + length
  if (end > bytes.length) return undefined
  const body = bytes.subarray(line + 1, end)
  if (crc32c(body).toString(16).padStart(8, '0') !== crc) throw bad('a block fails its checksum')
  return { block: { header, body }, end }
}

// ── points as NDJSON ────────────────────────────────────────────────────────────────────────────

const canonicalNaN = 0x7ff8000000000000n
/** Everything of a line that is the series' own: keep it. */
export const ndjsonPrefix = ({ name, tags, unit }: SeriesKey & { unit: string }): string => {
  const all = tags.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`)
  const said = all.length === 0 ? '' : `,"tags":{${all.join(',')}}`
  const of = unit === '' ? '' : `,"unit":${JSON.stringify(unit)}`
  return `{"series":${JSON.stringify(name)}${said}${of},"time":`
}
/** One point as a line, without its newline. */
export const ndjsonLine = (prefix: string, points: PointBatch, at: number): string => {
  const value = valueAt(points, at)
  const said = points.qualities[at] ? `,"quality":${points.qualities[at]}}` : '}'
  const start = `${prefix}${points.timeUs[at]},"type":`
  if (typeof value === 'bigint') return `${start}"int","value":"${value}"${said}`
  if (typeof value === 'boolean') return `${start}"bool","value":${value}${said}`
  if (typeof value === 'string') return `${start}"string","value":${JSON.stringify(value)}${said}`
  const number = Object.is(value, -0) ? '-0' : String(value)
  if (Number.isFinite(value)) return `${start}"float","value":${number}${said}`
  const pattern = points.bits[at] as bigint
  const payload = Number.isNaN(value) && pattern !== canonicalNaN
  const bits = payload ? `,"bits":"${pattern.toString(16).padStart(16, '0')}"` : ''
  return `${start}"float","value":"${number}"${bits}${said}`
}

const specials: Readonly<Record<string, bigint>> = {
  NaN: canonicalNaN,
  Infinity: 0x7ff0000000000000n,
  '-Infinity': 0xfff0000000000000n,
}
interface Line {
  readonly series?: unknown
  readonly tags?: unknown
  readonly unit?: unknown
  readonly time?: unknown
  readonly type?: unknown
  readonly value?: unknown
  readonly bits?: unknown
  readonly quality?: unknown
}
type Place = (line: Line, ref: number, timeUs: number, quality: number) => boolean

/** Lines of an NDJSON block as columns. `raws` are floats whose pattern a number would not carry. */
const placer = (builder: BatchBuilder, raws: number[]): Place => {
  return ({ type, value, bits }, ref, timeUs, quality) => {
    if (type === 'float' && typeof value === 'number') builder.addFloat(ref, timeUs, value, quality)
    else if (type === 'float' && isText(value) && value in specials) {
      if (bits !== undefined && !(isText(bits) && /^[0-9a-f]{16}$/.test(bits))) return false
      const pattern = isText(bits) ? BigInt(`0x${bits}`) : (specials[value] as bigint)
      raws.push(builder.count())
      builder.addInt(ref, timeUs, BigInt.asIntN(64, pattern), quality)
    } else if (type === 'int' && isText(value) && /^-?\d{1,19}$/.test(value)) {
      const int = BigInt(value)
      if (BigInt.asIntN(64, int) !== int) return false
      builder.addInt(ref, timeUs, int, quality)
    } else if (type === 'bool' && typeof value === 'boolean')
      builder.addBool(ref, timeUs, value, quality)
    else if (type === 'string' && isText(value)) builder.addText(ref, timeUs, value, quality)
    else return false
    return true
  }
}
const tagsIn = (value: unknown): [string, string][] | undefined => {
  if (value === undefined) return []
  if (typeof value !== 'object' || value === null) return undefined
  const tags = Object.entries(value)
  return tags.every((one): one is [string, string] => isText(one[1])) ? tags : undefined
}

/** Reads a block's lines. `more` are tags given to every series. Throws HF-K020, or what `series.ref` throws. */
export const readNdjson = (
  body: Uint8Array,
  series: Pick<SeriesTable, 'ref'>,
  more: readonly (readonly [string, string])[],
): PointBatch => {
  const builder = createBatchBuilder()
  const raws: number[] = []
  const place = placer(builder, raws)
  const lines = Buffer.from(body.buffer, body.byteOffset, body.length).toString('utf8').split('\n')
  lines.pop()
  lines.forEach((text, at) => {
    let line: Line
    try {
      line = JSON.parse(text) as Line
    } catch {
      throw bad(`line ${at + 1} of a block is no JSON`)
    }
    const { series: name, unit = '', time, quality = 0 } = line
    const tags = tagsIn(line.tags)
    const good = isText(name) && isText(unit) && isCount(time) && isCount(quality)
    if (!good || tags === undefined || quality < 0 || quality > 255)
      throw bad(`line ${at + 1} of a block is no point`)
    const ref = series.ref(name, [...tags, ...more], unit)
    if (!place(line, ref, time, quality)) throw bad(`line ${at + 1} of a block has no value`)
  })
  const points = builder.take()
  for (const at of raws) points.kinds[at] = kinds.float
  return points
}
