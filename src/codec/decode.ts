/**
 * The streams of a body back into points.
 * Invariants: counts are checked before anything is allocated or filled by them, and every stream is
 * used up; whatever
 * the bytes say, the outcome is points or Failure HF-K006.
 */
import { kinds, type PointBatch } from '../model.ts'
import { modeMask, takeFloats } from './floats.ts'
import { isFloatMode } from './forms.ts'
import {
  type IntCursors,
  numbersOf,
  putWords,
  type Run,
  scratchRun,
  takeInts,
  wordsOf,
} from './ints.ts'
import { flags, modes } from './layout.ts'
import { type BitCursor, type Cursor, malformed, takeByte, takeVarint } from './streams.ts'
import { takeTexts } from './texts.ts'
import { takeTimes } from './times.ts'

interface BodyCursors extends IntCursors {
  readonly modes: Cursor
  readonly texts: Cursor
}

const openStreams = (streams: readonly Uint8Array[]): BodyCursors => {
  const [modes, shapes, params, firsts, tokens, bits, texts] = streams.map((bytes) => ({
    bytes,
    at: 0,
  })) as [Cursor, Cursor, Cursor, Cursor, Cursor, Cursor, Cursor]
  // Spare bytes, so that reading a word at the end needs no check of its own.
  const padded = new Uint8Array(bits.bytes.length + 8)
  padded.set(bits.bytes)
  const bitCursor: BitCursor = { bytes: padded, at: 0, bits: bits.bytes.length * 8 }
  return { modes, shapes, params, firsts, tokens, bits: bitCursor, texts }
}
const checkUsedUp = (cursors: BodyCursors): void => {
  for (const stream of ['modes', 'shapes', 'params', 'firsts', 'tokens', 'texts'] as const) {
    const { at, bytes } = cursors[stream]
    if (at !== bytes.length) throw malformed(`${bytes.length - at} ${stream} left over`)
  }
  if (cursors.bits.bits - cursors.bits.at > 7) throw malformed('bits left over')
}

/** A column of `count` numbers within 0..most. */
const takeColumn = (from: IntCursors, run: Run, count: number, most: number): Float64Array => {
  takeInts(from, run, count)
  const column = numbersOf(run, count).slice(0, count)
  for (let i = 0; i < count; i++) {
    const value = column[i] as number
    if (!(value >= 0 && value <= most)) throw malformed('a column leaves its range')
  }
  return column
}

/** Decodes `pointCount` points (already checked against limits.ts) from the streams of a body. */
export const decodeBody = (
  streams: readonly Uint8Array[],
  pointCount: number,
  runsExpected: number,
): PointBatch => {
  const cursors = openStreams(streams)
  const run = scratchRun(pointCount)
  const runCount = takeVarint(cursors.params)
  const flagged = takeVarint(cursors.params)
  const mixed = (flagged & flags.mixedKinds) !== 0
  if (runCount !== runsExpected || runCount > pointCount) throw malformed('its run count is wrong')
  const seriesOfRuns = takeColumn(cursors, run, runCount, 0xffff_ffff)
  const counts = takeColumn(cursors, run, runCount, pointCount)
  let sum = 0
  for (const count of counts) sum += count >= 1 ? count : Number.NaN
  if (sum !== pointCount) throw malformed('its runs do not add up to its points')
  const timeUs = new Float64Array(pointCount)
  takeTimes(cursors, run, timeUs, counts, runCount)
  const qualities = new Uint8Array(pointCount)
  if ((flagged & flags.qualities) !== 0) {
    qualities.set(takeColumn(cursors, run, pointCount, 255))
  } else qualities.fill(takeByte(cursors.params))
  const kindColumn = new Uint8Array(pointCount)
  if (mixed) kindColumn.set(takeColumn(cursors, run, pointCount, 3))
  const series = new Uint32Array(pointCount)
  for (let r = 0, at = 0; r < runCount; r++) {
    const end = at + (counts[r] as number)
    series.fill(seriesOfRuns[r] as number, at, end)
    at = end
  }
  const texts = takeTexts(cursors.texts, pointCount)
  const bits = new BigUint64Array(pointCount)
  takeValues(cursors, run, counts, mixed, kindColumn, bits, texts.length)
  checkUsedUp(cursors)
  return { count: pointCount, series, timeUs, kinds: kindColumn, qualities, bits, texts }
}

const takeValues = (
  cursors: BodyCursors,
  run: Run,
  counts: Float64Array,
  mixed: boolean,
  kindColumn: Uint8Array,
  bits: BigUint64Array,
  textCount: number,
): void => {
  const floats = new Float64Array(bits.buffer)
  const words = new Int32Array(bits.buffer)
  let at = 0
  for (const count of counts) {
    if (mixed) takeMixedRun(cursors, run, kindColumn, words, at, count, textCount)
    else {
      const kind = takeRun(cursors, run, floats, words, at, count, textCount)
      if (kind !== 0) kindColumn.fill(kind, at, at + count)
    }
    at += count
  }
}

/** Kind after kind, each into its own places. */
const takeMixedRun = (
  cursors: BodyCursors,
  run: Run,
  kindColumn: Uint8Array,
  words: Int32Array,
  at: number,
  count: number,
  textCount: number,
): void => {
  const part = new Int32Array(count * 2)
  const floats = new Float64Array(part.buffer)
  for (let kind = 0; kind <= 3; kind++) {
    let members = 0
    for (let i = at; i < at + count; i++) if (kindColumn[i] === kind) members++
    if (members === 0) continue
    if (takeRun(cursors, run, floats, part, 0, members, textCount) !== kind) {
      throw malformed('a run is of another kind')
    }
    for (let i = at, member = 0; i < at + count; i++) {
      if (kindColumn[i] !== kind) continue
      words[2 * i] = part[2 * member] as number
      words[2 * i + 1] = part[2 * member + 1] as number
      member++
    }
  }
}

/** Takes one run of one kind into `words[2 at..]` and returns its kind. */
const takeRun = (
  cursors: BodyCursors,
  run: Run,
  floats: Float64Array,
  words: Int32Array,
  at: number,
  count: number,
  textCount: number,
): number => {
  const form = takeByte(cursors.modes)
  if (isFloatMode(form & modeMask)) {
    takeFloats(form, cursors, run, floats, words, at, count)
    return kinds.float
  }
  takeInts(cursors, run, count)
  if (form === modes.int) {
    wordsOf(run, count)
    putWords(run, words, at, count)
    return kinds.int
  }
  if (form !== modes.bool && form !== modes.string) throw malformed('a mode has no meaning')
  const most = form === modes.bool ? 1 : textCount - 1
  const values = numbersOf(run, count)
  for (let i = 0; i < count; i++) {
    const value = values[i] as number
    if (!(value >= 0 && value <= most)) throw malformed('a value leaves its range')
    words[2 * (at + i)] = value
    words[2 * (at + i) + 1] = 0
  }
  return form === modes.bool ? kinds.bool : kinds.string
}
