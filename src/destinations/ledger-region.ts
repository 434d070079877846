/**
 * Which region this destination's cursors belong to, kept in the spool, and how far a region's word
 * about a lane goes.
 *
 * Invariants: what one region committed is never asked of another: a lane that was acked up to
 * `from` when the region changed is not rewound below it; what is known is kept before it is used.
 */

import { z } from 'zod'
import type { LaneId, LaneStanding, Seq } from '../model.ts'
import { messageOf } from '../protocol/relay.ts'
import type { LanePositionMessage, RegionMessage } from '../protocol/relay-messages.ts'
import type { DestinationDeps } from './destination.ts'

export interface RegionBooks {
  /** The region the cursors belong to, '' before the first hello was answered. */
  readonly lastRegion: () => Promise<string>
  /**
   * A hello was answered: from now on the cursors belong to this region. True when it is another
   * one than before.
   */
  readonly greeted: (said: RegionMessage, lanes: readonly LaneStanding[]) => Promise<boolean>
  /**
   * Null when the same region, on the same timeline, says so as at the last hello; else what is
   * different.
   */
  readonly strangeness: (said: RegionMessage) => 'other-region' | 'other-timeline' | null
  /** Everything up to here need not be sent to this region. */
  readonly reached: (lane: LaneId, position: Omit<LanePositionMessage, 'lane'>) => Seq
}

const keptRegion = messageOf(
  z.object({
    region: z.string(),
    /** By lane id: acked when the cursors came over from another region. */
    from: z.record(z.string(), z.number().int().min(0)),
  }),
)
type KeptRegion = ReturnType<typeof keptRegion.decode>

export const createRegionBooks = (
  spool: Pick<DestinationDeps['spool'], 'kept' | 'keep'>,
  destination: string,
): RegionBooks => {
  const key = `relay/${destination}`
  let kept: KeptRegion | undefined
  let timeline: number | undefined
  const load = async (): Promise<KeptRegion> => {
    if (kept === undefined) {
      const bytes = await spool.kept(key)
      kept = bytes === null ? { region: '', from: {} } : keptRegion.decode(bytes)
    }
    return kept
  }
  return {
    lastRegion: async () => (await load()).region,
    greeted: async (said, lanes) => {
      const before = await load()
      timeline = said.timeline
      if (before.region === said.region) return false
      const from = Object.fromEntries(lanes.map((one) => [one.laneId, one.cursor.backlog]))
      const next: KeptRegion = { region: said.region, from }
      await spool.keep([{ key, value: keptRegion.encode(next) }])
      kept = next
      return true
    },
    strangeness: (said) => {
      if (said.region !== kept?.region) return 'other-region'
      return said.timeline === timeline ? null : 'other-timeline'
    },
    reached: (lane, { contiguous, above }) => {
      let reached = Math.max(contiguous, kept?.from[lane] ?? 0)
      // Ranges above an old hole go on from where this region took over.
      for (const [first, last] of above) if (first <= reached + 1) reached = Math.max(reached, last)
      return reached
    },
  }
}
