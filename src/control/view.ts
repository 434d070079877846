/**
 * What a running agent shows of itself and lets a technician do: implemented by `agent.ts`, served by `socket.ts`,
 * read by the command line and the console.
 * Invariant: everything here is a look, except `replay`, `discard`, `forget`, `salvage`, `reload` and `seal`,
 * which say what they did.
 */

import type { ReplayStatus } from '../forward/replay.ts'
import type { SeriesEntry } from '../model.ts'
import type {
  ClockStatus,
  DestinationStatus,
  SourceStatus,
  Verdict,
} from '../observability/health.ts'
import type { Salvage } from '../pipeline/salvage.ts'
import type { SelectionStatus } from '../pipeline/selections.ts'
import type {
  GapRow,
  LaneStatus,
  QuarantineRow,
  RangeEstimate,
  RefusedRow,
  SpoolStats,
  TapPoint,
} from '../spool-port.ts'
import type { ExplainAnswer } from './explained.ts'

export interface AgentStatus {
  readonly version: string
  readonly agent: string
  readonly epoch: string
  readonly spoolId: string
  readonly nowUs: number
  readonly upForUs: number
  readonly config: { readonly file: string; readonly digest: string }
  readonly verdict: Verdict
  readonly clock: ClockStatus
  /** Null while the spool does not answer. */
  readonly spool: SpoolStats | null
  readonly sources: readonly SourceStatus[]
  readonly lanes: readonly LaneStatus[]
  readonly destinations: readonly DestinationStatus[]
  /** Those asked for lately, with their progress: chosen series, through the lane for copies, and whole ranges. */
  readonly selections: readonly SelectionStatus[]
  readonly replays: readonly (ReplayStatus & { readonly destination: string })[]
}
export interface ReplayRequest {
  readonly fromUs: number
  /** Not included. */
  readonly toUs: number
  /** Null: all lanes, all destinations. */
  readonly lane: string | null
  readonly destination: string | null
  /** Globs over names; none: whole segments of the lane, as they are. */
  readonly series: readonly string[]
  readonly dryRun: boolean
}
export interface ReplayPart extends RangeEstimate {
  readonly lane: string
  readonly destination: string
  /** Null where the rate is unknown. */
  readonly seconds: number | null
  /** At which rate: the bandwidth set, else what the destination takes at present, if it takes anything. */
  readonly rate: 'bandwidth' | 'present' | 'unknown'
}
export interface ReplayAnswer {
  /** Names the replay, '' for a dry run. */
  readonly id: string
  readonly parts: readonly ReplayPart[]
}
export interface ReloadAnswer {
  readonly changed: boolean
  readonly text: string
}
export interface ForgetAnswer {
  readonly destination: string
  /** Points that were waiting for it. */
  readonly points: number
}
/** What became of one block of a points file. */
export interface ImportAnswer {
  /** False: it was in already. */
  readonly taken: boolean
  readonly points: number
  /** Points that the block declares lost. */
  readonly lost: number
}
export interface ResendAnswer {
  readonly delivered: number
  /** Still in the quarantine. */
  readonly refused: number
  /** Why not all of it was taken, '' when it was. */
  readonly text: string
  readonly hint: string
}
/** Sealed segments of a lane, as they are stored, and what stands in place of lost ones. */
export interface SegmentsAnswer {
  /** Newest seq of the lane now. */
  readonly head: number
  readonly items: readonly {
    readonly seq: number
    readonly seqLast: number
    readonly epoch: string
    /** Null where points were lost. */
    readonly bytes: Uint8Array | null
    readonly lost: number
  }[]
}
export interface AgentView {
  readonly status: () => Promise<AgentStatus>
  readonly lanes: () => Promise<readonly LaneStatus[]>
  /** Newest first. */
  readonly gaps: (limit: number) => Promise<readonly GapRow[]>
  readonly quarantined: (limit: number) => Promise<readonly QuarantineRow[]>
  /** Points that a destination refused; null when the row is none of these. */
  readonly refused: (id: number) => Promise<RefusedRow | null>
  /** These once more through it, one try; null likewise. */
  readonly resend: (id: number) => Promise<ResendAnswer | null>
  /** False when there is no such row. */
  readonly discard: (id: number) => Promise<boolean>
  /** Prometheus text. */
  readonly metrics: () => Promise<string>
  /** Points as they become durable; the returned function ends it. */
  readonly tap: (listener: (points: readonly TapPoint[]) => void) => () => void
  /** Why its last points were sent or not. Rejects with a Failure when that is no series, or several. */
  readonly explain: (series: string, points: number) => Promise<ExplainAnswer>
  /** After `after`, or from the first that may hold a point at `fromUs` on; empty at the end. Rejects with HF-X404. */
  readonly segments: (lane: string, after: number, fromUs: number) => Promise<SegmentsAnswer>
  /** Series of an epoch's segments, from number `first` on; empty at the end. */
  readonly dictionary: (epoch: string, first: number) => Promise<readonly SeriesEntry[]>
  /** Rejects with a Failure when a name is unknown or the range is empty. */
  readonly replay: (request: ReplayRequest) => Promise<ReplayAnswer>
  readonly cancelReplay: (id: string) => Promise<boolean>
  /**
   * Lets go of what a destination that is no longer configured still holds back. Rejects with a Failure when there is
   * none of that name, or it is configured.
   */
  readonly forget: (destination: string) => Promise<ForgetAnswer>
  readonly salvage: Salvage
  readonly reload: () => Promise<ReloadAnswer>
  /**
   * Takes one block of a points file, header and lines; durable when it resolves. `lane` null: the one it comes from.
   * Rejects with a Failure when the block or a series in it cannot be taken; nothing of it is then.
   */
  readonly importBlock: (block: string, lane: string | null) => Promise<ImportAnswer>
  /** Seal every lane's open segment now. */
  readonly seal: () => Promise<void>
}
