/**
 * One commit in PostgreSQL: look, copy the points, lock the heads, look again, book.
 *
 * Invariants: heads are locked last, so several commits copy at once; what was planned before the lock must still
 * be the plan under it, or all begins again; points, ledger and gaps are one transaction.
 */
import type pg from 'pg'
import type { EpochId } from '../model.ts'
import type { AgentBooks } from './books.ts'
import {
  dictionariesNeeded,
  isTrouble,
  lanesOf,
  planCommit,
  resultsOf,
  rowsOfSegments,
  segmentsOf,
} from './commit.ts'
import type { Dictionary, DictionaryCache } from './dictionary.ts'
import { bookFrames, type PlannedFrame } from './ledger.ts'
import {
  declaredWithin,
  lockAgent,
  lockHeads,
  look,
  save,
  saveGaps,
  saveHeard,
} from './postgres-books.ts'
import { copyPoints, mergePoints } from './postgres-points.ts'
import { readDictionary } from './postgres-series.ts'
import { attemptsMax, type Done, drop, keep, type PostgresSession } from './postgres-session.ts'
import { isConflict, isDuplicateKey } from './postgres-trouble.ts'
import type { SegmentRows } from './rows.ts'
import type { CommitFrame, RegionStore, StoreTrouble } from './store.ts'

type Answer = Awaited<ReturnType<RegionStore['commit']>>
type Committed = Omit<Extract<Answer, { kind: 'ok' }>, 'kind'>

/** How to try: with the agent's lock when who speaks changes, through staging when rows may be there already. */
interface Way {
  readonly merge: boolean
  readonly lock: boolean
}
interface Again extends Way {
  readonly kind: 'again'
}
interface Request extends Way {
  readonly agent: string
  readonly epoch: EpochId
  readonly frames: readonly CommitFrame[]
}
const again = (way: Way): Done<Again> => drop({ ...way, kind: 'again' })

const rowsFor = async (
  client: pg.ClientBase,
  cache: DictionaryCache,
  books: AgentBooks,
  planned: readonly PlannedFrame[],
): Promise<readonly SegmentRows[] | StoreTrouble> => {
  const segments = segmentsOf(planned)
  const needed = dictionariesNeeded(books, segments)
  if ('kind' in needed) return needed
  const found = new Map<EpochId, Dictionary>()
  for (const epoch of needed.keys())
    found.set(epoch, await readDictionary(client, cache, books, epoch))
  return rowsOfSegments(books, segments, found)
}

/** Books what was copied, under the heads' lock, unless another commit won meanwhile. */
const book = async (
  client: pg.ClientBase,
  request: Request,
  before: readonly PlannedFrame[],
): Promise<Done<Answer | Again>> => {
  const { agent, epoch, frames, merge, lock } = request
  if (before.some((plan) => plan.action === 'take')) await lockHeads(client, agent, before)
  const { books, region, timeline } = await look(client, agent)
  const { speaker } = books
  const planned = planCommit(books, epoch, frames)
  if (isTrouble(planned)) return drop(planned)
  if (books.speaker !== speaker && !lock) return again({ merge, lock: true })
  if (planned.some((plan, at) => plan.action !== before[at]?.action)) return again({ merge, lock })
  const declared = await declaredWithin(client, agent, planned)
  const trouble = bookFrames(planned, (plan) => declared.get(plan) ?? 0)
  if (trouble !== null) return drop(trouble)
  await saveGaps(client, agent, planned)
  if (!lock && books.dirty) {
    books.dirty = false
    await saveHeard(client, books)
  }
  await save(client, books)
  const lanes = lanesOf(books, epoch, planned)
  return keep({ kind: 'ok', region, timeline, results: resultsOf(planned), lanes })
}

const attempt = async (
  client: pg.ClientBase,
  cache: DictionaryCache,
  request: Request,
): Promise<Done<Answer | Again>> => {
  const { agent, epoch, frames, merge, lock } = request
  if (lock) await lockAgent(client, agent)
  const { books } = await look(client, agent)
  const { speaker } = books
  const planned = planCommit(books, epoch, frames)
  const fenceMoved =
    books.speaker !== speaker || [...books.epochs.values()].some((row) => row.dirty)
  if (fenceMoved && !lock) return again({ merge, lock: true })
  if (isTrouble(planned)) {
    if (planned.kind !== 'fenced' || !fenceMoved) return drop(planned)
    // A fence that was noticed stands, whatever becomes of the request.
    await save(client, books)
    return keep(planned)
  }
  const rows = await rowsFor(client, cache, books, planned)
  if (isTrouble(rows)) return drop(rows)
  if (rows.length > 0) await (merge ? mergePoints : copyPoints)(client, rows)
  return book(client, request, planned)
}

export const createPostgresCommit =
  ({ use, transact }: PostgresSession, cache: DictionaryCache): RegionStore['commit'] =>
  (agent, epoch, frames, signal) =>
    use<Committed>(async (client) => {
      let merge = frames.some((frame) => frame.type === 'segment' && frame.replay)
      let lock = false
      for (let tries = 0; tries < attemptsMax && !signal.aborted; tries++) {
        try {
          const request: Request = { agent, epoch, frames, merge, lock }
          const answer: Answer | Again = await transact(client, () =>
            attempt(client, cache, request),
          )
          if (answer.kind !== 'again') return answer
          lock = answer.lock
        } catch (error) {
          if (isDuplicateKey(error) && !merge) merge = true
          else if (!isConflict(error)) throw error
        }
      }
      return { kind: 'later', text: 'other commits of the same agent kept winning' }
    }, signal)
