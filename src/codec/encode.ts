/**
 * Points into the streams of a body: runs, and each column as a run of whole numbers. The streams are
 * compressed apart,
 * because each has its own statistics. Layout: docs/formats/segment.md.
 * Invariant: what cannot come back exactly (a fractional time, an unknown kind) is refused here,
 * before it is stored.
 */
import { Failure } from '../errors.ts'
import { segmentPointsMax } from '../limits.ts'
import { kinds, type PointBatch } from '../model.ts'
import { putFloats } from './floats.ts'
import { groupBySeries } from './group.ts'
import { type IntSinks, putInts, putWides, type Run, scratchRun } from './ints.ts'
import { flags, modes, timeRange } from './layout.ts'
import { scratchBytes, scratchFloats } from './scratch.ts'
import {
  type BitSink,
  createSink,
  emptySink,
  endBits,
  putByte,
  putVarint,
  type Sink,
} from './streams.ts'
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
  /** To be read before anything else is encoded: what they stand in is used again. */
  readonly streams: readonly Uint8Array[]
  readonly runCount: number
  readonly timeUsMin: number
  readonly timeUsMax: number
}

const times = scratchFloats()
const kindsOfPoints = scratchBytes()
const qualitiesOfPoints = scratchBytes()
const columnValues = scratchFloats()
const runValues = scratchFloats()
const bits: BitSink = { ...createSink(1024), held: 0, heldBits: 0 }
const sinks: BodySinks = {
  modes: createSink(256),
  shapes: createSink(256),
  params: createSink(256),
  firsts: createSink(256),
  tokens: createSink(1024),
  texts: createSink(64),
  bits,
}

const wholeMax = 2 ** 53
const refuse = (text: string): Failure => new Failure('HF-K007', `cannot seal: ${text}`)

const timesInOrder = (points: PointBatch, order: Uint32Array): Float64Array => {
  const sorted = times(points.count)
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
  for (const sink of Object.values(sinks)) emptySink(sink)
  // What was broken off may have left bits.
  bits.held = 0
  bits.heldBits = 0
  const { order, runCount } = runs
  const sorted = timesInOrder(points, order)
  const oneKind = isConstant(points.kinds, points.count)
  const kindColumn = oneKind ? points.kinds : inOrder(points.kinds, order, kindsOfPoints)
  const mixed = !oneKind && hasMixedRuns(kindColumn, runs)
  const oneQuality = isConstant(points.qualities, points.count)
  putVarint(sinks.params, runCount)
  putVarint(sinks.params, (mixed ? flags.mixedKinds : 0) | (oneQuality ? 0 : flags.qualities))
  putInts(sinks, runs.series, runCount)
  putInts(sinks, runs.counts, runCount)
  putTimes(sinks, sorted, runs.counts, runCount)
  if (oneQuality) putByte(sinks.params, points.qualities[0] ?? 0)
  else putColumn(inOrder(points.qualities, order, qualitiesOfPoints))
  if (mixed) putColumn(kindColumn)
  putValues(sinks, points, runs, kindColumn, mixed)
  endBits(sinks.bits)
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

const inOrder = (
  column: Uint8Array,
  order: Uint32Array,
  scratch: (length: number) => Uint8Array,
): Uint8Array => {
  const sorted = scratch(order.length)
  for (let i = 0; i < sorted.length; i++) sorted[i] = column[order[i] as number] as number
  return sorted
}
const isConstant = (column: Uint8Array, count: number): boolean => {
  for (let i = 1; i < count; i++) if (column[i] !== column[0]) return false
  return true
}
const putColumn = (column: Uint8Array): void => {
  const values = columnValues(column.length)
  values.set(column)
  putInts(sinks, values, column.length)
}

/** Also refuses what is no kind, which else would be left out. */
const hasMixedRuns = (kindsInOrder: Uint8Array, runs: Runs): boolean => {
  for (let i = 0; i < kindsInOrder.length; i++) {
    if ((kindsInOrder[i] as number) > 3) throw refuse(`a point is of kind ${kindsInOrder[i]}`)
  }
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
  kindsInOrder: Uint8Array,
  mixed: boolean,
): void => {
  let longest = 0
  for (let r = 0; r < runs.runCount; r++) longest = Math.max(longest, runs.counts[r] as number)
  const floats = runValues(longest)
  const work: Work = {
    words: new Int32Array(floats.buffer, floats.byteOffset, longest * 2),
    floats,
    run: scratchRun(longest),
    sourceWords: new Int32Array(points.bits.buffer, points.bits.byteOffset, points.count * 2),
    textNumbers: new Map(),
  }
  for (let r = 0, at = 0; r < runs.runCount; r++) {
    const end = at + (runs.counts[r] as number)
    const only = kindsInOrder[at] as number
    for (let kind = mixed ? 0 : only; kind <= (mixed ? 3 : only); kind++) {
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
  kindsInOrder: Uint8Array,
  at: number,
  end: number,
  kind: number,
): number => {
  const { words, sourceWords } = work
  let count = 0
  for (let i = at; i < end; i++) {
    if (kindsInOrder[i] !== kind) continue
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
    if (kind !== kinds.string) throw refuse(`a point is of kind ${kind}`)
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
