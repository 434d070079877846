/**
 * What is no longer there of a lane that stages read again: trimmed segments, tombstones, and segments found damaged.
 *
 * Invariants: errs towards saying that something is missing (stubs and gaps are as coarse as they have folded, and
 * stand for every series of their segments); what has no time (malformed messages, lost log) says nothing.
 */
import type { Seq } from '../model.ts'
import { integer } from './schema.ts'
import { keyOf, type LaneState, type SpoolState } from './state.ts'

interface Range {
  readonly min: number
  readonly max: number
}
export interface Losses {
  readonly damaged: (lane: LaneState, range: Range) => void
  /** Whether points of that time may be missing in a stage's `raw`. */
  readonly lacks: (lane: LaneState, through: Seq, fromUs: number, toUs: number) => boolean
  /** Whether points of that time may be gone that this reader of the lane never read. */
  readonly missed: (
    lane: LaneState,
    reader: string,
    through: Seq,
    fromUs: number,
    toUs: number,
  ) => boolean
}

/** Ascending, none touching the next. */
const merged = (ranges: readonly Range[]): readonly Range[] => {
  const sorted = [...ranges].sort((a, b) => a.min - b.min)
  const out: Range[] = []
  for (const range of sorted) {
    const last = out.at(-1)
    if (last === undefined || range.min > last.max) out.push(range)
    else out[out.length - 1] = { min: last.min, max: Math.max(last.max, range.max) }
  }
  return out
}
const meets = (ranges: readonly Range[], fromUs: number, toUs: number): boolean => {
  let [low, high] = [0, ranges.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((ranges[middle] as Range).max < fromUs) low = middle + 1
    else high = middle
  }
  const first = ranges[low]
  return first !== undefined && first.min < toUs
}

const times = `${integer('time_us_min', 'min')}, ${integer('time_us_max', 'max')}`
/** Damaged segments noted a lane; beyond it they are one range. */
const damagedMax = 1_024

export const createLosses = (state: SpoolState): Losses => {
  const damaged = new Map<number, Range[]>()
  /** What was looked up since the file last changed. */
  let known = new Map<string, readonly Range[]>()
  let changes = -1
  const lookedUp = (key: string, look: () => readonly Range[]): readonly Range[] => {
    const now = state.sql('SELECT total_changes()').pluck().get() as number
    if (now !== changes) known = new Map()
    changes = now
    const found = known.get(key) ?? merged(look())
    known.set(key, found)
    return found
  }
  const rows = (lane: LaneState, through: Seq, sql: string, ...more: unknown[]) =>
    state.sql(sql).all(keyOf(lane.id, 0), keyOf(lane.id, through), ...more) as Range[]
  return {
    damaged: (lane, { min, max }) => {
      const list = damaged.get(lane.id) ?? []
      damaged.set(lane.id, list)
      if (!list.some((one) => one.min === min && one.max === max)) list.push({ min, max })
      if (list.length > damagedMax) {
        const ends = { min: Math.min(...list.map((one) => one.min)), max: 0 }
        list.splice(0, list.length, { ...ends, max: Math.max(...list.map((one) => one.max)) })
      }
    },
    lacks: (lane, through, fromUs, toUs) =>
      meets(merged(damaged.get(lane.id) ?? []), fromUs, toUs) ||
      meets(
        lookedUp(`lacks ${lane.id} ${through}`, () => [
          ...rows(
            lane,
            through,
            `SELECT ${times} FROM stubs WHERE key > ? AND key <= ? AND time_us_max > 0`,
          ),
          ...rows(
            lane,
            through,
            `SELECT ${times} FROM gaps WHERE key > ? AND key <= ? AND time_us_max > 0`,
          ),
        ]),
        fromUs,
        toUs,
      ),
    missed: (lane, reader, through, fromUs, toUs) =>
      meets(
        // What the region forgot had been trimmed, and so had been read.
        lookedUp(`missed ${lane.id} ${reader} ${through}`, () =>
          rows(
            lane,
            through,
            `SELECT ${times} FROM gaps WHERE key > ? AND key <= ? AND time_us_max > 0
             AND reason <> 'forgotten' AND seq > ? AND instr(delivered_to, ?) = 0`,
            lane.readers.get(reader)?.now.start ?? 0,
            JSON.stringify(reader),
          ),
        ),
        fromUs,
        toUs,
      ),
  }
}
