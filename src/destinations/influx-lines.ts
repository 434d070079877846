/**
 * Segments as lines: dictionary indexes become measurements, tags and fields.
 *
 * Invariants: what a dialect cannot hold is told to the caller, and never written almost right; the lines of a segment
 * come in its own order, so that of two points of one time the later stands; the series held in memory are those of one
 * epoch, and of others as long as all are at most `seriesMax`.
 */
import { valueAt } from '../batch.ts'
import { openSegment } from '../codec/segment.ts'
import { dictionaryEntriesPerRequestMax, seriesMax } from '../limits.ts'
import type { EpochId, Kind, PointBatch, SeriesEntry } from '../model.ts'
import { lineValue } from '../protocol/line-write.ts'
import type { DestinationDeps } from './destination.ts'
import { type InfluxDialect, kindColumns, lineStartOf } from './influx-dialects.ts'

export interface SeriesLine {
  readonly name: string
  /** What its lines begin with; undefined when there can be none. */
  readonly start: string | undefined
  readonly why: string
}

export interface SeriesLines {
  /** The first `length` series of an epoch, or undefined when the spool does not hold them. */
  readonly of: (epoch: EpochId, length: number) => Promise<readonly SeriesLine[] | undefined>
}
export const createSeriesLines = (
  spool: Pick<DestinationDeps['spool'], 'dictionary'>,
  dialect: InfluxDialect,
  table: string,
): SeriesLines => {
  const seriesLineOf = (entry: SeriesEntry): SeriesLine => {
    const line = lineStartOf(dialect, table, entry)
    const { name } = entry
    return 'start' in line
      ? { name, start: line.start, why: '' }
      : { name, start: undefined, ...line }
  }
  const epochs = new Map<EpochId, SeriesLine[]>()
  let tail: Promise<unknown> = Promise.resolve()

  const forgetOthers = (epoch: EpochId) => {
    let held = 0
    for (const lines of epochs.values()) held += lines.length
    for (const [other, lines] of epochs) {
      if (held <= seriesMax) return
      if (other === epoch) continue
      epochs.delete(other)
      held -= lines.length
    }
  }
  const load = async (epoch: EpochId, length: number) => {
    const lines = epochs.get(epoch) ?? []
    epochs.delete(epoch)
    epochs.set(epoch, lines)
    while (lines.length < length) {
      const more = await spool.dictionary(epoch, lines.length, dictionaryEntriesPerRequestMax)
      if (more.length === 0) return undefined
      for (const entry of more) lines.push(seriesLineOf(entry))
    }
    forgetOthers(epoch)
    return lines
  }
  return {
    of: (epoch, length) => {
      // One at a time: two would append the same entries twice.
      const loaded = tail.then(() => load(epoch, length))
      tail = loaded.catch(() => undefined)
      return loaded
    },
  }
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
  { unholdable, layout, lineFeed }: InfluxDialect,
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
    sink.line(`${start}${column}${text} ${timeUs}`, at)
    if (full()) return at + 1
  }
  return points.count
}
