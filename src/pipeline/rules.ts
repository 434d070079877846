/**
 * The stage that thins: every series by the rule of its class (`classes.ts`), into the lane of that class.
 *
 * Invariants: deterministic: rows of the table, and with them the points given out, follow from the steps alone; what
 * `tick` decides by the clock it gives out, so the spool saves it; a point in order is given out at most once, and
 * never after a later one of its series; where other rules begin, each series gives its newest point.
 * A series outside every class gives nothing: it stays in the lane it is in.
 */
import { type BatchBuilder, createBatchBuilder } from '../batch.ts'
import type {
  Derived,
  DerivedEntry,
  Pieces,
  PointBatch,
  SeriesEntry,
  Stage,
  StageInput,
} from '../model.ts'
import { type CompiledClasses, contractOf, type SeriesClass } from './classes.ts'
import { atOnce } from './pieces.ts'
import { noteMended, rangeAround } from './rule-knots.ts'
import { type MendJob, mend } from './rule-late.ts'
import type { RuleListener } from './rule-reasons.ts'
import { holdNewest, loadRules, saveRules } from './rule-state.ts'
import { createRuleStep } from './rule-step.ts'
import {
  cell,
  compileParams,
  countsOfClass,
  createRuleTable,
  flags,
  methods,
  param,
  paramStride,
  stride,
} from './rule-table.ts'
import { createDecisions, eachDecision } from './stage-decisions.ts'
import { createStageSeries } from './stage-series.ts'
import { createStageWarnings } from './stage-warnings.ts'

export interface RulesStageParts {
  readonly classes: CompiledClasses
  /** Hears why each point left or stayed (`explain`); costs the long way for every point. */
  readonly decided?: RuleListener
  /** Whether what takes this one's place goes on with the series, for all who take its points; nobody unless given. */
  readonly goesOn?: (entry: SeriesEntry) => boolean
  /** Series remembered at most. */
  readonly seriesMax?: number
}

const thinning = ({ reduce }: SeriesClass): boolean => reduce.method !== 'none'

/** First size of what a turn gives out; it grows by doubling. */
const outPoints = 1024
const decisionKind = 4

export const createRulesStage = (parts: RulesStageParts): Stage => {
  const { classes: compiled, decided, goesOn = () => false } = parts
  const { classes } = compiled
  const params = compileParams(classes)
  const table = createRuleTable()
  const counts = new Float64Array(classes.length * countsOfClass)
  const bump = (classNumber: number, which: number, by = 1): void => {
    const at = classNumber * countsOfClass + which
    counts[at] = (counts[at] as number) + by
  }
  /** By own number: what the last ticks saw held, and since when. Decides ticks alone, so it is not saved. */
  let seenTimes = new Float64Array(0)
  let seenSince = new Float64Array(0)
  const series = createStageSeries(
    compiled,
    thinning,
    (own) => table.add(own, series.classes[own] as number),
    parts.seriesMax,
  )
  const outs: BatchBuilder[] = classes.map(() => createBatchBuilder(outPoints))
  /**
   * Begun anew, or by other rules than its state: points read until now may have been given out by what stood before.
   * Once it has read as far as that, each series gives its newest point, where both agree, and goes on from there.
   */
  let unsure = false
  /** Likewise, and since then it has read what others gave out. */
  let readUnsure = false
  let late: (MendJob & { readonly i: number; readonly sent: boolean })[] = []
  const step = createRuleStep(table, params, {
    ...(decided === undefined ? {} : { decided }),
    outOf: (at) => outs[at / paramStride] as BatchBuilder,
    countIn: (at, points) => bump(at / paramStride, 0, points),
    countWithheld: (at) => bump(at / paramStride, 2),
    countLate: (at) => bump(at / paramStride, 3),
    late: (own, i, timeUs, sent) => {
      const stepped = classes[series.classes[own] as number]?.reduce.method !== 'swinging_door'
      const range = rangeAround(table.cells(), own, timeUs, stepped)
      if (range === null) unmended(own, timeUs)
      late.push({ own, i, timeUs, sent, ...(range ?? { fromUs: timeUs, toUs: timeUs }) })
    },
  })
  const thins = (entry: SeriesEntry): boolean => {
    const one = classes[compiled.classOf(entry)]
    return one !== undefined && thinning(one)
  }
  const warnings = createStageWarnings('late_unmended', classes, series.entries)
  const unmended = (own: number, timeUs: number): void => {
    const at = series.classes[own] as number
    bump(at, 4)
    warnings.note(at, own, timeUs)
  }
  const decisions = createDecisions()
  const contracts = classes.map(contractOf)
  const outEntries: DerivedEntry[] = []
  const entry = (own: number): DerivedEntry => {
    const known = outEntries[own]
    if (known !== undefined) return known
    const contract = contracts[series.classes[own] as number] ?? null
    const made = { ...(series.entries[own] as SeriesEntry), contract }
    outEntries[own] = made
    return made
  }
  const takeAll = (): Derived[] => {
    const derived: Derived[] = []
    classes.forEach(({ reduce }, at) => {
      const out = outs[at] as BatchBuilder
      if (reduce.method === 'none' || out.count() === 0) return
      bump(at, 1, out.count())
      derived.push({ lane: reduce.lane, points: out.take(), entry })
    })
    return derived
  }
  /** Points out of order, behind the raw points around them. */
  function* mendAll({ points, raw }: StageInput): Pieces<void> {
    const resend = (own: number, batch: PointBatch, i: number) =>
      step.resend(own, batch, i, 'around_late')
    yield* mend(late, raw, series, resend, (job, lacking) => {
      if (lacking) unmended(job.own, job.timeUs)
      else noteMended(table.cells(), job.own, job)
    })
    for (const { own, i, sent } of late) if (!sent) step.resend(own, points, i, 'late')
    late = []
  }
  /** What the clock alone can send: a corner nothing follows, a value nothing repeats. */
  const dueAt = (own: number, nowUs: number): 'no' | 'plain' | 'marked' => {
    const row = own * stride
    const cells = table.cells()
    const held = cells[row + cell.heldTime] as number
    if (Number.isNaN(held)) return 'no'
    const flag = table.words()[(row + cell.meta) * 2 + 1] as number
    // A clock that was set back says nothing of how long it waited.
    if (seenTimes[own] !== held || nowUs < (seenSince[own] as number)) {
      seenTimes[own] = held
      seenSince[own] = nowUs
      return 'no'
    }
    const at = cells[row + cell.params] as number
    const waited = nowUs - (seenSince[own] as number)
    if ((flag & flags.withheld) !== 0 && waited >= (params[at + param.minGapUs] as number))
      return 'plain'
    if (waited < (params[at + param.maxHoldUs] as number)) return 'no'
    return params[at + param.method] === methods.swinging_door ? 'plain' : 'marked'
  }
  /** Those that have been silent longest make room for new ones: their newest point leaves, and they begin anew. */
  const makeRoom = ({ points, entry }: Pick<StageInput, 'points' | 'entry'>): void => {
    const timeOf = (own: number) => table.cells()[own * stride + cell.lastTime] as number
    const gone = series.toForget(points, entry, timeOf)
    if (gone.size === 0) return
    for (const own of gone) {
      step.flush(own, false)
      table.heldTexts.delete(own)
      table.sentTexts.delete(own)
    }
    series.forget(gone)
  }
  const awake = (): Derived[] => {
    if (!unsure) return []
    unsure = false
    for (const own of series.remembered()) {
      holdNewest(table, own, readUnsure)
      step.flush(own, false, 'first')
    }
    return takeAll()
  }
  const clear = (): void => {
    unsure = true
    readUnsure = false
    series.clear()
    table.clear()
    outEntries.length = 0
    counts.fill(0)
    seenTimes = new Float64Array(0)
    seenSince = new Float64Array(0)
  }
  function* stepping(input: StageInput): Pieces<readonly Derived[]> {
    if (input.points.count === 0) return awake()
    readUnsure = unsure
    makeRoom(input)
    series.meet(input.points, input.entry)
    step.run(input.points, series.owns())
    if (late.length > 0) yield* mendAll(input)
    return takeAll()
  }
  return {
    name: 'rules',
    passesPoints: true,
    step: (input) => atOnce(stepping(input)),
    stepping,
    tick: (nowUs) => {
      const count = series.count()
      decisions.begin()
      if (seenTimes.length < count) {
        const [times, since] = [
          new Float64Array(count * 2).fill(Number.NaN),
          new Float64Array(count * 2),
        ]
        times.set(seenTimes)
        since.set(seenSince)
        seenTimes = times
        seenSince = since
      }
      for (let own = 0; own < count; own++) {
        const due = dueAt(own, nowUs)
        if (due === 'no') continue
        step.flush(own, due === 'marked')
        decisions.add(due === 'marked' ? 1 : 0, 0, (series.entries[own] as SeriesEntry).id)
      }
      return takeAll()
    },
    decided: () => decisions.bytes(decisionKind),
    redo: (decided) => {
      eachDecision(decided, decisionKind, (marked, _, id) => {
        const own = series.ownOf(id)
        if (own !== undefined) step.flush(own, marked === 1)
      })
      takeAll()
    },
    save: () => saveRules({ classes, series, table, counts, unsure }),
    load: (state) => {
      clear()
      if (state === null) return
      try {
        unsure = loadRules(state, { classes, series, table, counts })
      } catch (error) {
        clear()
        throw error
      }
    },
    holdFromUs: () => Number.POSITIVE_INFINITY,
    letGo: (beforeUs) => {
      if (beforeUs < Number.POSITIVE_INFINITY) return []
      series.entries.forEach((one, own) => {
        if (!goesOn(one)) step.flush(own, false)
      })
      return takeAll()
    },
    thins,
    takes: thins,
    totals: () =>
      classes.flatMap(({ name, reduce }, at) => {
        if (reduce.method === 'none') return []
        const [pointsIn = 0, pointsOut = 0, withheld = 0, lateCount = 0, lateUnmended = 0] =
          counts.subarray(at * countsOfClass, (at + 1) * countsOfClass)
        const own = { withheld, late: lateCount, lateUnmended }
        return [{ class: name, lane: reduce.lane, pointsIn, pointsOut, tooLate: 0, ...own }]
      }),
    warnings: warnings.take,
  }
}
