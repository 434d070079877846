/**
 * A commit as both stores make it, apart from the SQL: check who speaks, plan each frame, check dictionaries,
 * book, answer.
 *
 * Invariant: nothing is booked unless every frame of the request can be: the answer names all of them.
 */
import type { EpochId, SeriesId } from '../model.ts'
import type { AgentBooks } from './books.ts'
import { checkDictionary, type Dictionary } from './dictionary.ts'
import { letSpeak } from './fence.ts'
import { lastSeqOf, type PlannedFrame, planFrames, positionsOf } from './ledger.ts'
import { ordOf, rowsOf, type SegmentRows } from './rows.ts'
import type { CommitFrame, FrameResult, LanePosition, StoreTrouble } from './store.ts'

/** How often hearing an epoch that already speaks is worth a write. */
const heardEveryUs = 10_000_000

export type SegmentFrame = Extract<CommitFrame, { type: 'segment' }>

export const isTrouble = (
  answer: readonly unknown[] | StoreTrouble | null,
): answer is StoreTrouble => answer !== null && !Array.isArray(answer)

/** Who speaks, and what each frame needs; may mark the books (fence, last heard). */
export const planCommit = (
  books: AgentBooks,
  epoch: EpochId,
  frames: readonly CommitFrame[],
): readonly PlannedFrame[] | StoreTrouble => {
  const row = books.epochs.get(epoch)
  if (row === undefined) return { kind: 'need-hello' }
  const trouble = letSpeak(books, epoch, frames, heardEveryUs)
  if (trouble !== null) return trouble
  // Admitted after a silence, but never let in: its hello will give it its ordinal and heads.
  if (row.ordinal === 0) return { kind: 'need-hello' }
  return planFrames(books, epoch, frames)
}

/** Segments whose points are to be written. */
export const segmentsOf = (planned: readonly PlannedFrame[]): readonly SegmentFrame[] =>
  planned.flatMap(({ frame, action }) =>
    frame.type === 'segment' && action !== 'duplicate' ? [frame] : [],
  )

/** Entries needed of each epoch's dictionary, or why they cannot be had. */
export const dictionariesNeeded = (
  books: AgentBooks,
  segments: readonly SegmentFrame[],
): ReadonlyMap<EpochId, number> | StoreTrouble => {
  const needed = new Map<EpochId, number>()
  for (const { epoch, dictionaryLength } of segments) {
    const known = books.epochs.get(epoch)?.dictionaryLength ?? 0
    if (dictionaryLength > known) return { kind: 'need-series', epoch, first: known }
    needed.set(epoch, Math.max(needed.get(epoch) ?? 0, dictionaryLength))
  }
  return needed
}

/** The rows of each segment, its dictionary checked. */
export const rowsOfSegments = (
  books: AgentBooks,
  segments: readonly SegmentFrame[],
  dictionaries: ReadonlyMap<EpochId, Dictionary>,
): readonly SegmentRows[] | StoreTrouble => {
  const rows: SegmentRows[] = []
  for (const frame of segments) {
    const dictionary = dictionaries.get(frame.epoch)
    if (dictionary === undefined) return { kind: 'need-hello' }
    const trouble = checkDictionary(dictionary, dictionary.ids.length, frame)
    if (trouble !== null) return trouble
    const unfit = frame.points.texts.find((text) => !text.isWellFormed() || text.includes('\0'))
    if (unfit !== undefined) return unfitText(frame)
    const { epoch, sealNumber } = frame.copyOf ?? frame
    // Of an opening that was never named nothing can be told but that it is old: its points stand below all others.
    const ordinal = books.epochs.get(epoch)?.ordinal ?? 0
    const ids: readonly SeriesId[] = dictionary.ids
    rows.push(rowsOf(frame.points, ids, ordOf(ordinal, sealNumber)))
  }
  return rows
}

/** The doors refuse such texts, so this is a bug at the sender; stored, they would come out altered. */
const unfitText = ({ lane, seq }: SegmentFrame): StoreTrouble => ({
  kind: 'blocked',
  code: 'HF-D022',
  text: `lane ${lane} seq ${seq} holds a text with NUL or ill-formed Unicode`,
  hint: 'Quarantine this segment on the agent; its version is at fault.',
})

export const resultsOf = (planned: readonly PlannedFrame[]): readonly FrameResult[] =>
  planned.map(({ frame, action }) => ({
    lane: frame.lane,
    epoch: frame.epoch,
    seq: frame.seq,
    seqLast: lastSeqOf(frame),
    digest: frame.type === 'segment' ? frame.digest : '',
    status: action === 'duplicate' ? 'duplicate' : 'committed',
  }))

export const lanesOf = (
  books: AgentBooks,
  epoch: EpochId,
  planned: readonly PlannedFrame[],
): readonly LanePosition[] =>
  positionsOf(
    books,
    epoch,
    planned.map(({ frame }) => frame.lane),
  )
