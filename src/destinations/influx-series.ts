/**
 * What the lines of each series of the spool's dictionaries begin with, and which series would be written as one.
 *
 * Invariants: of two series of one epoch that would be one there, one is written and the other has no line, so no point
 * replaces another's; which one it is stands over restarts (of `metsMax` pairs; else the first of an epoch), and is
 * remembered before a line of either is written.
 */
import { textOf } from '../errors.ts'
import type { Host } from '../host.ts'
import type { SeriesEntry } from '../model.ts'
import type { DestinationDeps } from './destination.ts'
import type { InfluxDialect } from './influx-dialects.ts'
import type { SeriesLine } from './influx-lines.ts'
import { type LinePlace, lineStartOf } from './influx-names.ts'
import { createSeriesCache, type SeriesCache } from './series-cache.ts'

interface LineSeriesParts {
  readonly deps: Pick<DestinationDeps, 'name' | 'spool'> & { readonly host: Pick<Host, 'log'> }
  readonly dialect: InfluxDialect
  readonly place: LinePlace
}
/** Each is some 200 bytes in the spool. */
const metsMax = 1_000
/** Of series that would be one: who is written. */
interface Owner {
  readonly id: string
  readonly name: string
}
const ownerOf = ({ id, name }: SeriesEntry): Owner => ({ id: String(id), name })

/** Remembers them in the spool. */
const createMets = ({ spool, name, host }: LineSeriesParts['deps']) => {
  const key = `destinations/${name}/met`
  const standing = new Map<string, Owner>()
  const told = new Set<string>()
  let news = false
  return {
    load: async (): Promise<void> => {
      const kept = await spool.kept(key)
      if (kept === null) return
      try {
        const all = JSON.parse(Buffer.from(kept).toString('utf8')) as [string, Owner][]
        for (const [start, owner] of all) standing.set(start, owner)
      } catch (error) {
        host.log.warn('series_met_unreadable', { text: textOf(error) })
      }
    },
    keep: async (): Promise<void> => {
      if (!news) return
      news = false
      await spool.keep([{ key, value: Buffer.from(JSON.stringify([...standing])) }])
    },
    standing: (start: string): Owner | undefined => standing.get(start),
    met: (start: string, owner: Owner, loser: SeriesEntry): void => {
      if (told.size < metsMax && !told.has(String(loser.id))) {
        told.add(String(loser.id))
        const both = { series: loser.name, writtenAs: owner.name }
        const hint =
          'There they would be one: rename one of them. Points of the first are left out.'
        host.log.error('series_meet', { ...both, hint })
      }
      if (standing.has(start) || standing.size >= metsMax) return
      standing.set(start, owner)
      news = true
    },
  }
}

export const createLineSeries = ({
  deps,
  dialect,
  place,
}: LineSeriesParts): SeriesCache<SeriesLine> => {
  const mets = createMets(deps)
  /** Of one epoch: another may bring a series that took the place of one of before. */
  const ofEpoch = () => {
    const owners = new Map<string, Owner>()
    return (entry: SeriesEntry): SeriesLine => {
      const { name } = entry
      const said = lineStartOf(dialect, place, entry)
      if ('why' in said) return { name, start: undefined, why: said.why }
      const mine = ownerOf(entry)
      const owner = mets.standing(said.key) ?? owners.get(said.key) ?? mine
      owners.set(said.key, owner)
      if (owner.id === mine.id) return { name, start: said.start, why: '' }
      mets.met(said.key, owner, entry)
      const why = `${name} would be written into the series of ${owner.name}`
      return { name, start: undefined, why }
    }
  }
  const cache = createSeriesCache(deps.spool, ofEpoch)
  let loading: Promise<void> | undefined
  return {
    of: async (epoch, length) => {
      loading ??= mets.load()
      await loading
      const lines = await cache.of(epoch, length)
      await mets.keep()
      return lines
    },
  }
}
