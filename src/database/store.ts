/**
 * What the region asks of a database, whichever it is: PostgreSQL/TimescaleDB or the embedded better-sqlite3.
 * One contract suite (`test/contract/store.ts`) runs over every implementation.
 *
 * Invariants: a commit's points, its ledger rows and its gap rows are one transaction; a committed answer means
 * durable; a (agent, epoch, lane, seq) has its effect once, unless the frame is marked replay; points merge by `ord`.
 */
import type {
  EpochId,
  EpochLink,
  Gap,
  LaneId,
  PointBatch,
  SealOrder,
  Seq,
  SeriesEntry,
} from '../model.ts'

export interface RegionIdentity {
  /** Random, made with the schema, kept in the database: a copy restored elsewhere keeps it. */
  readonly region: string
  /** Grows when the database was promoted or restored, where it can tell; else 1. */
  readonly timeline: number
}

export interface HelloLane {
  readonly lane: LaneId
  readonly name: string
  /** Everything <= acked was answered "committed" to this agent by region `lastRegion`. */
  readonly acked: Seq
  readonly floor: Seq
}
export interface Hello {
  readonly agent: string
  readonly spoolId: string
  readonly epoch: EpochId
  /** Epochs that may still speak, oldest ancestor first; the last is `epoch`. */
  readonly epochs: readonly EpochLink[]
  readonly lanes: readonly HelloLane[]
  /** The region id this agent's cursors belong to, '' at the first hello: another id starts heads at `acked`. */
  readonly lastRegion: string
  readonly formats: readonly number[]
}
export interface LanePosition {
  readonly lane: LaneId
  /** Over the agent's chain of epochs: all seqs <= contiguous are committed (or below the start). */
  readonly contiguous: Seq
  /** Closed ranges above `contiguous`, ascending, at most 256. */
  readonly above: readonly (readonly [Seq, Seq])[]
}

/** One decoded frame of a request. `points.series` holds dictionary indexes of `epoch`. */
export type CommitFrame =
  | {
      readonly type: 'segment'
      readonly lane: LaneId
      readonly epoch: EpochId
      readonly seq: Seq
      readonly sealNumber: number
      /** Of a copy: the order of its points, in place of (epoch, sealNumber). */
      readonly copyOf?: SealOrder
      readonly digest: string
      readonly previousHash: string
      readonly dictionaryLength: number
      readonly dictionaryHash: string
      readonly replay: boolean
      readonly points: PointBatch
    }
  | {
      readonly type: 'tombstone'
      readonly lane: LaneId
      readonly epoch: EpochId
      readonly seq: Seq
      readonly seqLast: Seq
      readonly gap: Gap
    }
export interface FrameResult {
  readonly lane: LaneId
  readonly epoch: EpochId
  readonly seq: Seq
  readonly seqLast: Seq
  /** Of a segment; '' for a tombstone. */
  readonly digest: string
  readonly status: 'committed' | 'duplicate'
}

/** Trouble every store classifies alike; the server turns it into a status code. */
export type StoreTrouble =
  /** The epoch's dictionary is known only below `first`. */
  | { readonly kind: 'need-series'; readonly epoch: EpochId; readonly first: number }
  /** The epoch was never introduced (or the database forgot it): say hello again. */
  | { readonly kind: 'need-hello' }
  | { readonly kind: 'fenced'; readonly text: string }
  /** A known id with another key, a dictionary that differs, a seq answered with another digest. */
  | { readonly kind: 'fork'; readonly text: string }
  /** Transient: no host reachable, serialization, too many connections. */
  | {
      readonly kind: 'later'
      readonly text: string
      readonly afterMs?: number
      /** It began, and was not done in time: there may be too much in it. */
      readonly stalled?: true
    }
  /** A person must help: credentials, missing schema, read-only role, disk full. */
  | {
      readonly kind: 'blocked'
      readonly code: string
      readonly text: string
      readonly hint: string
    }

export type StoreAnswer<T> = ({ readonly kind: 'ok' } & T) | StoreTrouble

export interface PrepareOptions {
  /** Migrate nothing: whoever calls has no business making tables. */
  readonly check?: boolean
  readonly signal?: AbortSignal
}
export interface HelloTaken extends RegionIdentity {
  readonly lanes: readonly LanePosition[]
  /** The store's wall clock. */
  readonly nowUs: number
}

export interface RegionStore extends AsyncDisposable {
  readonly kind: 'postgres' | 'embedded'
  /**
   * Brings the schema up to date (numbered migrations), or says precisely what is missing and who may do it. With
   * `check` it only looks.
   */
  readonly prepare: (options?: PrepareOptions) => Promise<StoreAnswer<object>>
  readonly identity: () => Promise<StoreAnswer<RegionIdentity>>
  readonly hello: (hello: Hello, signal?: AbortSignal) => Promise<StoreAnswer<HelloTaken>>
  /**
   * Entries `first..first+entries.length-1` of the epoch's dictionary; idempotent; answers how many
   * are known now.
   */
  readonly addSeries: (
    agent: string,
    epoch: EpochId,
    first: number,
    entries: readonly SeriesEntry[],
    signal?: AbortSignal,
  ) => Promise<StoreAnswer<{ readonly known: number }>>
  readonly commit: (
    agent: string,
    epoch: EpochId,
    frames: readonly CommitFrame[],
    signal: AbortSignal,
  ) => Promise<
    StoreAnswer<
      RegionIdentity & {
        readonly results: readonly FrameResult[]
        readonly lanes: readonly LanePosition[]
      }
    >
  >
  /** Let a fenced epoch speak from now on (an operator's word). */
  readonly admit: (agent: string, epoch: EpochId) => Promise<StoreAnswer<object>>
  readonly agents: () => Promise<StoreAnswer<{ readonly agents: readonly AgentRow[] }>>
}
export interface AgentRow {
  readonly agent: string
  readonly epoch: EpochId
  readonly lastHeardUs: number
  readonly fenced: readonly EpochId[]
  readonly points: number
  readonly declaredLost: number
}
