/**
 * What the windows stage knows of classes and series: windows compiled, the newest point of each series, and the chains
 * of open windows, newest first.
 *
 * Invariants: an owner is one window length of one series, own × windowsPerClassMax + its number in the class; a chain
 * holds each start once, in falling order; `closedUntil` of an owner never falls.
 */
import type { CompiledClasses, WindowSpec } from './classes.ts'
import { windowsPerClassMax } from './classes.ts'
import { createStageSeries, type StageSeries } from './stage-series.ts'
import { createStageWarnings, type StageWarnings } from './stage-warnings.ts'
import { createSlots, type Slots, slot, slotStride } from './window-slots.ts'
import { createSpans, type Spans } from './window-spans.ts'
import { everyTagOf, type Given, givenFor } from './window-statistics.ts'

export interface CompiledWindow {
  readonly spec: WindowSpec
  readonly spans: Spans
  readonly given: readonly Given[]
  readonly everyTag: readonly [string, string]
  readonly quantiles: boolean
  readonly states: boolean
  /** undefined where `delta` is of no counter. */
  readonly modulus: number | null | undefined
  /** Since the state began. */
  pointsOut: number
  tooLate: number
}

/** Newest point of a series. */
export const newest = {
  time: 0,
  /** As a number; NaN where it is not used. */
  value: 1,
  bits: 2,
  /** Low word: kind and quality. */
  meta: 3,
} as const
export const newestStride = 4

export interface WindowTable {
  /** By class number. */
  readonly windows: readonly (readonly CompiledWindow[])[]
  readonly pointsIn: number[]
  readonly series: StageSeries
  readonly slots: Slots
  /** Rows of `newest`, by own number. All three are replaced when they grow. */
  readonly newestCells: () => Float64Array
  readonly newestWords: () => Uint32Array
  /** By own number: the text of a newest point that is one. */
  readonly newestTexts: Map<number, string>
  /** By owner: row of its newest open window, or -1. */
  readonly heads: () => Int32Array
  /** By owner: end of the newest window that `tick` closed for good; NaN for none. */
  readonly closedUntil: () => Float64Array
  readonly windowOf: (owner: number) => CompiledWindow
  /** Row of the owner's window that starts at `startUs`, or -1. */
  readonly find: (owner: number, startUs: number) => number
  readonly link: (owner: number, at: number) => void
  readonly unlink: (at: number) => void
  /** Windows looked at by `find` and `link`, for whoever counts. */
  looked: number
  readonly warnings: StageWarnings['take']
  /** Point of that time is too late for its window. */
  readonly refuse: (own: number, window: CompiledWindow, timeUs: number) => void
  /** A window that ends then takes no more late points, for want of room. */
  readonly noRoom: (owner: number, endUs: number) => void
  /** Rows to give out. */
  due: number[]
  /**
   * Least time of the first step of a state begun anew, or newest of a series forgotten: windows of series new to it
   * from before that are made from the raw lane.
   */
  bornUs: number
  /** No open window that may be made again begins before this; lowered as windows open, raised by `tick`. */
  holdFromUs: number
  readonly clear: () => void
}

const compile = (spec: WindowSpec, timeZone: string): CompiledWindow => ({
  spec,
  spans: createSpans(spec.everyUs, timeZone),
  given: givenFor(spec.statistics),
  everyTag: everyTagOf(spec.everyUs),
  quantiles: spec.statistics.some((one) => one === 'median' || one === 'p95'),
  states: spec.statistics.includes('time_in_state'),
  modulus: spec.counter?.modulus,
  pointsOut: 0,
  tooLate: 0,
})

export const createWindowTable = (
  compiled: CompiledClasses,
  timeZone: string,
  seriesMax?: number,
): WindowTable => {
  const windows = compiled.classes.map((one) => one.windows.map((spec) => compile(spec, timeZone)))
  const slots = createSlots()
  let newestCells = new Float64Array(newestStride * 64)
  let newestWords = new Uint32Array(newestCells.buffer)
  let heads = new Int32Array(windowsPerClassMax * 64).fill(-1)
  let closedUntil = new Float64Array(windowsPerClassMax * 64).fill(Number.NaN)
  const grow = (): void => {
    const cells = new Float64Array(newestCells.length * 2)
    cells.set(newestCells)
    newestCells = cells
    newestWords = new Uint32Array(cells.buffer)
    const moreHeads = new Int32Array(heads.length * 2).fill(-1)
    moreHeads.set(heads)
    heads = moreHeads
    const moreClosed = new Float64Array(closedUntil.length * 2).fill(Number.NaN)
    moreClosed.set(closedUntil)
    closedUntil = moreClosed
  }
  const series = createStageSeries(
    compiled,
    (one) => one.windows.length > 0,
    (own) => {
      if ((own + 1) * newestStride > newestCells.length) grow()
      newestCells.fill(Number.NaN, own * newestStride, (own + 1) * newestStride)
      heads.fill(-1, own * windowsPerClassMax, (own + 1) * windowsPerClassMax)
      closedUntil.fill(Number.NaN, own * windowsPerClassMax, (own + 1) * windowsPerClassMax)
    },
    seriesMax,
  )
  const olderOf = (at: number) => slots.cells()[at * slotStride + slot.older] as number
  const startOf = (at: number) => slots.cells()[at * slotStride + slot.start] as number
  const pointsIn = windows.map(() => 0)
  const tooLate = createStageWarnings('too_late', compiled.classes, series.entries)
  const noRoom = createStageWarnings('no_room', compiled.classes, series.entries)
  const self: WindowTable = {
    windows,
    pointsIn,
    series,
    slots,
    newestCells: () => newestCells,
    newestWords: () => newestWords,
    newestTexts: new Map(),
    heads: () => heads,
    closedUntil: () => closedUntil,
    windowOf: (owner) => {
      const own = Math.floor(owner / windowsPerClassMax)
      const ofClass = windows[series.classes[own] as number]
      return ofClass?.[owner % windowsPerClassMax] as CompiledWindow
    },
    find: (owner, startUs) => {
      let at = heads[owner] as number
      for (; at >= 0 && startOf(at) > startUs; at = olderOf(at)) self.looked++
      return at >= 0 && startOf(at) === startUs ? at : -1
    },
    link: (owner, at) => {
      const cells = slots.cells()
      let newer = -1
      let next = heads[owner] as number
      for (; next >= 0 && startOf(next) > startOf(at); next = olderOf(next)) {
        newer = next
        self.looked++
      }
      cells[at * slotStride + slot.older] = next
      if (newer < 0) heads[owner] = at
      else cells[newer * slotStride + slot.older] = at
    },
    unlink: (at) => {
      const cells = slots.cells()
      const owner = cells[at * slotStride + slot.owner] as number
      const next = olderOf(at)
      let newer = heads[owner] as number
      if (newer === at) heads[owner] = next
      else {
        while (olderOf(newer) !== at) newer = olderOf(newer)
        cells[newer * slotStride + slot.older] = next
      }
    },
    looked: 0,
    warnings: () => [...tooLate.take(), ...noRoom.take()],
    refuse: (own, window, timeUs) => {
      window.tooLate++
      tooLate.note(series.classes[own] as number, own, timeUs)
    },
    noRoom: (owner, endUs) => {
      const own = Math.floor(owner / windowsPerClassMax)
      noRoom.note(series.classes[own] as number, own, endUs)
    },
    due: [],
    bornUs: Number.NaN,
    holdFromUs: Number.POSITIVE_INFINITY,
    clear: () => {
      series.clear()
      slots.clear()
      self.newestTexts.clear()
      self.due = []
      self.bornUs = Number.NaN
      self.holdFromUs = Number.POSITIVE_INFINITY
      pointsIn.fill(0)
      for (const one of windows.flat()) {
        one.pointsOut = 0
        one.tooLate = 0
      }
    },
  }
  return self
}
