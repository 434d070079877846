/**
 * Points in columns: a growable builder, and the way back to single points for tests and taps.
 * Invariant: a 64-bit pattern that goes in comes out; floats are written through a float view,
 * never through BigInt maths.
 */
import {
  type Kind,
  kinds,
  type Point,
  type PointBatch,
  type Quality,
  type SeriesId,
  type SeriesRef,
  type Value,
} from './model.ts'

export interface BatchBuilder {
  readonly count: () => number
  readonly addFloat: (series: SeriesRef, timeUs: number, value: number, quality: Quality) => void
  readonly addInt: (series: SeriesRef, timeUs: number, value: bigint, quality: Quality) => void
  readonly addBool: (series: SeriesRef, timeUs: number, value: boolean, quality: Quality) => void
  readonly addText: (series: SeriesRef, timeUs: number, value: string, quality: Quality) => void
  readonly add: (series: SeriesRef, timeUs: number, value: Value, quality: Quality) => void
  /** An int within ±(2^53 − 1), without making a bigint. */
  readonly addSafeInt: (series: SeriesRef, timeUs: number, value: number, quality: Quality) => void
  /** The 64-bit pattern as two words: nothing is made of a value that only passes. Not for strings. */
  readonly addWords: (
    series: SeriesRef,
    timeUs: number,
    kind: Kind,
    quality: Quality,
    low: number,
    high: number,
  ) => void
  /** Gives all points from `at` on the same time. */
  readonly setTimeFrom: (at: number, timeUs: number) => void
  /** Forgets the points from `to` on, with their texts. */
  readonly truncate: (to: number) => void
  /** Hands the columns over (trimmed views of them) and starts afresh. */
  readonly take: () => PointBatch
}

/** Columns of `size` points in one allocation: five would cost five times the garbage. */
const columnsOf = (size: number) => {
  const buffer = new ArrayBuffer(size * 22)
  const bits = new BigUint64Array(buffer, 0, size)
  return {
    bits,
    floats: new Float64Array(buffer, 0, size),
    ints: new BigInt64Array(buffer, 0, size),
    words: new Uint32Array(buffer, 0, size * 2),
    timeUs: new Float64Array(buffer, size * 8, size),
    series: new Uint32Array(buffer, size * 16, size),
    kindColumn: new Uint8Array(buffer, size * 20, size),
    qualities: new Uint8Array(buffer, size * 21, size),
  }
}

export const createBatchBuilder = (initialCapacity = 256): BatchBuilder => {
  let capacity = 0
  let count = 0
  let { bits, floats, ints, words, timeUs, series, kindColumn, qualities } = columnsOf(0)
  let texts: string[] = []

  const grow = (): void => {
    const old = { series, timeUs, kindColumn, qualities, bits }
    capacity = Math.max(capacity * 2, initialCapacity, 1)
    ;({ bits, floats, ints, words, timeUs, series, kindColumn, qualities } = columnsOf(capacity))
    bits.set(old.bits)
    timeUs.set(old.timeUs)
    series.set(old.series)
    kindColumn.set(old.kindColumn)
    qualities.set(old.qualities)
  }
  const place = (ref: SeriesRef, time: number, kind: Kind, quality: Quality): number => {
    if (count === capacity) grow()
    series[count] = ref
    timeUs[count] = time
    kindColumn[count] = kind
    qualities[count] = quality
    return count++
  }
  const self: BatchBuilder = {
    count: () => count,
    addFloat: (ref, time, value, quality) => {
      const at = place(ref, time, kinds.float, quality)
      floats[at] = value
    },
    addInt: (ref, time, value, quality) => {
      const at = place(ref, time, kinds.int, quality)
      ints[at] = value
    },
    addSafeInt: (ref, time, value, quality) => {
      const at = place(ref, time, kinds.int, quality) * 2
      words[at] = value
      words[at + 1] = Math.floor(value / 4_294_967_296)
    },
    addWords: (ref, time, kind, quality, low, high) => {
      const at = place(ref, time, kind, quality) * 2
      words[at] = low
      words[at + 1] = high
    },
    setTimeFrom: (at, time) => {
      for (let i = at; i < count; i++) timeUs[i] = time
    },
    truncate: (to) => {
      for (let at = to; at < count; at++) {
        if (kindColumn[at] !== kinds.string) continue
        texts.length = words[at * 2] as number
        break
      }
      // What comes next writes only the low word of a bool or a text.
      bits.fill(0n, to, count)
      count = to
    },
    addBool: (ref, time, value, quality) => {
      const at = place(ref, time, kinds.bool, quality)
      words[at * 2] = value ? 1 : 0
    },
    addText: (ref, time, value, quality) => {
      const at = place(ref, time, kinds.string, quality)
      words[at * 2] = texts.length
      texts.push(value)
    },
    add: (ref, time, value, quality) => {
      if (typeof value === 'number') self.addFloat(ref, time, value, quality)
      else if (typeof value === 'bigint') self.addInt(ref, time, value, quality)
      else if (typeof value === 'boolean') self.addBool(ref, time, value, quality)
      else self.addText(ref, time, value, quality)
    },
    take: () => {
      const taken: PointBatch = {
        count,
        series: series.subarray(0, count),
        timeUs: timeUs.subarray(0, count),
        kinds: kindColumn.subarray(0, count),
        qualities: qualities.subarray(0, count),
        bits: bits.subarray(0, count),
        texts,
      }
      texts = []
      count = 0
      capacity = 0
      ;({ bits, floats, ints, words, timeUs, series, kindColumn, qualities } = columnsOf(0))
      return taken
    },
  }
  return self
}

export const emptyBatch: PointBatch = {
  count: 0,
  series: new Uint32Array(0),
  timeUs: new Float64Array(0),
  kinds: new Uint8Array(0),
  qualities: new Uint8Array(0),
  bits: new BigUint64Array(0),
  texts: [],
}

/** Smaller ones cost more to give back than a collector pays for them. */
const givenBackBytesMin = 4096
/**
 * Lets go of the columns of a batch that nobody reads any more: a collector would come for them seconds later. A use
 * after that finds no points, and handing it over again throws.
 */
export const giveBack = ({ bits, timeUs, series, kinds, qualities }: PointBatch): void => {
  for (const { buffer } of [bits, timeUs, series, kinds, qualities]) {
    if (buffer instanceof ArrayBuffer && buffer.byteLength >= givenBackBytesMin) buffer.transfer(0)
  }
}

/** The value of point `at`; a NaN keeps its payload only in `bits`. */
export const valueAt = (batch: PointBatch, at: number): Value => {
  const { buffer, byteOffset } = batch.bits
  switch (batch.kinds[at] as Kind) {
    case kinds.float:
      return new Float64Array(buffer, byteOffset + at * 8, 1)[0] as number
    case kinds.int:
      return new BigInt64Array(buffer, byteOffset + at * 8, 1)[0] as bigint
    case kinds.bool:
      return batch.bits[at] !== 0n
    case kinds.string:
      return batch.texts[Number(batch.bits[at])] as string
  }
}

/**
 * Two words a point over the same bytes as `bits`, the low one first, as on every platform Node runs on: a BigInt that
 * is read is an object for the collector.
 */
export const wordsOf = ({ bits, count }: Pick<PointBatch, 'bits' | 'count'>): Uint32Array =>
  new Uint32Array(bits.buffer, bits.byteOffset, count * 2)

/** Point `at` of one batch into another; `words` are those of `from`. */
export const copyPoint = (
  to: BatchBuilder,
  from: PointBatch,
  words: Uint32Array,
  at: number,
): void => {
  const [low, high] = [words[at * 2] as number, words[at * 2 + 1] as number]
  const kind = from.kinds[at] as Kind
  const [ref, time] = [from.series[at] as number, from.timeUs[at] as number]
  const quality = from.qualities[at] as number
  if (kind === kinds.string) to.addText(ref, time, from.texts[low] as string, quality)
  else to.addWords(ref, time, kind, quality, low, high)
}

export function* pointsOf(batch: PointBatch, idOf: (ref: SeriesRef) => SeriesId): Generator<Point> {
  for (let at = 0; at < batch.count; at++) {
    yield {
      series: idOf(batch.series[at] as number),
      timeUs: batch.timeUs[at] as number,
      value: valueAt(batch, at),
      quality: batch.qualities[at] as number,
    }
  }
}
