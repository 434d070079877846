/**
 * Lanes that a destination took and takes no more: what they had accepted by then still goes there, nothing after.
 *
 * Invariant: how far that is is kept from the first start without the lane on, so that a lane that goes on growing is
 * left all the same.
 */

import { priorityLast } from '../limits.ts'
import type { Seq } from '../model.ts'
import type { SpoolPort } from '../spool-port.ts'
import type { LaneRoute } from './lane.ts'

const keyOf = (reader: string) => `forward/${reader}/left`
const decode = (kept: Uint8Array | null): Readonly<Record<string, Seq>> =>
  kept === null ? {} : JSON.parse(new TextDecoder().decode(kept))

/** The lanes to finish; those that are finished are let go of. `taken` are the lanes it takes now. */
export const lanesLeft = async (
  spool: Pick<SpoolPort, 'lanes' | 'kept' | 'keep' | 'closeReader'>,
  reader: string,
  taken: readonly string[],
): Promise<readonly LaneRoute[]> => {
  const before = decode(await spool.kept(keyOf(reader)))
  const routes: (LaneRoute & { readonly upTo: Seq })[] = []
  for (const { lane, id, head, readers } of await spool.lanes()) {
    const cursor = readers.find((one) => one.reader === reader)?.cursor
    if (taken.includes(lane) || cursor === undefined) continue
    const upTo = before[lane] ?? head
    if (cursor.backlog >= upTo) await spool.closeReader(lane, reader)
    else routes.push({ lane, laneId: id, cursor, priority: priorityLast, upTo })
  }
  const left = Object.fromEntries(routes.map(({ lane, upTo }) => [lane, upTo]))
  if (JSON.stringify(left) !== JSON.stringify(before))
    await spool.keep([
      { key: keyOf(reader), value: new TextEncoder().encode(JSON.stringify(left)) },
    ])
  return routes
}
