/**
 * Hello: introduces this opening of the spool, learns where the region stands, what it reads, and
 * what time it is there. Invariants: the region's name is kept in the spool before its word is
 * used; the formats it reads bound what is sealed.
 */
import { formatVersions } from '../codec/segment.ts'
import type { LaneId, LaneStanding, Seq, Standing } from '../model.ts'
import type { HelloAnswer, HelloRequest } from '../protocol/relay-messages.ts'
import type { DestinationDeps } from './destination.ts'
import type { RegionBooks } from './ledger-region.ts'
import type { SeriesSender } from './ledger-series.ts'
import type { LedgerSide } from './ledger-side.ts'
import { blocked, later, relayCodes } from './relay-outcome.ts'

export interface Greeter {
  readonly hello: (lanes: readonly LaneStanding[], signal: AbortSignal) => Promise<Standing>
  /** Everything up to `seq` was answered as committed since the last hello. */
  readonly acked: (lane: LaneId, seq: Seq) => void
  /** In the middle of sending: whoever answers does not know this epoch. */
  readonly again: (signal: AbortSignal) => Promise<Standing>
  /** Whether the region said that it reads segments of this format. */
  readonly reads: (version: number) => boolean
}
export interface GreeterParts {
  readonly deps: DestinationDeps
  readonly side: LedgerSide
  readonly region: RegionBooks
  readonly series: SeriesSender
}

const formats: readonly number[] = formatVersions

export const createGreeter = ({ deps, side, region, series }: GreeterParts): Greeter => {
  const { spool } = deps
  let last: readonly LaneStanding[] = []
  let common: readonly number[] = formats
  const acked = new Map<LaneId, Seq>()

  const requestFor = async (lanes: readonly LaneStanding[]): Promise<HelloRequest> => ({
    spoolId: spool.spoolId,
    epoch: spool.epoch,
    epochs: await spool.epochs(),
    lanes: lanes.map(({ lane, laneId, cursor, floor }) => ({
      lane: laneId,
      name: lane,
      acked: cursor.backlog,
      floor,
    })),
    lastRegion: await region.lastRegion(),
    formats,
  })
  const take = async (answer: HelloAnswer, lanes: readonly LaneStanding[]): Promise<Standing> => {
    common = answer.formats.filter((version) => formats.includes(version))
    if (common.length === 0) {
      const text = `the region reads segment formats ${answer.formats.join(', ')} only`
      return blocked(relayCodes.notUnderstood, text, 'Upgrade the region.')
    }
    await spool.allowFormat(Math.max(...common))
    if (await region.greeted(answer, lanes)) series.reset()
    const positions = answer.lanes.map((one) => {
      const { lane, above } = one
      return [lane, { contiguous: region.reached(lane, one), above }] as const
    })
    return { kind: 'known', lanes: new Map(positions) }
  }
  const hello = async (lanes: readonly LaneStanding[], signal: AbortSignal): Promise<Standing> => {
    last = lanes
    const said = await side.hello(await requestFor(lanes), signal)
    if (said.kind === 'demand')
      return later(`the region answered hello with ${said.code}: ${said.error.text}`)
    if (said.kind === 'answer') return await take(said.answer, lanes)
    const { setback } = said
    if (setback.kind !== 'smaller') return setback
    const hint = 'Raise the body limit of what stands between this agent and the region.'
    return blocked(relayCodes.helloTooBig, `hello is too big: ${setback.text}`, hint)
  }
  return {
    hello: (lanes, signal) => {
      acked.clear()
      return hello(lanes, signal)
    },
    reads: (version) => common.includes(version),
    acked: (lane, seq) => {
      acked.set(lane, Math.max(seq, acked.get(lane) ?? 0))
    },
    // Another region starts where these cursors stand: stale ones would ask for what is delivered.
    again: (signal) => {
      const lanes = last.map((one) => {
        const backlog = Math.max(one.cursor.backlog, acked.get(one.laneId) ?? 0)
        return { ...one, cursor: { ...one.cursor, backlog } }
      })
      return hello(lanes, signal)
    },
  }
}
