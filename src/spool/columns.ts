/**
 * The open segment of a lane: points in growable columns, series already numbered by the epoch's dictionary.
 *
 * Invariants: points stay in accept order; a string's bits index `texts` of this object; `truncate` undoes appends.
 */
import { wordsOf } from '../batch.ts'
import { Failure } from '../errors.ts'
import { kinds, type PointBatch } from '../model.ts'

/** Writes the dictionary index of each series of `source` into `into`. */
export type Renumber = (source: Uint32Array, into: Uint32Array) => void
export const asTheyAre: Renumber = (source, into) => into.set(source)

export interface OpenColumns {
  readonly count: () => number
  /** UTF-8 bytes of the strings (at most three a UTF-16 unit): an upper bound, cheap. */
  readonly textBytes: () => number
  /** Appends a batch, its series renumbered to dictionary indexes. Throws HF-S016 before anything changes. */
  readonly append: (batch: PointBatch, renumber: Renumber) => void
  /** Points `from..to-1` as views, good until something is appended or cut off; `texts` are those of all points. */
  readonly slice: (from: number, to: number) => PointBatch
  readonly truncate: (count: number) => void
  /** The end (exclusive) of the longest run from `from` within both limits; at least one point. */
  readonly fit: (from: number, pointsMax: number, textBytesMax: number) => number
}

const timeMax = Number.MAX_SAFE_INTEGER
/** What could not be sealed later must not be accepted now. */
const check = (batch: PointBatch): void => {
  const { count, timeUs, kinds: kindColumn, texts } = batch
  const words = wordsOf(batch)
  for (let at = 0; at < count; at++) {
    const time = timeUs[at] as number
    if (Math.floor(time) !== time || time > timeMax || time < -timeMax) {
      throw new Failure('HF-S016', `a point's time is no whole number of microseconds: ${time}`)
    }
    const kind = kindColumn[at] as number
    const named =
      kind !== kinds.string || (words[at * 2 + 1] === 0 && (words[at * 2] as number) < texts.length)
    if (kind > kinds.string || !named) throw new Failure('HF-S016', 'a point has no value')
  }
}

const textCost = (text: string): number => text.length * 3 + 4

export const createOpenColumns = (): OpenColumns => {
  let capacity = 1024
  let count = 0
  let textBytes = 0
  let series = new Uint32Array(capacity)
  let timeUs = new Float64Array(capacity)
  let kindColumn = new Uint8Array(capacity)
  let qualities = new Uint8Array(capacity)
  let bits = new BigUint64Array(capacity)
  let words = wordsOf({ bits, count: capacity })
  let texts: string[] = []

  const reserve = (needed: number) => {
    if (needed <= capacity) return
    while (capacity < needed) capacity *= 2
    const old = { series, timeUs, kindColumn, qualities, bits }
    series = new Uint32Array(capacity)
    timeUs = new Float64Array(capacity)
    kindColumn = new Uint8Array(capacity)
    qualities = new Uint8Array(capacity)
    bits = new BigUint64Array(capacity)
    words = wordsOf({ bits, count: capacity })
    series.set(old.series.subarray(0, count))
    timeUs.set(old.timeUs.subarray(0, count))
    kindColumn.set(old.kindColumn.subarray(0, count))
    qualities.set(old.qualities.subarray(0, count))
    bits.set(old.bits.subarray(0, count))
  }
  const isText = (at: number): boolean => kindColumn[at] === kinds.string
  /** Of a string: where its text stands. */
  const textIndex = (at: number): number => words[at * 2] as number
  const textAt = (at: number): string => texts[textIndex(at)] as string
  return {
    count: () => count,
    textBytes: () => textBytes,
    append: (batch, renumber) => {
      check(batch)
      const start = count
      reserve(count + batch.count)
      renumber(batch.series, series.subarray(start, start + batch.count))
      timeUs.set(batch.timeUs, start)
      kindColumn.set(batch.kinds, start)
      qualities.set(batch.qualities, start)
      bits.set(batch.bits, start)
      count += batch.count
      if (batch.texts.length === 0) return
      for (let at = start; at < count; at++) {
        if (!isText(at)) continue
        const text = batch.texts[textIndex(at)] as string
        words[at * 2] = texts.length
        texts.push(text)
        textBytes += textCost(text)
      }
    },
    slice: (from, to) => ({
      count: to - from,
      series: series.subarray(from, to),
      timeUs: timeUs.subarray(from, to),
      kinds: kindColumn.subarray(from, to),
      qualities: qualities.subarray(from, to),
      bits: bits.subarray(from, to),
      texts,
    }),
    truncate: (to) => {
      let firstText = texts.length
      for (let at = to; at < count && texts.length > 0; at++) {
        if (isText(at)) firstText = Math.min(firstText, textIndex(at))
      }
      texts = texts.slice(0, firstText)
      textBytes = texts.reduce((sum, text) => sum + textCost(text), 0)
      count = to
    },
    fit: (from, pointsMax, textBytesMax) => {
      const end = Math.min(count, from + pointsMax)
      if (texts.length === 0) return end
      let room = textBytesMax
      for (let at = from; at < end; at++) {
        if (!isText(at)) continue
        room -= textCost(textAt(at))
        if (room < 0 && at > from) return at
      }
      return end
    },
  }
}
