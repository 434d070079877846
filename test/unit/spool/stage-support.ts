/**
 * A stage for tests, small and deterministic, that leans on everything a spool promises to stages: a state per series,
 * windows counted from raw, a hold, a clock, an early end. And the same told naively, from the segments alone.
 */
import { createBatchBuilder, valueAt } from '../../../src/batch.ts'
import { openSegment } from '../../../src/codec/segment.ts'
import type {
  Contract,
  Derived,
  LaneItem,
  PointBatch,
  SeriesEntry,
  Stage,
  StageInput,
} from '../../../src/model.ts'
import type { Spool } from '../../../src/spool/spool.ts'
import { readAll } from './support.ts'

export const windowUs = 20_000
const contract: Contract = {
  method: 'sample',
  deviation: 0,
  interpolation: 'step',
  heartbeatUs: null,
}

interface Memory {
  count: number
  sum: number
  /** Start of the open window. */
  window: number | null
}
export interface TestStage extends Stage {
  /** Seqs stepped in this life, as they came. */
  readonly seqs: number[]
}
export interface StageFaults {
  readonly throwAt?: number
  readonly lane?: string
}

/** Every third point's running sum goes to `thin`; the number of points of a window that has ended to `windows`. */
export const createTestStage = (name = 'test', faults: StageFaults = {}): TestStage => {
  let memory = new Map<string, Memory>()
  const keyOf = (entry: SeriesEntry) => JSON.stringify([entry.name, entry.tags])
  const seqs: number[] = []
  /** What is given out, its series numbered anew each time they are met. */
  const outputs = (lane: string) => {
    const builder = createBatchBuilder()
    return {
      builder,
      derived: (): Derived => ({
        lane,
        points: builder.take(),
        entry: (at) => entries[at] as SeriesEntry,
      }),
    }
  }
  const entries: SeriesEntry[] = []
  const numbers = new Map<string, number>()
  const numberOf = (entry: SeriesEntry): number => {
    const key = keyOf(entry)
    const number = numbers.get(key) ?? entries.push(entry) - 1
    numbers.set(key, number)
    return number
  }
  const thinned = (key: string): number => {
    const [own, tags] = JSON.parse(key) as [string, [string, string][]]
    return numberOf({ id: 0n, name: own, tags, unit: '', contract })
  }
  const counted = (key: string): number => {
    const [own, tags] = JSON.parse(key) as [string, [string, string][]]
    return numberOf({ id: 0n, name: own, tags: [['@count', '20'], ...tags], unit: '' })
  }
  const countRaw = (
    key: string,
    start: number,
    raw: StageInput['raw'],
    entry: StageInput['entry'],
  ): bigint => {
    let count = 0n
    for (const batch of raw(start, start + windowUs))
      for (const series of batch.series) if (keyOf(entry(series)) === key) count++
    return count
  }
  let entryNow: StageInput['entry'] = () => {
    throw new Error('nothing was stepped')
  }
  const close = (
    until: (memory: Memory, start: number) => boolean,
    raw: StageInput['raw'],
    quality: number,
  ): readonly Derived[] => {
    const windows = outputs('windows')
    for (const [key, one] of memory) {
      if (one.window === null || !until(one, one.window)) continue
      const count = countRaw(key, one.window, raw, entryNow)
      windows.builder.addInt(counted(key), one.window, count, quality)
      one.window = null
    }
    return [windows.derived()]
  }
  return {
    name,
    seqs,
    step: ({ points, entry, seq, raw }) => {
      if (seq === faults.throwAt) throw new Error('a stage at fault')
      seqs.push(seq)
      entryNow = entry
      const thin = outputs(faults.lane ?? 'thin')
      const windows = outputs('windows')
      for (let at = 0; at < points.count; at++) {
        const key = keyOf(entry(points.series[at] as number))
        const time = points.timeUs[at] as number
        const one = memory.get(key) ?? { count: 0, sum: 0, window: null }
        memory.set(key, one)
        one.count++
        one.sum += Number(valueAt(points, at))
        if (one.count % 3 === 0) thin.builder.addFloat(thinned(key), time, one.sum, 0)
        const start = Math.floor(time / windowUs) * windowUs
        if (one.window !== null && start > one.window) {
          const count = countRaw(key, one.window, raw, entry)
          windows.builder.addInt(counted(key), one.window, count, 0)
          one.window = start
        }
        one.window ??= start
      }
      return [thin.derived(), windows.derived()]
    },
    tick: (nowUs, raw) => close((_, start) => start + windowUs * 2 < nowUs, raw, 0),
    letGo: (beforeUs, raw) => close((_, start) => start < beforeUs, raw, 1),
    save: () => Buffer.from(JSON.stringify([...memory])),
    load: (state) => {
      if (state === null) memory = new Map()
      else memory = new Map(JSON.parse(Buffer.from(state).toString()) as [string, Memory][])
      // Numbers of another process' series are unknown until they are met again.
      entryNow = (at) => ({ id: 0n, name: `?${at}`, tags: [], unit: '' })
    },
    holdFromUs: () => {
      let from = Number.POSITIVE_INFINITY
      for (const { window } of memory.values()) if (window !== null) from = Math.min(from, window)
      return from
    },
    totals: () => [],
  }
}

/** What a spool's lane holds, series by series, each with its points as `time:bits:quality`, in order. */
export type Told = ReadonlyMap<string, readonly string[]>
export const derivedLanes = ['thin', 'windows'] as const

const tell = (told: Map<string, string[]>, points: PointBatch, nameOf: (at: number) => string) => {
  for (let at = 0; at < points.count; at++) {
    const name = nameOf(points.series[at] as number)
    const list = told.get(name) ?? []
    told.set(name, list)
    list.push(`${points.timeUs[at]}:${points.bits[at]}:${points.qualities[at]}`)
  }
}
const nameIn = ({ name, tags }: SeriesEntry) => JSON.stringify([name, tags])

/** The lanes of the test stage, as the spool has them. Seals them. */
export const toldBy = (spool: Spool): Told => {
  const told = new Map<string, string[]>()
  spool.seal(derivedLanes)
  for (const lane of derivedLanes) {
    for (const item of readAll(spool, lane)) {
      if (item.type === 'tombstone') throw new Error(`${lane} lost something: ${item.gap.reason}`)
      const entries = spool.dictionary(item.epoch, 0, 1e6)
      tell(
        told,
        openSegment(item.bytes).points,
        (at) => `${lane} ${nameIn(entries[at] as SeriesEntry)}`,
      )
    }
  }
  return told
}

/** A segment that the stage may no longer read once it has read this seq. */
export type Gone = ReadonlyMap<number, number>

const restrict = (batch: PointBatch, fromUs: number, toUs: number): PointBatch => {
  const kept = [...batch.timeUs.keys()].filter((at) => {
    const time = batch.timeUs[at] as number
    return time >= fromUs && time < toUs
  })
  const series = Uint32Array.from(kept, (at) => batch.series[at] as number)
  // The test stage looks at nothing else of raw points.
  return { ...batch, count: kept.length, series }
}

/** The same from the segments alone: one stage that nothing ever interrupts, over raw points that nothing trims. */
export const toldNaively = (
  items: readonly LaneItem[],
  dictionary: (epoch: string) => readonly SeriesEntry[],
  gone: Gone = new Map(),
): Told => {
  const stage = createTestStage()
  stage.load(null)
  const told = new Map<string, string[]>()
  const entries: SeriesEntry[] = []
  const seen: { readonly seq: number; readonly batch: PointBatch }[] = []
  for (const item of items) {
    if (item.type === 'tombstone' || (gone.get(item.seq) ?? item.seq) < item.seq) continue
    const own = dictionary(item.epoch)
    const { points } = openSegment(item.bytes)
    const series = points.series.map((at) => {
      const entry = own[at] as SeriesEntry
      const known = entries.findIndex((one) => nameIn(one) === nameIn(entry))
      return known < 0 ? entries.push(entry) - 1 : known
    })
    const batch = { ...points, series }
    seen.push({ seq: item.seq, batch })
    const held = () => seen.filter(({ seq }) => (gone.get(seq) ?? item.seq) >= item.seq)
    const given = stage.step({
      points: batch,
      entry: (at) => entries[at] as SeriesEntry,
      seq: item.seq,
      raw: (fromUs, toUs) => held().map((one) => restrict(one.batch, fromUs, toUs)),
    })
    for (const { lane, points: out, entry } of given)
      tell(told, out, (at) => `${lane} ${nameIn(entry(at))}`)
  }
  return told
}
/** Deterministic order, for comparing. */
export const sorted = (told: Told) => [...told].sort(([a], [b]) => (a < b ? -1 : 1))
