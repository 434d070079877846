/**
 * Segments and gaps as blocks of a points file. Invariants: a block ends soon after `blockBytesTarget`; the points of a
 * segment keep its order, so that of two of one series and time the later stands; what the format cannot say is
 * counted, told to the caller, and never written almost right.
 */
import { valueAt } from '../batch.ts'
import {
  type Block,
  type BlockHeader,
  blockBytesTarget,
  ndjsonLine,
  ndjsonPrefix,
  type PointsFormat,
} from '../codec/points-file.ts'
import type { PointBatch, Segment, SendBatch, SeriesEntry, Tombstone } from '../model.ts'
import { splitSeriesName } from '../protocol/line-name.ts'
import { lineFieldKey, lineHead, lineValue } from '../protocol/line-write.ts'

/** How one format writes: what is the series' own, then a line of it; undefined for what it cannot say. */
interface Writer {
  readonly start: (entry: SeriesEntry) => string | undefined
  readonly line: (start: string, points: PointBatch, at: number) => string | undefined
}
/** Of one series. */
export interface SeriesStart {
  readonly name: string
  readonly start: string | undefined
}
export const writers: Readonly<Record<PointsFormat, Writer>> = {
  ndjson: { start: ndjsonPrefix, line: ndjsonLine },
  lines: {
    start: ({ name, tags }) => {
      const { measurement, field } = splitSeriesName(name)
      const [head, key] = [lineHead(measurement, tags), lineFieldKey(field)]
      return head === undefined || key === undefined ? undefined : `${head} ${key}=`
    },
    line: (start, points, at) => {
      const value = lineValue(valueAt(points, at))
      return value === undefined ? undefined : `${start}${value} ${points.timeUs[at]}`
    },
  },
}

export interface BlockContext {
  readonly format: PointsFormat
  readonly agent: string
  readonly batch: Pick<SendBatch, 'lane' | 'laneId' | 'replay'>
}
const headerOf = ({ format, agent, batch }: BlockContext) => ({
  format,
  agent,
  lane: batch.lane,
  laneId: batch.laneId,
  replay: batch.replay,
})

export const gapBlock = (context: BlockContext, tombstone: Tombstone): Block => {
  const { epoch, seq, seqLast, gap } = tombstone
  const { timeUsMin, timeUsMax } = gap
  const counts = { part: 0, last: true, points: 0, leftOut: 0, timeUsMin, timeUsMax, gap }
  return {
    header: { ...headerOf(context), epoch, seq, seqLast, ...counts },
    body: new Uint8Array(0),
  }
}

/** At least one block, though no point could be written. `series` are those of the points' numbers. */
export function* segmentBlocks(
  context: BlockContext,
  segment: Segment,
  points: PointBatch,
  series: readonly SeriesStart[],
  leaveOut: (reason: 'name' | 'value', at: number, name: string) => void,
): Generator<Block> {
  const { line } = writers[context.format]
  const { epoch, seq, timeUsMin, timeUsMax } = segment
  const common = { epoch, seq, seqLast: seq, timeUsMin, timeUsMax, gap: null }
  let part = 0
  let [lines, bytes, leftOut]: [string[], number, number] = [[], 0, 0]
  const take = (last: boolean): Block => {
    const counts: Pick<BlockHeader, 'part' | 'last' | 'points' | 'leftOut'> = {
      part: part++,
      last,
      points: lines.length,
      leftOut,
    }
    const body = Buffer.from(lines.map((one) => `${one}\n`).join(''), 'utf8')
    lines = []
    bytes = 0
    leftOut = 0
    return { header: { ...headerOf(context), ...common, ...counts }, body }
  }
  for (let at = 0; at < points.count; at++) {
    const { name, start } = series[points.series[at] as number] as SeriesStart
    const text = start === undefined ? undefined : line(start, points, at)
    if (text === undefined) {
      leftOut++
      leaveOut(start === undefined ? 'name' : 'value', at, name)
      continue
    }
    lines.push(text)
    // A character is at most three bytes.
    bytes += text.length + 1
    if (bytes >= blockBytesTarget / 3) yield take(false)
  }
  yield take(true)
}
