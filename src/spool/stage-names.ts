/**
 * Series that a stage gives out for the first time in this epoch, named ahead of their points: the first end of a
 * window brings more of them than acks could wait for (10,000 series, ten statistics: 110,000 names, seconds).
 *
 * Invariants: a turn names at most `namesATurn`, in the order of their ids, so that a page of the table is written once
 * or twice; a name without points means nothing yet; what is not named here is named with its points.
 */
import { seriesIdOf } from '../codec/series-id.ts'
import { spoolReserveBytes } from '../limits.ts'
import type { Derived, DerivedEntry } from '../model.ts'
import { promise } from './contracts.ts'
import { requireRoom, writeWithRoom } from './room.ts'
import { saveDictionary } from './series-rows.ts'
import type { StageState } from './stages.ts'
import type { SpoolState } from './state.ts'

/** About 30 ms of hashes and rows. */
const namesATurn = 2_000
const none = 0xffff_ffff

/** A series as it is given out, and the time of its first point. */
interface Named extends DerivedEntry {
  readonly timeUs: number
}
interface Name {
  readonly lane: string
  readonly series: number
  readonly entry: Named
}
interface Unmade {
  readonly of: Derived
  readonly series: number
  readonly timeUs: number
}
/** What is left to be done for the points that wait in `ready`. */
export interface Naming {
  /** Series whose entries and ids are still to be made. */
  unmade: readonly Unmade[]
  names: Name[]
  /** So many are named. */
  done: number
}

/** The stage's own numbers to the epoch's, with room for this one. */
export const numbersFor = (one: StageState, lane: string, series: number): Uint32Array => {
  const map = one.numbers.get(lane) ?? new Uint32Array(512).fill(none)
  if (series < map.length && one.numbers.has(lane)) return map
  const grown = new Uint32Array(Math.max(series + 1, map.length * 2)).fill(none)
  grown.set(map)
  one.numbers.set(lane, grown)
  return grown
}
export const isNamed = (map: Uint32Array, series: number): boolean => map[series] !== none

/** Inside a transaction. */
export const nameIt = (
  state: SpoolState,
  map: Uint32Array,
  series: number,
  { contract, contracts: _, timeUs, ...entry }: Named,
) => {
  map[series] = state.dictionary.ofEntry(entry)
  if (contract !== undefined) promise(state, entry, contract, timeUs)
}
export const fullEntry = (state: SpoolState, entry: DerivedEntry): DerivedEntry => ({
  ...entry,
  id: seriesIdOf(state.options.agent, entry),
})

const unnamed = (one: StageState): Naming['unmade'] => {
  const found: Unmade[] = []
  const seen = new Map<string, Set<number>>()
  for (const of of one.now.ready) {
    const met = seen.get(of.lane) ?? new Set<number>()
    seen.set(of.lane, met)
    for (const [at, series] of of.points.series.entries()) {
      if (isNamed(numbersFor(one, of.lane, series), series) || met.has(series)) continue
      met.add(series)
      found.push({ of, series, timeUs: of.points.timeUs[at] as number })
    }
  }
  return found
}

/** A bounded piece of what is left. True when the points should wait for the next turn. */
export const nameAhead = (state: SpoolState, one: StageState): boolean => {
  if (one.now.ready.length === 0) return false
  if (one.naming === null) {
    const unmade = unnamed(one)
    one.naming = { unmade: unmade.length > namesATurn ? unmade : [], names: [], done: 0 }
  }
  const { naming } = one
  if (naming.unmade.length > 0) {
    for (const { of, series, timeUs } of naming.unmade.slice(0, namesATurn)) {
      const entry = { ...fullEntry(state, of.entry(series)), timeUs }
      naming.names.push({ lane: of.lane, series, entry })
    }
    naming.unmade = naming.unmade.slice(namesATurn)
    if (naming.unmade.length === 0) naming.names.sort((a, b) => (a.entry.id < b.entry.id ? -1 : 1))
    return true
  }
  if (naming.done >= naming.names.length) return false
  const part = naming.names.slice(naming.done, naming.done + namesATurn)
  const stored = writeWithRoom(
    state,
    part.map(({ lane }) => ({ lane })).slice(0, 1),
    (room, attempt) => {
      const known = state.dictionary.length()
      for (const { lane, series, entry } of part)
        nameIt(state, numbersFor(one, lane, series), series, entry)
      const bytes = saveDictionary(state, known)
      requireRoom(state, room, bytes, attempt > 0 ? spoolReserveBytes / 2 : spoolReserveBytes)
    },
    true,
  )
  // Without room for names the points come with theirs, and make room as they go.
  naming.done = stored.kind === 'stored' ? naming.done + part.length : naming.names.length
  return naming.done < naming.names.length
}
