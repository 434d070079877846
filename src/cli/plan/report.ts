/** What a rehearsal comes to: by the day, and how long the spool would last. Pure. */
import type { Config } from '../../config/schema.ts'
import { seriesMax, spoolReserveBytes } from '../../limits.ts'
import { bytesText } from '../format.ts'
import type { PlanClass, PlanLane } from './measures.ts'
import type { Rehearsed } from './rehearse.ts'

export interface ReportClass extends PlanClass {
  readonly bytesPerDayIn: number | null
  readonly rawBytesPerDayOut: number | null
  readonly bytesPerDayOut: number | null
}
export interface ReportLane extends PlanLane {
  readonly bytesPerDay: number | null
  readonly storedBytesPerDay: number | null
}
export interface Report {
  readonly config: string
  readonly fromUs: number
  readonly toUs: number
  readonly classes: readonly ReportClass[]
  readonly lanes: readonly ReportLane[]
  readonly compression: string
  readonly quotaBytes: number
  /** Of lanes that destinations take. */
  readonly sentBytesPerDay: number | null
  /** How long the quota holds what waits for them while the link is away. */
  readonly autonomyDays: number | null
  readonly statisticSeries: number
  readonly partial: boolean
}
export interface Plan {
  readonly recording: {
    readonly points: number
    readonly series: number
    /** Points that came after a later one. */
    readonly behind: number
    readonly malformed: number
    readonly first: string
    readonly lost: number
  }
  readonly lane: string
  readonly now: Report
  readonly changed: Report | null
  readonly warnings: readonly string[]
}

const dayUs = 86_400_000_000

export const reportOf = (found: Rehearsed, config: Config): Report => {
  const { firstUs, lastUs, statisticSeries, partial } = found
  const spanUs = lastUs - firstUs
  const aDay = (amount: number) => (spanUs > 0 ? (amount * dayUs) / spanUs : null)
  const lanes = found.lanes.map((lane) => ({
    ...lane,
    bytesPerDay: aDay(lane.bytes),
    storedBytesPerDay: aDay(lane.storedBytes),
  }))
  const sent = lanes.filter((lane) => lane.sent)
  const total = (of: (lane: PlanLane) => number) =>
    aDay(sent.reduce((sum, one) => sum + of(one), 0))
  const stored = total((lane) => lane.storedBytes)
  const quotaBytes = config.spool.size_max
  return {
    config: config.file,
    fromUs: firstUs,
    toUs: lastUs,
    classes: found.classes.map((one) => ({
      ...one,
      bytesPerDayIn: aDay(one.bytesIn),
      rawBytesPerDayOut: aDay(one.rawBytesOut),
      bytesPerDayOut: aDay(one.bytesOut),
    })),
    lanes,
    compression: config.spool.compression,
    quotaBytes,
    sentBytesPerDay: total((lane) => lane.bytes),
    autonomyDays: stored ? Math.max(0, quotaBytes - spoolReserveBytes) / stored : null,
    statisticSeries,
    partial,
  }
}

/** Of the agent's memory, each: measured, 557 bytes in the spool's thread with its part of the windows' state. */
const statisticBytes = 560
const hourUs = 3_600_000_000
const percent = (part: number, whole: number) => `${((part / whole) * 100).toFixed(1)} %`

export const warningsOf = ({ recording, now, changed }: Omit<Plan, 'warnings'>): string[] => {
  const found: string[] = []
  const { malformed, first, behind, points, lost } = recording
  if (malformed > 0) found.push(`${malformed} lines or points could not be read: ${first}`)
  if (lost > 0) found.push(`${lost} points are declared lost in the recording`)
  if (behind > points / 10)
    found.push(
      `${percent(behind, points)} of the points come after a later one: is the recording in the order of time?`,
    )
  if (now.toUs - now.fromUs < hourUs)
    found.push('less than an hour was recorded: what is said of a day is a guess')
  for (const one of changed === null ? [now] : [now, changed]) {
    const { config, statisticSeries, partial, classes } = one
    if (statisticSeries > seriesMax)
      found.push(
        `${config}: windows make ${statisticSeries} series of statistics, more than ${seriesMax}: ` +
          `none is refused, but they take about ${bytesText(statisticSeries * statisticBytes)} of the ` +
          `agent's memory, and each key travels once after each start; ask for fewer statistics or windows`,
      )
    if (partial) found.push(`${config}: windows were given out early, for want of room`)
    const unmeasured = classes.reduce((sum, each) => sum + each.unmeasured, 0)
    const unmended = classes.reduce((sum, each) => sum + each.unmended, 0)
    if (unmended > 0)
      found.push(`${config}: ${unmended} points came too late to draw the line around them anew`)
    if (unmeasured > 0) found.push(`${config}: ${unmeasured} points came too late to be measured`)
  }
  return found
}
