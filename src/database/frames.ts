/**
 * From what was sent to what a store takes, for whoever commits: a regional node, or an agent that writes by itself.
 * Invariant: a frame is called poison only when the store has refused it alone, for a value in it.
 */
import type { EpochId, PointBatch } from '../model.ts'
import type { SegmentFrame } from './commit.ts'
import type { CommitFrame, RegionStore, StoreAnswer } from './store.ts'

/** What the codec's `openSegment` gives. */
export interface OpenedSegment {
  readonly header: Omit<SegmentFrame, 'type' | 'digest' | 'replay' | 'points'>
  readonly points: PointBatch
}
export const segmentFrameOf = (
  { header, points }: OpenedSegment,
  digest: string,
  replay: boolean,
): SegmentFrame => {
  const { lane, epoch, seq, sealNumber, previousHash, dictionaryLength, dictionaryHash } = header
  const copyOf = header.copyOf === undefined ? {} : { copyOf: header.copyOf }
  const identity = { lane, epoch, seq, sealNumber, ...copyOf, digest, previousHash }
  return { type: 'segment', ...identity, dictionaryLength, dictionaryHash, replay, points }
}

/** What points and body of a segment take in memory: columns of 4 + 8 + 1 + 1 + 8 bytes, and a builder's slack. */
export const decodedBytesOf = (header: {
  readonly pointCount: number
  readonly rawBytes: number
}): number => header.pointCount * 26 + header.rawBytes

type CommitAnswer = Awaited<ReturnType<RegionStore['commit']>>
export interface Poison {
  readonly kind: 'poison'
  /** Place of the frame in the request. */
  readonly at: number
  readonly text: string
}
/** The database takes everything but a value of these frames. */
const isPoison = (
  answer: StoreAnswer<object>,
): answer is Extract<StoreAnswer<object>, { kind: 'blocked' }> =>
  answer.kind === 'blocked' && answer.code === 'HF-D022'

/**
 * Commits; where the database refuses a value, finds the frame that holds it by committing each alone. Those that it
 * takes are duplicates when they come again.
 */
export const commitOrFindPoison = async (
  store: Pick<RegionStore, 'commit'>,
  [agent, epoch, frames]: readonly [string, EpochId, readonly CommitFrame[]],
  signal: AbortSignal,
): Promise<CommitAnswer | Poison> => {
  const together = await store.commit(agent, epoch, frames, signal)
  if (!isPoison(together)) return together
  for (const [at, frame] of frames.entries()) {
    const alone = await store.commit(agent, epoch, [frame], signal)
    if (alone.kind === 'ok') continue
    if (!isPoison(alone) || frame.type !== 'segment') return alone
    return { kind: 'poison', at, text: alone.text }
  }
  return {
    kind: 'later',
    text: 'the database refused these frames together, and took each alone',
  }
}
