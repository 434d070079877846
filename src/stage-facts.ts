/** What stages (rules, windows) say of their work: for meters, health, the log, `plan` and `explain`. */
import type { SeriesKey } from './model.ts'

export interface StageTotals {
  readonly class: string
  readonly lane: string
  readonly pointsIn: number
  readonly pointsOut: number
  /** Points too late for their window, once for each length; they stay in raw. 0 of rules, the rest of windows. */
  readonly tooLate: number
  /** Points that `min_gap` held back though the rule wanted them. */
  readonly withheld: number
  /** Points not later than the newest of their series. */
  readonly late: number
  /** Of these, those around which the line could not be mended: there the deviation may be exceeded. */
  readonly lateUnmended: number
}
export interface StageWarning {
  /**
   * A line drawn through late points may be off by more than the deviation; a window was given out without a point;
   * windows take no more late points, for want of room.
   */
  readonly kind: 'late_unmended' | 'too_late' | 'no_room'
  readonly class: string
  /** Or windows, where these are what it is about. */
  readonly points: number
  /** The newest of them. */
  readonly series: SeriesKey
  readonly timeUs: number
}
