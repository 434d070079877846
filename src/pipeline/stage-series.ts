/**
 * A stage's own numbers for the series it works on: dense, kept over restarts, told from the numbers of its input.
 *
 * Invariants: an own number stands for one series id for the life of the state; a series outside every class, or one
 * beyond `seriesMax`, has none.
 */
import { seriesMax } from '../limits.ts'
import type { PointBatch, SeriesEntry, SeriesId, StageInput } from '../model.ts'
import type { CompiledClasses, SeriesClass } from './classes.ts'

export interface StageSeries {
  /** By input number: own number, -1 outside every class, -2 not met yet. Replaced when it grows. */
  readonly owns: () => Int32Array
  /** Gives every series of the batch its own number; afterwards `owns` holds no -2 for them. */
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
  readonly count: () => number
  readonly clear: () => void
}

const unmet = -2

export const createStageSeries = (
  { classes, classOf }: CompiledClasses,
  wanted: (one: SeriesClass) => boolean,
  added: (own: number) => void,
): StageSeries => {
  let owns = new Int32Array(1024).fill(unmet)
  const entries: SeriesEntry[] = []
  const classNumbers: number[] = []
  const byId = new Map<SeriesId, number>()

  let lastEntry: StageInput['entry'] | undefined
  const add = (entry: SeriesEntry): number | undefined => {
    const known = byId.get(entry.id)
    if (known !== undefined) return known
    const at = classOf(entry)
    const one = classes[at]
    if (one === undefined || !wanted(one) || entries.length >= seriesMax) return undefined
    const own = entries.length
    entries.push(entry)
    classNumbers.push(at)
    byId.set(entry.id, own)
    added(own)
    return own
  }
  const meetOne = (series: number, entry: SeriesEntry): void => {
    if (series >= owns.length) {
      const larger = new Int32Array(Math.max(series + 1, owns.length * 2)).fill(unmet)
      larger.set(owns)
      owns = larger
    }
    owns[series] = add(entry) ?? -1
  }
  const meet: StageSeries['meet'] = ({ series, count }, entry) => {
    lastEntry = entry
    let known = owns
    for (let at = 0; at < count; at++) {
      const one = series[at] as number
      if (one < known.length && known[one] !== unmet) continue
      meetOne(one, entry(one))
      known = owns
    }
  }
  return {
    owns: () => owns,
    meet,
    met: (raw) =>
      function* (fromUs, toUs) {
        for (const batch of raw(fromUs, toUs)) {
          if (lastEntry !== undefined) meet(batch, lastEntry)
          yield batch
        }
      },
    entries,
    classes: classNumbers,
    known: () => lastEntry !== undefined,
    ownOf: (id) => byId.get(id),
    add,
    count: () => entries.length,
    clear: () => {
      lastEntry = undefined
      owns.fill(unmet)
      entries.length = 0
      classNumbers.length = 0
      byId.clear()
    },
  }
}
