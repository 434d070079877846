/**
 * Segments as lines: dictionary indexes become measurements, tags and fields.
 *
 * Invariants: what a dialect cannot hold is told to the caller, and never written almost right; the lines of a segment
 * come in its own order, so that of two points of one time the later stands.
 */
import { valueAt } from '../batch.ts'
import { openSegment } from '../codec/segment.ts'
import type { EpochId, Kind, PointBatch, SeriesEntry } from '../model.ts'
import { lineValue } from '../protocol/line-write.ts'
import type { InfluxDialect } from './influx-dialects.ts'
import { kindColumns, lineStartOf } from './influx-names.ts'

export interface SeriesLine {
  readonly name: string
  /** What its lines begin with; undefined when there can be none. */
  readonly start: string | undefined
  readonly why: string
}

/** What the lines of a series begin with. */
export const seriesLineOf = (
  dialect: InfluxDialect,
  table: string,
  entry: SeriesEntry,
): SeriesLine => {
  const line = lineStartOf(dialect, table, entry)
  const { name } = entry
  return 'start' in line
    ? { name, start: line.start, why: '' }
    : { name, start: undefined, ...line }
}

export interface OpenedSegment {
  readonly epoch: EpochId
  readonly dictionaryLength: number
  readonly points: PointBatch
}
/** Throws Failure HF-K… when the bytes are damaged. */
export const openForLines = (bytes: Uint8Array): OpenedSegment => {
  const { header, points } = openSegment(bytes)
  return { epoch: header.epoch, dictionaryLength: header.dictionaryLength, points }
}

export interface LineSink {
  readonly line: (text: string, at: number) => void
  readonly leaveOut: (reason: 'name' | 'value', at: number, text: string) => void
}
/** Points `[from, count)` in order; stops after a line when `full` says so, and answers with the next point. */
export const writeLines = (
  points: PointBatch,
  series: readonly SeriesLine[],
  { unholdable, layout, lineFeed, timeTail }: InfluxDialect,
  from: number,
  sink: LineSink,
  full: () => boolean,
): number => {
  for (let at = from; at < points.count; at++) {
    const { start, why: noName } = series[points.series[at] as number] as SeriesLine
    if (start === undefined) {
      sink.leaveOut('name', at, noName)
      continue
    }
    const value = valueAt(points, at)
    const timeUs = points.timeUs[at] as number
    let text = lineValue(value)
    let why = text === undefined ? `${value} is no number it holds` : unholdable(value, timeUs)
    if (lineFeed !== 'plain' && typeof value === 'string' && /[\n\r]/.test(value)) {
      text = text?.replaceAll('\n', '\\\n')
      if (lineFeed === 'never') why = 'it holds no line breaks in strings'
    }
    if (why !== undefined) {
      sink.leaveOut('value', at, why)
      continue
    }
    const column = layout === 'rows' ? kindColumns[points.kinds[at] as Kind] : ''
    sink.line(`${start}${column}${text} ${timeUs}${timeTail}`, at)
    if (full()) return at + 1
  }
  return points.count
}
