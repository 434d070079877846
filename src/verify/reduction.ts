/**
 * The verdict on an agent that reduces: a point that is not in the region must be left out by what the region itself
 * states, and every window there must be what its points make, bit for bit.
 *
 * It computes both from the publisher's journal and the region's rows, and asks no rule and no window stage: a point
 * between two that stand lies within the stated deviation of the line its contract draws; a point of a series without a
 * contract lies in a window that stands and is right. Whatever was asked for again must be there in full.
 *
 * Every point of the journal is acked, a series is its name, and all of it is held in memory: for demos and tests.
 */
import type { WindowRow } from '../database/read-back.ts'
import { type Contract, type ContractVersion, kinds, quality } from '../model.ts'
import { check, type Evidence, type JournalPoint, type Verdict } from './checker.ts'
import type { ExactPoint } from './point-table.ts'

type Batches<T> = () => AsyncIterable<readonly T[]> | Iterable<readonly T[]>
export interface ReducedEvidence
  extends Omit<Evidence, 'journal' | 'rows' | 'delivered' | 'reduced' | 'leftOut' | 'askedAgain'> {
  /** Each may be read more than once. */
  readonly journal: Batches<JournalPoint>
  readonly rows: Batches<ExactPoint>
  readonly windows: readonly WindowRow[]
  readonly contracts: ReadonlyMap<string, readonly ContractVersion[]>
  /** Raw points that were asked for. */
  readonly asked: (series: string, timeUs: number) => boolean
}
export interface ReducedVerdict extends Verdict {
  readonly windows: number
  readonly asked: number
}

type Value = number | string
interface Standing {
  readonly timeUs: number
  readonly value: Value
  readonly used: boolean
}
const word = new BigUint64Array(1)
const float = new Float64Array(word.buffer)
const valueIn = ({ kind, bits, text }: ExactPoint): Value => {
  if (kind === kinds.string) return text ?? ''
  if (kind !== kinds.float) return Number(BigInt.asIntN(64, bits))
  word[0] = BigInt.asUintN(64, bits)
  return float[0] as number
}
const standingOf = (point: ExactPoint): Standing => {
  const value = valueIn(point)
  const good = (point.quality & 3) !== quality.bad
  return {
    timeUs: point.timeUs,
    value,
    used: good && (typeof value === 'string' || Number.isFinite(value)),
  }
}

/** By series: the last of each time, in order of time. */
const standingBySeries = async (batches: Batches<ExactPoint>) => {
  const bySeries = new Map<string, Map<number, Standing>>()
  for await (const points of batches())
    for (const point of points) {
      const times = bySeries.get(point.series) ?? new Map<number, Standing>()
      bySeries.set(point.series, times)
      times.set(point.timeUs, standingOf(point))
    }
  return new Map(
    [...bySeries].map(([series, times]) => [
      series,
      [...times.values()].sort((a, b) => a.timeUs - b.timeUs),
    ]),
  )
}
type Standings = Awaited<ReturnType<typeof standingBySeries>>

/** Place of the first point at or after the time. */
const placeOf = (points: readonly Standing[], timeUs: number): number => {
  let [low, high] = [0, points.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if ((points[middle] as Standing).timeUs < timeUs) low = middle + 1
    else high = middle
  }
  return low
}
/** The contract of the row before the point: the line from there on is drawn by it. */
const contractAt = (
  versions: readonly ContractVersion[],
  rows: readonly Standing[],
  timeUs: number,
): Contract | null => {
  const rowUs = rows[placeOf(rows, timeUs) - 1]?.timeUs ?? Number.NEGATIVE_INFINITY
  return versions.findLast(({ fromUs }) => fromUs === null || fromUs <= rowUs)?.contract ?? null
}
/** Whether the line that the contract draws through what stands passes the point closely enough. */
const within = (contract: Contract, rows: readonly Standing[], point: Standing): boolean => {
  const next = placeOf(rows, point.timeUs)
  const [before, after] = [rows[next - 1], rows[next]]
  if (before === undefined || !point.used || !before.used) return false
  if (typeof point.value === 'string' || typeof before.value === 'string')
    return point.value === before.value
  if (contract.interpolation === 'step')
    return Math.abs(point.value - before.value) <= contract.deviation
  if (after === undefined || !after.used || typeof after.value === 'string') return false
  const share = (point.timeUs - before.timeUs) / (after.timeUs - before.timeUs)
  const drawn = before.value + (after.value - before.value) * share
  return Math.abs(point.value - drawn) <= contract.deviation
}

type Found = WindowRow['numbers'] & Pick<WindowRow, 'firstText' | 'lastText'>
/** What the window of these points says, of what is checked here. */
const naive = (inside: readonly Standing[]): Partial<Found> => {
  const used = inside.filter((one) => one.used)
  const [first, last] = [used[0], used.at(-1)]
  const counts = { count: inside.length, good_count: used.length }
  if (typeof first?.value === 'string' || typeof last?.value === 'string')
    return { ...counts, firstText: String(first?.value), lastText: String(last?.value) }
  const values = used.map(({ value }) => Number(value))
  if (values.length === 0) return counts
  const sum = values.reduce((total, value) => total + value, 0)
  return {
    ...counts,
    sum,
    min: Math.min(...values),
    max: Math.max(...values),
    first: Number(first?.value),
    last: Number(last?.value),
    mean: sum / values.length,
  }
}
const checked = ['count', 'good_count', 'min', 'max', 'sum', 'mean', 'first', 'last'] as const

/** Judges the windows of one series and length; what is right is added to `good` by its start. */
const judgeWindows = (
  name: string,
  found: readonly WindowRow[],
  points: readonly Standing[],
  good: Set<number>,
  say: (text: string) => void,
): void => {
  const everyUs = found[0]?.everyUs ?? 1
  const startOf = (timeUs: number) => Math.floor(timeUs / everyUs) * everyUs
  // A statistic that any window has was asked for, so each must have it.
  const asked = checked.filter((one) => found.some(({ numbers }) => numbers[one] !== null))
  const left = new Map(found.map((one) => [one.startUs, one]))
  for (let from = 0; from < points.length; ) {
    const startUs = startOf((points[from] as Standing).timeUs)
    const to = placeOf(points, startUs + everyUs)
    const inside = points.slice(from, to)
    from = to
    const row = left.get(startUs)
    left.delete(startUs)
    const where = `${name} at ${startUs}`
    if (row === undefined) {
      say(`windows: ${where} of ${inside.length} points is not there`)
      continue
    }
    const truth = naive(inside)
    const wrong = asked.filter((one) => !Object.is(row.numbers[one], truth[one] ?? null))
    for (const one of wrong)
      say(`windows: ${where} says ${one} ${row.numbers[one]}, its points make ${truth[one]}`)
    if (row.partial) say(`windows: ${where} is still partial`)
    if (wrong.length === 0 && !row.partial) good.add(startUs)
  }
  for (const startUs of left.keys()) say(`windows: ${name} at ${startUs} is of no point`)
}

export const checkReduced = async (evidence: ReducedEvidence): Promise<ReducedVerdict> => {
  const { journal, rows, windows, contracts } = evidence
  const wrong: string[] = []
  const say = (text: string) => void (wrong.length < 12 && wrong.push(text))
  const points = await standingBySeries(journal)
  const stand = await standingBySeries(rows)
  const good = judgeAll(windows, points, say)

  const at = (all: Standings, series: string, timeUs: number): Standing | undefined => {
    const list = all.get(series) ?? []
    const found = list[placeOf(list, timeUs)]
    return found?.timeUs === timeUs ? found : undefined
  }
  const leftOut = (series: string, timeUs: number): boolean => {
    const point = at(points, series, timeUs)
    if (point === undefined || evidence.asked(series, timeUs)) return false
    const rowsOf = stand.get(series) ?? []
    const contract = contractAt(contracts.get(series) ?? [], rowsOf, timeUs)
    if (contract !== null) return within(contract, rowsOf, point)
    return (good.get(series) ?? []).some(({ everyUs, starts }) =>
      starts.has(Math.floor(timeUs / everyUs) * everyUs),
    )
  }
  let [delivered, reduced, asked] = [0, 0, 0]
  for await (const batch of journal())
    for (const { series, timeUs } of batch) {
      if (evidence.asked(series, timeUs)) asked++
      if (at(stand, series, timeUs) !== undefined) delivered++
      else if (leftOut(series, timeUs)) reduced++
    }
  const verdict = await check({
    ...evidence,
    journal: journal(),
    rows: rows(),
    delivered,
    reduced,
    leftOut,
    askedAgain: evidence.asked,
  })
  const reasons = [...verdict.reasons, ...wrong]
  return { ...verdict, windows: windows.length, asked, reasons, ok: reasons.length === 0 }
}

/** By series: lengths of windows, and the starts of those that are right. */
const judgeAll = (
  windows: readonly WindowRow[],
  points: Standings,
  say: (text: string) => void,
): ReadonlyMap<string, readonly { everyUs: number; starts: ReadonlySet<number> }[]> => {
  const grouped = Map.groupBy(windows, ({ series, everyUs }) => JSON.stringify([series, everyUs]))
  const good = new Map<string, { everyUs: number; starts: Set<number> }[]>()
  for (const [key, found] of grouped) {
    const [series, everyUs] = JSON.parse(key) as [string, number]
    const starts = new Set<number>()
    judgeWindows(`${series} each ${everyUs / 1e6} s`, found, points.get(series) ?? [], starts, say)
    good.set(series, [...(good.get(series) ?? []), { everyUs, starts }])
  }
  return good
}
