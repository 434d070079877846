/**
 * Copies of points that one destination did not take: for a person to look at, to send again, or to give up.
 *
 * Invariants: a copy adds nothing to the books: its points are part of a loss in `reader_gaps`, and it goes in the
 * transaction that changes that; it needs no dictionary but its own; rows and bytes are bounded, the oldest of the
 * reader and reason that has most goes first, its loss stays.
 */
import { createBatchBuilder, valueAt } from '../batch.ts'
import { openSegment, orderOf, sealSegment } from '../codec/segment.ts'
import { dictionaryHashStart } from '../codec/series-id.ts'
import { isFailure } from '../errors.ts'
import { quarantineRowsMax, refusedBytesMax, refusedPointsMax } from '../limits.ts'
import {
  type GapReason,
  kinds,
  type LaneId,
  type PointBatch,
  type PointsLost,
  type Refusal,
  type RefusedPoints,
  type Seq,
  type SeriesEntry,
} from '../model.ts'
import { entryIn } from './epochs.ts'
import { blob, rowCrc } from './schema.ts'
import { keyOf, type LaneState, type SpoolState, throwFatal } from './state.ts'

/** Made with the ack, written with the cursor. */
export interface Copy {
  readonly seq: Seq
  readonly reason: GapReason
  readonly why: Refusal
  readonly text: string
  readonly points: number
  /** JSON of the series that the numbers in `bytes` are places of. */
  readonly series: string
  readonly bytes: Uint8Array
}
const textMax = 1_000

/** Never given twice: what a person has seen under a number is never another thing later. */
export const nextQuarantineId = (state: SpoolState): number => {
  const known = state.sql("SELECT value FROM meta WHERE key = 'quarantineId'").pluck().get()
  const id = Math.max(0, Math.floor(Number(known ?? 0)) || 0) + 1
  state.sql("INSERT OR REPLACE INTO meta VALUES ('quarantineId', ?)").run(String(id))
  return id
}

const entryText = ({ id, name, tags, unit }: SeriesEntry) => [String(id), name, tags, unit] as const
export const entriesOf = (series: string): readonly SeriesEntry[] =>
  (JSON.parse(series) as ReturnType<typeof entryText>[]).map(([id, name, tags, unit]) => ({
    ...{ id: BigInt(id), name, tags, unit },
  }))

/** The points at these places, their series renumbered. */
export const pick = (
  from: PointBatch,
  at: readonly number[],
  numberOf: (series: number) => number,
) => {
  const builder = createBatchBuilder(at.length)
  for (const place of at) {
    const kind = from.kinds[place] as keyof typeof kinds & number
    const [series, timeUs] = [numberOf(from.series[place] as number), from.timeUs[place] as number]
    const quality = from.qualities[place] as number
    const bits = from.bits[place] as bigint
    if (Number(kind) === kinds.string)
      builder.addText(series, timeUs, String(valueAt(from, place)), quality)
    else {
      const [low, high] = [Number(bits & 0xffff_ffffn), Number(bits >> 32n)]
      builder.addWords(series, timeUs, kind, quality, low, high)
    }
  }
  return builder.take()
}

const copyOf = (
  state: SpoolState,
  { header, points }: ReturnType<typeof openSegment>,
  reason: GapReason,
  { why, text, at }: RefusedPoints,
  room: number,
): Copy | undefined => {
  const places = [...new Set(at)].filter((place) => place >= 0 && place < points.count)
  if (places.length === 0 || room <= 0) return undefined
  const ordinal = state.epochs.find(({ epoch }) => epoch === header.epoch)?.ordinal
  if (ordinal === undefined) return undefined
  const numbers = new Map<number, number>()
  const entries: SeriesEntry[] = []
  const numberOf = (index: number) => {
    const number = numbers.get(index) ?? entries.push(entryIn(state, ordinal, index)) - 1
    numbers.set(index, number)
    return number
  }
  const picked = pick(points, places.slice(0, room), numberOf)
  const { epoch, lane, seq, sealNumber, previousHash, configRevision, bootId } = header
  const own = { dictionaryLength: entries.length, dictionaryHash: dictionaryHashStart }
  const { monotonicUs, clockState } = header
  const sealed = { epoch, lane, seq, sealNumber, previousHash, configRevision, ...own }
  return {
    ...{ seq, reason, why, text: text.slice(0, textMax), points: picked.count },
    series: JSON.stringify(entries.map(entryText)),
    bytes: sealSegment(
      { ...sealed, bootId, monotonicUs, clockState, copyOf: orderOf(header) },
      picked,
      state.options.compressor,
    ),
  }
}

/** Of a segment's bytes; nothing where they do not read, or a series is unknown. */
export const copiesIn = (
  state: SpoolState,
  bytes: Uint8Array,
  lost: readonly Pick<PointsLost, 'reason' | 'refused'>[],
): readonly Copy[] => {
  const copies: Copy[] = []
  try {
    const opened = openSegment(bytes)
    let room = refusedPointsMax
    for (const { reason, refused } of lost)
      for (const one of refused ?? []) {
        const copy = copyOf(state, opened, reason, one, room)
        if (copy === undefined) continue
        copies.push(copy)
        room -= copy.points
      }
  } catch (error) {
    throwFatal(state, error)
    if (!isFailure(error)) state.host.log.warn('refused_not_copied', { text: String(error) })
  }
  return copies
}

/** What an ack refuses, while its segments are still held. */
export const copyRefused = (
  state: SpoolState,
  lane: LaneState,
  lost: readonly PointsLost[],
): readonly Copy[] => {
  const bySeq = new Map<Seq, PointsLost[]>()
  for (const one of lost)
    if (one.refused !== undefined) bySeq.set(one.seq, [...(bySeq.get(one.seq) ?? []), one])
  return [...bySeq].flatMap(([seq, ones]) => {
    const bytes = state
      .sql(`SELECT ${blob('bytes')} FROM segments WHERE key = ?`)
      .pluck()
      .get(keyOf(lane.id, seq)) as Uint8Array | undefined
    return bytes === undefined ? [] : copiesIn(state, bytes, ones)
  })
}

/** Inside a transaction. */
export const putCopy = (
  state: SpoolState,
  lane: LaneId,
  reader: string,
  copy: Copy,
  id = nextQuarantineId(state),
) => {
  const { seq, reason, why, text, points, series, bytes } = copy
  const atUs = Math.floor(state.host.clock.nowUs())
  const values = [id, lane, reader, seq, reason, why, text, atUs, points, series]
  state
    .sql('INSERT INTO refused VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)')
    .run(...values, rowCrc(values), bytes)
}
const bound = (state: SpoolState) => {
  for (;;) {
    const { rows, bytes } = state
      .sql('SELECT count(*) AS rows, total(length(bytes) + length(series)) AS bytes FROM refused')
      .get() as { readonly rows: number; readonly bytes: number }
    if (rows <= quarantineRowsMax && bytes <= refusedBytesMax) return
    state
      .sql(
        `DELETE FROM refused WHERE id = (SELECT min(id) FROM refused
         GROUP BY reader, why ORDER BY count(*) DESC LIMIT 1)`,
      )
      .run()
  }
}
/** Inside a transaction. */
export const saveCopies = (
  state: SpoolState,
  lane: LaneState,
  reader: string,
  copies: readonly Copy[],
): void => {
  for (const copy of copies) putCopy(state, lane.id, reader, copy)
  if (copies.length > 0) bound(state)
}

/** Inside a transaction: copies give way to points, the oldest first. Returns the bytes let go. */
export const shedCopies = (state: SpoolState, bytes: number): number => {
  let freed = 0
  while (freed < bytes) {
    const row = state
      .sql('SELECT id, length(bytes) + length(series) AS size FROM refused ORDER BY id LIMIT 1')
      .get() as { readonly id: number; readonly size: number } | undefined
    if (row === undefined) break
    state.sql('DELETE FROM refused WHERE id = ?').run(row.id)
    freed += row.size
  }
  return freed
}
