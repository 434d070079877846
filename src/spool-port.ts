/**
 * The spool as everybody else sees it: calls that may cross a thread, and the facts they answer with.
 *
 * Invariant: whoever holds a `SpoolPort` cannot tell whether the spool is in this thread or in a worker.
 */
import type {
  Cursor,
  EpochId,
  EpochLink,
  Gap,
  GapReason,
  Intake,
  Kept,
  LaneId,
  LaneItem,
  PointsLost,
  Quality,
  Refusal,
  RefusedPoints,
  Segment,
  Seq,
  SeriesEntry,
  Value,
} from './model.ts'
import type { StageTotals } from './stage-facts.ts'

export interface LaneStatus {
  readonly lane: string
  readonly id: LaneId
  /** Highest seq sealed. */
  readonly head: Seq
  /** Seqs below this are gone (stubs and tombstones answer them). */
  readonly floor: Seq
  /** Written by a stage (rules, windows): its points add nothing to what sources had accepted. */
  readonly derived: boolean
  readonly accepted: number
  readonly bytes: number
  /** A stage of an earlier configuration may still have to give something out, here or elsewhere. */
  readonly unfinished?: true
  readonly readers: readonly ReaderStatus[]
}
export interface ReaderStatus {
  readonly reader: string
  readonly cursor: Cursor
  /** It writes lanes of its own (rules, windows); every other reader is a destination. */
  readonly stage: boolean
  /** Of a stage: points it gave out to lanes of its own. */
  readonly delivered: number
  /** Of a stage: points read less points given out (below zero when it gives out more); 0 for destinations. */
  readonly reduced: number
  readonly declaredLost: number
  readonly pending: number
  /**
   * Of a stage: accepted points that are none of its concern, from before it began or of series of no class. Left out
   * when 0: accepted = delivered + reduced + declaredLost + pending + passedOver.
   */
  readonly passedOver?: number
  /** Of a stage that threw and rests until the next opening: why. */
  readonly failed?: string
  /** Of a stage: what it did by class, since its state began. */
  readonly classes?: readonly StageTotals[] | undefined
}
/**
 * Points moved between states by an ack; the spool books them in the same transaction as the
 * cursor.
 */
export interface Acked {
  readonly which: 'backlog' | 'live'
  readonly upTo: Seq
  /** Points of the segments passed that the far side stored them without: booked as lost, for this reader alone. */
  readonly lost?: readonly PointsLost[]
}
/**
 * The spool as the main thread sees it (a worker owns the only connection; the simulation runs the
 * same in-process).
 * Every method may reject with Failure HF-S…; `HF-S074` means the process must end with exit code
 * 74.
 */
export interface SpoolPort extends AsyncDisposable {
  readonly epoch: EpochId
  readonly spoolId: string
  readonly append: (lane: string, intake: Intake) => Promise<void>
  /**
   * True while appends would wait for room (quota with policy `block`, free-disk floor, clock or
   * disk trouble).
   */
  readonly blocked: () => boolean
  /** Bytes of points handed over and not yet durable. */
  readonly bytesWaiting: () => number
  /** Seal what is open now (flush), whatever its size. */
  readonly seal: (lane: string) => Promise<void>

  /**
   * A destination is its name: an existing reader keeps its cursors, a new one starts at `from`.
   */
  readonly openReader: (lane: string, reader: string, from: 'now' | 'oldest') => Promise<Cursor>
  readonly closeReader: (lane: string, reader: string) => Promise<void>
  /**
   * Items after `after` in seq order, at least one if any exists, else as many as fit `bytesMax`.
   * Never past `upTo`.
   */
  readonly read: (
    lane: string,
    after: Seq,
    bytesMax: number,
    upTo?: Seq,
  ) => Promise<readonly LaneItem[]>
  /** Resolves with the head once it is > `after`. */
  readonly whenPast: (lane: string, after: Seq, signal: AbortSignal) => Promise<Seq>
  /** Start a live cursor at the present head; a no-op when one exists or there is no backlog. */
  readonly startLive: (lane: string, reader: string) => Promise<Cursor>
  readonly ack: (lane: string, reader: string, acked: Acked) => Promise<Cursor>
  /**
   * The region forgot: go back to `after`. Below the floor, `forgotten` tombstones are written and
   * counts move to lost.
   */
  readonly rewind: (
    lane: string,
    reader: string,
    after: Seq,
    /** Ranges above `after` that it does hold: no `forgotten` tombstone reaches over an end of one. */
    held?: readonly (readonly [Seq, Seq])[],
  ) => Promise<Cursor>
  /**
   * Replace one segment by a tombstone for one reader's sake (`rejected`), keeping its bytes in the
   * quarantine.
   */
  readonly quarantine: (lane: string, seq: Seq, reason: GapReason, text: string) => Promise<void>

  readonly lanes: () => Promise<readonly LaneStatus[]>
  /** Epochs that still hold anything, oldest ancestor first, the present one last. */
  readonly epochs: () => Promise<readonly EpochLink[]>
  /**
   * The epoch's dictionary: entry i is the series that segments of that epoch call i. Bounded by
   * `max`.
   */
  readonly dictionary: (
    epoch: EpochId,
    first: number,
    max: number,
  ) => Promise<readonly SeriesEntry[]>
  readonly kept: (key: string) => Promise<Uint8Array | null>
  readonly keep: (kept: readonly Kept[]) => Promise<void>
  /** Segment format version that may be sealed, as the last hello allowed; persisted. */
  readonly allowFormat: (version: number) => Promise<void>
  readonly stats: () => Promise<SpoolStats>
  readonly gaps: (limit: number) => Promise<readonly GapRow[]>
  readonly quarantined: (limit: number) => Promise<readonly QuarantineRow[]>
  /** Points that a destination refused; null where the row is none of these. */
  readonly refused: (id: number) => Promise<RefusedRow | null>
  /** Those points as a segment of the present epoch, with the lane's seq, to send again; null likewise. */
  readonly resendable: (id: number) => Promise<Segment | null>
  /**
   * The destination stored what `resendable` gave, all but `refused` (places in it): moved from lost to delivered in
   * its books, in one transaction with what is left of the row.
   */
  readonly resent: (
    id: number,
    bytes: Uint8Array,
    refused: readonly RefusedPoints[],
  ) => Promise<ResentAnswer>
  /**
   * False when there is no such row. A sample's gap record stays; points that a destination refused are lost to it for
   * the reason `discarded` from then on.
   */
  readonly discardQuarantined: (id: number) => Promise<boolean>
  /**
   * Seal numbers between these two of segments in other lanes of sources that may hold points of that time: whatever a
   * run of this lane's segments says of a point, they may have said last.
   */
  readonly sealsBeside: (
    lane: string,
    range: { readonly fromUs: number; readonly toUs: number },
    between: readonly [number, number],
  ) => Promise<readonly number[]>
  /**
   * An old segment with the newest values, of all that sources' lanes hold sealed; null when these are its own.
   */
  readonly newest: (bytes: Uint8Array) => Promise<Uint8Array | null>
  /** How much a replay of this range would send. */
  readonly estimate: (lane: string, fromUs: number, toUs: number) => Promise<RangeEstimate>
  /**
   * Latest points of series whose name matches, for `tap` and `explain`; newest last. Purely a
   * look.
   */
  readonly tap: (listener: (points: readonly TapPoint[]) => void) => () => void
}
export interface SpoolStats {
  readonly bytesUsed: number
  readonly bytesMax: number
  readonly diskFreeBytes: number
  readonly commits: number
  readonly commitMsP50: number
  readonly commitMsP99: number
  readonly bytesWritten: number
  readonly seriesCount: number
  readonly blockedReason: string | null
  readonly fillBytesPerSecond: number
  readonly quarantined: number
  readonly waitingForClock: number
}
export interface GapRow extends Gap {
  readonly lane: string
  /** The only destination that lacks these points; '' when all do. */
  readonly destination: string
  readonly seq: Seq
  readonly seqLast: Seq
}
export interface QuarantineRow {
  readonly id: number
  readonly lane: string
  readonly seq: Seq
  readonly reason: GapReason
  readonly source: string
  readonly text: string
  readonly atUs: number
  readonly sample: Uint8Array
  /** Which destination refused points; '' where it is a sample of what nobody could take. */
  readonly destination: string
  readonly why: Refusal | ''
  /** Points held here, that could be sent to it again. */
  readonly points: number
}
export interface RefusedRow extends QuarantineRow {
  readonly refused: readonly TapPoint[]
}
export interface ResentAnswer {
  readonly delivered: number
  /** Refused again. */
  readonly refused: number
}
export interface RangeEstimate {
  readonly segments: number
  readonly points: number
  readonly bytes: number
  readonly seqFirst: Seq
  readonly seqLast: Seq
}
export interface TapPoint {
  readonly name: string
  readonly tags: readonly (readonly [string, string])[]
  readonly timeUs: number
  readonly value: Value
  readonly quality: Quality
}
