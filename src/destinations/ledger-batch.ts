/**
 * A batch as frames, and whether an answer really speaks of it; pure. Invariants: segment bytes
 * travel unchanged; bytes that are not what the spool says they are never travel; an answer counts
 * only if it names every frame, a segment with the digest of the bytes sent.
 */
import { readHeader, segmentDigest } from '../codec/segment.ts'
import { isFailure, textOf } from '../errors.ts'
import type { EpochId, Gap, LaneId, Rejection, Segment, SendBatch, Seq } from '../model.ts'
import { cleanedText, gapSourceMax, type RelayFrame } from '../protocol/relay.ts'
import type { SegmentsAnswer } from '../protocol/relay-messages.ts'

/** One frame on its way, and what its answer must name. */
export interface Parcel {
  readonly frame: RelayFrame
  readonly epoch: EpochId
  readonly seq: Seq
  readonly seqLast: Seq
  /** '' for a tombstone. */
  readonly digest: string
  /** Entries of its epoch's dictionary that the region needs before it. */
  readonly dictionaryLength: number
}

const parcelOf = (batch: SendBatch, item: Segment): Parcel | Rejection => {
  const { seq, epoch, bytes } = item
  try {
    const header = readHeader(bytes)
    const { lane, dictionaryLength } = header
    if (lane !== batch.laneId || header.seq !== seq || header.epoch !== epoch) {
      const text = `these bytes are lane ${lane} seq ${header.seq} of epoch ${header.epoch}`
      return { seq, text }
    }
    const frame = { type: 'segment', replay: batch.replay, bytes } as const
    return { frame, epoch, seq, seqLast: seq, digest: segmentDigest(bytes), dictionaryLength }
  } catch (error) {
    if (!isFailure(error)) throw error
    return { seq, text: textOf(error) }
  }
}

const wholeOr0 = (number: number): number => (Number.isSafeInteger(number) ? number : 0)
/** A loss must get through whatever was noted about it: there is nothing to replace it by. */
const fit = (gap: Gap): Gap => ({
  reason: gap.reason,
  count: Math.max(0, wholeOr0(gap.count)),
  source: cleanedText(gap.source, gapSourceMax),
  timeUsMin: wholeOr0(gap.timeUsMin),
  timeUsMax: wholeOr0(gap.timeUsMax),
})

export interface Parcels {
  readonly parcels: readonly Parcel[]
  /** Segments whose bytes are damaged here already. */
  readonly damaged: readonly Rejection[]
}
export const parcelsOf = (batch: SendBatch): Parcels => {
  const parcels: Parcel[] = []
  const damaged: Rejection[] = []
  for (const item of batch.items) {
    if (item.type === 'tombstone') {
      const { type, seq, seqLast, epoch, gap } = item
      const frame = { type, lane: batch.laneId, epoch, seq, seqLast, gap: fit(gap) } as const
      parcels.push({ frame, epoch, seq, seqLast, digest: '', dictionaryLength: 0 })
      continue
    }
    const parcel = parcelOf(batch, item)
    if ('frame' in parcel) parcels.push(parcel)
    else damaged.push(parcel)
  }
  return { parcels, damaged }
}

const keyOf = (lane: LaneId, one: { epoch: EpochId; seq: Seq; seqLast: Seq; digest: string }) =>
  `${lane}/${one.epoch}/${one.seq}/${one.seqLast}/${one.digest}`

/** Null, or what the answer fails to name. */
export const unnamedIn = (
  answer: SegmentsAnswer,
  lane: LaneId,
  parcels: readonly Parcel[],
): string | null => {
  const named = new Set(answer.results.map((one) => keyOf(one.lane, one)))
  const missing = parcels.find((parcel) => !named.has(keyOf(lane, parcel)))
  return missing === undefined ? null : `lane ${lane} seq ${missing.seq} is not named in the answer`
}
