/**
 * What crosses between the agent's thread and the spool's worker: calls, answers, and windows of points as one
 * transferred buffer a lane.
 *
 * Invariants: a window's buffer is made here and given away, never a view of somebody's columns; series definitions
 * cross once, before the first window that uses them.
 */
import { wordsOf } from '../batch.ts'
import type { Failure } from '../errors.ts'
import type { LogFields } from '../host.ts'
import {
  type GapReason,
  type Intake,
  type Kept,
  kinds,
  type Loss,
  type PointBatch,
  type SealOrder,
  type SeriesEntry,
} from '../model.ts'
import type { Handed, LaneHead } from './spool.ts'
import type { SpoolOptions } from './state.ts'

export interface PackedPoints {
  readonly count: number
  readonly buffer: ArrayBuffer
  readonly texts: readonly string[]
}
export interface PackedWindow {
  readonly lane: string
  readonly seal: boolean
  readonly wall: PackedPoints
  readonly monotonic: PackedPoints
  readonly copies: readonly { readonly copyOf: SealOrder; readonly points: PackedPoints }[]
  readonly kept: readonly Kept[]
  readonly losses: readonly Loss<GapReason>[]
}
export interface WorkerData {
  readonly path: string
  readonly options: SpoolOptions
  /** Plain data for the thread's program, which makes stages of it. */
  readonly stages: unknown
  /** Set aside what is there, unopened. */
  readonly suspect: boolean
}
export type ToWorker =
  | {
      readonly id: number
      readonly method: 'commit'
      readonly windows: readonly PackedWindow[]
      readonly series: readonly SeriesEntry[]
    }
  | { readonly id: number; readonly method: string; readonly args: readonly unknown[] }
export type FailureText = Pick<Failure, 'code' | 'message' | 'hint'>
export type FromWorker =
  | {
      readonly kind: 'ready'
      readonly epoch: string
      readonly spoolId: string
      readonly lastWallUs: number
      readonly heads: readonly LaneHead[]
    }
  | { readonly kind: 'refused'; readonly failure: FailureText }
  | {
      readonly kind: 'answer'
      readonly id: number
      readonly result: unknown
      readonly heads: readonly LaneHead[]
    }
  | { readonly kind: 'failed'; readonly id: number; readonly failure: FailureText }
  | {
      readonly kind: 'log'
      readonly level: 'debug' | 'info' | 'warn' | 'error'
      readonly event: string
      readonly fields: LogFields | undefined
    }

const pointBytes = 8 + 8 + 4 + 1 + 1
const columnsOf = (buffer: ArrayBuffer, count: number) => ({
  bits: new BigUint64Array(buffer, 0, count),
  timeUs: new Float64Array(buffer, count * 8, count),
  series: new Uint32Array(buffer, count * 16, count),
  kinds: new Uint8Array(buffer, count * 20, count),
  qualities: new Uint8Array(buffer, count * 21, count),
})

const packPoints = (batches: readonly PointBatch[]): PackedPoints => {
  const count = batches.reduce((sum, batch) => sum + batch.count, 0)
  const buffer = new ArrayBuffer(count * pointBytes)
  const columns = columnsOf(buffer, count)
  const texts: string[] = []
  let at = 0
  for (const batch of batches) {
    columns.bits.set(batch.bits, at)
    columns.timeUs.set(batch.timeUs, at)
    columns.series.set(batch.series, at)
    columns.kinds.set(batch.kinds, at)
    columns.qualities.set(batch.qualities, at)
    if (batch.texts.length > 0 && texts.length > 0) {
      const words = wordsOf({ bits: columns.bits, count })
      for (let one = at; one < at + batch.count; one++) {
        if (columns.kinds[one] === kinds.string)
          words[one * 2] = (words[one * 2] as number) + texts.length
      }
    }
    for (const text of batch.texts) texts.push(text)
    at += batch.count
  }
  return { count, buffer, texts }
}
export const unpackPoints = ({ count, buffer, texts }: PackedPoints): PointBatch => ({
  count,
  ...columnsOf(buffer, count),
  texts,
})

export const packWindow = ({ lane, intakes, seal }: Handed): PackedWindow => {
  const points = (base: 'wall' | 'monotonic') =>
    intakes
      .filter((one) => (one.timeBase ?? 'wall') === base && one.copyOf === undefined)
      .map((one) => one.points)
  return {
    lane,
    seal,
    wall: packPoints(points('wall')),
    monotonic: packPoints(points('monotonic')),
    copies: intakes.flatMap(({ copyOf, points: copied }) =>
      copyOf === undefined ? [] : [{ copyOf, points: packPoints([copied]) }],
    ),
    kept: intakes.flatMap((one) => one.kept ?? []),
    losses: intakes.flatMap((one) => one.losses ?? []),
  }
}
export const unpackWindow = (window: PackedWindow): Handed => {
  const intakes: Intake[] = [
    { points: unpackPoints(window.wall), kept: window.kept, losses: window.losses },
  ]
  if (window.monotonic.count > 0) {
    intakes.push({ points: unpackPoints(window.monotonic), timeBase: 'monotonic' })
  }
  for (const { copyOf, points } of window.copies)
    intakes.push({ copyOf, points: unpackPoints(points) })
  return { lane: window.lane, seal: window.seal, intakes }
}
export const buffersOf = (windows: readonly PackedWindow[]): ArrayBuffer[] =>
  windows.flatMap(({ wall, monotonic, copies }) =>
    [wall, monotonic, ...copies.map(({ points }) => points)].map(({ buffer }) => buffer),
  )
