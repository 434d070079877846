/**
 * What rules leave of recordings: for each set and three deviations (percent of each series' own span), the points kept,
 * the wire bytes per raw point (sealed segments, zstd) and the greatest error in deviations, by swinging door and by
 * plain deadband, each drawn as its contract says. Prints a table in Markdown, then the figures.
 */
import { createBatchBuilder } from '../../src/batch.ts'
import { sealSegment } from '../../src/codec/segment.ts'
import type { Derived, PointBatch, SeriesEntry } from '../../src/model.ts'
import { compileClasses, type SeriesClass } from '../../src/pipeline/classes.ts'
import { createRulesStage } from '../../src/pipeline/rules.ts'
import { header } from './codec.ts'
import { loadRecordings, type Recording, type RecordingSet } from './recordings.ts'

const percents = [0.25, 1, 5]
const pointsASegment = 16_384
type Method = 'swinging_door' | 'deadband'

const spanOf = ({ values }: Recording) => {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
  for (const value of values) {
    if (value < low) low = value
    if (value > high) high = value
  }
  return { low, high }
}
/** A series that never changes has no span to take a percentage of. */
const isUsable = (each: Recording): boolean => {
  const { low, high } = spanOf(each)
  return Number.isFinite(high - low) && high > low
}
/** Segments of up to 16,384 points, the series beside each other, each with a second of its own time. */
const segmentsOf = (series: readonly Recording[]): PointBatch[] => {
  const batches: PointBatch[] = []
  let builder = createBatchBuilder(pointsASegment)
  const longest = Math.max(...series.map(({ values }) => values.length))
  for (let row = 0; row < longest; row++) {
    series.forEach(({ timesUs, values }, at) => {
      if (row < values.length)
        builder.addFloat(at, timesUs[row] as number, values[row] as number, 0)
    })
    if (builder.count() < pointsASegment && row < longest - 1) continue
    batches.push(builder.take())
    builder = createBatchBuilder(pointsASegment)
  }
  return batches
}
const bytesOf = (batches: readonly PointBatch[]) =>
  batches.reduce((sum, batch) => sum + sealSegment(header, batch, 'zstd').length, 0)

const add = (to: Map<number, number>[], derived: readonly Derived[]): void => {
  for (const { points } of derived) {
    const floats = new Float64Array(points.bits.buffer, points.bits.byteOffset, points.count)
    for (let i = 0; i < points.count; i++) {
      to[points.series[i] as number]?.set(points.timeUs[i] as number, floats[i] as number)
    }
  }
}
/** In deviations, of what is drawn from the points kept against each accepted one that stands. */
const greatestError = (
  each: Recording,
  kept: ReadonlyMap<number, number>,
  deviation: number,
  method: Method,
) => {
  const standing = new Map<number, number>()
  each.timesUs.forEach((time, at) => {
    standing.set(time, each.values[at] as number)
  })
  const knots = [...kept].sort(([a], [b]) => a - b)
  let from = 0
  let worst = 0
  for (const [time, value] of [...standing].sort(([a], [b]) => a - b)) {
    while (from + 1 < knots.length && (knots[from + 1] as [number, number])[0] <= time) from++
    const [fromTime, fromValue] = knots[from] as [number, number]
    const [toTime, toValue] = knots[from + 1] ?? [fromTime, fromValue]
    const share =
      toTime > fromTime && method === 'swinging_door' ? (time - fromTime) / (toTime - fromTime) : 0
    worst = Math.max(worst, Math.abs(fromValue + (toValue - fromValue) * share - value) / deviation)
  }
  return worst
}
const entryOf = (at: number): SeriesEntry => ({
  id: BigInt(at + 1),
  name: `s${at}`,
  unit: '',
  tags: [],
})

const measure = (
  series: readonly Recording[],
  batches: readonly PointBatch[],
  method: Method,
  percent: number,
) => {
  const classes = series.map(
    (each, at): SeriesClass => ({
      name: `s${at}`,
      match: { names: [`s${at}`] },
      range: spanOf(each),
      reduce: { method, deviation: { percentOfRange: percent }, lane: 'process' },
      windows: [],
    }),
  )
  const stage = createRulesStage({ classes: compileClasses(classes) })
  stage.load(null)
  const entries = series.map((_, at) => entryOf(at))
  const entry = (at: number) => entries[at] as SeriesEntry
  const kept = series.map(() => new Map<number, number>())
  const out = createBatchBuilder(pointsASegment)
  const sealed: PointBatch[] = []
  let count = 0
  const collect = (derived: readonly Derived[]) => {
    add(kept, derived)
    for (const { points } of derived) {
      const floats = new Float64Array(points.bits.buffer, points.bits.byteOffset, points.count)
      for (let i = 0; i < points.count; i++) {
        out.addFloat(
          points.series[i] as number,
          points.timeUs[i] as number,
          floats[i] as number,
          points.qualities[i] as number,
        )
      }
      count += points.count
    }
    if (out.count() >= pointsASegment) sealed.push(out.take())
  }
  const raw = () => batches
  batches.forEach((points, at) => {
    collect(stage.step({ points, entry, seq: at + 1, raw }))
  })
  collect(stage.tick(0, raw))
  collect(stage.tick(1e15, raw))
  sealed.push(out.take())
  const total = batches.reduce((sum, batch) => sum + batch.count, 0)
  const errors = series.map((each, at) => {
    const { low, high } = spanOf(each)
    return greatestError(
      each,
      kept[at] as Map<number, number>,
      ((high - low) * percent) / 100,
      method,
    )
  })
  return {
    kept: count / total,
    bytes: bytesOf(sealed.filter((batch) => batch.count > 0)) / total,
    error: Math.max(...errors),
    unmended: stage.totals().reduce((sum, { lateUnmended }) => sum + lateUnmended, 0),
  }
}

const rowsOf = (set: RecordingSet, figures: Record<string, number | string>): string[] => {
  const series = set.series.filter(isUsable)
  const batches = segmentsOf(series)
  const points = batches.reduce((sum, batch) => sum + batch.count, 0)
  const raw = bytesOf(batches) / points
  return percents.map((percent) => {
    const cells = (['swinging_door', 'deadband'] as const).flatMap((method) => {
      const { kept, bytes, error, unmended } = measure(series, batches, method, percent)
      const name = `${method === 'deadband' ? 'deadband' : 'door'}_${set.name}_${percent}`
      figures[`${name}_kept`] = kept
      figures[`${name}_bytes`] = bytes
      figures[`${name}_error`] = error
      figures[`${name}_late_unmended`] = unmended
      return [`${(kept * 100).toFixed(1)} %`, bytes.toFixed(3), error.toFixed(3)]
    })
    const [a, b, c, d, e, f] = cells
    return `| ${set.name} (${series.length}) | ${percent} % | ${raw.toFixed(2)} | **${a}** | **${b}** | ${c} | ${d} | ${e} | ${f} |`
  })
}

export const bench = async (): Promise<Record<string, number | string>> => {
  const { made, sets } = loadRecordings()
  const figures: Record<string, number | string> = {
    reduce_table_input: made ? 'made' : 'recordings',
  }
  const lines = [
    '| recordings (series) | deviation | raw bytes | door: kept | bytes a raw point | greatest error | deadband: kept | bytes a raw point | greatest error |',
    '|---|---|---|---|---|---|---|---|---|',
    ...sets.flatMap((set) => rowsOf(set, figures)),
  ]
  process.stdout.write(`${lines.join('\n')}\n\n`)
  return figures
}
