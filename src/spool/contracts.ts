/**
 * How a series was thinned, by time: what rules promise of what they give out, kept in its row and told again in the
 * epoch's dictionary wherever it changes.
 *
 * Invariants: what changes is one transaction with the first points it holds for, and stands in the dictionary before
 * the segment of these points is sealed; times of versions go up; no version says more than is true: of too many the
 * oldest have no bound any more, and an end comes no earlier than anything held.
 */
import { contractVersionsMax } from '../limits.ts'
import type { Contract, ContractVersion, SeriesEntry } from '../model.ts'
import {
  contractsOf,
  entryOfRow,
  isSaved,
  type SeriesRow,
  saveSeries,
  seriesColumns,
} from './series-rows.ts'
import type { LaneState, SpoolState } from './state.ts'

const unbounded = ({ fromUs, contract }: ContractVersion): ContractVersion => ({
  fromUs,
  contract: contract === null ? null : { ...contract, deviation: Number.POSITIVE_INFINITY },
})
/** JSON has no Infinity: it stands as null there. */
const alike = (a: Contract | null, b: Contract | null): boolean =>
  JSON.stringify(a) === JSON.stringify(b)

/** The versions with one more; the same ones where it says nothing new. */
export const withVersion = (
  versions: readonly ContractVersion[],
  fromUs: number,
  contract: Contract | null,
): readonly ContractVersion[] => {
  const last = versions.at(-1)
  if (alike(last?.contract ?? null, contract)) return versions
  // Never before the one it follows; at the same time it takes its place.
  const from = Math.max(fromUs, last?.fromUs ?? fromUs)
  const kept = last?.fromUs === from ? versions.slice(0, -1) : versions
  const all = [...kept, { fromUs: from, contract }]
  const [first, second] = all as [ContractVersion, ContractVersion]
  if (all.length <= contractVersionsMax) return all
  const both = unbounded(first.contract === null ? second : first)
  return [{ ...both, fromUs: first.fromUs }, ...all.slice(2)]
}

/** Inside a transaction: the contract that holds for the series from its point at this time on. */
export const promise = (
  state: SpoolState,
  entry: SeriesEntry,
  contract: Contract | null,
  fromUs: number,
): void => {
  const known = contractsOf(state, entry.id)
  const contracts = withVersion(known, fromUs, contract)
  if (contracts === known) return
  const told = { ...entry, contracts }
  saveSeries(state, told)
  // A number of this transaction is completed with the row (`saveDictionary`): nobody has read it yet.
  if (isSaved(state, state.dictionary.ofEntry(told))) state.dictionary.again(told)
}

/** At the end of opening: series with a contract that no stage keeps any more. */
export const findEnding = (state: SpoolState): void => {
  const rows = state
    .sql(`SELECT ${seriesColumns} FROM series s WHERE s.contract <> ''`)
    .safeIntegers()
    .iterate() as IterableIterator<SeriesRow>
  const ending = new Set<bigint>()
  for (const row of rows) {
    const entry = entryOfRow(row)
    if (entry === undefined || (entry.contracts?.at(-1)?.contract ?? null) === null) continue
    if (!state.stages.some(({ stage }) => stage.thins?.(entry) ?? false)) ending.add(entry.id)
  }
  if (ending.size === 0) return
  const heldUs = state.sql('SELECT max(time_us_max) FROM segments').pluck().get() as number | null
  state.ending = { ids: ending, afterUs: heldUs ?? Number.MIN_SAFE_INTEGER }
}

/** Inside a transaction: the first point of such a series, in the open columns from `start`, ends its contract. */
export const endContracts = (state: SpoolState, lane: LaneState, start: number): void => {
  const { ids, afterUs } = state.ending
  if (ids.size === 0) return
  const points = lane.open.slice(start, lane.open.count())
  const left = new Set(ids)
  for (let at = 0; at < points.count; at++) {
    const entry = state.dictionary.entry(points.series[at] as number)
    if (entry === undefined || !left.delete(entry.id)) continue
    promise(state, entry, null, Math.max(afterUs, points.timeUs[at] as number))
  }
  if (left.size < ids.size) state.ending = { ids: left, afterUs }
}
