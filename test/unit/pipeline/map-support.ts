/** A mapper with everything around it, its answers as plain points and losses. */
import { z } from 'zod'
import { createBatchBuilder, valueAt } from '../../../src/batch.ts'
import { seriesIdOf } from '../../../src/codec/series-id.ts'
import type { PointBatch, SeriesTable, Value } from '../../../src/model.ts'
import { createMapper, mappingShape } from '../../../src/pipeline/map.ts'
import { createSeriesTable } from '../../../src/pipeline/series.ts'

const schema = z.strictObject(mappingShape)
export type MappingInput = z.input<typeof schema>
export const parseMapping = (mapping: MappingInput) => schema.parse(mapping)

export interface Mapped {
  readonly points: readonly (readonly [string, number, Value, number])[]
  readonly losses: readonly (readonly [string, string, number])[]
}
const seriesText = (series: SeriesTable, ref: number): string => {
  const { name, tags } = series.entry(ref)
  return [name, ...tags.map(([tag, value]) => `${tag}=${value}`)].join(',')
}
const rows = (series: SeriesTable, batch: PointBatch): Mapped['points'] =>
  Array.from({ length: batch.count }, (_, at) => [
    seriesText(series, batch.series[at] as number),
    batch.timeUs[at] as number,
    valueAt(batch, at),
    batch.qualities[at] as number,
  ])

export const createTestSeries = () => createSeriesTable({ agent: 'edge', seriesIdOf })
/** Arrival is 1,000 µs for every first point of a series. */
export const createTestMapper = (mapping: MappingInput) => {
  const series = createTestSeries()
  const mapper = createMapper(parseMapping(mapping), series)
  const last = new Map<number, number>()
  return (topic: string, payload: string | Uint8Array): Mapped => {
    const builder = createBatchBuilder()
    const losses: [string, string, number][] = []
    mapper.map(topic, typeof payload === 'string' ? Buffer.from(payload) : payload, {
      timed: builder,
      stamped: builder,
      stampUs: (ref) => {
        const next = Math.max(1_000, (last.get(ref) ?? 0) + 1)
        last.set(ref, next)
        return next
      },
      lose: (...loss) => losses.push(loss),
    })
    return { points: rows(series, builder.take()), losses }
  }
}
