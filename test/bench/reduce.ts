/**
 * Rules and windows: millions of points per CPU-second through the stages, and the memory of 10,000 series with three
 * open windows each. Points are sealed segments of 1,000 series a second, decoded; making them is not timed.
 */
import { createBatchBuilder } from '../../src/batch.ts'
import { seriesIdOf } from '../../src/codec/series-id.ts'
import type { PointBatch, SeriesEntry, Stage } from '../../src/model.ts'
import {
  compileClasses,
  type Reduce,
  type SeriesClass,
  type Statistic,
  type WindowSpec,
} from '../../src/pipeline/classes.ts'
import { createRulesStage } from '../../src/pipeline/rules.ts'
import { createWindowsStage } from '../../src/pipeline/windows.ts'
import { createRandom } from './recordings.ts'

const startUs = 1_760_000_000_000_000
const seriesCount = 1_000
const seconds = 60
const segments = 20

const entryOf = (series: number): SeriesEntry => ({
  id: BigInt(series + 1),
  name: `plant/line${series % 10}/s${series}`,
  unit: 'K',
  tags: [],
})
/** Sensors with a resolution: walks of 0.1, each second one point. */
const makeSegments = (): PointBatch[] => {
  const random = createRandom(5)
  const levels = Float64Array.from({ length: seriesCount }, () => 20 + random() * 100)
  return Array.from({ length: segments }, (_, segment) => {
    const builder = createBatchBuilder(seriesCount * seconds)
    for (let second = 0; second < seconds; second++) {
      const timeUs = startUs + (segment * seconds + second) * 1_000_000
      for (let series = 0; series < seriesCount; series++) {
        const level = (levels[series] as number) + Math.round(random() * 6 - 3) / 10
        levels[series] = level
        builder.addFloat(series, timeUs, Math.round(level * 10) / 10, 0)
      }
    }
    return builder.take()
  })
}

const feed = (stage: Stage, batches: readonly PointBatch[]): number => {
  let out = 0
  batches.forEach((points, at) => {
    const raw = () => [points]
    for (const derived of stage.step({ points, entry: entryOf, seq: at + 1, raw })) {
      out += derived.points.count
    }
  })
  return out
}
/** Best of five runs over all segments, each with a fresh stage. */
const speed = (create: () => Stage, batches: readonly PointBatch[]) => {
  const points = batches.reduce((sum, { count }) => sum + count, 0)
  let best = 0
  let out = 0
  for (let run = 0; run < 5; run++) {
    const stage = create()
    stage.load(null)
    // The first segment makes every row; a gateway does that once.
    const [first, ...rest] = batches
    if (first !== undefined) feed(stage, [first])
    const start = process.cpuUsage()
    out = feed(stage, rest)
    const { user, system } = process.cpuUsage(start)
    best = Math.max(best, (points - (first?.count ?? 0)) / (user + system))
  }
  return { best, kept: out / points }
}

const classOf = (reduce: Reduce, windows: readonly WindowSpec[] = []): SeriesClass[] => [
  { name: 'all', match: {}, reduce, windows },
]
const rules = (reduce: Reduce) => () =>
  createRulesStage({ classes: compileClasses(classOf(reduce)) })
const windows =
  (...specs: WindowSpec[]) =>
  () =>
    createWindowsStage({
      classes: compileClasses(classOf({ method: 'none' }, specs)),
      timeZone: 'UTC',
      idOf: (key) => seriesIdOf('bench', key),
    })
const ten: readonly Statistic[] = [
  'count',
  'good_count',
  'min',
  'max',
  'first',
  'last',
  'mean',
  'twa',
  'delta',
  'stddev',
]
const window = (everyUs: number, statistics: readonly Statistic[]): WindowSpec => ({
  everyUs,
  statistics,
  latenessUs: 5_000_000,
  lane: 'rollup',
})

const settled = (): number => {
  for (let i = 0; i < 3; i++) globalThis.gc?.()
  const { heapUsed, arrayBuffers, external } = process.memoryUsage()
  return heapUsed + Math.max(arrayBuffers, external)
}
/** 10,000 series, 1s, 1m and 15m windows open at once, after three minutes of points. */
const memory = () => {
  const count = 10_000
  const stage = windows(window(10e6, ten), window(60e6, ten), window(900e6, ten))()
  stage.load(null)
  const entries = Array.from({ length: count }, (_, series) => entryOf(series))
  const entry = (series: number) => entries[series] as SeriesEntry
  const before = settled()
  for (let second = 0; second < 30; second++) {
    const builder = createBatchBuilder(count)
    for (let series = 0; series < count; series++) {
      builder.addFloat(series, startUs + second * 6_000_000, series + second, 0)
    }
    const points = builder.take()
    stage.step({ points, entry, seq: second + 1, raw: () => [points] })
  }
  const bytes = settled() - before
  return { bytes, state: stage.save().length }
}

export const bench = async (): Promise<Record<string, number | string>> => {
  const batches = makeSegments()
  const lane = 'process'
  const deadband = speed(rules({ method: 'deadband', deviation: 0.5, lane }), batches)
  const door = speed(rules({ method: 'swinging_door', deviation: 0.5, lane }), batches)
  const change = speed(rules({ method: 'on_change', lane }), batches)
  const every = speed(rules({ method: 'every', lane }), batches)
  const ofTen = speed(windows(window(60e6, ten)), batches)
  const quantiles = speed(windows(window(60e6, [...ten, 'median', 'p95'])), batches)
  const { bytes, state } = memory()
  return {
    deadband_mpts_per_cpu_s: deadband.best,
    swinging_door_mpts_per_cpu_s: door.best,
    on_change_mpts_per_cpu_s: change.best,
    every_mpts_per_cpu_s: every.best,
    window_mpts_per_cpu_s: ofTen.best,
    window_quantiles_mpts_per_cpu_s: quantiles.best,
    deadband_kept: deadband.kept,
    swinging_door_kept: door.kept,
    windows_30k_mb: bytes / 2 ** 20,
    windows_30k_state_mb: state / 2 ** 20,
    gc: globalThis.gc === undefined ? 'not exposed: windows_30k_mb is an upper bound' : 'exposed',
  }
}
