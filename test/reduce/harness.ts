/** A stage fed as the spool feeds it: segment by segment, its raw lane readable, saved and loaded wherever a test says. */
import { createBatchBuilder, emptyBatch, pointsOf } from '../../src/batch.ts'
import type {
  Derived,
  DerivedEntry,
  Point,
  PointBatch,
  Quality,
  SeriesEntry,
  Stage,
  Value,
} from '../../src/model.ts'

/** A point of a test: `series` is a number of `entries`. */
export interface Sample {
  readonly series: number
  readonly timeUs: number
  readonly value: Value
  readonly quality: Quality
}
/** What a stage gave out, in order. */
export interface Given extends Sample {
  readonly lane: string
  readonly entry: DerivedEntry
}
export type Turn =
  | { readonly kind: 'step'; readonly points: readonly Sample[] }
  | { readonly kind: 'tick'; readonly nowUs: number }
  | { readonly kind: 'letGo'; readonly beforeUs: number }
  /** Saved and loaded into a new stage, which numbers its input anew and hears so by a step without points. */
  | { readonly kind: 'restart' }

export const batchOf = (points: readonly Sample[], number = (series: number) => series) => {
  const builder = createBatchBuilder()
  for (const { series, timeUs, value, quality } of points) {
    builder.add(number(series), timeUs, value, quality)
  }
  return builder.take()
}
export const samplesOf = (batch: PointBatch): Sample[] =>
  [...pointsOf(batch, BigInt)].map((point: Point) => ({ ...point, series: Number(point.series) }))

export const givenOf = (derived: readonly Derived[]): Given[] =>
  derived.flatMap(({ lane, points, entry }) =>
    samplesOf(points).map((sample) => ({ ...sample, lane, entry: entry(sample.series) })),
  )

/** Points given out turn by turn. */
export const drive = (
  create: () => Stage,
  entries: readonly SeriesEntry[],
  turns: readonly Turn[],
): { readonly given: Given[]; readonly stage: Stage } => {
  let stage = create()
  stage.load(null)
  let shift = 0
  let seq = 0
  const fed: Sample[][] = []
  const number = (series: number) => (series + shift) % entries.length
  const entry = (input: number) =>
    entries[(input - shift + entries.length * (shift + 1)) % entries.length] as SeriesEntry
  function* raw(fromUs: number, toUs: number) {
    for (const points of fed) {
      yield batchOf(
        points.filter(({ timeUs }) => timeUs >= fromUs && timeUs < toUs),
        number,
      )
    }
  }
  const given: Given[] = []
  const wake = () => {
    given.push(...givenOf(stage.step({ points: emptyBatch, entry, seq, raw })))
  }
  wake()
  for (const turn of turns) {
    if (turn.kind === 'restart') {
      // As a database gives it back: a Buffer that begins anywhere.
      const state = Buffer.concat([Buffer.alloc(3), stage.save()]).subarray(3)
      stage = create()
      stage.load(state)
      shift++
      wake()
    } else if (turn.kind === 'tick') given.push(...givenOf(stage.tick(turn.nowUs, raw)))
    else if (turn.kind === 'letGo') given.push(...givenOf(stage.letGo(turn.beforeUs, raw)))
    else {
      fed.push([...turn.points])
      const points = batchOf(turn.points, number)
      given.push(...givenOf(stage.step({ points, entry, seq: ++seq, raw })))
    }
  }
  return { given, stage }
}

/** The last accepted value of each time, by time. */
export const standing = (points: readonly Sample[]): Sample[] => {
  const byTime = new Map(points.map((point) => [point.timeUs, point] as const))
  for (const point of points) byTime.set(point.timeUs, point)
  return [...byTime.values()].sort((a, b) => a.timeUs - b.timeUs)
}
export const entryOf = (name: string, unit = ''): SeriesEntry => {
  let id = 7n
  for (const letter of name) id = (id * 131n + BigInt(letter.codePointAt(0) ?? 0)) % (1n << 63n)
  return { id, name, unit, tags: [] }
}
