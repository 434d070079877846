/**
 * Old points for a destination where the value written last stands: they go with the newest values held.
 *
 * Invariants: what is sent as it was sealed is not looked at; number, series and times of a segment's points stay, so
 * the books hold; looked up at each try. A correction that is sealed while the request is out may still be overtaken.
 */
import { isCopy } from '../codec/segment.ts'
import type { Destination, LaneItem, SendBatch } from '../model.ts'
import type { SpoolPort } from '../spool-port.ts'

export const withNewest = (
  destination: Destination,
  spool: Pick<SpoolPort, 'newest'>,
): Destination => {
  if (destination.ordersPoints === true) return destination
  const renewed = async ({ items, replay }: SendBatch): Promise<readonly LaneItem[]> => {
    const all: LaneItem[] = []
    for (const item of items) {
      const old = item.type === 'segment' && (replay || isCopy(item.bytes))
      const bytes = old ? await spool.newest(item.bytes) : null
      all.push(old && bytes !== null ? { ...item, bytes } : item)
    }
    return all
  }
  return {
    ...destination,
    send: async (batch, signal) =>
      await destination.send({ ...batch, items: await renewed(batch) }, signal),
    [Symbol.asyncDispose]: () => destination[Symbol.asyncDispose](),
  }
}
