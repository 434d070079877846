/**
 * Series keys on their way to the region: once per epoch, before the first segment that needs them.
 *
 * Invariants: one upload runs at a time, in order; what the region is believed to know of an epoch
 * grows only by its own answers; a request holds at most `dictionaryEntriesPerRequestMax` entries
 * and about `requestBytesMax` bytes.
 */
import { dictionaryEntriesPerRequestMax } from '../limits.ts'
import type { EpochId, SeriesEntry } from '../model.ts'
import { cleanedText, isCleanText } from '../protocol/relay.ts'
import { unitMax } from '../protocol/relay-messages.ts'
import type { DestinationDeps } from './destination.ts'
import type { LedgerSide } from './ledger-side.ts'
import { later, type Setback } from './relay-outcome.ts'

/** Null: the region knows enough. */
export type SeriesEnd = Exclude<Setback, { kind: 'smaller' }> | 'need-hello' | null

export interface SeriesSender {
  /** Sends what is missing below `length`. */
  readonly ensure: (epoch: EpochId, length: number, signal: AbortSignal) => Promise<SeriesEnd>
  /**
   * How often anything of the epoch went up: tells an answer about the past from one about the
   * present.
   */
  readonly uploads: (epoch: EpochId) => number
  /** The region says that it knows the epoch only below `first`. */
  readonly forgotten: (epoch: EpochId, first: number) => void
  /** Another region: it knows nothing yet. */
  readonly reset: () => void
}

const requestBytesMax = 512 * 1024
/** An id, brackets, quotes and names of JSON. */
const entryOverheadBytes = 64
const contractBytesMax = 160
const epochsMax = 1_024

const jsonBytesOf = (entry: SeriesEntry): number =>
  entryOverheadBytes +
  Buffer.byteLength(entry.name) +
  Buffer.byteLength(entry.unit) +
  contractBytesMax * (entry.contracts?.length ?? 0) +
  entry.tags.reduce((sum, [tag, value]) => sum + 8 + Buffer.byteLength(tag + value), 0)

/** The table looks at names and tags only; a unit that would be refused must not hold up its points. */
const withPlainUnit = (entry: SeriesEntry): SeriesEntry =>
  entry.unit.length <= unitMax && isCleanText(entry.unit)
    ? entry
    : { ...entry, unit: cleanedText(entry.unit, unitMax) }

/** The first entries that fit; always at least one. */
const fitting = (entries: readonly SeriesEntry[], bytesMax: number): readonly SeriesEntry[] => {
  let bytes = 0
  const past = entries.findIndex((entry, at) => {
    bytes += jsonBytesOf(entry)
    return at > 0 && bytes > bytesMax
  })
  return past < 0 ? entries : entries.slice(0, past)
}

export const createSeriesSender = (
  spool: Pick<DestinationDeps['spool'], 'epoch' | 'dictionary'>,
  side: Pick<LedgerSide, 'series'>,
): SeriesSender => {
  /**
   * Missing: not known here; the region will say, should it matter. Only this opening's epoch
   * surely starts empty.
   */
  const known = new Map<EpochId, number>([[spool.epoch, 0]])
  const uploaded = new Map<EpochId, number>()
  let bytesMax = requestBytesMax
  let tail: Promise<unknown> = Promise.resolve()

  const remember = (epoch: EpochId, length: number) => {
    if (known.size >= epochsMax && !known.has(epoch)) known.clear()
    known.set(epoch, length)
  }
  const sendSome = async (epoch: EpochId, first: number, signal: AbortSignal) => {
    const held = await spool.dictionary(epoch, first, dictionaryEntriesPerRequestMax)
    if (held.length === 0)
      return later(`the spool does not hold entry ${first} of the series of epoch ${epoch}`)
    const entries = fitting(held, bytesMax).map(withPlainUnit)
    const said = await side.series({ epoch, first, entries }, signal)
    if (said.kind === 'setback') {
      if (said.stalled) bytesMax = Math.max(1, Math.floor(bytesMax / 2))
      if (said.setback.kind !== 'smaller') return said.setback
      // Never "smaller" to whoever sends segments: their size is not to blame.
      if (entries.length === 1) return later(`one series is too big: ${said.setback.text}`)
      bytesMax = Math.max(1, Math.floor(bytesMax / 2))
      return null
    }
    if (said.kind === 'demand') {
      const { code, error } = said
      if (code === 'need-hello') return 'need-hello'
      if (code !== 'need-series' || error.first === undefined || error.first >= first)
        return later(`the region answered series with ${code}: ${error.text}`)
      remember(epoch, error.first)
      return null
    }
    const { answer } = said
    if (answer.epoch !== epoch || answer.known < first + entries.length)
      return later('the answer to the series does not name what was sent: a captive portal?')
    uploaded.set(epoch, (uploaded.get(epoch) ?? 0) + 1)
    remember(epoch, answer.known)
    return null
  }
  const run = async (epoch: EpochId, length: number, signal: AbortSignal): Promise<SeriesEnd> => {
    // Each round sends at least one entry, halves the size or goes back once: far below the bound.
    for (let round = 0; round < length + 64; round++) {
      const first = known.get(epoch)
      if (first === undefined || first >= length) return null
      if (signal.aborted) return later('given up')
      const end = await sendSome(epoch, first, signal)
      if (end !== null) return end
    }
    return later(`the series of epoch ${epoch} do not get across`)
  }
  return {
    ensure: (epoch, length, signal) => {
      if ((known.get(epoch) ?? Number.POSITIVE_INFINITY) >= length) return Promise.resolve(null)
      const end = tail.then(() => run(epoch, length, signal))
      tail = end.catch(() => undefined)
      return end
    },
    uploads: (epoch) => uploaded.get(epoch) ?? 0,
    forgotten: remember,
    reset: () => {
      known.clear()
      known.set(spool.epoch, 0)
    },
  }
}
