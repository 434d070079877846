/**
 * Points of the quarantine, sent once more through the destination that refused them: one try, while somebody waits.
 *
 * Invariants: only an answer that names everything as stored or refused changes the books; whatever else comes back is
 * told, and neither ends a session nor opens the breaker; nothing is sent unless the destination is well.
 */
import type { Host } from '../host.ts'
import type { Destination, LaneId, Outcome, RefusedPoints, Seq } from '../model.ts'
import type { SpoolPort } from '../spool-port.ts'
import { follow } from './backoff.ts'

export interface ResendAnswer {
  readonly delivered: number
  /** Still in the quarantine. */
  readonly refused: number
  /** Why not all of it was taken, '' when it was. */
  readonly text: string
  readonly hint: string
}
export interface ResendParts {
  readonly spool: Pick<SpoolPort, 'refused' | 'resendable' | 'resent'>
  readonly destination: Destination
  readonly host: Pick<Host, 'log'>
  readonly lane: (name: string) => { readonly laneId: LaneId; readonly acked: Seq } | undefined
  /** What keeps it from being sent to now; undefined when nothing does. */
  readonly trouble: () => { readonly text: string; readonly hint: string } | undefined
}

type Said =
  | { readonly refused: readonly RefusedPoints[]; readonly text: string }
  | { readonly text: string; readonly hint: string }
const read = (outcome: Outcome): Said => {
  if (outcome.kind === 'rewind') return { text: 'the destination asks for a rewind', hint: '' }
  if (outcome.kind === 'blocked') return { text: outcome.text, hint: outcome.hint }
  if (outcome.kind !== 'stored') return { text: outcome.text, hint: '' }
  const [rejected] = outcome.rejected
  if (rejected !== undefined) return { text: rejected.text, hint: '' }
  const lost = outcome.lost ?? []
  const refused = lost.flatMap((one) => one.refused ?? [])
  const named = refused.reduce((sum, { at }) => sum + at.length, 0)
  const all = lost.reduce((sum, { count }) => sum + count, 0)
  if (named < all) return { text: `${all} points were refused again`, hint: '' }
  return { refused, text: refused[0]?.text ?? '' }
}

/** Undefined when there is no such row of this destination. */
export const createResends = (parts: ResendParts) => {
  const { spool, destination, host } = parts
  let tail: Promise<unknown> = Promise.resolve()
  const one = async (id: number, running: AbortSignal): Promise<ResendAnswer | undefined> => {
    const row = await spool.refused(id)
    if (row === null || row.destination !== destination.name) return undefined
    const stays = (text: string, hint: string) => ({
      ...{ delivered: 0, refused: row.points, text, hint },
    })
    const lane = parts.lane(row.lane)
    const trouble = parts.trouble()
    if (trouble !== undefined) return stays(trouble.text, trouble.hint)
    if (lane === undefined) return stays(`it takes lane "${row.lane}" no more`, '')
    const segment = await spool.resendable(id)
    if (segment === null) return undefined
    const { laneId, acked: ackedThrough } = lane
    const place = { lane: row.lane, laneId, ackedThrough, replay: true }
    const said = read(await destination.send({ ...place, items: [segment] }, running))
    if (!('refused' in said)) return stays(said.text, said.hint)
    const answer = await spool.resent(id, segment.bytes, said.refused)
    host.log.info('refused_resent', {
      destination: destination.name,
      lane: row.lane,
      id,
      ...answer,
    })
    return { ...answer, text: said.text, hint: '' }
  }
  return (id: number, running: AbortSignal): Promise<ResendAnswer | undefined> => {
    const next = tail.then(async () => {
      const cut = follow(running)
      try {
        return await one(id, cut.signal)
      } finally {
        cut.release()
      }
    })
    tail = next.catch(() => undefined)
    return next
  }
}
