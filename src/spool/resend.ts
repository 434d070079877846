/**
 * What a person does with points that a destination refused: look, send again, give up.
 *
 * Invariants: what is sent again has the lane, seq, series and times it had; only what the far side's answer leaves
 * out of its refusals is called delivered; a row whose checksum is wrong is no copy.
 */
import { valueAt } from '../batch.ts'
import { openSegment, orderOf, sealSegment } from '../codec/segment.ts'
import { isFailure } from '../errors.ts'
import type { LaneId, RefusedPoints, Segment, SeriesEntry } from '../model.ts'
import type { QuarantineRow, RefusedRow, ResentAnswer } from '../spool-port.ts'
import { moveLost } from './reader-gaps.ts'
import { type Copy, copiesIn, entriesOf, nextQuarantineId, pick, putCopy } from './refused.ts'
import { blob, rowCrc } from './schema.ts'
import { saveDictionary } from './series-rows.ts'
import { laneOfId, type SpoolState } from './state.ts'
import { write } from './write.ts'

type Row = Copy & { readonly id: number; readonly lane: LaneId; readonly reader: string } & {
  readonly atUs: number
  readonly crc: number
}
const columns = `id, lane, reader, seq, reason, why, text, at_us AS atUs, points, series, crc,
  ${blob('bytes')}`
/** Undefined where there is none, or it is damaged. */
const rowOf = (state: SpoolState, id: number): Row | undefined => {
  const row = state.sql(`SELECT ${columns} FROM refused WHERE id = ?`).get(id) as Row | undefined
  if (row === undefined) return undefined
  const { lane, reader, seq, reason, why, text, atUs, points, series } = row
  const values = [id, lane, reader, seq, reason, why, text, atUs, points, series]
  return row.crc === rowCrc(values) ? row : undefined
}
const opened = (row: Row): ReturnType<typeof openSegment> | undefined => {
  try {
    const segment = openSegment(row.bytes)
    return segment.header.lane === row.lane && segment.header.seq === row.seq ? segment : undefined
  } catch (error) {
    if (isFailure(error)) return undefined
    throw error
  }
}

const listedRow = (state: SpoolState, row: Row): QuarantineRow => {
  const [first, second] = entriesOf(row.series)
  const { id, seq, reason, text, atUs, why, points, reader: destination } = row
  const lane = [...state.lanes.values()].find((one) => one.id === row.lane)?.name ?? ''
  const source = first === undefined || second !== undefined ? '' : first.name
  const sample = new Uint8Array(0)
  return { id, lane, seq, reason, source, text, atUs, sample, destination, why, points }
}
/** Newest first. */
export const listRefused = (state: SpoolState, limit: number): readonly QuarantineRow[] => {
  const ids = state.sql('SELECT id FROM refused ORDER BY id DESC LIMIT ?').pluck().all(limit)
  return (ids as number[]).flatMap((id) => {
    const row = rowOf(state, id)
    return row === undefined ? [] : [listedRow(state, row)]
  })
}
export const countRefused = (state: SpoolState): number =>
  state.sql('SELECT count(*) FROM refused').pluck().get() as number

export const lookAtRefused = (state: SpoolState, id: number): RefusedRow | null => {
  const row = rowOf(state, id)
  const segment = row === undefined ? undefined : opened(row)
  if (row === undefined || segment === undefined) return null
  const { points } = segment
  const entries = entriesOf(row.series)
  return {
    ...listedRow(state, row),
    refused: Array.from({ length: points.count }, (_, at) => {
      const { name, tags } = entries[points.series[at] as number] as SeriesEntry
      const [timeUs, quality] = [points.timeUs[at] as number, points.qualities[at] as number]
      return { name, tags, timeUs, value: valueAt(points, at), quality }
    }),
  }
}

/** The copy as a segment of the present epoch: the same lane, seq, series and times. */
export const resendable = (state: SpoolState, id: number): Segment | null => {
  const row = rowOf(state, id)
  const segment = row === undefined ? undefined : opened(row)
  if (row === undefined || segment === undefined) return null
  const entries = entriesOf(row.series)
  const known = state.dictionary.length()
  return write(state, 'none', () => {
    const places = Array.from({ length: segment.points.count }, (_, at) => at)
    const points = pick(segment.points, places, (series) =>
      state.dictionary.ofEntry(entries[series] as SeriesEntry),
    )
    saveDictionary(state, known)
    const { dictionary, epoch } = state
    const own = { dictionaryLength: dictionary.length(), dictionaryHash: dictionary.hash() }
    const { timeUsMin, timeUsMax, pointCount } = segment.header
    const bytes = sealSegment(
      { ...segment.header, epoch, ...own, copyOf: orderOf(segment.header) },
      points,
      state.options.compressor,
    )
    return { type: 'segment', seq: row.seq, epoch, pointCount, timeUsMin, timeUsMax, bytes }
  })
}

/**
 * The far side answered `bytes`, which `resendable` gave: what it did not refuse again is delivered from here on. A
 * copy that is gone meanwhile (a rewind, an operator) changes nothing.
 */
export const resent = (
  state: SpoolState,
  id: number,
  bytes: Uint8Array,
  refused: readonly RefusedPoints[],
): ResentAnswer =>
  write(state, 'write', () => {
    const row = rowOf(state, id)
    const lane = row === undefined ? undefined : laneOfId(state, row.lane)
    const reader = row === undefined ? undefined : lane?.readers.get(row.reader)
    if (row === undefined || lane === undefined || reader === undefined)
      return { delivered: 0, refused: 0 }
    const copies = copiesIn(state, bytes, [{ reason: row.reason, refused }])
    const again = copies.reduce((sum, { points }) => sum + points, 0)
    state.sql('DELETE FROM refused WHERE id = ?').run(id)
    copies.forEach((copy, nth) => {
      putCopy(state, lane.id, row.reader, copy, nth === 0 ? id : nextQuarantineId(state))
    })
    const taken = Math.max(0, row.points - again)
    const delivered = moveLost(state, lane, row.reader, row, taken, null)
    const { now } = reader
    reader.now = { ...now, delivered: now.delivered + delivered, lost: now.lost - delivered }
    return { delivered, refused: again }
  })

/** Given up by a person: still lost, for that reason from here on. False when there is no such copy. */
export const discardRefused = (state: SpoolState, id: number): boolean =>
  write(state, 'write', () => {
    const row = rowOf(state, id)
    const gone = state.sql('DELETE FROM refused WHERE id = ?').run(id).changes > 0
    if (row === undefined) return gone
    moveLost(state, laneOfId(state, row.lane), row.reader, row, row.points, 'discarded')
    return true
  })
