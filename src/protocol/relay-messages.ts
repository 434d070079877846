/**
 * The relay's JSON messages: what they hold, their bounds, both ways. Pure. Invariants: series ids
 * travel as decimal text; lists are bounded; a field this version does not know is dropped.
 */
import { z } from 'zod'
import {
  contractVersionsMax,
  dictionaryEntriesPerRequestMax,
  helloEpochsMax,
  laneIdMax,
  relayFramesMax,
  seriesKeyBytesMax,
  seriesNameBytesMax,
  seriesTagsMax,
} from '../limits.ts'
import type { EpochId, EpochLink, LaneId, Seq, SeriesEntry } from '../model.ts'
import { compressed, fields, isCleanText, messageOf } from './relay.ts'

/** Of one lane; the ranges are closed, ascending, above `contiguous`. */
export interface LanePositionMessage {
  readonly lane: LaneId
  readonly contiguous: Seq
  readonly above: readonly (readonly [Seq, Seq])[]
}
/** Who answers. Another `region` is another database; a grown `timeline` may have forgotten. */
export interface RegionMessage {
  readonly region: string
  readonly timeline: number
}
export interface HelloRequest {
  readonly spoolId: string
  readonly epoch: EpochId
  readonly epochs: readonly EpochLink[]
  readonly lanes: readonly {
    readonly lane: LaneId
    readonly name: string
    readonly acked: Seq
    readonly floor: Seq
  }[]
  readonly lastRegion: string
  readonly formats: readonly number[]
}
export interface HelloAnswer extends RegionMessage {
  /** Segment format versions the region reads. */
  readonly formats: readonly number[]
  readonly lanes: readonly LanePositionMessage[]
}
export interface SeriesRequest {
  readonly epoch: EpochId
  readonly first: number
  readonly entries: readonly SeriesEntry[]
}
export interface SeriesAnswer {
  readonly epoch: EpochId
  /** Entries of that epoch's dictionary that are stored now. */
  readonly known: number
}
export interface FrameResultMessage {
  readonly lane: LaneId
  readonly epoch: EpochId
  readonly seq: Seq
  readonly seqLast: Seq
  readonly digest: string
  readonly status: 'committed' | 'duplicate'
}
export interface SegmentsAnswer extends RegionMessage {
  readonly results: readonly FrameResultMessage[]
  readonly lanes: readonly LanePositionMessage[]
}
export const errorTextMax = 2_000
export const errorCodes = [
  'need-series',
  'need-hello',
  'fork',
  'fenced',
  'not-allowed',
  'bad-frame',
  'bad-request',
  'too-big',
  'busy',
  'unavailable',
  'blocked',
  'not-found',
] as const
export type ErrorCode = (typeof errorCodes)[number]
export interface RelayError {
  readonly code: ErrorCode
  readonly text: string
  readonly hint?: string | undefined
  /** need-series: the dictionary of `epoch` is known only below `first`. */
  readonly epoch?: EpochId | undefined
  readonly first?: number | undefined
  /** bad-frame: its place in the request, from 0; lane and seq where its header can be read. */
  readonly frame?: number | undefined
  readonly lane?: LaneId | undefined
  readonly seq?: Seq | undefined
  /** too-big. */
  readonly bytesMax?: number | undefined
  readonly afterMs?: number | undefined
  /** unavailable: the database was not done in time, fewer frames may be. */
  readonly stalled?: boolean | undefined
}

const { seq, lane, hex32 } = fields
const lanesMax = laneIdMax + 1
const shortText = z.string().max(200)
const index = z.number().int().min(0).max(0xffff_ffff)
const formats = z.array(z.number().int().min(1).max(255)).max(255)
const position = z.object({
  lane,
  contiguous: seq,
  above: z.array(z.tuple([seq, seq])).max(256),
})
const regionFields = { region: z.string().min(1).max(200), timeline: seq }

export const helloRequest = messageOf<HelloRequest>(
  z.object({
    spoolId: shortText,
    epoch: hex32,
    epochs: z
      .array(
        z.object({
          epoch: hex32,
          parent: hex32.nullable(),
          lanes: z
            .array(z.object({ lane, base: seq, baseHash: z.string().regex(/^(?:[0-9a-f]{32})?$/) }))
            .max(lanesMax),
        }),
      )
      .min(1)
      .max(helloEpochsMax),
    lanes: z
      .array(z.object({ lane, name: shortText.min(1), acked: seq, floor: seq }))
      .max(lanesMax),
    lastRegion: shortText,
    formats,
  }),
)
export const helloAnswer = messageOf<HelloAnswer>(
  z.object({ ...regionFields, formats, lanes: z.array(position).max(lanesMax) }),
)

const int63Max = 0x7fff_ffff_ffff_ffffn
const seriesId = z
  .string()
  .regex(/^\d{1,19}$/)
  .transform(BigInt)
  .refine((id) => id <= int63Max, 'is no 63-bit number')
/**
 * Bounds in UTF-16 units, which are never more than the bytes the series table counts: what that
 * table takes gets through here.
 */
const cleanText = (max: number) => z.string().max(max).refine(isCleanText, 'is no clean Unicode')
const tagText = cleanText(seriesKeyBytesMax).min(1)
/** A unit is an attribute, not identity: agents cut it to this. */
export const unitMax = 256
const contract = z.object({
  method: z.enum(['every', 'on_change', 'deadband', 'swinging_door', 'sample']),
  /** Null on the wire: no bound. */
  deviation: z
    .number()
    .min(0)
    .nullable()
    .transform((bound) => bound ?? Number.POSITIVE_INFINITY),
  interpolation: z.enum(['linear', 'step']),
  heartbeatUs: z.int().min(0).nullable(),
})
const plainSeriesRequest = messageOf<SeriesRequest>(
  z.object({
    epoch: hex32,
    first: index,
    entries: z
      .array(
        z
          .object({
            id: seriesId,
            name: cleanText(seriesNameBytesMax).min(1),
            tags: z.array(z.tuple([tagText, tagText])).max(seriesTagsMax),
            unit: cleanText(unitMax),
            contract: contract.exactOptional(),
            contracts: z
              .array(z.object({ fromUs: z.int().nullable(), contract: contract.nullable() }))
              .max(contractVersionsMax)
              .exactOptional(),
          })
          // As an agent says it that tells no times: in force, nobody knows since when.
          .transform(({ contract: only, ...entry }) =>
            only === undefined || entry.contracts !== undefined
              ? entry
              : { ...entry, contracts: [{ fromUs: null, contract: only }] },
          ),
      )
      .max(dictionaryEntriesPerRequestMax),
  }),
  ({ epoch, first, entries }) => ({
    epoch,
    first,
    entries: entries.map((entry) => ({ ...entry, id: String(entry.id) })),
  }),
)
/** Compressed on the wire; the region also takes it as it is. */
export const seriesRequest = compressed(plainSeriesRequest)
export const seriesAnswer = messageOf<SeriesAnswer>(z.object({ epoch: hex32, known: index }))
export const segmentsAnswer = messageOf<SegmentsAnswer>(
  z.object({
    ...regionFields,
    results: z
      .array(
        z.object({
          lane,
          epoch: hex32,
          seq,
          seqLast: seq,
          digest: z.string().max(64),
          status: z.enum(['committed', 'duplicate']),
        }),
      )
      .max(relayFramesMax),
    lanes: z.array(position).max(lanesMax),
  }),
)
export const errorAnswer = messageOf<{ readonly error: RelayError }>(
  z.object({
    error: z.object({
      code: z.enum(errorCodes),
      text: z.string().max(errorTextMax),
      hint: z.string().max(errorTextMax).optional(),
      epoch: hex32.optional(),
      first: index.optional(),
      frame: index.optional(),
      lane: lane.optional(),
      seq: seq.optional(),
      bytesMax: seq.optional(),
      afterMs: seq.optional(),
      stalled: z.boolean().optional(),
    }),
  }),
)
