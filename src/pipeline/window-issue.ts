/**
 * Windows out: those that are due, made again first where they must be, each as one point a statistic.
 *
 * Invariants: a turn makes at most `makeLimits` again (and always one window), what is left stays due; the order
 * is that of starts and owners, so it is the same after a restart; a window that can no longer change is freed once
 * it is out.
 */
import { type BatchBuilder, createBatchBuilder, emptyBatch } from '../batch.ts'
import {
  type Derived,
  kinds,
  type Pieces,
  type PointBatch,
  type SeriesEntry,
  type SeriesKey,
  type StageInput,
} from '../model.ts'
import { windowsPerClassMax } from './classes.ts'
import { atOnce } from './pieces.ts'
import { addPoint, createTexts, facesOf, usedNumber, usedState } from './window-add.ts'
import { flagsOf, isOver, release, setFlags } from './window-feed.ts'
import {
  type Gathered,
  jobsOfOneTurn,
  type MakeJob,
  makeAgain,
  makeLimits,
  type TakeMade,
} from './window-make.ts'
import { resetSlot, slot, slotStride, standing } from './window-slots.ts'
import { type Given, type Issue, putStatistic, statisticEntry } from './window-statistics.ts'
import { type CompiledWindow, newest, newestStride, type WindowTable } from './window-table.ts'

export interface EarlyWindow {
  readonly at: number
  readonly untilUs: number
}
export interface WindowIssue {
  /** Gives out what is due; windows that must be made again wait while the input's numbers are not known. */
  readonly run: (raw: StageInput['raw']) => Pieces<void>
  /** Gives windows out before their end, up to `untilUs`. */
  readonly early: (windows: readonly EarlyWindow[], raw: StageInput['raw']) => void
  /** Makes windows again now, whether or not they are due: they ask for nothing before their start any more. */
  readonly settle: (windows: readonly number[], raw: StageInput['raw']) => void
  /** What was given out since; with an empty batch at least where `changed`. */
  readonly take: (changed: boolean) => Derived[]
  readonly clear: () => void
}

/** Numbers of statistic series: those of one owner follow each other, in the order in which owners first gave out. */
interface Numbers {
  readonly firstOf: (owner: number, count: number) => number
  readonly of: (number: number) => { readonly owner: number; readonly first: number }
  readonly clear: () => void
}
const createNumbers = (): Numbers => {
  /** By owner: its place in the two below, less 1. */
  let places = new Uint32Array(64)
  let firsts = new Uint32Array(64)
  let owners = new Uint32Array(64)
  let count = 0
  let next = 0
  const grown = (from: Uint32Array<ArrayBuffer>, least: number) => {
    if (least < from.length) return from
    const larger = new Uint32Array(Math.ceil((least + 1) * 1.25))
    larger.set(from)
    return larger
  }
  return {
    firstOf: (owner, given) => {
      places = grown(places, owner)
      const known = places[owner] as number
      if (known > 0) return firsts[known - 1] as number
      firsts = grown(firsts, count)
      owners = grown(owners, count)
      firsts[count] = next
      owners[count] = owner
      next += given
      places[owner] = ++count
      return firsts[count - 1] as number
    },
    of: (number) => {
      let [low, high] = [0, count - 1]
      while (low < high) {
        const middle = (low + high + 1) >>> 1
        if ((firsts[middle] as number) <= number) low = middle
        else high = middle - 1
      }
      return { owner: owners[low] as number, first: firsts[low] as number }
    },
    clear: () => {
      places.fill(0)
      count = 0
      next = 0
    },
  }
}

export const createWindowIssue = (
  table: WindowTable,
  idOf: (key: SeriesKey) => bigint,
  limits = makeLimits,
): WindowIssue => {
  const { slots, series } = table
  const outs = new Map<string, BatchBuilder>()
  for (const { spec } of table.windows.flat()) outs.set(spec.lane, createBatchBuilder(4096))
  const numbers = createNumbers()
  const entry = (number: number): SeriesEntry => {
    const { owner, first } = numbers.of(number)
    const window = table.windowOf(owner)
    const statistic = window.given[number - first] as Given
    const of = series.entries[Math.floor(owner / windowsPerClassMax)] as SeriesEntry
    return statisticEntry(of, window.everyTag, statistic, idOf)
  }
  const issue = (at: number, untilUs: number, values: Float64Array | undefined): void => {
    const [cells, words, row] = [slots.cells(), slots.words(), at * slotStride]
    const owner = cells[row + slot.owner] as number
    const window = table.windowOf(owner)
    const out = outs.get(window.spec.lane) as BatchBuilder
    cells[row + slot.rev] = (cells[row + slot.rev] as number) + 1
    const whole = untilUs === cells[row + slot.end]
    const gone = standing.dirty | standing.due | standing.issued
    // Quantiles are of all values, and those are gone.
    if (window.quantiles && values === undefined && (flagsOf(table, at) & standing.cut) !== 0)
      setFlags(table, at, flagsOf(table, at) | standing.lacking)
    const lacking = (flagsOf(table, at) & standing.lacking) !== 0
    const now = (whole ? standing.issued : standing.partial) | (lacking ? standing.partial : 0)
    setFlags(table, at, (flagsOf(table, at) & ~gone) | now)
    const before = out.count()
    const first = numbers.firstOf(owner, window.given.length)
    const one: Issue = {
      cells,
      words,
      row,
      untilUs,
      spec: window.spec,
      texts: slots.texts.get(at),
      values,
    }
    window.given.forEach((statistic, i) => {
      putStatistic(one, statistic, out, first + i)
    })
    window.pointsOut += out.count() - before
    const own = Math.floor(owner / windowsPerClassMax)
    const newestUs = table.newestCells()[own * newestStride + newest.time] as number
    const final = (flagsOf(table, at) & standing.final) !== 0
    if (whole && (final || isOver(table, at, newestUs))) release(table, at)
  }
  const valuesOf = (points: PointBatch, order: Uint32Array): Float64Array => {
    const faces = facesOf(points)
    const values = new Float64Array(order.length)
    let used = 0
    for (const i of order) {
      const value = usedNumber(faces, i)
      if (!Number.isNaN(value)) values[used++] = value
    }
    return values.subarray(0, used)
  }
  /** Notes that points may be gone which it was never given, or which it has just been made again without. */
  const noteLacking = (
    at: number,
    raw: StageInput['raw'],
    again: boolean,
    carried = false,
  ): void => {
    const cells = slots.cells()
    const row = at * slotStride
    const [startUs, endUs] = [cells[row + slot.start] as number, cells[row + slot.end] as number]
    const { spans } = table.windowOf(cells[row + slot.owner] as number)
    const beforeUs = spans.startOf(startUs - 1)
    const lacks = again && raw.lacks?.(carried ? startUs : beforeUs, endUs) === true
    if (lacks || raw.missed?.(beforeUs, endUs) === true)
      setFlags(table, at, flagsOf(table, at) | standing.lacking)
  }
  /** A row to be made from its points, as if none had come yet; what is in force at its start stays if it is newer. */
  const beginAgain = (at: number, window: CompiledWindow, before: PointBatch): void => {
    const [cells, row] = [slots.cells(), at * slotStride]
    let state = slots.texts.get(at)?.carry
    const time = before.timeUs[0] ?? Number.NEGATIVE_INFINITY
    if (before.count > 0 && !(time < (cells[row + slot.carryTime] as number))) {
      const faces = facesOf(before)
      cells[row + slot.carryTime] = time
      cells[row + slot.carryValue] = usedNumber(faces, 0)
      const text = before.kinds[0] === kinds.string
      state = window.states || text ? usedState(faces, 0) : undefined
    }
    slots.texts.delete(at)
    if (state !== undefined || window.states) slots.texts.set(at, createTexts(state))
    resetSlot(cells, slots.words(), at)
  }
  /** The row from its points where it is dirty, and its values in order where the window asks for quantiles. */
  const createRemake = (at: number) => {
    const window = table.windowOf(slots.cells()[at * slotStride + slot.owner] as number)
    const dirty = (flagsOf(table, at) & standing.dirty) !== 0
    const parts: Float64Array[] = []
    let begun = false
    return {
      /** What was known to be in force at its start need not have been read. */
      carried: !Number.isNaN(slots.cells()[at * slotStride + slot.carryTime]),
      add: (gathered: Gathered): void => {
        if (gathered.kind === 'values') {
          parts.push(gathered.values)
          return
        }
        const { before, points, order } = gathered
        if (dirty) {
          if (!begun) beginAgain(at, window, before)
          begun = true
          const faces = facesOf(points)
          for (const i of order) addPoint(slots, at, window, faces, i, usedNumber(faces, i))
        }
        if (window.quantiles) parts.push(valuesOf(points, order))
      },
      values: (): Float64Array | undefined => {
        if (!window.quantiles) return undefined
        const [only, second] = parts
        if (only !== undefined && second === undefined) return only.sort()
        const all = new Float64Array(parts.reduce((sum, { length }) => sum + length, 0))
        parts.reduce((from, one) => {
          all.set(one, from)
          return from + one.length
        }, 0)
        return all.sort()
      },
    }
  }
  /** Makes them again; `made` hears of each with its values. */
  const remake = (
    jobs: readonly MakeJob[],
    raw: StageInput['raw'],
    made: (at: number, values: Float64Array | undefined) => void,
  ): Pieces<void> => {
    let one: ReturnType<typeof createRemake> | undefined
    const take: TakeMade = ({ at }, gathered, isLast) => {
      one ??= createRemake(at)
      one.add(gathered)
      if (!isLast) return
      noteLacking(at, raw, true, one.carried)
      const values = one.values()
      one = undefined
      made(at, values)
    }
    return makeAgain({ raw, series, limits, take }, jobs)
  }
  const jobOf = (at: number): MakeJob => {
    const cells = slots.cells()
    const row = at * slotStride
    const owner = cells[row + slot.owner] as number
    const startUs = cells[row + slot.start] as number
    const flags = flagsOf(table, at)
    const dirty = (flags & standing.dirty) !== 0
    return {
      at,
      own: Math.floor(owner / windowsPerClassMax),
      owner,
      // One that is up to date knows what was in force before it.
      fromUs: dirty ? table.windowOf(owner).spans.startOf(startUs - 1) : startUs,
      startUs,
      toUs: cells[row + slot.end] as number,
      estimate: cells[row + slot.count] as number,
      inOrder: (flags & (standing.dirty | standing.mixed)) === 0,
    }
  }
  const byStart = (a: number, b: number): number => {
    const cells = slots.cells()
    const start = (at: number) => cells[at * slotStride + slot.start] as number
    const owner = (at: number) => cells[at * slotStride + slot.owner] as number
    return start(a) - start(b) || owner(a) - owner(b)
  }
  const mustMake = (at: number): boolean => {
    const flags = flagsOf(table, at)
    if ((flags & standing.cut) !== 0) return false
    const owner = slots.cells()[at * slotStride + slot.owner] as number
    return (flags & standing.dirty) !== 0 || table.windowOf(owner).quantiles
  }
  const endOf = (at: number) => slots.cells()[at * slotStride + slot.end] as number
  function* run(raw: StageInput['raw']): Pieces<void> {
    if (table.due.length === 0) return
    const due = table.due.sort(byStart)
    const making = due.filter(mustMake)
    for (const at of due) {
      if (mustMake(at)) continue
      noteLacking(at, raw, false)
      issue(at, endOf(at), undefined)
    }
    const jobs = making.map(jobOf)
    const taken = series.known() ? jobsOfOneTurn(jobs, limits) : 0
    table.due = making.slice(taken)
    yield* remake(jobs.slice(0, taken), raw, (at, values) => issue(at, endOf(at), values))
  }
  /** All of them now, whatever that takes; the lane is read once for as many as one turn takes. */
  const makeAll = (
    windows: readonly number[],
    raw: StageInput['raw'],
    made: (at: number, values: Float64Array | undefined) => void,
  ): void => {
    const jobs = windows.toSorted(byStart).map(jobOf)
    for (let next = 0; next < jobs.length; ) {
      const some = jobs.slice(next, next + jobsOfOneTurn(jobs.slice(next), limits))
      atOnce(remake(some, raw, made))
      next += some.length
    }
  }
  return {
    run,
    early: (windows, raw) => {
      const untilOf = new Map(windows.map(({ at, untilUs }) => [at, untilUs]))
      table.due = table.due.filter((at) => !untilOf.has(at))
      const give = (at: number, values: Float64Array | undefined) => {
        setFlags(table, at, flagsOf(table, at) | standing.cut)
        issue(at, untilOf.get(at) as number, values)
      }
      const making: number[] = []
      for (const { at } of windows) {
        if (mustMake(at)) making.push(at)
        else {
          noteLacking(at, raw, false)
          give(at, undefined)
        }
      }
      if (series.known()) makeAll(making, raw, give)
      else for (const at of making) give(at, undefined)
    },
    settle: (windows, raw) =>
      makeAll(windows, raw, (at) => setFlags(table, at, flagsOf(table, at) & ~standing.dirty)),
    take: (changed) => {
      const derived: Derived[] = []
      for (const [lane, out] of outs) {
        if (out.count() > 0) derived.push({ lane, points: out.take(), entry })
      }
      const [lane] = outs.keys()
      if (changed && derived.length === 0 && lane !== undefined) {
        derived.push({ lane, points: emptyBatch, entry })
      }
      return derived
    },
    clear: numbers.clear,
  }
}
