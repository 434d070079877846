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
import type { EpochId, PointBatch, SeriesEntry, Value } from '../model.ts'
import { splitSeriesName } from '../protocol/line-name.ts'
import { lineFieldKey, lineHead, lineValue } from '../protocol/line-write.ts'
import type { DestinationDeps } from './destination.ts'

export interface SeriesLine {
  readonly name: string
  /** `measurement,tag=value field=`, or undefined when line protocol cannot say the name. */
  readonly start: string | undefined
}
const seriesLineOf = ({ name, tags }: SeriesEntry): SeriesLine => {
  const { measurement, field } = splitSeriesName(name)
  const [head, key] = [lineHead(measurement, tags), lineFieldKey(field)]
  return { name, start: head === undefined || key === undefined ? undefined : `${head} ${key}=` }
}

export interface SeriesLines {
  /** The first `length` series of an epoch, or undefined when the spool does not hold them. */
  readonly of: (epoch: EpochId, length: number) => Promise<readonly SeriesLine[] | undefined>
}
export const createSeriesLines = (spool: Pick<DestinationDeps['spool'], 'dictionary'>) => {
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
  const series: SeriesLines = {
    of: (epoch, length) => {
      // One at a time: two would append the same entries twice.
      const loaded = tail.then(() => load(epoch, length))
      tail = loaded.catch(() => undefined)
      return loaded
    },
  }
  return series
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

/** Says why a dialect cannot hold a value that line protocol can say, or undefined. */
export type Unholdable = (value: Value) => string | undefined

export interface LineSink {
  readonly line: (text: string, at: number) => void
  readonly leaveOut: (reason: 'name' | 'value', at: number, text: string) => void
}
/** Points `[from, count)` in order; stops after a line when `full` says so, and answers with the next point. */
export const writeLines = (
  points: PointBatch,
  series: readonly SeriesLine[],
  unholdable: Unholdable,
  from: number,
  sink: LineSink,
  full: () => boolean,
): number => {
  for (let at = from; at < points.count; at++) {
    const { name, start } = series[points.series[at] as number] as SeriesLine
    if (start === undefined) {
      sink.leaveOut('name', at, `line protocol cannot say the name ${JSON.stringify(name)}`)
      continue
    }
    const value = valueAt(points, at)
    const text = lineValue(value)
    const why = text === undefined ? `${value} is no number it holds` : unholdable(value)
    if (why !== undefined) {
      sink.leaveOut('value', at, `${name} at ${points.timeUs[at]} µs: ${why}`)
      continue
    }
    sink.line(`${start}${text} ${points.timeUs[at]}`, at)
    if (full()) return at + 1
  }
  return points.count
}
