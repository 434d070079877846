/**
 * The stage that aggregates: tumbling windows of every series whose class asks for them, in event time.
 *
 * A window is given out when its series' own time passes its end, and again (`rev` + 1) for every turn in which a point
 * out of order changed it, until that time is `latenessUs` beyond its end; points later than that change no window and
 * are counted. A series that falls silent is closed by `tick`. A window in which no point fell does not exist.
 *
 * Invariants: deterministic: rows follow from the steps, and from ticks that gave something out (be it an empty batch,
 * which says "save me"); a window equals what its distinct points, the last accepted standing, make in time order, with
 * the last point of the span before as the value in force at its start; a turn makes at most `makeLimits` again.
 */
import { emptyBatch } from '../batch.ts'
import type {
  Derived,
  Pieces,
  PointBatch,
  SeriesEntry,
  SeriesKey,
  Stage,
  StageInput,
} from '../model.ts'
import type { StageTotals } from '../stage-facts.ts'
import { type CompiledClasses, type WindowSpec, windowsPerClassMax } from './classes.ts'
import { atOnce } from './pieces.ts'
import { isAhead } from './quality.ts'
import { createDecisions, type Decisions, eachDecision } from './stage-decisions.ts'
import {
  createWindowFeed,
  flagsOf,
  isDone,
  makeDue,
  readsFromUs,
  release,
  setFlags,
  sweep,
} from './window-feed.ts'
import { createWindowIssue, type EarlyWindow } from './window-issue.ts'
import type { MakeLimits } from './window-make.ts'
import { each, eachOf, makeWay } from './window-room.ts'
import { slot, slotStride, standing } from './window-slots.ts'
import { loadWindows, saveWindows } from './window-state.ts'
import { createWindowTable, newest, newestStride, type WindowTable } from './window-table.ts'

export interface WindowsStageParts {
  readonly classes: CompiledClasses
  /** IANA name; days are those of this zone. */
  readonly timeZone: string
  /** The id of a statistic series: `seriesIdOf` of the agent. */
  readonly idOf: (key: SeriesKey) => bigint
  /** Whether what takes this one's place goes on with these windows of the series; nobody unless given. */
  readonly goesOn?: (entry: SeriesEntry, spec: WindowSpec) => boolean
  /** Series remembered at most. */
  readonly seriesMax?: number
  /** Windows kept open at most, but for those that are still owed. */
  readonly windowsMax?: number
  /** Of what is made from the raw lane at once. */
  readonly limits?: MakeLimits
}

/** By own number: the newest time the last ticks saw, and since when. Decides ticks alone, so it is not saved. */
interface Quiet {
  times: Float64Array
  since: Float64Array
}
/** How long by the clock no newer point of the series came. */
const quietUs = (quiet: Quiet, own: number, newestUs: number, nowUs: number): number => {
  if (own >= quiet.times.length) {
    const [times, since] = [new Float64Array((own + 1) * 2), new Float64Array((own + 1) * 2)]
    times.fill(Number.NaN).set(quiet.times)
    since.set(quiet.since)
    quiet.times = times
    quiet.since = since
  }
  if (quiet.times[own] !== newestUs || nowUs < (quiet.since[own] as number)) {
    quiet.times[own] = newestUs
    quiet.since[own] = nowUs
  }
  return nowUs - (quiet.since[own] as number)
}

/** Closes for good the windows of an owner that end by then. The end of the last of them, NaN where there was none. */
const closeBy = (table: WindowTable, owner: number, byUs: number): number => {
  let lastUs = Number.NaN
  eachOf(table, owner, (at) => {
    const endUs = table.slots.cells()[at * slotStride + slot.end] as number
    const flags = flagsOf(table, at)
    if (endUs > byUs || (flags & standing.final) !== 0) return
    if (!(lastUs >= endUs)) lastUs = endUs
    const closed = table.closedUntil()
    if (!((closed[owner] as number) >= endUs)) closed[owner] = endUs
    const owes = (flags & (standing.issued | standing.dirty)) !== standing.issued
    if (owes) makeDue(table, at, standing.final)
    else release(table, at)
  })
  return lastUs
}
/**
 * Closes windows of silent series for good: their time is taken to have gone on with the clock since their newest
 * point came, so a device whose clock is wrong, or a backlog of last week, loses nothing. True when any was closed.
 */
const closeSilent = (
  table: WindowTable,
  quiet: Quiet,
  nowUs: number,
  decisions: Decisions,
): boolean => {
  let changed = false
  decisions.begin()
  for (let own = 0; own < table.series.count(); own++) {
    const newestUs = table.newestCells()[own * newestStride + newest.time] as number
    const reachedUs = newestUs + quietUs(quiet, own, newestUs, nowUs)
    for (let k = 0; k < windowsPerClassMax; k++) {
      const owner = own * windowsPerClassMax + k
      if ((table.heads()[owner] as number) < 0) continue
      sweep(table, owner, newestUs)
      const { latenessUs, everyUs } = table.windowOf(owner).spec
      const endUs = closeBy(table, owner, reachedUs - latenessUs)
      if (Number.isNaN(endUs)) continue
      changed = true
      decisions.add(everyUs, endUs, (table.series.entries[own] as SeriesEntry).id)
    }
  }
  return changed
}
/** As a tick decided it; a series or a length that the classes no longer have has no windows. */
const closeAgain = (table: WindowTable, decided: Uint8Array): void =>
  eachDecision(decided, decisionKind, (everyUs, endUs, id) => {
    const own = table.series.ownOf(id)
    if (own === undefined) return
    const ofClass = table.windows[table.series.classes[own] as number]
    const k = ofClass?.findIndex(({ spec }) => spec.everyUs === everyUs) ?? -1
    if (k < 0) return
    const owner = own * windowsPerClassMax + k
    sweep(table, owner, table.newestCells()[own * newestStride + newest.time] as number)
    closeBy(table, owner, endUs)
  })

/** What the raw lane is held for. Looked up now and then: an answer too low only holds more. */
const findHold = (table: WindowTable): void => {
  let least = Number.POSITIVE_INFINITY
  each(table, (at, own) => {
    if ((flagsOf(table, at) & standing.cut) !== 0) return
    const newestUs = table.newestCells()[own * newestStride + newest.time] as number
    if (isDone(table, at, newestUs)) return
    least = Math.min(least, readsFromUs(table, at))
  })
  table.holdFromUs = least
}

const totalsOf = (table: WindowTable, compiled: CompiledClasses): StageTotals[] =>
  compiled.classes.flatMap(({ name }, at) => {
    const byLane = new Map<string, StageTotals>()
    for (const { spec, pointsOut, tooLate } of table.windows[at] ?? []) {
      const { lane } = spec
      const before = byLane.get(lane) ?? { pointsOut: 0, tooLate: 0 }
      byLane.set(lane, {
        class: name,
        lane,
        pointsIn: table.pointsIn[at] as number,
        pointsOut: before.pointsOut + pointsOut,
        tooLate: before.tooLate + tooLate,
        ...{ withheld: 0, late: 0, lateUnmended: 0 },
      })
    }
    return [...byLane.values()]
  })

/** Steps between two looks at what is held: a backlog is worked off without ticks. */
const holdSteps = 64
const decisionKind = 3

export const createWindowsStage = (parts: WindowsStageParts): Stage => {
  const { classes: compiled, timeZone, idOf, goesOn = () => false } = parts
  const table = createWindowTable(compiled, timeZone, parts.seriesMax)
  const feed = createWindowFeed(table)
  const issue = createWindowIssue(table, idOf, parts.limits)
  const decisions = createDecisions()
  const classNames = compiled.classes.map(({ name }) => name)
  let quiet: Quiet = { times: new Float64Array(0), since: new Float64Array(0) }
  let steps = 0
  const earlyOf = (own: number, at: number): EarlyWindow => {
    const newestUs = table.newestCells()[own * newestStride + newest.time] as number
    const endUs = table.slots.cells()[at * slotStride + slot.end] as number
    return { at, untilUs: Math.min(endUs, newestUs) }
  }
  const isSettled = (at: number): boolean =>
    (flagsOf(table, at) & (standing.issued | standing.dirty)) === standing.issued
  const entryOf = (own: number) => table.series.entries[own] as SeriesEntry
  const clear = (): void => {
    table.clear()
    issue.clear()
    quiet = { times: new Float64Array(0), since: new Float64Array(0) }
  }
  /** Those that have been silent longest make room for new ones: what is open of them leaves as it is. */
  const makeRoom = ({ points, entry, raw }: Pick<StageInput, 'points' | 'entry' | 'raw'>): void => {
    const { series } = table
    const timeOf = (own: number) => table.newestCells()[own * newestStride + newest.time] as number
    const gone = series.toForget(points, entry, timeOf)
    if (gone.size === 0) return
    series.meet(emptyBatch, entry)
    const eachGone = (visit: (at: number, own: number) => void) => {
      for (const own of gone)
        for (let k = 0; k < windowsPerClassMax; k++)
          eachOf(table, own * windowsPerClassMax + k, (at) => visit(at, own))
    }
    const leaving: EarlyWindow[] = []
    eachGone((at, own) => {
      const isDue = (flagsOf(table, at) & standing.due) !== 0
      if (isDue || !isSettled(at)) leaving.push(earlyOf(own, at))
    })
    issue.early(leaving, raw)
    eachGone((at) => release(table, at))
    for (const own of gone) {
      table.newestTexts.delete(own)
      if (!(table.bornUs > timeOf(own))) table.bornUs = timeOf(own) + 1
    }
    series.forget(gone)
    findHold(table)
  }
  const begin = ({ timeUs, qualities, count }: PointBatch): void => {
    for (let i = 0; i < count; i++) {
      const time = timeUs[i] as number
      if (!(time >= table.bornUs) && !isAhead(qualities[i] as number)) table.bornUs = time
    }
  }
  function* stepping({ points, entry, raw }: StageInput): Pieces<readonly Derived[]> {
    makeRoom({ points, entry, raw })
    table.series.meet(points, entry)
    if (Number.isNaN(table.bornUs)) begin(points)
    yield* feed.feed(points)
    yield* issue.run(raw)
    makeWay(table, parts.windowsMax)
    if (++steps % holdSteps === 0) findHold(table)
    return issue.take(false)
  }
  function* ticking(nowUs: number, raw: StageInput['raw']): Pieces<readonly Derived[]> {
    const changed = closeSilent(table, quiet, nowUs, decisions)
    yield* issue.run(raw)
    findHold(table)
    return issue.take(changed)
  }
  return {
    name: 'windows',
    passesPoints: false,
    step: (input) => atOnce(stepping(input)),
    tick: (nowUs, raw) => atOnce(ticking(nowUs, raw)),
    stepping,
    ticking,
    decided: () => decisions.bytes(decisionKind),
    redo: (decided, { entry, raw }) => {
      // Nothing may have been read yet: what is read again must mean something.
      table.series.meet(emptyBatch, entry)
      closeAgain(table, decided)
      atOnce(issue.run(raw))
      findHold(table)
      issue.take(false)
    },
    save: () => saveWindows(table, classNames),
    load: (state) => {
      clear()
      if (state === null) return
      try {
        loadWindows(state, table, classNames)
        findHold(table)
      } catch (error) {
        clear()
        throw error
      }
    },
    holdFromUs: () => table.holdFromUs,
    letGo: (beforeUs, raw) => {
      let changed = false
      const leaving: EarlyWindow[] = []
      const staying: number[] = []
      each(table, (at, own) => {
        const cells = table.slots.cells()
        const flags = flagsOf(table, at)
        const { spec } = table.windowOf(cells[at * slotStride + slot.owner] as number)
        if (beforeUs === Number.POSITIVE_INFINITY && goesOn(entryOf(own), spec)) return
        if (readsFromUs(table, at) >= beforeUs || (flags & standing.cut) !== 0) return
        // What it must be made from cannot be read yet.
        if ((flags & standing.dirty) !== 0 && !table.series.known()) return
        changed = true
        // It asks only for what was in force at its start.
        if ((cells[at * slotStride + slot.start] as number) >= beforeUs) staying.push(at)
        // Nothing more is asked of the raw lane for it: it is out, or leaves now, as it is.
        else if (isSettled(at)) setFlags(table, at, flags | standing.cut)
        else leaving.push(earlyOf(own, at))
      })
      issue.settle(staying, raw)
      issue.early(leaving, raw)
      findHold(table)
      return issue.take(changed)
    },
    takes: (entry) => (compiled.classes[compiled.classOf(entry)]?.windows.length ?? 0) > 0,
    totals: () => totalsOf(table, compiled),
    warnings: table.warnings,
  }
}
