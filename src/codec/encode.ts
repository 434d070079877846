/**
 * Points into the streams of a body: runs, and each column as a run of whole numbers. The streams are compressed apart,
 * because each has its own statistics. Layout: docs/formats/segment.md.
 * Invariant: what cannot come back exactly (a fractional time, an unknown kind) is refused here, before it is stored.
 */
import { Failure } from '../errors.ts'
import { segmentPointsMax } from '../limits.ts'
import { kinds, type PointBatch } from '../model.ts'
import { putFloats } from './floats.ts'
import { groupBySeries } from './group.ts'
import { createRun, type IntSinks, putInts, putWides, type Run } from './ints.ts'
import { modes, timeRange } from './layout.ts'
import { type BitSink, createSink, endBits, putByte, putVarint, type Sink } from './streams.ts'
import { putText } from './texts.ts'
import { putTimes } from './times.ts'

interface BodySinks extends IntSinks {
  readonly modes: Sink
  readonly texts: Sink
}
/** Runs of points: `order` lists them run by run. */
export interface Runs {
  readonly order: Uint32Array
  readonly series: Float64Array
  readonly counts: Float64Array
  readonly runCount: number
}
export interface EncodedBody {
  readonly streams: readonly Uint8Array[]
  readonly runCount: number
  readonly timeUsMin: number
  readonly timeUsMax: number
}

const wholeMax = 2 ** 53
const refuse = (text: string): Failure => new Failure('HF-K007', `cannot seal: ${text}`)

const timesInOrder = (points: PointBatch, order: Uint32Array): Float64Array => {
  const sorted = new Float64Array(points.count)
  for (let i = 0; i < sorted.length; i++) {
    const time = points.timeUs[order[i] as number] as number
    if (Math.round(time) !== time || time < -wholeMax || time > wholeMax) {
      throw refuse(`a time is no whole number of microseconds within 2^53: ${time}`)
    }
    sorted[i] = time
  }
  return sorted
}

export const encodeRuns = (points: PointBatch, runs: Runs): EncodedBody => {
  const bits: BitSink = { ...createSink(points.count * 2 + 64), held: 0, heldBits: 0 }
  const sinks: BodySinks = {
    modes: createSink(runs.runCount + 16),
    shapes: createSink(2 * runs.runCount + 16),
    params: createSink(256),
    firsts: createSink(runs.runCount + 16),
    tokens: createSink(points.count + 64),
    texts: createSink(64),
    bits,
  }
  const { order, runCount } = runs
  const sorted = timesInOrder(points, order)
  const columns = bytesInOrder(points, order)
  const mixed = hasMixedRuns(columns.kinds, runs)
  putVarint(sinks.params, runCount)
  putVarint(sinks.params, mixed ? 1 : 0)
  putInts(sinks, runs.series, runCount)
  putInts(sinks, runs.counts, runCount)
  putTimes(sinks, sorted, runs.counts, runCount)
  putInts(sinks, columns.qualities, points.count)
  if (mixed) putInts(sinks, columns.kinds, points.count)
  putValues(sinks, points, runs, columns.kinds)
  endBits(bits)
  const streams = [
    sinks.modes,
    sinks.shapes,
    sinks.params,
    sinks.firsts,
    sinks.tokens,
    sinks.bits,
    sinks.texts,
  ].map((sink) => sink.bytes.subarray(0, sink.length))
  return { streams, runCount, ...timeRange(sorted) }
}

const bytesInOrder = (points: PointBatch, order: Uint32Array) => {
  const kindsInOrder = new Float64Array(points.count)
  const qualities = new Float64Array(points.count)
  for (let i = 0; i < points.count; i++) {
    const at = order[i] as number
    kindsInOrder[i] = points.kinds[at] as number
    qualities[i] = points.qualities[at] as number
  }
  return { kinds: kindsInOrder, qualities }
}

const hasMixedRuns = (kindsInOrder: Float64Array, runs: Runs): boolean => {
  for (let run = 0, at = 0; run < runs.runCount; run++) {
    const end = at + (runs.counts[run] as number)
    for (let i = at + 1; i < end; i++) if (kindsInOrder[i] !== kindsInOrder[at]) return true
    at = end
  }
  return false
}

/** What putting values needs besides the points: scratch for one run, and the texts met so far. */
interface Work {
  readonly words: Int32Array
  readonly floats: Float64Array
  readonly run: Run
  readonly sourceWords: Int32Array
  readonly textNumbers: Map<string, number>
}

const putValues = (
  sinks: BodySinks,
  points: PointBatch,
  runs: Runs,
  kindsInOrder: Float64Array,
): void => {
  let longest = 0
  for (let r = 0; r < runs.runCount; r++) longest = Math.max(longest, runs.counts[r] as number)
  const words = new Int32Array(longest * 2)
  const work: Work = {
    words,
    floats: new Float64Array(words.buffer),
    run: createRun(longest),
    sourceWords: new Int32Array(points.bits.buffer, points.bits.byteOffset, points.count * 2),
    textNumbers: new Map(),
  }
  for (let r = 0, at = 0; r < runs.runCount; r++) {
    const end = at + (runs.counts[r] as number)
    for (let kind = 0; kind <= 3; kind++) {
      const count = gather(work, runs.order, kindsInOrder, at, end, kind)
      if (count > 0) putRun(sinks, work, points, kind, count)
    }
    at = end
  }
}

/** The words of the points of one kind among `order[at..end)`. */
const gather = (
  work: Work,
  order: Uint32Array,
  kindsInOrder: Float64Array,
  at: number,
  end: number,
  kind: number,
): number => {
  const { words, sourceWords } = work
  let count = 0
  for (let i = at; i < end; i++) {
    if (kindsInOrder[i] !== kind) {
      if ((kindsInOrder[i] as number) > 3) throw refuse('a point has no known kind')
      continue
    }
    const from = (order[i] as number) * 2
    words[count * 2] = sourceWords[from] as number
    words[count * 2 + 1] = sourceWords[from + 1] as number
    count++
  }
  return count
}

const putRun = (
  sinks: BodySinks,
  work: Work,
  points: PointBatch,
  kind: number,
  count: number,
): void => {
  const { words, run } = work
  if (kind === kinds.float) {
    putFloats(sinks.modes, sinks, work.floats, words, count, run)
    return
  }
  if (kind === kinds.int) {
    putByte(sinks.modes, modes.int)
    putIntWords(sinks, work, count)
    return
  }
  if (kind === kinds.bool) {
    putByte(sinks.modes, modes.bool)
    for (let i = 0; i < count; i++) {
      run.values[i] = words[2 * i] === 0 && words[2 * i + 1] === 0 ? 0 : 1
    }
  } else {
    putByte(sinks.modes, modes.string)
    for (let i = 0; i < count; i++) run.values[i] = textNumber(sinks, work, points, i)
  }
  putInts(sinks, run.values, count)
}

const textNumber = (sinks: BodySinks, work: Work, points: PointBatch, at: number): number => {
  const text = points.texts[(work.words[2 * at] as number) >>> 0]
  if (text === undefined) throw refuse('a string point names no text')
  const known = work.textNumbers.get(text)
  if (known !== undefined) return known
  const number = work.textNumbers.size
  work.textNumbers.set(text, number)
  putText(sinks.texts, text)
  return number
}

const putIntWords = (sinks: BodySinks, { words, run }: Work, count: number): void => {
  let wide = false
  for (let i = 0; i < count; i++) {
    const hi = words[2 * i + 1] as number
    const lo = words[2 * i] as number
    run.hi[i] = hi
    run.lo[i] = lo
    run.values[i] = hi * 2 ** 32 + (lo >>> 0)
    if (hi < -(2 ** 21) || hi >= 2 ** 21) wide = true
  }
  if (wide) putWides(sinks, run.hi, run.lo, count)
  else putInts(sinks, run.values, count)
}

export const encodeBody = (points: PointBatch): EncodedBody => {
  if (points.count > segmentPointsMax) {
    throw new Failure(
      'HF-K005',
      `${points.count} points in one segment (limit ${segmentPointsMax})`,
    )
  }
  return encodeRuns(points, groupBySeries(points))
}
