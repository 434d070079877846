/**
 * Which points form a run: all of one series (segment), or neighbours of one series (journal).
 * Invariant: within a run, accept order.
 */
import type { PointBatch } from '../model.ts'
import type { Runs } from './encode.ts'
import { scratchFloats, scratchWords } from './scratch.ts'

/** Above this many counters per point a comparison sort is cheaper than counting. */
const sparseness = 16
const orders = scratchWords()
const starting = scratchWords()
const seriesOfRuns = scratchFloats()
const countsOfRuns = scratchFloats()

const runsOf = (points: PointBatch, order: Uint32Array): Runs => {
  const { count } = points
  const series = seriesOfRuns(count)
  const counts = countsOfRuns(count)
  let runCount = 0
  let before = -1
  for (let i = 0; i < count; i++) {
    const index = points.series[order[i] as number] as number
    if (index !== before) {
      counts[runCount] = 0
      series[runCount++] = index
      before = index
    }
    counts[runCount - 1] = (counts[runCount - 1] as number) + 1
  }
  return { order, series, counts, runCount }
}

const countingRuns = (points: PointBatch, least: number, most: number): Runs => {
  const slots = most - least + 1
  const starts = starting(slots + 1).fill(0)
  const { series: of, count } = points
  for (let i = 0; i < count; i++) {
    const slot = (of[i] as number) - least + 1
    starts[slot] = (starts[slot] as number) + 1
  }
  const series = seriesOfRuns(Math.min(slots, count))
  const counts = countsOfRuns(Math.min(slots, count))
  let runCount = 0
  for (let slot = 0; slot < slots; slot++) {
    const members = starts[slot + 1] as number
    starts[slot + 1] = (starts[slot] as number) + members
    if (members === 0) continue
    series[runCount] = least + slot
    counts[runCount++] = members
  }
  const order = orders(count)
  for (let i = 0; i < count; i++) {
    const slot = (of[i] as number) - least
    const place = starts[slot] as number
    order[place] = i
    starts[slot] = place + 1
  }
  return { order, series, counts, runCount }
}

/** One run a series, ascending. */
export const groupBySeries = (points: PointBatch): Runs => {
  const { series, count } = points
  let least = 0xffff_ffff
  let most = 0
  for (let i = 0; i < count; i++) {
    const index = series[i] as number
    if (index < least) least = index
    if (index > most) most = index
  }
  if (count > 0 && most - least <= sparseness * count + 1024) {
    return countingRuns(points, least, most)
  }
  const order = orders(count)
  for (let i = 0; i < count; i++) order[i] = i
  order.sort((a, b) => (series[a] as number) - (series[b] as number) || a - b)
  return runsOf(points, order)
}

/** Accept order kept; neighbours of one series form a run. */
export const groupNeighbours = (points: PointBatch): Runs => {
  const order = orders(points.count)
  for (let i = 0; i < points.count; i++) order[i] = i
  return runsOf(points, order)
}
