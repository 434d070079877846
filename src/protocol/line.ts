/**
 * InfluxDB line protocol, from bytes straight into columns: `measurement,tag=value field=value,… time`.
 * What each door accepts stands in docs/operate/sources.md; names map as in `line-name.ts`.
 *
 * Invariants: a line is wholly taken or it leaves a trouble that names it (a *malformed* line loses all its points, a
 * *refused* value or series only its own point); a bad line never changes what a good one says; a known series costs
 * no string and no allocation; memory stays within the body, `pointsMax`, and the bounds of the index.
 */
import { isUtf8 } from 'node:buffer'
import { type BatchBuilder, createBatchBuilder } from '../batch.ts'
import { isFailure } from '../errors.ts'
import { quarantineSampleBytesMax, seriesMax } from '../limits.ts'
import { kinds, type PointBatch, quality, type SeriesTable } from '../model.ts'
import { type ByteIndex, createByteIndex } from './byte-index.ts'
import { seriesNameOf } from './line-name.ts'
import {
  afterBadLine,
  afterLine,
  headTrouble,
  isDigit,
  isLineEnd,
  namesOf,
  newlinesIn,
  scanKey,
  skipBlanks,
  skipSpaces,
  unescapeKey,
} from './line-text.ts'
import { createScanned, type Scanned, scanValue } from './line-value.ts'

/** Microseconds of one unit; `ns` is divided instead. */
const unitsUs = { ns: 0, us: 1, ms: 1e3, s: 1e6, m: 6e7, h: 3.6e9 } as const
export type LinePrecision = keyof typeof unitsUs
/** Every spelling of the `precision` parameter that InfluxDB 1 and 2 know. */
export const linePrecisions: Readonly<Record<string, LinePrecision>> = {
  ...{ n: 'ns', ns: 'ns', u: 'us', us: 'us', µ: 'us', ms: 'ms', s: 's', m: 'm', h: 'h' },
}

export interface LineTrouble {
  /** Both from 1; the column counts bytes. */
  readonly line: number
  readonly column: number
  readonly reason: 'malformed' | 'refused'
  readonly text: string
  /** Beginning of the line, for the quarantine. */
  readonly sample: Uint8Array
}
export interface LineReading {
  /**
   * The next points, in whole lines: at least `pointsMax` unless the end is reached, and at most
   * one line more. A point whose line has no time gets NaN.
   */
  readonly next: (pointsMax: number) => PointBatch
  readonly done: () => boolean
  /** The first `troublesMax` of them. */
  readonly troubles: readonly LineTrouble[]
  /** Lines malformed and points refused so far, all of them. */
  readonly counts: { readonly lines: number; readonly malformed: number; readonly refused: number }
}
export interface LineParser {
  readonly read: (bytes: Uint8Array, precision: LinePrecision) => LineReading
}

export const troublesMax = 100
const fieldsMax = 10_000
const space = 32
const hash = 35
const comma = 44
const minus = 45
const equals = 61
const quote = 34
/** Parent of heads in the index, and two answers of `readKey`. */
const noHead = -1
const malformed = -1
const refused = -2

/** One parser per door: what it remembers of series keys is shared by all bodies it reads. */
export const createLineParser = (series: Pick<SeriesTable, 'ref'>): LineParser => {
  // A field of a series costs about 20 bytes here, its head 60; spellings of one series each count.
  const index = createByteIndex({ entriesMax: 2 * seriesMax, bytesMax: 96 * seriesMax })
  const memory: Memory = { series, index, heads: 0 }
  return { read: (bytes, precision) => createReading(bytes, precision, memory) }
}

interface Memory {
  readonly series: Pick<SeriesTable, 'ref'>
  readonly index: ByteIndex
  /** Numbers given to heads: fields hang under them, so no living head may share one. */
  heads: number
}
/** Where a reading stands. A plain object with plain functions over it: closures would make one function of all. */
interface State {
  readonly bytes: Buffer
  readonly precision: LinePrecision
  readonly memory: Memory
  readonly found: Scanned
  readonly troubles: LineTrouble[]
  readonly counts: { lines: number; malformed: number; refused: number }
  builder: BatchBuilder
  at: number
  line: number
  lineStart: number
  /** Of this line: its number in the index, and the offset of the space behind it. */
  head: number
  headEnd: number
  /** The index entry seen last: what came after it before is the guess for what comes now. */
  last: number
  /** Newlines inside strings of this line. */
  newlines: number
  fault: string
  faultAt: number
}

const createReading = (
  given: Uint8Array,
  precision: LinePrecision,
  memory: Memory,
): LineReading => {
  const bytes = Buffer.from(given.buffer, given.byteOffset, given.byteLength)
  const state: State = {
    ...{ bytes, precision, memory, found: createScanned(), troubles: [] },
    ...{ counts: { lines: 0, malformed: 0, refused: 0 }, builder: createBatchBuilder(1) },
    ...{ at: 0, line: 1, lineStart: 0, head: noHead, headEnd: 0, last: -1, newlines: 0 },
    ...{ fault: '', faultAt: 0 },
  }
  return {
    next: (pointsMax) => {
      // A point takes 16 bytes of a body at the least, 40 as a rule.
      const guess = Math.min(pointsMax + 64, ((bytes.length - state.at) >> 4) + 8)
      state.builder = createBatchBuilder(guess)
      while (state.at < bytes.length && state.builder.count() < pointsMax) readLine(state)
      return state.builder.take()
    },
    done: () => state.at >= bytes.length,
    troubles: state.troubles,
    counts: state.counts,
  }
}

/** Takes one physical line (or one that goes on inside a string): a comment, nothing, or points. */
const readLine = (state: State): void => {
  const { bytes, builder, counts } = state
  const start = skipBlanks(bytes, state.at)
  const code = bytes[start]
  if (code === hash || isLineEnd(bytes, start)) {
    state.at = afterLine(bytes, start)
    state.line++
    return
  }
  state.lineStart = start
  state.newlines = 0
  counts.lines++
  const first = builder.count()
  const troublesBefore = state.troubles.length
  const refusedBefore = counts.refused
  const end = readPoints(state, first)
  if (end >= 0) {
    state.at = end
    state.line += 1 + state.newlines
    return
  }
  builder.truncate(first)
  state.troubles.length = troublesBefore
  counts.refused = refusedBefore
  note(state, 'malformed', state.faultAt, state.fault)
  state.last = -1
  state.at = afterBadLine(bytes, start)
  state.line += newlinesIn(bytes, start, state.at)
}

/** Offset of the next line, or -1 with the fault set; points are placed from `first` on. */
const readPoints = (state: State, first: number): number => {
  const { bytes } = state
  let end = readHead(state)
  if (end < 0) return -1
  end = readFields(state, skipSpaces(bytes, end))
  if (end < 0) return -1
  end = skipSpaces(bytes, end)
  const code = bytes[end]
  if (code !== undefined && (code === minus || isDigit(code))) {
    end = readTime(state, end, first)
    if (end < 0) return -1
    end = skipSpaces(bytes, end)
  }
  if (isLineEnd(bytes, end)) return afterLine(bytes, end)
  return fail(state, end, 'unexpected text where a time or the end of the line should be')
}

const fail = (state: State, where: number, text: string): -1 => {
  state.fault = text
  state.faultAt = where
  return -1
}
const note = (state: State, reason: LineTrouble['reason'], where: number, text: string): void => {
  const { bytes, troubles, lineStart, line } = state
  state.counts[reason]++
  if (troubles.length >= troublesMax) return
  const end = Math.min(afterBadLine(bytes, lineStart), lineStart + quarantineSampleBytesMax)
  const sample = new Uint8Array(bytes.subarray(lineStart, end))
  troubles.push({ line, column: where - lineStart + 1, reason, text, sample })
}

/** Offset behind the head and its space, or -1. */
const readHead = (state: State): number => {
  const { bytes, memory, lineStart } = state
  const { index } = memory
  let entry = index.after(state.last)
  let end = index.follow(entry, noHead, bytes, lineStart)
  if (end < 0) {
    end = scanKey(bytes, lineStart, space) + 1
    if (end === 0) return fail(state, lineStart, 'no field: measurement,tag=value field=value')
    entry = index.find(noHead, bytes, lineStart, end)
    if (entry < 0) {
      const trouble = headTrouble(bytes, lineStart, end - 1)
      if (trouble !== undefined) return fail(state, trouble.at, trouble.text)
      memory.heads = (memory.heads + 1) & 0x3fff_ffff
      entry = index.add(noHead, bytes, lineStart, end, memory.heads)
    }
    index.setAfter(state.last, entry)
  }
  state.head = index.value(entry)
  state.headEnd = end - 1
  state.last = entry
  return end
}

/** Offset behind the fields, or -1. */
const readFields = (state: State, from: number): number => {
  const { bytes, found } = state
  let start = from
  for (let fields = 0; fields < fieldsMax; fields++) {
    const ref = readKey(state, start)
    if (ref === malformed) return -1
    const valueAt = state.at
    const good = scanValue(bytes, valueAt, found)
    if (!good && !found.refused) return fail(state, found.end, found.trouble)
    if (ref === refused) note(state, 'refused', start, state.fault)
    else if (good) place(state.builder, ref, found)
    else note(state, 'refused', valueAt, found.trouble)
    if (bytes[valueAt] === quote) state.newlines += newlinesIn(bytes, valueAt, found.end)
    if (bytes[found.end] !== comma) return found.end
    start = found.end + 1
  }
  return fail(state, start, `more than ${fieldsMax} fields`)
}

/** Series of the field that begins at `from`, or `malformed`, or `refused`; `state.at` is then behind its `=`. */
const readKey = (state: State, from: number): number => {
  const { bytes, memory, head } = state
  const { index } = memory
  const guess = index.after(state.last)
  const end = index.follow(guess, head, bytes, from)
  if (end >= 0) {
    state.at = end
    state.last = guess
    return index.value(guess)
  }
  const keyEnd = scanKey(bytes, from, equals)
  if (keyEnd < 0) return fail(state, from, 'a field is not of the form key=value')
  if (keyEnd === from) return fail(state, from, 'a field key is missing')
  state.at = keyEnd + 1
  let entry = index.find(head, bytes, from, keyEnd + 1)
  if (entry < 0) {
    const ref = resolve(state, from, keyEnd)
    if (ref < 0) return refused
    entry = index.add(head, bytes, from, keyEnd + 1, ref)
  }
  index.setAfter(state.last, entry)
  state.last = entry
  return index.value(entry)
}
const resolve = (state: State, from: number, to: number): number => {
  const { bytes, lineStart, headEnd, memory } = state
  if (!isUtf8(bytes.subarray(lineStart, headEnd)) || !isUtf8(bytes.subarray(from, to))) {
    return fail(state, from, 'the series is not well-formed UTF-8')
  }
  const { measurement, tags } = namesOf(bytes, lineStart, headEnd)
  const field = unescapeKey(bytes.toString('utf8', from, to))
  try {
    return memory.series.ref(seriesNameOf(measurement, field), tags)
  } catch (error) {
    if (!isFailure(error)) throw error
    return fail(state, from, error.message)
  }
}

const place = (builder: BatchBuilder, ref: number, { kind, number, big, text }: Scanned): void => {
  // The time comes at the line's end; NaN asks for the time of arrival.
  if (kind === kinds.float) builder.addFloat(ref, Number.NaN, number, quality.good)
  else if (kind === kinds.bool) builder.addBool(ref, Number.NaN, number === 1, quality.good)
  else if (kind === kinds.string) builder.addText(ref, Number.NaN, text, quality.good)
  else if (big === undefined) builder.addSafeInt(ref, Number.NaN, number, quality.good)
  else builder.addInt(ref, Number.NaN, big, quality.good)
}

/** Offset behind the time, or -1; the time goes to all points from `first` on. */
const readTime = (state: State, from: number, first: number): number => {
  const { bytes, precision } = state
  const negative = bytes[from] === minus
  const start = negative ? from + 1 : from
  let end = start
  while (end < bytes.length && isDigit(bytes[end] as number)) end++
  if (end === start) return fail(state, from, 'the time is no whole number')
  const cut = precision === 'ns' ? Math.max(start, end - 3) : end
  let value = 0
  for (let at = start; at < cut; at++) value = value * 10 + ((bytes[at] as number) - 48)
  if (precision !== 'ns') value *= unitsUs[precision]
  if (negative) {
    value = -value
    // Floor, also before 1970.
    let rest = 0
    for (let at = cut; at < end; at++) rest |= (bytes[at] as number) - 48
    if (rest !== 0) value -= 1
  }
  if (!Number.isSafeInteger(value)) {
    return fail(state, from, `the time is out of range (is the precision really ${precision}?)`)
  }
  state.builder.setTimeFrom(first, value + 0)
  return end
}
