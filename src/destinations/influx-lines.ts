/**
 * Segments as lines: dictionary indexes become measurements, tags and fields.
 *
 * Invariants: what a dialect cannot hold is told to the caller, and never written almost right; the lines of a segment
 * come in its own order, so that of two points of one time the later stands.
 */
import { valueAt } from '../batch.ts'
import { openSegment } from '../codec/segment.ts'
import type { EpochId, Kind, PointBatch, Refusal } from '../model.ts'
import { lineValue } from '../protocol/line-write.ts'
import type { InfluxDialect } from './influx-dialects.ts'
import { kindColumns } from './influx-names.ts'

export interface SeriesLine {
  readonly name: string
  /** What its lines begin with; undefined when there can be none. */
  readonly start: string | undefined
  readonly why: string
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
  readonly leaveOut: (reason: Refusal, at: number, text: string) => void
}
/** What the value of a point is in a line, or why it has none. */
export const textOfPoint = (
  points: PointBatch,
  at: number,
  { unholdable, lineFeed }: InfluxDialect,
): { readonly text: string } | { readonly why: string } => {
  const value = valueAt(points, at)
  const text = lineValue(value)
  if (text === undefined) return { why: `${value} is no number it holds` }
  const why = unholdable(value, points.timeUs[at] as number)
  if (why !== undefined) return { why }
  if (lineFeed === 'plain' || typeof value !== 'string' || !/[\n\r]/.test(value)) return { text }
  if (lineFeed === 'never') return { why: 'it holds no line breaks in strings' }
  return { text: text.replaceAll('\n', '\\\n') }
}
/** Points `[from, count)` in order; stops after a line when `full` says so, and answers with the next point. */
export const writeLines = (
  points: PointBatch,
  series: readonly SeriesLine[],
  dialect: InfluxDialect,
  /** Points that are seen to already. */
  passed: ReadonlySet<number>,
  from: number,
  sink: LineSink,
  full: () => boolean,
): number => {
  for (let at = from; at < points.count; at++) {
    if (passed.has(at)) continue
    const { start, why } = series[points.series[at] as number] as SeriesLine
    if (start === undefined) {
      sink.leaveOut('name', at, why)
      continue
    }
    const said = textOfPoint(points, at, dialect)
    if ('why' in said) {
      sink.leaveOut('value', at, said.why)
      continue
    }
    const column = dialect.layout === 'rows' ? kindColumns[points.kinds[at] as Kind] : ''
    sink.line(`${start}${column}${said.text} ${points.timeUs[at]}${dialect.timeTail}`, at)
    if (full()) return at + 1
  }
  return points.count
}
