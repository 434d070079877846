/**
 * Which series a person means: by its name, by globs, or by what is nearest to what was typed.
 * Invariant: series of window statistics are not among them; they are explained with the series they are made of.
 */
import { Failure } from '../errors.ts'
import { type SeriesEntry, type SeriesTable, windowTags } from '../model.ts'
import { meansSeries, seriesText } from '../pipeline/globs.ts'
import type { SpoolPort } from '../spool-port.ts'

export const entriesPerCall = 5_000
const namesMax = 12
const nearMax = 5
const nameLengthMax = 200

export interface FinderParts {
  readonly spool: Pick<SpoolPort, 'dictionary' | 'epochs'>
  readonly series: Pick<SeriesTable, 'count' | 'entry'>
}
const isMade = ({ tags }: SeriesEntry) => tags.some(([tag]) => tag === windowTags.statistic)
/** Edits between two names, as far as they matter. */
const distanceOf = (a: string, b: string): number => {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(same, (row[j] as number) + 1, (next[j - 1] as number) + 1))
    }
    row = next
  }
  return row[b.length] as number
}
export const createFinder = ({ spool, series }: FinderParts) => {
  const known = function* () {
    for (let ref = 0; ref < series.count(); ref++) yield series.entry(ref)
  }
  /** Of this run, and of every epoch that still holds something. */
  const all = async (): Promise<readonly SeriesEntry[]> => {
    const entries = new Map<bigint, SeriesEntry>()
    for (const entry of known()) entries.set(entry.id, entry)
    for (const { epoch } of await spool.epochs()) {
      for (let first = 0; ; first += entriesPerCall) {
        const some = await spool.dictionary(epoch, first, entriesPerCall)
        for (const entry of some) if (!isMade(entry)) entries.set(entry.id, entry)
        if (some.length < entriesPerCall) break
      }
    }
    return [...entries.values()]
  }
  return async (asked: string): Promise<SeriesEntry> => {
    const entries = await all()
    const fits = entries.filter((one) => meansSeries(asked, one))
    const exact = fits.find((one) => seriesText(one) === asked)
    const [only, other] = fits
    if (exact !== undefined) return exact
    if (only !== undefined && other === undefined) return only
    const list = (some: readonly SeriesEntry[]) => {
      const names = some.slice(0, namesMax).map(seriesText)
      return [...names, ...(some.length > namesMax ? [`… ${some.length} in all`] : [])].join('  ')
    }
    if (only !== undefined)
      throw new Failure(
        'HF-X034',
        `"${asked}" names ${fits.length} series`,
        `Which of them: ${list(fits)}`,
      )
    const near = entries
      .map(
        (entry) =>
          [
            distanceOf(asked.slice(0, nameLengthMax), entry.name.slice(0, nameLengthMax)),
            entry,
          ] as const,
      )
      .sort(([a], [b]) => a - b)
      .slice(0, nearMax)
      .map(([, entry]) => entry)
    const hint = near.length === 0 ? 'It has no series yet.' : `The nearest: ${list(near)}`
    throw new Failure('HF-X404', `there is no series "${asked}"`, hint)
  }
}
