/** What `explain` answers: one series, its class, its ways, and what became of its last points. */
import type { TapJson } from './wire.ts'

export interface ExplainAnswer {
  readonly series: string
  readonly tags: Readonly<Record<string, string>>
  readonly unit: string
  /** Where its points came in. */
  readonly lane: string
  readonly sources: readonly string[]
  /** In order: those that were asked before, and the one it fell into, if any. */
  readonly classes: readonly ExplainClass[]
  /** Null: no class, or one without a rule. */
  readonly rule: ExplainRule | null
  readonly windows: readonly ExplainWindow[]
  readonly routes: readonly ExplainRoute[]
  /** Oldest first. */
  readonly points: readonly ExplainPoint[]
  readonly gaps: readonly ExplainGap[]
  /** What could not be looked at, and what else to know. */
  readonly notes: readonly string[]
}
export interface ExplainClass {
  readonly class: string
  readonly chosen: boolean
  /** What matched, or the first thing that did not. */
  readonly because: string
}
export interface ExplainRule {
  readonly method: string
  readonly lane: string
  /** Null: nothing is bounded. */
  readonly deviation: number | null
  readonly interpolation: 'linear' | 'step' | null
  readonly intervalUs: number | null
  readonly minGapUs: number | null
  readonly heartbeatUs: number | null
  readonly maxHoldUs: number | null
}
export interface ExplainWindow {
  readonly everyUs: number
  readonly statistics: readonly string[]
  readonly latenessUs: number
  readonly lane: string
}
export interface ExplainRoute {
  readonly lane: string
  readonly holds: 'raw' | 'reduced' | 'windows'
  readonly maxDelayMs: number
  readonly destinations: readonly string[]
}
export type ExplainState = 'sent' | 'reduced' | 'waits' | 'stays'
export interface ExplainPoint extends Pick<TapJson, 'time' | 'kind' | 'value' | 'quality'> {
  readonly timeUs: number
  /** Of the lane it came in. */
  readonly seq: number
  readonly state: ExplainState
  /** A word of `rule-reasons.ts`, 'unknown' where too little is held to say, '' without a rule. */
  readonly reason: string
  readonly text: string
  readonly destinations: readonly {
    readonly destination: string
    readonly state: 'delivered' | 'pending'
  }[]
  /** Windows (by length) it came too late for. */
  readonly tooLateForUs: readonly number[]
}
export interface ExplainGap {
  readonly lane: string
  readonly seq: number
  readonly seqLast: number
  readonly reason: string
  readonly count: number
  readonly source: string
  /** The only one that lacks these points; empty when all do. */
  readonly destination: string
}
