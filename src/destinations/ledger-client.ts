/**
 * The agent's side of a ledger, whoever keeps it: hello, series before first use, segments as they are stored.
 *
 * Invariants: `stored` only after an answer that names the region, every frame and its digest; the
 * cursors belong to one region (kept in the spool): another region's answer is never a rewind; a
 * segment is given up only when the region refused the same bytes twice and holds all others of its
 * batch.
 */
import type { Destination, EpochId, Outcome, Rejection, SendBatch } from '../model.ts'
import type { RelayError, SegmentsAnswer } from '../protocol/relay-messages.ts'
import type { DestinationDeps } from './destination.ts'
import { type Parcel, parcelsOf, unnamedIn } from './ledger-batch.ts'
import { createGreeter, type Greeter } from './ledger-hello.ts'
import { createRegionBooks, type RegionBooks } from './ledger-region.ts'
import { createSeriesSender, type SeriesSender } from './ledger-series.ts'
import type { LedgerSide } from './ledger-side.ts'
import { blocked, later, relayCodes } from './relay-outcome.ts'
import { createStallLimit, type StallLimit } from './stall-limit.ts'

export interface LedgerOptions {
  readonly side: LedgerSide
  readonly type: string
  readonly bodyBytesMax: number
  readonly bytesSent: () => number
  readonly wireBytesPerByte?: number
  readonly close: () => Promise<void>
}
interface Parts {
  readonly side: LedgerSide
  readonly region: RegionBooks
  readonly series: SeriesSender
  readonly greeter: Greeter
  readonly size: StallLimit
}

/** A region that keeps asking (more than once for each epoch) is asked again later instead. */
const demandsMax = 6
/** What any link and any database does in time; less would only make the way back long. */
const stalledBytesMin = 16 * 1024

/** Null: everything is committed and the region stands where it should. */
const judge = (
  { region, greeter }: Parts,
  answer: SegmentsAnswer,
  batch: SendBatch,
  parcels: readonly Parcel[],
): Outcome | null => {
  const unnamed = unnamedIn(answer, batch.laneId, parcels)
  if (unnamed !== null) return later(unnamed)
  const strange = region.strangeness(answer)
  if (strange === 'other-region')
    return later(`another region answered (${answer.region}): saying hello to it first`, 0)
  const position = answer.lanes.find(({ lane }) => lane === batch.laneId)
  const reached = position === undefined ? 0 : region.reached(batch.laneId, position)
  if (position !== undefined && reached < batch.ackedThrough)
    return { kind: 'rewind', after: reached }
  greeter.acked(batch.laneId, Math.max(reached, batch.ackedThrough))
  return strange === null ? null : later('the region is on another timeline: saying hello', 0)
}

/** Epoch → dictionary entries its segments of this batch need. */
const lengthsOf = (parcels: readonly Parcel[]): Map<EpochId, number> => {
  const lengths = new Map<EpochId, number>()
  for (const { epoch, dictionaryLength } of parcels)
    lengths.set(epoch, Math.max(lengths.get(epoch) ?? 0, dictionaryLength))
  return lengths
}

const helloFirst = async ({ greeter }: Parts, signal: AbortSignal): Promise<Outcome | null> => {
  const standing = await greeter.again(signal)
  return standing.kind === 'later' || standing.kind === 'blocked' ? standing : null
}

/** One try: null when committed, an outcome, or what the region demands. */
const attempt = async (
  parts: Parts,
  batch: SendBatch,
  parcels: readonly Parcel[],
  signal: AbortSignal,
): Promise<Outcome | RelayError | null> => {
  const { series, side, size } = parts
  const lengths = lengthsOf(parcels)
  for (const [epoch, length] of lengths) {
    const end = await series.ensure(epoch, length, signal)
    if (end === 'need-hello') return { code: 'need-hello', text: 'the region forgot this epoch' }
    if (end !== null) return end
  }
  const uploads = new Map([...lengths.keys()].map((epoch) => [epoch, series.uploads(epoch)]))
  const said = await side.segments(parcels, signal)
  if (said.kind === 'setback') {
    if (said.stalled) size.stalled(bytesIn(parcels))
    return said.setback
  }
  if (said.kind === 'answer') {
    size.arrived(bytesIn(parcels))
    return judge(parts, said.answer, batch, parcels)
  }
  const { error } = said
  if (error.code === 'need-series') {
    const { epoch = '', first = 0 } = error
    if (first >= (lengths.get(epoch) ?? 0))
      return later(
        `the region asks for series of epoch ${epoch} from ${first} on, which are unused`,
      )
    // An answer from before another send's upload says nothing about now.
    if (series.uploads(epoch) === uploads.get(epoch)) series.forgotten(epoch, first)
  }
  return error
}

const refusedParcel = (parcels: readonly Parcel[], { frame, seq }: RelayError) => {
  const parcel = frame === undefined ? undefined : parcels[frame]
  return seq === undefined || parcel?.seq === seq ? parcel : undefined
}

const send = async (parts: Parts, batch: SendBatch, signal: AbortSignal): Promise<Outcome> => {
  const { parcels: all, damaged } = parcelsOf(batch)
  const rejected: Rejection[] = [...damaged]
  let parcels = all
  const suspects = new Set<Parcel>()
  let demands = 0
  const unread = all.find(({ frame }) => frame.type === 'segment' && !reads(parts, frame.bytes))
  if (unread !== undefined) {
    const text = `the region does not read the format of seq ${unread.seq} of lane ${batch.lane}`
    return blocked(relayCodes.notUnderstood, text, 'Upgrade the region.')
  }
  const bytes = bytesIn(all)
  const bytesMax = parts.size.max()
  if (bytes > bytesMax && parcels.length > 1)
    return { kind: 'smaller', text: `${bytes} bytes at once`, bytesMax }
  while (parcels.length > 0) {
    const result = await attempt(parts, batch, parcels, signal)
    if (result === null) break
    if ('kind' in result) return result
    if (result.code === 'bad-frame') {
      const parcel = refusedParcel(parcels, result)
      if (parcel?.frame.type !== 'segment')
        return later(`the region refused the request: ${result.text}`)
      // Once may be a bit that fell over on the way; the same bytes twice are poison.
      if (suspects.has(parcel)) {
        rejected.push({ seq: parcel.seq, text: result.text })
        parcels = parcels.filter((one) => one !== parcel)
      }
      suspects.add(parcel)
      continue
    }
    if (++demands > demandsMax + lengthsOf(parcels).size)
      return later(`the region keeps asking: ${result.text}`)
    const end = result.code === 'need-hello' ? await helloFirst(parts, signal) : null
    if (end !== null) return end
  }
  return { kind: 'stored', rejected }
}
const reads = ({ greeter }: Parts, bytes: Uint8Array) => greeter.reads(bytes[4] as number)
/** As the spool counts what it reads: without frame headers and tombstones. */
const bytesIn = (parcels: readonly Parcel[]): number =>
  parcels.reduce((sum, { frame }) => sum + (frame.type === 'segment' ? frame.bytes.length : 0), 0)

export const createLedgerClient = (deps: DestinationDeps, options: LedgerOptions): Destination => {
  const { side, bodyBytesMax, close, ...traits } = options
  const region = createRegionBooks(deps.spool, deps.name)
  const series = createSeriesSender(deps.spool, side)
  const greeter = createGreeter({ deps, side, region, series })
  const parts: Parts = {
    side,
    region,
    series,
    greeter,
    size: createStallLimit({
      ...{ most: bodyBytesMax, least: Math.min(bodyBytesMax, stalledBytesMin) },
    }),
  }
  return {
    name: deps.name,
    ...traits,
    bodyBytesMax,
    ordersPoints: true,
    standing: greeter.hello,
    send: (batch, signal) => send(parts, batch, signal),
    [Symbol.asyncDispose]: close,
  }
}
