/**
 * A second destination beside the region, of the kind that keeps no books and cannot hold every point: texts, and floats
 * that are no numbers, are lost for it alone. It remembers by seq what it was last told, and so knows what the agent's
 * books must say of it.
 */
import { pointsOf } from '../../src/batch.ts'
import { openSegment } from '../../src/codec/segment.ts'
import type { Destination, LaneItem, Outcome, PointsLost, SendBatch } from '../../src/model.ts'
import type { AgentProcess } from './agent.ts'
import type { VirtualTime } from './clock.ts'
import type { Plan, Totals } from './plan.ts'
import type { Chance } from './random.ts'

export const historianName = 'historian'

/** What became of one place of a lane: points held and left out, or a recorded loss. */
interface Place {
  readonly seq: number
  readonly held: number
  readonly left: number
  readonly gone: number
}
export interface Historian {
  readonly destination: (floorOf: (lane: string) => number) => Destination
  readonly heal: () => void
  /** What the agent's books say otherwise. */
  readonly judge: (agent: AgentProcess) => Promise<readonly string[]>
}

const lostIn = (item: LaneItem): readonly PointsLost[] => {
  if (item.type === 'tombstone') return []
  const times: number[] = []
  for (const { value, timeUs } of pointsOf(openSegment(item.bytes).points, BigInt)) {
    const odd = typeof value === 'number' && !Number.isFinite(value)
    if (typeof value === 'string' || odd) times.push(timeUs)
  }
  if (times.length === 0) return []
  const [timeUsMin, timeUsMax] = [Math.min(...times), Math.max(...times)]
  const gap = { reason: 'rejected', count: times.length, source: '' } as const
  return [{ ...gap, seq: item.seq, timeUsMin, timeUsMax }]
}

export const createHistorian = (
  plan: Plan,
  time: VirtualTime,
  chance: Chance,
  totals: Totals,
): Historian => {
  /** By lane, by last seq. */
  const told = new Map<string, Map<number, Place>>()
  let healed = false
  const note = (lane: string, item: LaneItem, lost: readonly PointsLost[]) => {
    const places = told.get(lane) ?? new Map<number, Place>()
    told.set(lane, places)
    const left = lost.reduce((sum, { count }) => sum + count, 0)
    if (item.type === 'segment')
      places.set(item.seq, { seq: item.seq, held: item.pointCount - left, left, gone: 0 })
    else {
      for (let seq = item.seq; seq <= item.seqLast; seq++) places.delete(seq)
      places.set(item.seqLast, { seq: item.seq, held: 0, left: 0, gone: item.gap.count })
    }
  }
  const take = (batch: SendBatch, floor: number): Outcome => {
    const trouble = healed ? 0 : plan.historianTrouble
    if (chance.hit(trouble)) return { kind: 'later', text: 'busy' }
    if (chance.hit(trouble / 4)) {
      const after = chance.int(Math.max(0, floor - 1), Math.max(floor - 1, batch.ackedThrough))
      // It was restored from a backup: what came later it never had.
      if (after < batch.ackedThrough) {
        totals.historianRewinds++
        return { kind: 'rewind', after }
      }
    }
    const lost = batch.items.flatMap((item) => {
      const left = lostIn(item)
      note(batch.lane, item, left)
      return left
    })
    totals.lostForOne += lost.length
    if (chance.hit(trouble)) return { kind: 'later', text: 'the answer was lost' }
    return { kind: 'stored', rejected: [], lost }
  }
  return {
    destination: (floorOf) => ({
      name: historianName,
      type: 'historian',
      bodyBytesMax: plan.bodyBytesMax,
      standing: async () => ({ kind: 'unknown' }),
      send: async (batch) => {
        await new Promise<void>((resolve) => {
          time.at(chance.between(1, 200), () => resolve())
        })
        return take(batch, floorOf(batch.lane))
      },
      [Symbol.asyncDispose]: async () => {},
    }),
    heal: () => {
      healed = true
    },
    judge: async (agent) => {
      const gaps = await agent.port.gaps(100_000)
      for (const { lane, accepted, readers } of agent.spool.lanes()) {
        const books = readers.find(({ reader }) => reader === historianName)
        if (books === undefined) return [`historian: no reader of ${lane}`]
        const here = gaps.filter((gap) => gap.lane === lane)
        // Dropped while it was on its way: it arrived, and the books call it lost.
        const crossed = ({ seq }: Place) =>
          here.some((gap) => gap.destination === '' && gap.seq <= seq && seq <= gap.seqLast)
        const places = [...(told.get(lane)?.values() ?? [])]
        const { delivered, declaredLost, pending } = books
        const own = here.reduce(
          (all, { destination, count }) => all + (destination === historianName ? count : 0),
          0,
        )
        // Of a row that many losses were folded into, a rewind takes back a share: only the sum is exact then.
        const folded = here.some(
          ({ destination, seq, seqLast }) => destination === historianName && seq < seqLast,
        )
        const wrong = (['held', 'left', 'gone'] as const).find((what) => {
          if (folded) return false
          const sum = (of: readonly Place[]) => of.reduce((all, place) => all + place[what], 0)
          const [least, most] = [sum(places.filter((one) => !crossed(one))), sum(places)]
          const said = { held: delivered, left: own, gone: declaredLost - own }[what]
          return said < least || (what !== 'gone' && said > most)
        })
        if (wrong === undefined && delivered + declaredLost + pending === accepted) continue
        const facts = JSON.stringify({ accepted, delivered, declaredLost, pending, own })
        return [`historian: the books of ${lane} say ${facts}, wrong by ${wrong ?? 'the sum'}`]
      }
      return []
    },
  }
}
