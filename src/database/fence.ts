/**
 * Who may speak for an agent. One epoch is the incumbent; its descendants follow it as restarts do. A parent that
 * is proven alive after its child spoke, or a second branch, means that the spool was copied: one goes on, the
 * other is fenced until the incumbent has been silent for `cloneSilenceMs`, or an operator admits it.
 *
 * A late request of a process that has since restarted looks like a parent that speaks after its child. It is told
 * apart by what it brings: everything a dead parent sent is in the copy its child opened, so only a seq past the
 * child's base proves that the parent lives.
 */
import { cloneSilenceMs } from '../limits.ts'
import type { EpochId, EpochLink } from '../model.ts'
import { type AgentBooks, headKey } from './books.ts'
import { lastSeqOf } from './ledger.ts'
import type { CommitFrame, StoreTrouble } from './store.ts'

/** Rows kept of epochs that were never let in. */
export const fencedRowsMax = 64

type Parents = (epoch: EpochId) => EpochId | null | undefined

export const parentsIn =
  (books: AgentBooks, links: readonly EpochLink[] = []): Parents =>
  (epoch) =>
    books.epochs.get(epoch)?.parent ?? links.find((link) => link.epoch === epoch)?.parent

/** The epochs from `from` (included) up to `to` (left out), or null when `to` is no ancestor. */
export const pathUp = (parents: Parents, from: EpochId, to: EpochId): EpochId[] | null => {
  const path: EpochId[] = []
  const seen = new Set<EpochId>()
  let at: EpochId | null | undefined = from
  while (at !== null && at !== undefined && !seen.has(at)) {
    if (at === to) return path
    seen.add(at)
    path.push(at)
    at = parents(at)
  }
  return null
}

const fencedText = (books: AgentBooks, epoch: EpochId): string =>
  `epoch ${epoch} of agent ${books.agent} is fenced: epoch ${books.speaker} speaks for this agent and was heard ` +
  `${Math.max(0, Math.round((books.nowUs - books.lastHeardUs) / 1e6))} s ago; two copies of one spool are running`

/** Makes `epoch` the one that speaks. */
export const seat = (books: AgentBooks, epoch: EpochId, path: readonly EpochId[]): void => {
  for (const id of [epoch, ...path]) {
    const row = books.epochs.get(id)
    if (row?.fenced) {
      row.fenced = false
      row.dirty = true
    }
  }
  books.speaker = epoch
  books.lastHeardUs = books.nowUs
  books.dirty = true
}

const fence = (books: AgentBooks, epoch: EpochId): void => {
  const row = books.epochs.get(epoch)
  if (row === undefined || row.fenced) return
  row.fenced = true
  row.dirty = true
}

/** An operator's word: `epoch` speaks from now on, and whoever spoke so far is fenced. False: never heard of it. */
export const admitEpoch = (books: AgentBooks, epoch: EpochId): boolean => {
  if (!books.epochs.has(epoch)) return false
  const former = books.speaker
  seat(books, epoch, pathUp(parentsIn(books), epoch, former) ?? [])
  if (former !== epoch) fence(books, former)
  return true
}

/** Does the frame hold a seq that the incumbent's branch does not continue? */
const provesAlive = (
  books: AgentBooks,
  epoch: EpochId,
  child: EpochId,
  frames: readonly CommitFrame[],
): boolean =>
  frames.some((frame) => {
    const base = books.heads.get(headKey(child, frame.lane))?.base
    return frame.epoch === epoch && base !== undefined && lastSeqOf(frame) > base
  })

/**
 * Lets `epoch` speak, or says why not. `frames` are empty for a hello. Marks the books: who speaks now, who is
 * fenced. `heardEveryUs` bounds how often merely hearing the incumbent dirties the books.
 */
export const letSpeak = (
  books: AgentBooks,
  epoch: EpochId,
  frames: readonly CommitFrame[],
  heardEveryUs: number,
  links: readonly EpochLink[] = [],
): StoreTrouble | null => {
  const parents = parentsIn(books, links)
  if (books.speaker === '') {
    seat(books, epoch, [])
    return null
  }
  if (books.lastHeardUs > books.nowUs) {
    // The database's clock was ahead and has been set right: silence counts from now.
    books.lastHeardUs = books.nowUs
    books.dirty = true
  }
  if (books.speaker === epoch) {
    if (books.nowUs - books.lastHeardUs >= heardEveryUs) {
      books.lastHeardUs = books.nowUs
      books.dirty = true
    }
    return null
  }
  const silent = books.nowUs - books.lastHeardUs >= cloneSilenceMs * 1000
  const down = pathUp(parents, epoch, books.speaker)
  if (down !== null && (silent || !down.some((id) => books.epochs.get(id)?.fenced))) {
    seat(books, epoch, down)
    return null
  }
  const up = pathUp(parents, books.speaker, epoch)
  if (up !== null && !books.epochs.get(epoch)?.fenced) {
    if (!provesAlive(books, epoch, up.at(-1) as EpochId, frames)) return null
    const newcomer = books.speaker
    seat(books, epoch, [])
    for (const id of up) fence(books, id)
    fence(books, newcomer)
    return null
  }
  if (silent) {
    // Should the one that fell silent come back, it is the newcomer.
    fence(books, books.speaker)
    seat(books, epoch, down ?? [])
    return null
  }
  fence(books, epoch)
  return { kind: 'fenced', text: fencedText(books, epoch) }
}
