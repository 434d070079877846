/**
 * From which seq on a lane may still be asked for by time: what open windows keep from being trimmed.
 *
 * Invariants: every held segment below `seq()` ends before the last `fromUs` it was moved to; times may go back (a
 * window of an older time opens), then the place goes back too; a move looks at a bounded number of rows and errs
 * towards holding more.
 */
import type { Seq } from '../model.ts'
import { integer } from './schema.ts'
import { keyOf, type LaneState, type SpoolState, seqOf } from './state.ts'

export interface Hold {
  readonly seq: () => Seq
  /** To be saved with the state. */
  readonly places: () => readonly HoldPlace[]
  /** Points at or after `fromUs`, of segments through `through`, may still be asked for. */
  readonly move: (fromUs: number, through: Seq) => void
  /** No segment below holds a point at or after `fromUs`. */
  readonly firstFor: (fromUs: number) => Seq
}

/** No segment below the seq holds a point at or after the time. The first place is the lane's beginning. */
export type HoldPlace = readonly [seq: Seq, endsUs: number]
export const seqHeld = (places: readonly HoldPlace[]): Seq => places[places.length - 1]?.[0] ?? 1

const rowsMax = 4_096
const placesMax = 64
const placeSeqs = 64
const beginning: HoldPlace = [1, Number.MIN_SAFE_INTEGER]

/** `saved` is what `places` gave when the state was saved. */
export const createHold = (
  state: SpoolState,
  lane: LaneState,
  saved: readonly HoldPlace[],
): Hold => {
  let places = [beginning, ...saved.slice(1)]

  const note = (place: HoldPlace) => {
    const before = places[places.length - 2]
    // The newest place moves on; now and then it stays behind as a way back, the older ones further apart.
    if (before !== undefined && place[0] - before[0] < placeSeqs) places.pop()
    places.push(place)
    if (places.length > placesMax) {
      places = places.filter((_, at) => at === 0 || at === places.length - 1 || at % 2 === 0)
    }
  }
  const move = (fromUs: number, through: Seq) => {
    while (places.length > 1 && (places[places.length - 1]?.[1] ?? 0) > fromUs) places.pop()
    let [next, endsUs] = places[places.length - 1] ?? beginning
    next = Math.max(next, lane.now.floor)
    const rows = state
      .sql(
        `SELECT key, ${integer('time_us_max', 'max')} FROM segments
         WHERE key >= ? AND key <= ? ORDER BY key LIMIT ?`,
      )
      .all(keyOf(lane.id, next), keyOf(lane.id, through), rowsMax) as {
      readonly key: number
      readonly max: number
    }[]
    for (const { key, max } of rows) {
      if (max >= fromUs) return note([seqOf(key), endsUs])
      endsUs = Math.max(endsUs, max + 1)
      next = seqOf(key) + 1
    }
    note([rows.length < rowsMax ? Math.max(next, through + 1) : next, endsUs])
  }
  return {
    seq: () => seqHeld(places),
    places: () => places,
    move,
    firstFor: (fromUs) => (places.findLast(([, endsUs]) => endsUs <= fromUs) ?? beginning)[0],
  }
}
