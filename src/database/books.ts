/**
 * What the region remembers of one agent, loaded into memory for the length of one transaction: who speaks, its
 * epochs, its ledger. Both stores load it, let `fence.ts`, `hello.ts` and `ledger.ts` change it, and write back
 * what is marked dirty; so the rules exist once.
 *
 * Invariants: an epoch with ordinal 0 was never let in; ordinals grow from ancestor to descendant; the ranges of a
 * head lie above its `contiguous`, ascending, and never touch it nor each other.
 */
import type { EpochId, LaneId, Seq } from '../model.ts'

export interface EpochRow {
  readonly epoch: EpochId
  parent: EpochId | null
  /** High part of `points.ord`; 0 until the epoch is let in. */
  ordinal: number
  fenced: boolean
  readonly spoolId: string
  /** Entries of its dictionary that are stored. */
  dictionaryLength: number
  dirty: boolean
}
/** Seqs above a head's contiguous. `hash` is the digest of `seqLast`, '' when unknown or a tombstone. */
export interface AboveRange {
  readonly seq: Seq
  readonly seqLast: Seq
  readonly hash: string
}
export interface Head {
  readonly epoch: EpochId
  readonly lane: LaneId
  /** Seq before this epoch's first in the lane. */
  base: Seq
  contiguous: Seq
  /** Digest of the segment at `contiguous`, '' when unknown or a tombstone. */
  hash: string
  /** Points and declared losses this head has taken in, once for each seq. */
  points: number
  lost: number
  above: AboveRange[]
  dirty: boolean
  aboveDirty: boolean
}
export interface AgentBooks {
  readonly agent: string
  /** The epoch that may speak (the incumbent), '' before the first hello. */
  speaker: EpochId
  /** When the incumbent was last heard, by the region's clock. */
  lastHeardUs: number
  /** Region's clock now. */
  readonly nowUs: number
  /** Sums of heads that were folded away. */
  pointsFolded: number
  lostFolded: number
  dirty: boolean
  readonly epochs: Map<EpochId, EpochRow>
  /** By `headKey`. */
  readonly heads: Map<string, Head>
  /** Epochs whose rows (heads and dictionary too) are to be deleted. */
  readonly forgotten: EpochId[]
}

export const createBooks = (agent: string, nowUs: number): AgentBooks => ({
  agent,
  speaker: '',
  lastHeardUs: 0,
  nowUs,
  pointsFolded: 0,
  lostFolded: 0,
  dirty: false,
  epochs: new Map(),
  heads: new Map(),
  forgotten: [],
})

export const headKey = (epoch: EpochId, lane: LaneId): string => `${epoch}/${lane}`

/** The epoch and its known ancestors, oldest first. Bounded by the number of known epochs. */
export const chainOf = (books: AgentBooks, epoch: EpochId): EpochRow[] => {
  const chain: EpochRow[] = []
  let row = books.epochs.get(epoch)
  while (row !== undefined && chain.length <= books.epochs.size) {
    chain.push(row)
    row = row.parent === null ? undefined : books.epochs.get(row.parent)
  }
  return chain.reverse()
}

/** Heads of one lane along a chain, oldest first; epochs without one are left out. */
export const headsAlong = (
  books: AgentBooks,
  chain: readonly EpochRow[],
  lane: LaneId,
): readonly Head[] => {
  const heads: Head[] = []
  for (const { epoch } of chain) {
    const head = books.heads.get(headKey(epoch, lane))
    if (head !== undefined) heads.push(head)
  }
  return heads
}
