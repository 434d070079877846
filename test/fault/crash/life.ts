/**
 * What the recorded process notes down while it lives, and what can be known from the notes up to any moment.
 *
 * Invariant: a note about something wanted comes before it, a note about something done after it; so at every moment
 * the truth lies between the two.
 */
import { createBatchBuilder } from '../../../src/batch.ts'
import {
  type GapReason,
  kinds,
  type PointBatch,
  type SeriesEntry,
  type Value,
} from '../../../src/model.ts'
import { replayLane } from '../../../src/pipeline/selections.ts'
import type { SpoolOptions } from '../../../src/spool/spool.ts'
import { laneOptions, spoolOptions } from '../../unit/spool/support.ts'

export const lanes = ['raw', 'alarms', 'bulk'] as const
export type LaneName = (typeof lanes)[number]
export const readers = ['region', 'copy'] as const

/** The lane's points are numbered from 1; `declared` counts losses. Kept by the spool under `life/LANE`. */
export interface Reached {
  readonly points: number
  readonly declared: number
}
export type Note =
  | { readonly note: 'opened'; readonly epoch: string; readonly at: Record<LaneName, Reached> }
  | { readonly note: 'wanted' | 'acked'; readonly lane: LaneName; readonly at: Reached }
  /** An item was read: it answers the lane's points through `points`. */
  | {
      readonly note: 'read'
      readonly lane: LaneName
      readonly seqLast: number
      readonly points: number
      readonly epoch: string
      readonly digest: string
    }
  | {
      readonly note: 'passing'
      readonly lane: LaneName
      readonly reader: string
      readonly upTo: number
    }
  | {
      readonly note: 'rewinding'
      readonly lane: LaneName
      readonly reader: string
      readonly after: number
    }
  | { readonly note: 'rejecting'; readonly lane: LaneName; readonly seq: number }

export interface Read {
  readonly points: number
  readonly epoch: string
  /** Of a segment; '' for a tombstone. */
  readonly digest: string
}
export interface ReaderFacts {
  /** No cursor may stand above. */
  most: number
  /** Nor below: acked, and a commit acked since. */
  least: number
  asked: number
}
export interface LaneFacts {
  /** The first is acked, the others were wanted after it, in order. */
  states: Reached[]
  readonly read: Map<number, Read>
  readonly rejected: Set<number>
  readonly readers: Map<string, ReaderFacts>
}
export interface Facts {
  readonly lanes: ReadonlyMap<LaneName, LaneFacts>
  readonly epochs: Set<string>
}

export const noFacts = (): Facts => ({
  epochs: new Set(),
  lanes: new Map(
    lanes.map((lane) => [
      lane,
      {
        states: [{ points: 0, declared: 0 }],
        read: new Map(),
        rejected: new Set(),
        readers: new Map(readers.map((one) => [one, { most: 0, least: 0, asked: 0 }])),
      },
    ]),
  ),
})

const laneFacts = (facts: Facts, lane: LaneName) => facts.lanes.get(lane) as LaneFacts
const readerFacts = (facts: Facts, lane: LaneName, reader: string) =>
  laneFacts(facts, lane).readers.get(reader) as ReaderFacts

const onAck = (facts: Facts, lane: LaneName, at: Reached) => {
  const one = laneFacts(facts, lane)
  const place = one.states.findIndex(
    (state) => state.points === at.points && state.declared === at.declared,
  )
  one.states = place < 0 ? [at] : one.states.slice(place)
  // Acks of readers are written with the next commit, whatever it is for.
  for (const each of facts.lanes.values()) {
    for (const reader of each.readers.values()) reader.least = reader.asked
  }
}

/** `facts` as they are after `note`. */
export const learn = (facts: Facts, note: Note): void => {
  switch (note.note) {
    case 'opened':
      facts.epochs.add(note.epoch)
      for (const lane of lanes) laneFacts(facts, lane).states = [note.at[lane]]
      for (const each of facts.lanes.values()) {
        for (const reader of each.readers.values()) reader.asked = reader.least
      }
      return
    case 'wanted':
      laneFacts(facts, note.lane).states.push(note.at)
      return
    case 'acked':
      onAck(facts, note.lane, note.at)
      return
    case 'read': {
      const { points, epoch, digest } = note
      laneFacts(facts, note.lane).read.set(note.seqLast, { points, epoch, digest })
      return
    }
    case 'passing': {
      const reader = readerFacts(facts, note.lane, note.reader)
      reader.most = Math.max(reader.most, note.upTo)
      // A second reader has two cursors: what it must have kept is not one number.
      if (note.reader === readers[0]) reader.asked = Math.max(reader.asked, note.upTo)
      return
    }
    case 'rewinding': {
      const reader = readerFacts(facts, note.lane, note.reader)
      reader.asked = Math.min(reader.asked, note.after)
      reader.least = Math.min(reader.least, note.after)
      return
    }
    case 'rejecting':
      laneFacts(facts, note.lane).rejected.add(note.seq)
  }
}

// ── points ──────────────────────────────────────────────────────────────────────────────────────

const mix = (number: number, salt: number): number => {
  let h = Math.imul(number ^ salt, 0x9e3779b1) >>> 0
  h = Math.imul(h ^ (h >>> 15), 0x85ebca77) >>> 0
  return (h ^ (h >>> 13)) >>> 0
}
export const seriesCount = 7
/**
 * The lane's times are those of its numbers, but for one point in every other block of each series that comes four
 * places late: `by` is 1 for a number's place in time, -1 for the number of a place.
 */
const placeOf = (number: number, by: 1 | -1): number => {
  const inSeries = Math.floor(number / seriesCount)
  const place = inSeries % 10
  if ((number % seriesCount) % 2 === Math.floor(inSeries / 10) % 2 || place > 4) return number
  return number + (((place + by + 5) % 5) - place) * seriesCount
}
const firstUs = 1_650_000_000_000_000
const stepUs = 40_000
export const timeOf = (number: number): number => firstUs + placeOf(number, 1) * stepUs
export const numberAt = (timeUs: number): number => {
  const place = (timeUs - firstUs) / stepUs
  return Number.isInteger(place) ? placeOf(place, -1) : place
}
export const nameOf = (lane: LaneName, number: number): string => `${lane}-${number % seriesCount}`
/** What stages read changes its quality seldom, as a plant does. */
export const qualityOf = (lane: LaneName, number: number): number =>
  lane === 'raw' ? ([0, 0, 0, 1, 0, 2][(number >> 6) % 6] ?? 0) : number % 3
const words = new DataView(new ArrayBuffer(8))
/** Signals of a plant, and noise in the last series. */
const signalOf = (number: number): Value | undefined => {
  const low = mix(number, 5) % 16
  const walk = Math.round(160 * Math.sin(number / 90)) / 4 + low / 8
  const signals = [walk, walk + 100, Math.abs((number % 700) - 350) / 4, BigInt(number * 3) % 1000n]
  const states = ['run', 'idle', 'stop']
  return [...signals, (number & 32) === 0, states[(number >> 5) % 3]][number % seriesCount]
}
/** Noise of every kind, so that nothing is small and nothing alike. */
export const valueFor = (lane: LaneName, number: number): Value => {
  const signal = lane === 'raw' ? signalOf(number) : undefined
  if (signal !== undefined) return signal
  const salt = lanes.indexOf(lane) * 7_919 + 1
  const [high, low] = [mix(number, salt), mix(number, salt + 1)]
  if (number % 4 === 0) return BigInt.asIntN(64, (BigInt(high) << 32n) | BigInt(low))
  if (number % 11 === 1) return (low & 1) === 1
  if (number % 11 === 2) return `text ${high} ${low}`
  // No NaN: JavaScript may change its payload before it ever reaches a batch.
  words.setUint32(0, (high & 0x7ff00000) === 0x7ff00000 ? high ^ 0x00100000 : high)
  words.setUint32(4, low)
  return words.getFloat64(0)
}

export const pointsFrom = (
  refOf: (name: string) => number,
  lane: LaneName,
  first: number,
  count: number,
): PointBatch => {
  const builder = createBatchBuilder(count)
  for (let at = first; at < first + count; at++) {
    builder.add(refOf(nameOf(lane, at)), timeOf(at), valueFor(lane, at), qualityOf(lane, at))
  }
  return builder.take()
}

/** Batches of the lane's points from 1 on, to compare with, bit by bit. */
const rightPoints = new Map<LaneName, PointBatch>()
const rightUpTo = (lane: LaneName, number: number): PointBatch => {
  const known = rightPoints.get(lane)
  if (known !== undefined && known.count >= number) return known
  const made = pointsFrom(() => 0, lane, 1, Math.max(4_096, number * 2))
  rightPoints.set(lane, made)
  return made
}
/** The numbers of the points, ascending; throws at the first that is not exactly what was given in. */
export const numbersOf = (
  lane: LaneName,
  batch: PointBatch,
  entries: readonly SeriesEntry[],
): number[] => {
  const numbers: number[] = []
  for (let at = 0; at < batch.count; at++) {
    const number = numberAt(batch.timeUs[at] as number)
    const possible = Number.isInteger(number) && number >= 1 && number < 100_000
    const right = rightUpTo(lane, possible ? number : 1)
    const place = number - 1
    const same =
      possible &&
      entries[batch.series[at] as number]?.name === nameOf(lane, number) &&
      batch.qualities[at] === right.qualities[place] &&
      batch.kinds[at] === right.kinds[place] &&
      (batch.kinds[at] === kinds.string
        ? batch.texts[Number(batch.bits[at])] === right.texts[Number(right.bits[place])]
        : batch.bits[at] === right.bits[place])
    if (!same) throw new Error(`altered: point ${number} of ${lane}`)
    numbers.push(number)
  }
  return numbers.sort((a, b) => a - b)
}

// ── the spool of a life ─────────────────────────────────────────────────────────────────────────

/** Rules and windows read the lane `raw` of every third life, which loses nothing. */
export const isStaged = (seed: number): boolean => seed % 3 === 1
/** Of every sixth life copies are made, and nothing is lost there either. */
export const isCopied = (seed: number): boolean => seed % 6 === 0
export const stageLanes = ['thin', 'rollup'] as const

/** Every third life has a quota it meets, every second one holds what was sent. */
export const lifeOptions = (seed: number): SpoolOptions => {
  const quota = seed % 3 === 2
  const derived = isStaged(seed) ? stageLanes : []
  return spoolOptions({
    lanes: [
      laneOptions('raw', {
        segmentPointsMax: isStaged(seed) ? 12 : 60,
        policy: quota ? 'drop_oldest' : 'block',
      }),
      laneOptions('alarms', {
        segmentPointsMax: 12,
        maxDelayMs: 50,
        policy: quota ? 'drop_oldest' : 'block',
      }),
      laneOptions('bulk', { segmentPointsMax: 200, policy: 'drop_oldest' }),
      ...derived.map((name) => laneOptions(name, { derived: true, segmentPointsMax: 400 })),
      ...(isCopied(seed) ? [laneOptions(replayLane, { derived: true, copies: true })] : []),
    ],
    bytesMax: quota ? 1_048_576 + 220 * 1_024 : 64 * 1024 * 1024,
    keepSentMs: seed % 2 === 1 ? 400 : 0,
    compressor: seed % 4 === 0 ? 'zstd' : 'none',
  })
}
export const lossReasons = (seed: number): readonly GapReason[] =>
  seed % 3 === 2 ? ['malformed', 'quota', 'rejected'] : ['malformed', 'rejected']
/** Exactly the room at which the spool makes no ballast file and still grows: megabytes that no image needs. */
export const diskFreeBytes = (): number => 8 * 1024 * 1024
