/**
 * What a publisher's journal says, keyed by (series, time), in typed arrays: about 60 bytes a
 * point, so that millions fit.
 * Invariants: a key's values keep the order they were accepted in; strings are held as 64 bits of SHA-256.
 */
import { createHash } from 'node:crypto'
import { type Kind, kinds } from '../model.ts'

/** A value as both sides can name it exactly. `text` of a string, else null; `bits` of all others. */
export interface ExactPoint {
  /** Any text that names the series alike in the journal and in the rows. */
  readonly series: string
  readonly timeUs: number
  readonly kind: Kind
  readonly bits: bigint
  readonly text: string | null
  readonly quality: number
}

export const bitsOf = (point: ExactPoint): bigint =>
  point.kind === kinds.string
    ? createHash('sha256')
        .update(point.text ?? '', 'utf16le')
        .digest()
        .readBigUInt64LE(0)
    : BigInt.asUintN(64, point.bits)

const grown = <T extends Uint32Array | Float64Array | BigUint64Array | Uint8Array>(
  from: T,
  make: (size: number) => T,
): T => {
  const to = make(from.length * 2)
  to.set(from as never)
  return to
}

/** Values in the order of the journal; `before` links the values of one key. */
const createValues = () => {
  let count = 0
  let bits = new BigUint64Array(1024)
  /** kind, then acked << 2, then the quality in the high byte's place of its own array. */
  let marks = new Uint8Array(1024)
  let qualities = new Uint8Array(1024)
  let before = new Uint32Array(1024)
  return {
    count: () => count,
    add: (point: ExactPoint, acked: boolean, previous: number): number => {
      if (count === bits.length) {
        bits = grown(bits, (size) => new BigUint64Array(size))
        marks = grown(marks, (size) => new Uint8Array(size))
        qualities = grown(qualities, (size) => new Uint8Array(size))
        before = grown(before, (size) => new Uint32Array(size))
      }
      bits[count] = bitsOf(point)
      marks[count] = point.kind | (acked ? 4 : 0)
      qualities[count] = point.quality
      before[count] = previous
      return ++count
    },
    /** Indexes are from 1; 0 is none. */
    same: (at: number, point: ExactPoint, pointBits: bigint): boolean =>
      bits[at - 1] === pointBits &&
      ((marks[at - 1] as number) & 3) === point.kind &&
      qualities[at - 1] === point.quality,
    acked: (at: number): boolean => ((marks[at - 1] as number) & 4) !== 0,
    before: (at: number): number => before[at - 1] as number,
  }
}

export const createPointTable = () => {
  const seriesNumbers = new Map<string, number>()
  const names: string[] = []
  const values = createValues()
  let size = 0
  let mask = 4095
  let series = new Uint32Array(4096)
  let times = new Float64Array(4096)
  /** acked, unsure, newest, writes: four numbers a slot; a slot is used when newest > 0. */
  let facts = new Uint32Array(4 * 4096)
  let seen = new Uint8Array(4096)

  const slotOf = (number: number, timeUs: number): number => {
    const low = (timeUs % 4294967296) | 0
    const high = Math.floor(timeUs / 4294967296) | 0
    let hash = Math.imul(low ^ Math.imul(number, 0x9e3779b1), 0x85ebca6b) ^ high
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
    let slot = (hash ^ (hash >>> 16)) & mask
    while (facts[slot * 4 + 2] !== 0 && (series[slot] !== number || times[slot] !== timeUs))
      slot = (slot + 1) & mask
    return slot
  }
  const enlarge = () => {
    const old = { series, times, facts, count: mask + 1 }
    mask = old.count * 2 - 1
    series = new Uint32Array(mask + 1)
    times = new Float64Array(mask + 1)
    facts = new Uint32Array(4 * (mask + 1))
    seen = new Uint8Array(mask + 1)
    for (let at = 0; at < old.count; at++) {
      if (old.facts[at * 4 + 2] === 0) continue
      const slot = slotOf(old.series[at] as number, old.times[at] as number)
      series[slot] = old.series[at] as number
      times[slot] = old.times[at] as number
      facts.set(old.facts.subarray(at * 4, at * 4 + 4), slot * 4)
    }
  }
  const numberOf = (name: string): number => {
    const known = seriesNumbers.get(name)
    if (known !== undefined) return known
    seriesNumbers.set(name, seriesNumbers.size)
    return names.push(name) - 1
  }
  return {
    values,
    /** Before any `look`: the whole journal, in accept order. */
    add: (point: ExactPoint, acked: boolean): void => {
      if (size * 2 > mask) enlarge()
      const number = numberOf(point.series)
      const slot = slotOf(number, point.timeUs)
      const at = slot * 4
      if (facts[at + 2] === 0) {
        size++
        series[slot] = number
        times[slot] = point.timeUs
      }
      facts[at + (acked ? 0 : 1)] = (facts[at + (acked ? 0 : 1)] as number) + 1
      facts[at + 2] = values.add(point, acked, facts[at + 2] as number)
    },
    /** The slot of a key, or -1 when nobody ever sent it. */
    find: (name: string, timeUs: number): number => {
      const number = seriesNumbers.get(name)
      if (number === undefined) return -1
      const slot = slotOf(number, timeUs)
      return facts[slot * 4 + 2] === 0 ? -1 : slot
    },
    acked: (slot: number) => facts[slot * 4] as number,
    unsure: (slot: number) => facts[slot * 4 + 1] as number,
    newest: (slot: number) => facts[slot * 4 + 2] as number,
    /** Counts one write of the row; gives how many there were. */
    written: (slot: number): number => {
      facts[slot * 4 + 3] = (facts[slot * 4 + 3] as number) + 1
      return facts[slot * 4 + 3] as number
    },
    /** True the first time. */
    see: (slot: number): boolean => {
      if (seen[slot] === 1) return false
      seen[slot] = 1
      return true
    },
    /** Keys that no row was seen of. */
    *unseen(): Generator<{ readonly slot: number; readonly timeUs: number }> {
      for (let slot = 0; slot <= mask; slot++) {
        if (facts[slot * 4 + 2] !== 0 && seen[slot] === 0)
          yield { slot, timeUs: times[slot] as number }
      }
    },
    nameOf: (slot: number): string => names[series[slot] as number] ?? '?',
  }
}
export type PointTable = ReturnType<typeof createPointTable>
