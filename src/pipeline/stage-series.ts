/**
 * A stage's own numbers for the series it works on: dense, kept over restarts, told from the numbers of its input.
 *
 * Invariants: an own number stands for one series id for the life of the process, also of a series that is forgotten;
 * a series outside every class has none; at most `max` are remembered, and who asks `toForget` first makes room.
 */
import { seriesMax } from '../limits.ts'
import type { PointBatch, SeriesEntry, SeriesId, StageInput } from '../model.ts'
import type { CompiledClasses, SeriesClass } from './classes.ts'

export interface StageSeries {
  /** By input number: own number, -1 outside every class, -2 not met yet. Replaced when it grows. */
  readonly owns: () => Int32Array
  /** Gives every series of the batch its own number; afterwards `owns` holds no -2 for them, if there is room. */
  readonly meet: (points: PointBatch, entry: (series: number) => SeriesEntry) => void
  /** In order of own numbers. */
  readonly entries: readonly SeriesEntry[]
  /** Number of its class, by own number. */
  readonly classes: readonly number[]
  /** Points read again, each batch met first: a restart forgets the input's numbers, not the points behind it. */
  readonly met: (raw: StageInput['raw']) => StageInput['raw']
  /** Whether any batch was met: before that, the input's numbers mean nothing. */
  readonly known: () => boolean
  /** Own number of a series that has one. */
  readonly ownOf: (id: SeriesId) => number | undefined
  /** A series of a saved state; undefined when its class is no longer one of the stage's. */
  readonly add: (entry: SeriesEntry) => number | undefined
  /** Of numbers given. */
  readonly count: () => number
  /** Own numbers that must be forgotten for all of the batch to have room, those silent longest, and some to spare. */
  readonly toForget: (
    points: PointBatch,
    entry: (series: number) => SeriesEntry,
    timeOf: (own: number) => number,
  ) => ReadonlySet<number>
  /** Should they come once more, they are new. */
  readonly forget: (owns: ReadonlySet<number>) => void
  /** Own numbers that still mean a series, in order. */
  readonly remembered: () => readonly number[]
  readonly isForgotten: (own: number) => boolean
  readonly clear: () => void
}

const unmet = -2
const none: ReadonlySet<number> = new Set()
/** One in so many more are forgotten than must be, so that it comes seldom. */
const spareShare = 8

export const createStageSeries = (
  { classes, classOf }: CompiledClasses,
  wanted: (one: SeriesClass) => boolean,
  added: (own: number) => void,
  max = seriesMax,
): StageSeries => {
  let owns = new Int32Array(1024).fill(unmet)
  const entries: SeriesEntry[] = []
  const classNumbers: number[] = []
  const byId = new Map<SeriesId, number>()
  const forgotten = new Set<number>()

  const takes = (entry: SeriesEntry): boolean => {
    const one = classes[classOf(entry)]
    return one !== undefined && wanted(one)
  }
  let lastEntry: StageInput['entry'] | undefined
  const add = (entry: SeriesEntry): number | undefined => {
    const known = byId.get(entry.id)
    if (known !== undefined) return known
    if (!takes(entry) || byId.size >= max) return undefined
    const at = classOf(entry)
    const own = entries.length
    entries.push(entry)
    classNumbers.push(at)
    byId.set(entry.id, own)
    added(own)
    return own
  }
  const meetOne = (series: number, entry: SeriesEntry, found: number | undefined): void => {
    if (series >= owns.length) {
      const larger = new Int32Array(Math.max(series + 1, owns.length * 2)).fill(unmet)
      larger.set(owns)
      owns = larger
    }
    // One that found no room may find it later.
    owns[series] = found ?? (takes(entry) ? unmet : -1)
  }
  const meetAll = (
    { series, count }: PointBatch,
    entryOf: (series: number) => SeriesEntry,
    find: (entry: SeriesEntry) => number | undefined,
  ): void => {
    let known = owns
    for (let at = 0; at < count; at++) {
      const one = series[at] as number
      if (one < known.length && known[one] !== unmet) continue
      const entry = entryOf(one)
      meetOne(one, entry, find(entry))
      known = owns
    }
  }
  const meet: StageSeries['meet'] = (points, entry) => {
    lastEntry = entry
    meetAll(points, entry, add)
  }
  return {
    owns: () => owns,
    meet,
    met: (raw) =>
      function* (fromUs, toUs) {
        for (const batch of raw(fromUs, toUs)) {
          // What is read again makes nobody known: a series that was forgotten stays so.
          if (lastEntry !== undefined) meetAll(batch, lastEntry, ({ id }) => byId.get(id))
          yield batch
        }
      },
    entries,
    classes: classNumbers,
    known: () => lastEntry !== undefined,
    ownOf: (id) => byId.get(id),
    add,
    count: () => entries.length,
    toForget: ({ series, count }, entryOf, timeOf) => {
      if (byId.size + count <= max) return none
      // By their entries: a restart has met nothing yet, and must forget the same ones.
      const here = new Set<number>()
      let fresh = 0
      for (const one of new Set(series.subarray(0, count))) {
        const entry = entryOf(one)
        const own = byId.get(entry.id)
        if (own !== undefined) here.add(own)
        else if (takes(entry)) fresh++
      }
      const over = byId.size + fresh - max
      if (fresh === 0 || over <= 0) return none
      const silent = [...byId.values()].filter((own) => !here.has(own))
      // NaN of one that has no point yet.
      const since = (own: number) => timeOf(own) || Number.MIN_SAFE_INTEGER
      silent.sort((a, b) => since(a) - since(b) || a - b)
      return new Set(silent.slice(0, over + Math.floor(max / spareShare)))
    },
    forget: (gone) => {
      for (const own of gone) {
        forgotten.add(own)
        byId.delete((entries[own] as SeriesEntry).id)
      }
      for (let at = 0; at < owns.length; at++) if (gone.has(owns[at] as number)) owns[at] = unmet
    },
    remembered: () => [...byId.values()],
    isForgotten: (own) => forgotten.has(own),
    clear: () => {
      lastEntry = undefined
      forgotten.clear()
      owns.fill(unmet)
      entries.length = 0
      classNumbers.length = 0
      byId.clear()
    },
  }
}
