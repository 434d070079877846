/**
 * A stage for tests, small and deterministic, that leans on everything a spool promises to stages: a state per series,
 * windows counted from raw, a hold, a clock, an early end. And the same told naively, from the segments alone.
 */
import { createBatchBuilder } from '../../../src/batch.ts'
import { openSegment } from '../../../src/codec/segment.ts'
import {
  type Contract,
  type Derived,
  type DerivedEntry,
  kinds,
  type LaneItem,
  type PointBatch,
  type SeriesEntry,
  type Stage,
  type StageInput,
} from '../../../src/model.ts'
import type { Spool } from '../../../src/spool/spool.ts'
import { readAll } from './support.ts'

const windowUsDefault = 20_000
/** A number below 2^32 that any change of the value changes, most likely. */
const numberOf = (points: PointBatch, at: number): number => {
  const bits = points.bits[at] as bigint
  if (points.kinds[at] === kinds.string) return points.texts[Number(bits)]?.length ?? 0
  return Number((bits ^ (bits >> 32n)) & 0xffff_ffffn)
}
const contract: Contract = {
  method: 'sample',
  deviation: 0,
  interpolation: 'step',
  heartbeatUs: null,
}

interface Memory {
  count: number
  /** Whole and below 2^32: exact, whatever the values. */
  sum: number
  /** Start of the open window. */
  window: number | null
  /** Points of the open window. */
  inWindow: number
  /** Start of the newest window that has ended: no other opens at or before it. */
  ended: number | null
}
export interface TestStage extends Stage {
  /** Seqs stepped in this life, as they came. */
  readonly seqs: number[]
  /** All that ever happened to the state, as it was saved with it. */
  readonly history: () => readonly HistoryEvent[]
}
/** A segment read; what the clock closed or quota cut short after it. */
export type HistoryEvent = readonly [kind: 'step' | 'tick' | 'letGo', seqOrUs: number]
export interface StageFaults {
  readonly throwAt?: number
  readonly lane?: string
}
export interface TestStageOptions extends StageFaults {
  /** Put before the names of what it gives out. */
  readonly prefix?: string
  readonly windowUs?: number
  /** Its ticks are logged, in place of the state. */
  readonly decides?: boolean
  /** Every batch it is given, by seq. */
  readonly record?: Map<number, Recorded>
}
export interface Recorded {
  readonly points: PointBatch
  readonly entry: (series: number) => SeriesEntry
}

/** Every third point's running sum goes to `thin`; the number of points of a window that has ended to `windows`. */
export const createTestStage = (name = 'test', faults: TestStageOptions = {}): TestStage => {
  const { prefix = '', record, windowUs = windowUsDefault } = faults
  let history: HistoryEvent[] = []
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
        entry: (at) => entries[at] as DerivedEntry,
      }),
    }
  }
  const entries: DerivedEntry[] = []
  const numbers = new Map<string, number>()
  const ownNumber = (entry: DerivedEntry): number => {
    const key = keyOf(entry)
    const number = numbers.get(key) ?? entries.push(entry) - 1
    numbers.set(key, number)
    return number
  }
  const thinned = (key: string): number => {
    const [own, tags] = JSON.parse(key) as [string, [string, string][]]
    return ownNumber({ id: 0n, name: prefix + own, tags, unit: '', contract })
  }
  const counted = (key: string): number => {
    const [own, tags] = JSON.parse(key) as [string, [string, string][]]
    return ownNumber({ id: 0n, name: prefix + own, tags: [['@count', '20'], ...tags], unit: '' })
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
  const close = (
    until: (memory: Memory, start: number) => boolean,
    quality: number,
  ): readonly Derived[] => {
    const windows = outputs('windows')
    for (const [key, one] of memory) {
      if (one.window === null || !until(one, one.window)) continue
      // The clock may speak before anything was read: then nobody knows the numbers of raw points yet.
      windows.builder.addInt(counted(key), one.window, BigInt(one.inWindow), quality)
      one.ended = one.window
      one.window = null
    }
    return windows.builder.count() > 0 ? [windows.derived()] : []
  }
  let tickedUs = 0
  const tick = (nowUs: number) => {
    tickedUs = nowUs
    const given = close((_, start) => start + windowUs * 2 < nowUs, 0)
    if (given.length > 0) history.push(['tick', nowUs])
    return given
  }
  const decides = {
    decided: () => Buffer.from(String(tickedUs)),
    redo: (decided: Uint8Array) => {
      tick(Number(Buffer.from(decided).toString()))
    },
  }
  return {
    ...(faults.decides === true ? decides : {}),
    name,
    passesPoints: true,
    thins: () => true,
    seqs,
    step: ({ points, entry, seq, raw }) => {
      // Whether it still owes something from before: it never does.
      if (points.count === 0) return []
      if (seq === faults.throwAt) throw new Error('a stage at fault')
      seqs.push(seq)
      history.push(['step', seq])
      record?.set(seq, { points, entry })
      const thin = outputs(faults.lane ?? 'thin')
      const windows = outputs('windows')
      for (let at = 0; at < points.count; at++) {
        const key = keyOf(entry(points.series[at] as number))
        const time = points.timeUs[at] as number
        const one = memory.get(key) ?? { count: 0, sum: 0, window: null, inWindow: 0, ended: null }
        memory.set(key, one)
        one.count++
        one.sum = (one.sum + numberOf(points, at)) % 2 ** 32
        if (one.count % 3 === 0) thin.builder.addFloat(thinned(key), time, one.sum, 0)
        const start = Math.floor(time / windowUs) * windowUs
        if (one.window !== null && start > one.window) {
          const count = countRaw(key, one.window, raw, entry)
          windows.builder.addInt(counted(key), one.window, count, 0)
          one.ended = one.window
          one.window = null
        }
        if (one.window === null && start > (one.ended ?? Number.NEGATIVE_INFINITY)) {
          one.window = start
          one.inWindow = 0
        }
        if (start === one.window) one.inWindow++
      }
      return [thin.derived(), windows.derived()]
    },
    tick,
    letGo: (beforeUs) => {
      history.push(['letGo', beforeUs])
      return close((_, start) => start < beforeUs, 1)
    },
    history: () => history,
    save: () => Buffer.from(JSON.stringify({ memory: [...memory], history })),
    load: (state) => {
      const saved =
        state === null
          ? { memory: [], history: [] }
          : (JSON.parse(Buffer.from(state).toString()) as {
              memory: [string, Memory][]
              history: HistoryEvent[]
            })
      memory = new Map(saved.memory)
      history = saved.history
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
/** What a stage of this history gives when nothing interrupts it: how many, and the last of every (series, time). */
export const replayed = (
  history: readonly HistoryEvent[],
  record: ReadonlyMap<number, Recorded>,
  options: Pick<TestStageOptions, 'prefix' | 'windowUs'>,
): { readonly told: ReadonlyMap<string, string>; readonly count: number } => {
  const stage = createTestStage('replay', options)
  stage.load(null)
  const told = new Map<string, string>()
  let count = 0
  const seen: Recorded[] = []
  const entries: SeriesEntry[] = []
  for (const [kind, value] of history) {
    const raw = (fromUs: number, toUs: number) =>
      seen.map(({ points }) => restrict(points, fromUs, toUs))
    const one = kind === 'step' ? renumbered(record.get(value) ?? missing(), entries) : undefined
    if (one !== undefined) seen.push(one)
    const given =
      one !== undefined
        ? stage.step({ ...one, seq: value, raw })
        : kind === 'tick'
          ? stage.tick(value, raw)
          : kind === 'letGo'
            ? stage.letGo(value, raw)
            : missing()
    for (const { points, entry: own } of given) {
      count += points.count
      for (let at = 0; at < points.count; at++) {
        const key = `${nameIn(own(points.series[at] as number))} ${points.timeUs[at]}`
        told.set(key, `${points.bits[at]}:${points.qualities[at]}`)
      }
    }
  }
  return { told, count }
}
const missing = (): never => {
  throw new Error('a segment that was stepped was never recorded')
}
/** Each process numbers series its own way. */
const renumbered = ({ points, entry }: Recorded, entries: SeriesEntry[]): Recorded => {
  const series = points.series.map((at) => {
    const known = entries.findIndex((one) => nameIn(one) === nameIn(entry(at)))
    return known < 0 ? entries.push(entry(at)) - 1 : known
  })
  return { points: { ...points, series }, entry: (at) => entries[at] as SeriesEntry }
}

/** Deterministic order, for comparing. */
export const sorted = (told: Told) => [...told].sort(([a], [b]) => (a < b ? -1 : 1))
