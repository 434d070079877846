/**
 * What is measured of a rehearsal, by class and by lane: points, bytes, the greatest error.
 *
 * Invariants: points and bytes are those of sealed segments; the error is of raw points as they came against the points
 * that the rules gave out; a segment's bytes are divided among the classes in it as each would take alone.
 */
import { type BatchBuilder, copyPoint, createBatchBuilder, valueAt, wordsOf } from '../../batch.ts'
import { openSegment, readHeader, type SegmentHeader, sealSegment } from '../../codec/segment.ts'
import type { Config } from '../../config/schema.ts'
import {
  type Derived,
  type EpochId,
  type PointBatch,
  type Segment,
  type SeriesKey,
  type SeriesTable,
  type Stage,
  windowTags,
} from '../../model.ts'
import { compileClasses, contractOf, type SeriesClass } from '../../pipeline/classes.ts'
import type { Spool } from '../../spool/spool.ts'
import { createErrorMeasure, type ErrorMeasure } from './error.ts'
import { storedBytes } from './stored.ts'

export interface PlanBytes {
  points: number
  segments: number
  /** Encoded, with headers, before compression. */
  rawBytes: number
  /** Compressed: what is stored and sent. */
  bytes: number
  /** With the pages of the file around them. */
  storedBytes: number
}
export interface PlanLane extends Readonly<PlanBytes> {
  readonly lane: string
  readonly maxDelayMs: number
  /** A destination takes it. */
  readonly sent: boolean
}
export interface PlanClass {
  /** Null: series of no class. */
  readonly class: string | null
  readonly method: string
  readonly series: number
  readonly pointsIn: number
  /** Of raw points, as the lane they came in holds them. */
  readonly bytesIn: number
  /** What its rule gave out, and its windows. */
  readonly pointsOut: number
  readonly windowPoints: number
  readonly rawBytesOut: number
  readonly bytesOut: number
  /** Null where nothing is bounded, or no point is left out. */
  readonly deviation: number | null
  /** Null where no number was thinned. */
  readonly greatestError: number | null
  /** Raw points that came too late to be measured. */
  readonly unmeasured: number
  /** Late points around which the rule could not draw the line anew: the bound may fail there. */
  readonly unmended: number
  /** Points too late for a window. */
  readonly tooLate: number
}
interface Sum {
  series: number
  pointsIn: number
  bytesIn: number
  rawBytesOut: number
  bytesOut: number
}

const readBytesMax = 1 << 20
const nothing = { points: 0, segments: 0, rawBytes: 0, bytes: 0, storedBytes: 0, seq: 0 }
const entriesPerCall = 5_000
const none = -1
const keyText = ({ name, tags }: SeriesKey): string =>
  JSON.stringify([name, tags.filter(([tag]) => !Object.values<string>(windowTags).includes(tag))])
const isStatistic = ({ tags }: SeriesKey) => tags.some(([tag]) => tag === windowTags.statistic)

/** The points of a batch, by class. */
const divided = (points: PointBatch, classAt: (series: number) => number) => {
  const parts = new Map<number, BatchBuilder>()
  const first = classAt(points.series[0] ?? 0)
  if (points.series.every((series) => classAt(series) === first)) return new Map([[first, points]])
  const words = wordsOf(points)
  for (let at = 0; at < points.count; at++) {
    const one = classAt(points.series[at] as number)
    const part = parts.get(one) ?? createBatchBuilder()
    parts.set(one, part)
    copyPoint(part, points, words, at)
  }
  return new Map([...parts].map(([one, part]) => [one, part.take()]))
}

/** Lanes that one class alone writes. */
const soleWriters = (list: readonly SeriesClass[]): ReadonlyMap<string, number> => {
  const writers = new Map<string, Set<number>>()
  list.forEach(({ reduce, windows }, at) => {
    const lanes = windows.map(({ lane }) => lane)
    if (reduce.method !== 'none') lanes.push(reduce.lane)
    for (const lane of lanes) writers.set(lane, (writers.get(lane) ?? new Set()).add(at))
  })
  const sole = [...writers].filter(([, all]) => all.size === 1)
  return new Map(sole.map(([lane, [at]]) => [lane, at as number]))
}

export const createMeasures = (config: Config, series: SeriesTable, from: string) => {
  const reader = 'plan'
  const list: readonly SeriesClass[] =
    config.classes.find(({ lane }) => lane === from)?.classes ?? []
  const { classOf } = compileClasses(list)
  const contracts = list.map(contractOf)
  const sums = new Map<number, Sum>()
  const lanes = new Map<string, PlanBytes & { seq: number }>()
  /** By number in the series table. */
  const classes: number[] = []
  const errors: (ErrorMeasure | undefined)[] = []
  const refs = new Map<string, number>()
  /** By number in the rehearsal's one dictionary. */
  const classAt: number[] = []
  let statistics = 0
  /** By a stage's own numbers. */
  const given = new Map<Stage, number[]>()
  let touched = new Set<number>()

  const sumOf = (at: number): Sum => {
    const known = sums.get(at) ?? {
      series: 0,
      pointsIn: 0,
      bytesIn: 0,
      rawBytesOut: 0,
      bytesOut: 0,
    }
    sums.set(at, known)
    return known
  }
  const meet = (ref: number): number => {
    const entry = series.entry(ref)
    const at = classOf(entry)
    classes[ref] = at
    sumOf(at).series++
    refs.set(keyText(entry), ref)
    const contract = contracts[at]
    if (contract !== undefined) errors[ref] = createErrorMeasure(contract.interpolation)
    return at
  }
  const raw = (points: PointBatch): void => {
    for (let at = 0; at < points.count; at++) {
      const ref = points.series[at] as number
      sumOf(classes[ref] ?? meet(ref)).pointsIn++
      const measure = errors[ref]
      if (measure === undefined) continue
      const value = valueAt(points, at)
      if (typeof value === 'string' || typeof value === 'boolean') continue
      measure.raw(points.timeUs[at] as number, Number(value))
      touched.add(ref)
    }
  }
  const hear = (all: readonly Derived[], stage: Stage): void => {
    if (!stage.passesPoints) return
    const known = given.get(stage) ?? []
    given.set(stage, known)
    for (const { points, entry } of all) {
      for (let at = 0; at < points.count; at++) {
        const own = points.series[at] as number
        known[own] ??= refs.get(keyText(entry(own))) ?? none
        const value = valueAt(points, at)
        if (typeof value === 'string' || typeof value === 'boolean') continue
        errors[known[own] as number]?.knot(points.timeUs[at] as number, Number(value))
      }
    }
  }
  const learn = (spool: Spool, epoch: EpochId, length: number): void => {
    while (classAt.length < length) {
      for (const entry of spool.dictionary(epoch, classAt.length, entriesPerCall)) {
        if (isStatistic(entry)) statistics++
        classAt.push(classes[refs.get(keyText(entry)) ?? none] ?? none)
      }
    }
  }
  const sole = soleWriters(list)
  /** What each class has of a segment's bytes. */
  const sharesOf = (
    lane: string,
    { header, bytes }: { header: SegmentHeader; bytes: Uint8Array },
  ) => {
    const only = sole.get(lane)
    if (only !== undefined) return [[only, 1]] as const
    const parts = divided(openSegment(bytes).points, (index) => classAt[index] as number)
    const weights = [...parts].map(([at, part]) => {
      const alone = parts.size === 1 ? 1 : sealSegment(header, part, header.compressor).length
      return [at, alone] as const
    })
    const whole = weights.reduce((sum, [, weight]) => sum + weight, 0)
    return weights.map(([at, weight]) => [at, weight / whole] as const)
  }
  const measure = (
    spool: Spool,
    lane: string,
    { bytes, epoch, pointCount }: Segment,
    to: PlanBytes,
  ) => {
    const header = readHeader(bytes)
    const encodedBytes = header.rawBytes + bytes.length - header.bodyBytes
    to.points += pointCount
    to.segments++
    to.rawBytes += encodedBytes
    to.bytes += bytes.length
    to.storedBytes += storedBytes(bytes.length)
    learn(spool, epoch, header.dictionaryLength)
    for (const [at, share] of sharesOf(lane, { header, bytes })) {
      const sum = sumOf(at)
      if (lane === from) sum.bytesIn += bytes.length * share
      else {
        sum.bytesOut += bytes.length * share
        sum.rawBytesOut += encodedBytes * share
      }
    }
  }
  const readLane = (spool: Spool, lane: string): void => {
    const sum = lanes.get(lane) ?? { ...nothing }
    lanes.set(lane, sum)
    for (;;) {
      const items = spool.read(lane, sum.seq, readBytesMax)
      for (const item of items) {
        sum.seq = item.type === 'segment' ? item.seq : item.seqLast
        if (item.type !== 'segment') continue
        measure(spool, lane, item, sum)
      }
      if (items.length === 0) return
      spool.ack(lane, reader, { which: 'backlog', upTo: sum.seq })
    }
  }
  const classRow = (at: number, stages: readonly Stage[]): PlanClass => {
    const one = list[at]
    const { series: count, ...sum } = sumOf(at)
    const mine = classes.flatMap((number, ref) => (number === at ? [errors[ref]] : []))
    const measured = mine.filter((each) => each !== undefined)
    const totals = stages.flatMap((stage) =>
      stage.totals().flatMap((total) => (total.class === one?.name ? [{ ...total, stage }] : [])),
    )
    const out = (passes: boolean) =>
      totals.reduce(
        (all, each) => all + (each.stage.passesPoints === passes ? each.pointsOut : 0),
        0,
      )
    const deviation = contracts[at]?.deviation
    return {
      class: one?.name ?? null,
      method: one?.reduce.method ?? 'none',
      series: count,
      ...sum,
      pointsOut: out(true),
      windowPoints: out(false),
      deviation:
        deviation === undefined || deviation === Number.POSITIVE_INFINITY ? null : deviation,
      greatestError:
        measured.length === 0
          ? null
          : measured.reduce((most, each) => Math.max(most, each.greatest()), 0),
      unmeasured: measured.reduce((all, each) => all + each.unmeasured(), 0),
      unmended: totals.reduce((all, each) => all + each.lateUnmended, 0),
      tooLate: totals.reduce((all, each) => all + each.tooLate, 0),
    }
  }
  return {
    reader,
    /** Points come in, in accept order. */
    raw,
    /** A stage gave something out. */
    given: hear,
    /** Everything given out for the points taken in is known. */
    settle: () => {
      for (const ref of touched) errors[ref]?.settle()
      touched = new Set()
    },
    /** Lanes are read as far as they are sealed. */
    read: (spool: Spool) => {
      for (const { lane, head } of spool.heads())
        if (head > (lanes.get(lane)?.seq ?? 0)) readLane(spool, lane)
    },
    finish: (stages: readonly Stage[]) => {
      for (const each of errors) each?.settle(true)
      const rows = [...list.keys(), ...(sums.has(none) ? [none] : [])]
      return {
        classes: rows.map((at) => classRow(at, stages)),
        statisticSeries: statistics,
        lanes: config.lanes.map(({ name, max_delay: maxDelayMs }): PlanLane => {
          const found = lanes.get(name)
          const { seq: _, ...sum } = found ?? nothing
          const sent = config.destinations.some((one) => one.lanes.includes(name))
          return { lane: name, maxDelayMs, ...sum, sent }
        }),
      }
    },
  }
}
