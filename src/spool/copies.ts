/**
 * Copies of sealed points, and what must be known of the lanes of sources so that no copy stands over a newer value.
 *
 * Invariants: copies are sealed in the transaction that takes them, all of one segment under one order, which is never
 * their own; what is looked at here is what is held: of a correction that was let go of nothing is known.
 */
import { type BatchBuilder, createBatchBuilder } from '../batch.ts'
import { openSegment, orderOf, sealSegment } from '../codec/segment.ts'
import { textOf } from '../errors.ts'
import { type Kind, kinds, type PointBatch, type SealOrder, type SeriesId } from '../model.ts'
import { createOpenColumns } from './columns.ts'
import { entryIn, nameInCopy } from './epochs.ts'
import { blob, integer } from './schema.ts'
import { sealPoints } from './seal.ts'
import { keyOf, type LaneState, type SpoolState, throwFatal } from './state.ts'

export interface TimeRange {
  readonly fromUs: number
  readonly toUs: number
}

/** Inside a transaction: one segment of the lane. Returns its bytes. */
export const sealCopies = (
  state: SpoolState,
  lane: LaneState,
  points: PointBatch,
  copyOf: SealOrder,
): number => {
  if (points.count === 0) return 0
  const before = lane.now.bytes
  const columns = createOpenColumns()
  columns.append(points, state.dictionary.ofRefs)
  const clockState = state.clock.trusted ? 'trusted' : 'untrusted'
  sealPoints(state, lane, columns.slice(0, points.count), clockState, copyOf)
  nameInCopy(state, lane.id, lane.now.head, copyOf.epoch)
  return lane.now.bytes - before
}

interface Found {
  readonly key: number
  readonly sealNumber: number
}
/** What sources' lanes hold sealed that may have points of that time, both ends included; not in any order. */
const mayHold = (state: SpoolState, { fromUs, toUs }: TimeRange, but?: LaneState): Found[] =>
  [...state.lanes.values()]
    .filter((lane) => lane !== but && lane.options !== null && lane.options.derived !== true)
    .flatMap((lane) => {
      const rows = state
        .sql(
          `SELECT key, substr(bytes, 41, 8) AS seal FROM segments
           WHERE key > ? AND key <= ? AND time_us_max >= ? AND time_us_min <= ?`,
        )
        .all(keyOf(lane.id, 0), keyOf(lane.id, lane.now.head), fromUs, toUs) as {
        key: number
        seal: Buffer
      }[]
      return rows
        .filter(({ seal }) => seal.length === 8)
        .map(({ key, seal }) => ({ key, sealNumber: Number(seal.readBigUInt64LE()) }))
    })

export const sealsBeside = (
  state: SpoolState,
  lane: LaneState,
  range: TimeRange,
  [after, before]: readonly [number, number],
): readonly number[] =>
  mayHold(state, range, lane)
    .map(({ sealNumber }) => sealNumber)
    .filter((sealNumber) => sealNumber > after && sealNumber < before)

/** Ids of the series that points of a segment use. */
const idsOf = (state: SpoolState, ordinal: number, { series, count }: PointBatch) => {
  const ids = new Map<number, SeriesId>()
  for (let at = 0; at < count; at++) {
    const index = series[at] as number
    if (!ids.has(index)) ids.set(index, entryIn(state, ordinal, index).id)
  }
  return ids
}
interface Place {
  readonly points: PointBatch
  readonly at: number
}
type Standing = Map<SeriesId, Map<number, Place | null>>

/** The segment's points replace what stands of the same series and times. True when there are any. */
const overwrite = (state: SpoolState, key: number, standing: Standing): boolean => {
  const row = state
    .sql(`SELECT ${integer('epoch')}, ${blob('bytes')} FROM segments WHERE key = ?`)
    .get(key) as { epoch: number; bytes: Uint8Array } | undefined
  if (row === undefined) return false
  let found = false
  try {
    const { points } = openSegment(row.bytes)
    const ids = idsOf(state, row.epoch, points)
    for (let at = 0; at < points.count; at++) {
      const times = standing.get(ids.get(points.series[at] as number) as SeriesId)
      const timeUs = points.timeUs[at] as number
      if (times?.has(timeUs) !== true) continue
      times.set(timeUs, { points, at })
      found = true
    }
  } catch (error) {
    // Whoever reads the lane finds the damage and declares it.
    throwFatal(state, error)
  }
  return found
}

/** An old segment with the newest values held of its points; null when these are its own. */
export const newest = (state: SpoolState, bytes: Uint8Array): Uint8Array | null => {
  try {
    return renewed(state, bytes)
  } catch (error) {
    throwFatal(state, error)
    state.host.log.warn('newest_values_unknown', { text: textOf(error) })
    return null
  }
}
const renewed = (state: SpoolState, bytes: Uint8Array): Uint8Array | null => {
  const { header, points } = openSegment(bytes)
  const ordinal = state.epochs.find(({ epoch }) => epoch === header.epoch)?.ordinal
  if (ordinal === undefined) return null
  const { sealNumber } = orderOf(header)
  const later = mayHold(state, { fromUs: header.timeUsMin, toUs: header.timeUsMax })
    .filter((one) => one.sealNumber > sealNumber)
    .sort((a, b) => a.sealNumber - b.sealNumber)
  if (later.length === 0) return null
  const ids = idsOf(state, ordinal, points)
  const standing: Standing = new Map([...ids.values()].map((id) => [id, new Map()]))
  const timesOf = (at: number) => standing.get(ids.get(points.series[at] as number) as SeriesId)
  for (let at = 0; at < points.count; at++) timesOf(at)?.set(points.timeUs[at] as number, null)
  if (!later.map(({ key }) => overwrite(state, key, standing)).includes(true)) return null
  const out = createBatchBuilder(points.count)
  for (let at = 0; at < points.count; at++) {
    const timeUs = points.timeUs[at] as number
    const from = timesOf(at)?.get(timeUs) ?? { points, at }
    addPoint(out, points.series[at] as number, timeUs, from)
  }
  return sealSegment(header, out.take(), state.options.compressor)
}
const addPoint = (out: BatchBuilder, series: number, timeUs: number, { points, at }: Place) => {
  const kind = points.kinds[at] as Kind
  const quality = points.qualities[at] as number
  const words = new Uint32Array(points.bits.buffer, points.bits.byteOffset + at * 8, 2)
  const [low, high] = [words[0] as number, words[1] as number]
  if (kind === kinds.string) out.addText(series, timeUs, points.texts[low] as string, quality)
  else out.addWords(series, timeUs, kind, quality, low, high)
}
