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
  const routes: LaneRoute[] = []
  const left: Record<string, Seq> = {}
  for (const { lane, id, head, readers, unfinished } of await spool.lanes()) {
    const cursor = readers.find((one) => one.reader === reader)?.cursor
    if (taken.includes(lane) || cursor === undefined) continue
    const route = { lane, laneId: id, cursor, priority: priorityLast }
    // Not all that is owed is in the lane yet: the next start knows how far that is.
    if (unfinished === true) {
      routes.push(route)
      continue
    }
    const upTo = before[lane] ?? head
    if (cursor.backlog >= upTo) await spool.closeReader(lane, reader)
    else {
      routes.push({ ...route, upTo })
      left[lane] = upTo
    }
  }
  if (JSON.stringify(left) !== JSON.stringify(before))
    await spool.keep([
      { key: keyOf(reader), value: new TextEncoder().encode(JSON.stringify(left)) },
    ])
  return routes
}
