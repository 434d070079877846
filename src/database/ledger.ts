/**
 * The ledger's rules, pure: which seqs a head has, how it takes in one more, where a lane stands over its epochs.
 *
 * Invariants: `contiguous` never goes back; a seq is counted once; ranges above a head fold into it as soon as
 * they touch it; at most `aboveRangesMax` ranges are kept for one head.
 */
import type { LaneId, Seq } from '../model.ts'
import {
  type AboveRange,
  type AgentBooks,
  chainOf,
  type Head,
  headKey,
  headsAlong,
} from './books.ts'
import type { CommitFrame, LanePosition, StoreTrouble } from './store.ts'

/** Kept for one head, and answered for one lane. */
export const aboveRangesMax = 256

export const lastSeqOf = (frame: CommitFrame): Seq =>
  frame.type === 'segment' ? frame.seq : frame.seqLast

/** Does this head answer for all, some or none of seq..seqLast? */
export const coverage = (head: Head, seq: Seq, seqLast: Seq): 'all' | 'some' | 'none' => {
  let have = Math.max(0, Math.min(head.contiguous, seqLast) - seq + 1)
  for (const range of head.above) {
    have += Math.max(0, Math.min(range.seqLast, seqLast) - Math.max(range.seq, seq) + 1)
  }
  return have === 0 ? 'none' : have === seqLast - seq + 1 ? 'all' : 'some'
}

/** The digest this head remembers for a seq, '' when it does not. */
const hashAt = (head: Head, seq: Seq): string =>
  seq === head.contiguous
    ? head.hash
    : (head.above.find((range) => range.seqLast === seq)?.hash ?? '')

const noHash = /^0*$/

/**
 * Another segment under a seq that is taken, or one that continues another predecessor than ours: two histories
 * share one name. Only what is remembered (the ends of ranges) can be compared.
 */
export const forkOf = (head: Head, frame: CommitFrame): string | null => {
  if (frame.type !== 'segment') return null
  const known = hashAt(head, frame.seq)
  const where = `lane ${frame.lane} seq ${frame.seq}`
  if (known !== '' && known !== frame.digest && frame.seq > head.base)
    return `${where} is committed with digest ${known}, not ${frame.digest}`
  const before = hashAt(head, frame.seq - 1)
  if (before === '' || noHash.test(before) || before === frame.previousHash) return null
  return `${where} continues ${frame.previousHash}, but seq ${frame.seq - 1} has digest ${before}`
}

const mergeRanges = (ranges: readonly AboveRange[]): AboveRange[] => {
  const sorted = [...ranges].sort((a, b) => a.seq - b.seq || a.seqLast - b.seqLast)
  const merged: AboveRange[] = []
  for (const range of sorted) {
    const last = merged.at(-1)
    if (last === undefined || range.seq > last.seqLast + 1) merged.push(range)
    else if (range.seqLast > last.seqLast) merged[merged.length - 1] = { ...range, seq: last.seq }
  }
  return merged
}

/** Takes seq..seqLast into the head and folds what now touches it. False: too many ranges, nothing changed. */
export const take = (head: Head, range: AboveRange): boolean => {
  if (range.seq === head.contiguous + 1 && head.above.length === 0) {
    head.contiguous = range.seqLast
    head.hash = range.hash
    head.dirty = true
    return true
  }
  let above = mergeRanges([...head.above, range])
  let { contiguous, hash } = head
  while (above[0] !== undefined && above[0].seq <= contiguous + 1) {
    if (above[0].seqLast > contiguous) ({ seqLast: contiguous, hash } = above[0])
    above = above.slice(1)
  }
  if (above.length > aboveRangesMax) return false
  Object.assign(head, { contiguous, hash, above, dirty: true, aboveDirty: true })
  return true
}

export interface PlannedFrame {
  readonly frame: CommitFrame
  readonly head: Head
  /** 'duplicate': skip; 'repair': a replayed segment that the ledger has, merged without booking it again. */
  readonly action: 'take' | 'duplicate' | 'repair'
  /** A tombstone that overlaps what is booked: its gap rows inside must be summed first. */
  readonly overlaps: boolean
}

/**
 * A tombstone may name an epoch that this database never knew or forgot with a restore; the agent holds nothing of
 * it any more and cannot introduce it. It is booked where the lane stands.
 */
const headFor = (books: AgentBooks, frame: CommitFrame): Head | undefined =>
  books.heads.get(headKey(frame.epoch, frame.lane)) ??
  (frame.type === 'tombstone' && !books.epochs.has(frame.epoch)
    ? standingHead(headsAlong(books, chainOf(books, books.speaker), frame.lane))[0]
    : undefined)

const planFrame = (
  books: AgentBooks,
  chain: ReadonlySet<string>,
  frame: CommitFrame,
): PlannedFrame | StoreTrouble => {
  const head = headFor(books, frame)
  if (head === undefined) return { kind: 'need-hello' }
  if (!chain.has(head.epoch))
    return { kind: 'fork', text: `epoch ${frame.epoch} is no ancestor of the one that speaks` }
  const text = forkOf(head, frame)
  if (text !== null) return { kind: 'fork', text }
  const covered = coverage(head, frame.seq, lastSeqOf(frame))
  const overlaps = covered === 'some'
  if (covered !== 'all') return { frame, head, action: 'take', overlaps }
  const repair = frame.type === 'segment' && frame.replay
  return { frame, head, action: repair ? 'repair' : 'duplicate', overlaps }
}

/**
 * What to do with each frame, by the books alone; changes nothing. A frame that occurs twice in one request is
 * taken once; frames that overlap otherwise are no history at all.
 */
export const planFrames = (
  books: AgentBooks,
  speaker: string,
  frames: readonly CommitFrame[],
): readonly PlannedFrame[] | StoreTrouble => {
  const chain = new Set(chainOf(books, speaker).map((row) => row.epoch))
  const planned: PlannedFrame[] = []
  for (const frame of frames) {
    const plan = planFrame(books, chain, frame)
    if ('kind' in plan) return plan
    const [seq, seqLast] = [frame.seq, lastSeqOf(frame)]
    const before = planned.find(
      (other) =>
        other.head === plan.head && other.frame.seq <= seqLast && lastSeqOf(other.frame) >= seq,
    )
    if (before === undefined || plan.action !== 'take') planned.push(plan)
    else if (before.frame.seq === seq && lastSeqOf(before.frame) === seqLast)
      planned.push({ ...plan, action: 'duplicate' })
    else
      return {
        kind: 'fork',
        text: `frames of one request overlap at lane ${frame.lane} seq ${seq}`,
      }
  }
  return planned
}

/** Sum of `count` over gap rows of the same reason that lie inside a tombstone: what it already declared. */
export type DeclaredWithin = (plan: PlannedFrame) => number

/** Books every planned frame into its head. */
export const bookFrames = (
  planned: readonly PlannedFrame[],
  declaredWithin: DeclaredWithin,
): StoreTrouble | null => {
  for (const plan of planned) {
    if (plan.action !== 'take') continue
    const { frame, head } = plan
    const hash = frame.type === 'segment' ? frame.digest : ''
    if (!take(head, { seq: frame.seq, seqLast: lastSeqOf(frame), hash })) {
      const text = `lane ${frame.lane} has ${aboveRangesMax} ranges above its contiguous seq`
      return { kind: 'later', text }
    }
    if (frame.type === 'segment') head.points += frame.points.count
    else {
      const before = plan.overlaps ? declaredWithin(plan) : 0
      head.lost += Math.max(0, frame.gap.count - before)
    }
  }
  return null
}

/** The heads from the oldest that is not complete on. */
const standingHead = (heads: readonly Head[]): readonly Head[] => {
  let at = 0
  while (at < heads.length - 1 && (heads[at] as Head).contiguous >= (heads[at + 1] as Head).base) {
    at++
  }
  return heads.slice(at)
}

/** Where a lane stands over the chain: the oldest epoch that is not complete, else the newest. */
export const positionOf = (books: AgentBooks, speaker: string, lane: LaneId): LanePosition => {
  const heads = standingHead(headsAlong(books, chainOf(books, speaker), lane))
  const first = heads[0]
  if (first === undefined) return { lane, contiguous: 0, above: [] }
  const ranges: AboveRange[] = []
  for (const [at, head] of heads.entries()) {
    const end = heads[at + 1]?.base ?? Number.MAX_SAFE_INTEGER
    if (at > 0 && head.contiguous > head.base)
      ranges.push({ seq: head.base + 1, seqLast: Math.min(head.contiguous, end), hash: '' })
    for (const range of head.above)
      if (range.seq <= end) ranges.push({ ...range, seqLast: Math.min(range.seqLast, end) })
  }
  const above = mergeRanges(ranges.filter((range) => range.seqLast >= range.seq))
    .slice(0, aboveRangesMax)
    .map((range) => [range.seq, range.seqLast] as const)
  return { lane, contiguous: first.contiguous, above }
}

export const positionsOf = (
  books: AgentBooks,
  speaker: string,
  lanes: Iterable<LaneId>,
): readonly LanePosition[] => [...new Set(lanes)].map((lane) => positionOf(books, speaker, lane))
