/**
 * The vocabulary: every type that two rooms share, the system on one page. No behaviour lives here.
 *
 * The way of a point: source -> intake -> spool (open segment, journalled) -> seal -> segment in a lane -> forwarder ->
 * destination. In the hot path points live in columns (`PointBatch`); `Point` is for tests and taps.
 */
import type { StageTotals, StageWarning } from './stage-facts.ts'

/** Dense number of a series inside one agent process; meaningless elsewhere. */
export type SeriesRef = number
/** 63 bits of SHA-256 over (agent, name, sorted tags): the same on both sides of the wire. */
export type SeriesId = bigint
/** Position in a lane, from 1, without holes, going on over epochs; 0 is "before everything". */
export type Seq = number
/** 128 random bits in lower-case hex: one opening of a spool. */
export type EpochId = string
/** Ordered log's stable number inside one spool; never reused. From 1 to 511. */
export type LaneId = number

/** Type of one point's value; numbers stand in the segment format and in `points.kind`. */
export const kinds = { float: 0, int: 1, bool: 2, string: 3 } as const
export type Kind = (typeof kinds)[keyof typeof kinds]

/** Severity in the two low bits, sub-code above them: one byte. */
export type Quality = number
export const quality = { good: 0, uncertain: 1, bad: 2 } as const
/** Sub-codes, already shifted: `quality.bad | because.notANumber`. */
export const because = {
  unknown: 0,
  stale: 1 << 2,
  clockRebased: 2 << 2,
  sensorFailure: 3 << 2,
  outOfRange: 4 << 2,
  notANumber: 5 << 2,
  noCommunication: 6 << 2,
  clockNeverTrusted: 7 << 2,
  /** A heartbeat: the newest point once more, under its own time, though the rule would not have sent it. */
  repeated: 8 << 2,
  /** Its time is far ahead of the agent's clock: rules pass it on, no window counts it. */
  ahead: 9 << 2,
} as const

/** float64 as number, int64 as bigint, bool, string (any UTF-16 string; the doors refuse NUL and lone surrogates). */
export type Value = number | bigint | boolean | string

export interface SeriesKey {
  readonly name: string
  /** Sorted by tag name (UTF-16 code unit order), names unique, no empty name or value. */
  readonly tags: readonly (readonly [string, string])[]
}
export interface SeriesEntry extends SeriesKey {
  readonly id: SeriesId
  readonly unit: string
  /** How its points were thinned, by time, oldest first; absent when nothing was ever left out. */
  readonly contracts?: readonly ContractVersion[]
}
/** Tags of a series of window statistics, beside those of the series it is made of; doors refuse them. */
export const windowTags = { every: '@every', statistic: '@statistic' } as const
/** Drawn by `interpolation`, no point that was left out lies further off than `deviation` (in the series' unit). */
export interface Contract {
  readonly method: 'every' | 'on_change' | 'deadband' | 'swinging_door' | 'sample'
  readonly deviation: number
  readonly interpolation: 'linear' | 'step'
  /** The value is repeated at least this often while points come in; null for never. */
  readonly heartbeatUs: number | null
}
/** From the point at this time on (what is drawn from it to the next, too), until the next version. */
export interface ContractVersion {
  /** Null where nobody said. */
  readonly fromUs: number | null
  /** Null: every point is there. */
  readonly contract: Contract | null
}

export interface Point {
  readonly series: SeriesId
  /** Whole microseconds since 1970 UTC; exact in a number until 2255. */
  readonly timeUs: number
  readonly value: Value
  readonly quality: Quality
}

/**
 * Points in columns, in accept order. `bits` holds 64-bit patterns, one per point, whatever the kind: float = IEEE 754,
 * int = two's complement, bool = 0 or 1, string = index into `texts`. Views of other types over `bits.buffer` are the
 * way in and out (see `batch.ts`), so that NaN payloads survive.
 */
export interface PointBatch {
  readonly count: number
  readonly series: Uint32Array
  /** NaN, between a source and the intake only: stamp it on arrival. */
  readonly timeUs: Float64Array
  readonly kinds: Uint8Array
  readonly qualities: Uint8Array
  readonly bits: BigUint64Array
  readonly texts: readonly string[]
}

/** Whether `timeUs` may be trusted, and what else says when a point was taken. */
export interface ClockReading {
  readonly nowUs: number
  /** Random per boot of the machine. */
  readonly bootId: string
  readonly monotonicUs: number
  readonly trusted: boolean
}

/** Why points are gone, or never got in: a closed list, part of the relay protocol and of `gaps.reason`. */
export const gapReasons = [
  'quota', // drop_oldest made room
  'damaged', // bytes on disk no longer match their checksum
  'malformed', // a message the mapping could not read
  'refused', // a value or name a door refuses (NUL, uint64 >= 2^63, too many series)
  'rejected', // the region or a destination will never take it
  'forgotten', // the region lost it and the agent no longer holds it
  'anchor', // the database came back older than its anchor
  'discarded', // an operator's own act
] as const
export type GapReason = (typeof gapReasons)[number]
/** Why a door did not take something. */
export type DoorReason = Extract<GapReason, 'malformed' | 'refused'>

/** A recorded loss: answers its seqs for ever, is itself delivered. `count` is points (messages where `malformed`). */
export interface Gap {
  readonly reason: GapReason
  readonly count: number
  /** Source or series concerned, '' when many. */
  readonly source: string
  /** Earliest and latest point time, 0 when unknown. */
  readonly timeUsMin: number
  readonly timeUsMax: number
}

/** One stored or travelling segment: the bytes are made once and never changed. */
export interface Segment {
  readonly type: 'segment'
  readonly seq: Seq
  readonly epoch: EpochId
  readonly pointCount: number
  readonly timeUsMin: number
  readonly timeUsMax: number
  readonly bytes: Uint8Array
}
/** Seqs `seq..seqLast` of a lane answered by a loss instead of a segment. */
export interface Tombstone {
  readonly type: 'tombstone'
  readonly seq: Seq
  readonly seqLast: Seq
  readonly epoch: EpochId
  readonly gap: Gap
}
/** A place in the order of an agent's points: the opening that sealed them, as which segment of all lanes. */
export type SealOrder = { readonly epoch: EpochId; readonly sealNumber: number }
/** What a lane holds, in seq order, without holes between floor and head. */
export type LaneItem = Segment | Tombstone

// ── into the spool ──────────────────────────────────────────────────────────────────────────────

/** A source's own memory (an MQTT packet-id window, a file offset), committed with the points it stands for. */
export interface Kept {
  readonly key: string
  /** `null` deletes. */
  readonly value: Uint8Array | null
}
/** Something a door could not take, recorded in the same commit. `sample` (bounded) goes to the quarantine. */
export interface Loss<Reason extends GapReason = DoorReason> {
  readonly source: string
  readonly reason: Reason
  readonly count: number
  readonly text: string
  readonly sample?: Uint8Array
}
export interface Intake {
  readonly points: PointBatch
  /** 'monotonic' when the clock is not trusted: `timeUs` is then the boot's monotonic time, waiting to be rebased. */
  readonly timeBase?: 'wall' | 'monotonic'
  readonly kept?: readonly Kept[]
  /** A door's own; any, where what a spool file set aside held comes back. */
  readonly losses?: readonly Loss<GapReason>[]
  /** Commit now instead of at the end of the window: the sender is stalled until it hears of the commit. */
  readonly urgent?: boolean
  /** Copies of points sealed before: a segment of their own in a lane for copies, which keeps their order. */
  readonly copyOf?: SealOrder
}
/**
 * Resolves once all of the intake is durable (fsynced), and its columns are given back; that wait is the whole
 * backpressure story. Rejects with a `Failure` only when nothing of it was stored, or when the process ends (exit 74).
 */
export type Emit = (intake: Intake) => Promise<void>

export interface Source {
  readonly name: string
  /** Resolves when `signal` fires and the source has let go of everything; a rejection is restarted with backoff. */
  readonly run: (emit: Emit, signal: AbortSignal) => Promise<void>
}

/** The agent's series, by dense number. A name resolves once; later look-ups are a map get. */
export interface SeriesTable {
  /** Throws Failure HF-I… when the series cap is reached or the name is refused. */
  readonly ref: (name: string, tags: SeriesKey['tags'], unit?: string) => SeriesRef
  readonly entry: (ref: SeriesRef) => SeriesEntry
  readonly count: () => number
}

// ── from lane to lane ───────────────────────────────────────────────────────────────────────────

/** Points of one lane, with what their series numbers mean to the stage alone. */
export interface StagePoints {
  /** `points.series` are numbers of `entry`, dense, the same for the life of the stage. */
  readonly points: PointBatch
  readonly entry: (series: number) => SeriesEntry
}
/** `contract` holds from the first point given out in this life on; absent: nothing is said of it. */
export type DerivedEntry = SeriesEntry & { readonly contract?: Contract | null }
/** What one step gives to a lane of the stage's own. `series` numbers mean `entry` here. */
export interface Derived extends StagePoints {
  readonly lane: string
  readonly entry: (series: number) => DerivedEntry
}
/** Reads again what a stage has read. */
export interface StageRaw {
  /**
   * Points of the lane it reads with `fromUs <= time < toUs` in segments up to this one, in accept order, segment by
   * segment, numbered as in `points`; what is no longer there is missing.
   */
  (fromUs: number, toUs: number): Iterable<PointBatch>
  /** Whether points of that time may be missing there: trimmed, dropped or damaged. Absent where nothing ever is. */
  readonly lacks?: (fromUs: number, toUs: number) => boolean
  /** Whether points of that time may be gone that the stage never read. */
  readonly missed?: (fromUs: number, toUs: number) => boolean
}
/** Work a piece at a time: each yields about how many points it took. Between two of them nothing else is asked. */
export type Pieces<T> = Generator<number, T>
export interface StageInput extends StagePoints {
  /** Of the sealed segment that these points are; of the last one read where there are none. */
  readonly seq: Seq
  readonly raw: StageRaw
}
/**
 * A reader of a lane that writes lanes of its own: rules, windows. Pure and deterministic: the same state and the same
 * steps give the same points, so a restart may repeat steps and throw their output away.
 */
export interface Stage {
  readonly name: string
  /** It gives out points it read (rules), which the books then call delivered, not points made of them (windows). */
  readonly passesPoints: boolean
  /**
   * Without points once in each life, where what was given out before it ends: what the state owes may leave, and what
   * a state of other rules, or one begun anew, cannot know of that is made good.
   */
  readonly step: (input: StageInput) => readonly Derived[]
  /** Closes what the clock alone can close; what was decided, or the state, is saved also with an empty batch. */
  readonly tick: (nowUs: number, raw: StageInput['raw']) => readonly Derived[]
  /** The same as `step`, and as `tick`, in pieces: both may have much of the raw lane to read. */
  readonly stepping?: (input: StageInput) => Pieces<readonly Derived[]>
  readonly ticking?: (nowUs: number, raw: StageInput['raw']) => Pieces<readonly Derived[]>
  readonly save: () => Uint8Array
  /**
   * What the last tick decided by the clock alone, small enough to be saved in place of the state: `redo` does it again
   * when a restart has come to the same place of the lane, and gives nothing out. A stage without them is saved whole.
   */
  readonly decided?: () => Uint8Array
  readonly redo?: (decided: Uint8Array, input: Omit<StageInput, 'points'>) => void
  /**
   * Before the first step; `null` is the beginning. A state of another configuration is understood or begun anew; bytes
   * that are none throw. What must be read again from the raw lane waits for the first step, be it one without points:
   * before that the numbers in `raw` mean nothing.
   */
  readonly load: (state: Uint8Array | null) => void
  /** Raw points at or after this time may still be asked for; Infinity when none will. */
  readonly holdFromUs: () => number
  /** Room up to this time: what needs it leaves now, partial. Infinity: the end, of all that nobody goes on with. */
  readonly letGo: (beforeUs: number, raw: StageInput['raw']) => readonly Derived[]
  /** Whether it thins this series; a contract of one that no stage thins ends. */
  readonly thins?: (entry: SeriesEntry) => boolean
  /** Whether it does anything with this series; what it only passes over is none of its books' concern. */
  readonly takes?: (entry: SeriesEntry) => boolean
  /** Points taken in and given out, by class, since the state began: for books, meters, `plan` and `explain`. */
  readonly totals: () => readonly StageTotals[]
  /** What is worth a warning since it was last asked: by kind and class. */
  readonly warnings?: () => readonly StageWarning[]
}
// ── out of the spool ────────────────────────────────────────────────────────────────────────────

/** Where a reader stands in a lane: everything <= `backlog` is acked; with `live`, also (live.start, live.upTo]. */
export interface Cursor {
  readonly backlog: Seq
  readonly live: { readonly start: Seq; readonly upTo: Seq } | null
}
/** An epoch that may still speak, with what it continues. `base`: its parent's last seq (0 for a first). */
export interface EpochLink {
  readonly epoch: EpochId
  readonly parent: EpochId | null
  readonly lanes: readonly {
    readonly lane: LaneId
    readonly base: Seq
    readonly baseHash: string
  }[]
}

/** What the forwarder hands to a destination in one send: one lane, seq order. */
export interface SendBatch {
  readonly lane: string
  readonly laneId: LaneId
  readonly items: readonly LaneItem[]
  /** Highest seq known committed by the far side when this was sent; an answer behind it means the far side forgot. */
  readonly ackedThrough: Seq
  /** Sent again on purpose: bypasses the far side's "already have it". */
  readonly replay: boolean
}
/** Points that the far side can never hold, left out: a gap record of it alone, at most one a (seq, reason). */
export interface PointsLost extends Gap {
  readonly seq: Seq
  /** Which points, as far as the far side said: copies of them stand in the quarantine. */
  readonly refused?: readonly RefusedPoints[]
}
/** Why a destination took no point: it cannot hold name, value or time, keeps none so old, or refused in its words. */
export const refusals = ['name', 'value', 'time', 'retention', 'refused'] as const
export type Refusal = (typeof refusals)[number]
export interface RefusedPoints {
  readonly why: Refusal
  /** One sentence, the far side's where it has one. */
  readonly text: string
  /** Places in the segment's points, as it opens. */
  readonly at: readonly number[]
}
/** A segment the far side will never take, and why. */
export interface Rejection {
  readonly seq: Seq
  readonly text: string
}
/** A destination only classifies; waiting, splitting, rewinding and giving up belong to the forwarder. */
export type Outcome =
  /** Committed: all items of the batch. `rejected` ones were refused for good, `lost` points of others likewise. */
  | {
      readonly kind: 'stored'
      readonly rejected: readonly Rejection[]
      readonly lost?: readonly PointsLost[]
    }
  /** Transient: same bytes again later. */
  | { readonly kind: 'later'; readonly text: string; readonly afterMs?: number }
  /** Too big: fewer segments, learned limit if known. */
  | { readonly kind: 'smaller'; readonly text: string; readonly bytesMax?: number }
  /** The far side failed over or was restored: it holds everything only up to `after`. */
  | { readonly kind: 'rewind'; readonly after: Seq }
  /** Only a person can help (credentials, fenced, wrong database); probed once a minute, nothing is dropped. */
  | {
      readonly kind: 'blocked'
      readonly code: string
      readonly text: string
      readonly hint: string
    }

/** Sending twice must be harmless. A rejection of the promise (not an Outcome) is a bug. */
export interface Destination extends AsyncDisposable {
  readonly name: string
  readonly type: string
  /** Where it sends to, without secrets: what was learned of its limits holds for that place. */
  readonly endpoint?: string
  /** Largest send it takes, in bytes of segments; a single larger segment still comes alone. */
  readonly bodyBytesMax: number
  /** Handed to its sockets so far, also what came to nothing; without it, bytes of segments are taken for that. */
  readonly bytesSent?: () => number
  /** What a byte of segments comes to there, about, before any was sent; 1 unless said. */
  readonly wireBytesPerByte?: number
  /** It must get a lane in its order: one request at a time, no fresh points ahead of a backlog. */
  readonly inOrder?: boolean
  /** Of several values of a point the one accepted last stands there, in whatever order they are sent. */
  readonly ordersPoints?: boolean
  /** Say hello: learn where the far side stands, before the first send and once a minute when idle. */
  readonly standing: (lanes: readonly LaneStanding[], signal: AbortSignal) => Promise<Standing>
  readonly send: (batch: SendBatch, signal: AbortSignal) => Promise<Outcome>
}
export interface LaneStanding {
  readonly lane: string
  readonly laneId: LaneId
  readonly cursor: Cursor
  readonly floor: Seq
}
export type Standing =
  | {
      readonly kind: 'known'
      /** Per lane id: everything <= contiguous is committed, plus these closed ranges above it. */
      readonly lanes: ReadonlyMap<
        LaneId,
        { readonly contiguous: Seq; readonly above: readonly (readonly [Seq, Seq])[] }
      >
    }
  /** The far side keeps no books (influx, file): cursors stand as they are. */
  | { readonly kind: 'unknown' }
  | Extract<Outcome, { kind: 'later' | 'blocked' }>

// ── running ─────────────────────────────────────────────────────────────────────────────────────

export interface Service {
  readonly name: string
  readonly run: (signal: AbortSignal) => Promise<void>
}
