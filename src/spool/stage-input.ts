/**
 * What stages read: sealed segments checked and decoded, their series numbered once for the life of the process.
 *
 * Invariants: a number means one series for ever (numbers of older epochs' dictionaries are followed to the same
 * ones); `raw` holds one decoded segment at a time beside a bounded memory of the last ones; bytes that are damaged
 * are left out, never altered.
 */
import { openSegment } from '../codec/segment.ts'
import { textOf } from '../errors.ts'
import { readPointsMax } from '../limits.ts'
import type { PointBatch, Segment, Seq, SeriesEntry, SeriesId } from '../model.ts'
import { entryIn } from './epochs.ts'
import { blob, integer } from './schema.ts'
import { createLosses, type Losses } from './stage-losses.ts'
import { keyOf, type LaneState, type SpoolState, seqOf, throwFatal } from './state.ts'

export interface Feed extends Pick<Losses, 'lacks' | 'missed'> {
  readonly entry: (series: number) => SeriesEntry
  /** Throws when the bytes or their dictionary are damaged. */
  readonly open: (segment: Pick<Segment, 'epoch' | 'bytes'>) => PointBatch
  /** Points of segments `first..through` with `fromUs <= time < toUs`, a segment at a time. */
  readonly raw: (
    lane: LaneState,
    first: Seq,
    through: Seq,
    fromUs: number,
    toUs: number,
  ) => Generator<PointBatch>
}

const none = 0xffff_ffff

export const createFeed = (state: SpoolState): Feed => {
  const entries: SeriesEntry[] = []
  const numbers = new Map<SeriesId, number>()
  /** By ordinal: dictionary index to number. */
  const known = new Map<number, Uint32Array>()
  const losses = createLosses(state)
  /** Segments that `raw` decoded, newest last, by key. */
  const decoded = new Map<number, PointBatch>()
  let decodedPoints = 0

  const learn = (ordinal: number, index: number): number => {
    const entry = entryIn(state, ordinal, index)
    const number = numbers.get(entry.id) ?? entries.length
    if (number === entries.length) {
      entries.push(entry)
      numbers.set(entry.id, number)
    }
    let map = known.get(ordinal)
    if (map === undefined || index >= map.length) {
      const grown = new Uint32Array(Math.max(index + 1, (map?.length ?? 512) * 2)).fill(none)
      if (map !== undefined) grown.set(map)
      map = grown
      known.set(ordinal, map)
    }
    map[index] = number
    return number
  }
  const renumber = (ordinal: number, series: Uint32Array) => {
    let index = none
    let number = none
    // A segment's points come series by series.
    for (let at = 0; at < series.length; at++) {
      if (series[at] !== index) {
        index = series[at] as number
        number = known.get(ordinal)?.[index] ?? none
        if (number === none) number = learn(ordinal, index)
      }
      series[at] = number
    }
  }
  const decode = (ordinal: number, bytes: Uint8Array): PointBatch => {
    const { points } = openSegment(bytes)
    const series = Uint32Array.from(points.series)
    renumber(ordinal, series)
    return { ...points, series }
  }
  const ordinalOf = (epoch: string): number =>
    state.epochs.findLast((row) => row.epoch === epoch)?.ordinal ?? state.ordinal

  const remembered = (lane: LaneState, row: RawRow): PointBatch | undefined => {
    const found = decoded.get(row.key)
    if (found !== undefined) return found
    try {
      const points = decode(row.epoch, row.bytes)
      decoded.set(row.key, points)
      decodedPoints += points.count
      for (const [key, { count }] of decoded) {
        if (decodedPoints <= readPointsMax || decoded.size === 1) break
        decoded.delete(key)
        decodedPoints -= count
      }
      return points
    } catch (error) {
      throwFatal(state, error)
      const facts = { lane: lane.name, seq: seqOf(row.key), text: textOf(error) }
      state.host.log.warn('segment is damaged', facts)
      losses.damaged(lane, row)
      return undefined
    }
  }
  function* raw(lane: LaneState, first: Seq, through: Seq, fromUs: number, toUs: number) {
    for (let after = first - 1; ; ) {
      const row = state
        .sql(
          `SELECT key, ${integer('epoch')}, ${integer('time_us_min', 'min')},
             ${integer('time_us_max', 'max')}, ${blob('bytes')} FROM segments
           WHERE key > ? AND key <= ? AND time_us_max >= ? AND time_us_min < ?
           ORDER BY key LIMIT 1`,
        )
        .get(keyOf(lane.id, after), keyOf(lane.id, through), fromUs, toUs) as RawRow | undefined
      if (row === undefined) return
      after = seqOf(row.key)
      const points = remembered(lane, row)
      const part = points === undefined ? undefined : within(points, fromUs, toUs)
      if (part !== undefined && part.count > 0) yield part
    }
  }
  return {
    entry: (series) => entries[series] as SeriesEntry,
    open: ({ epoch, bytes }) => decode(ordinalOf(epoch), bytes),
    raw,
    lacks: losses.lacks,
    missed: losses.missed,
  }
}

interface RawRow {
  readonly key: number
  readonly epoch: number
  readonly min: number
  readonly max: number
  readonly bytes: Uint8Array
}

/** The points of a batch in a range of time, in their order. */
const within = (points: PointBatch, fromUs: number, toUs: number): PointBatch => {
  const { timeUs } = points
  const chosen = new Uint32Array(points.count)
  let count = 0
  for (let at = 0; at < points.count; at++) {
    const time = timeUs[at] as number
    if (time >= fromUs && time < toUs) chosen[count++] = at
  }
  if (count === points.count) return points
  const part = {
    series: new Uint32Array(count),
    timeUs: new Float64Array(count),
    kinds: new Uint8Array(count),
    qualities: new Uint8Array(count),
    bits: new BigUint64Array(count),
  }
  // Floats keep their payloads: bits go over as they are.
  for (let to = 0; to < count; to++) {
    const at = chosen[to] as number
    part.series[to] = points.series[at] as number
    part.timeUs[to] = timeUs[at] as number
    part.kinds[to] = points.kinds[at] as number
    part.qualities[to] = points.qualities[at] as number
    part.bits[to] = points.bits[at] as bigint
  }
  return { count, ...part, texts: points.texts }
}
