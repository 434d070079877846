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
  /** What it was last moved to. */
  readonly fromUs: () => number
  /** Points at or after `fromUs`, of segments through `through`, may still be asked for. */
  readonly move: (fromUs: number, through: Seq) => void
  /** No segment below holds a point at or after `fromUs`. */
  readonly firstFor: (fromUs: number) => Seq
}

interface Place {
  readonly seq: Seq
  /** Every held segment below `seq` ends before this. */
  readonly endsUs: number
}
const rowsMax = 4_096
const placesMax = 512
const placeSeqs = 64

/** `seq` and `fromUs` as they were when the state was saved. */
export const createHold = (
  state: SpoolState,
  lane: LaneState,
  seq: Seq,
  savedFromUs: number,
): Hold => {
  const base: Place = { seq: 1, endsUs: Number.NEGATIVE_INFINITY }
  let places: Place[] = seq > 1 ? [base, { seq, endsUs: savedFromUs }] : [base]
  let nowUs = savedFromUs
  const last = () => places[places.length - 1] as Place

  const note = (place: Place) => {
    const before = places[places.length - 2]
    // The newest place moves on; now and then it stays behind as a way back.
    if (before !== undefined && place.seq - before.seq < placeSeqs) places.pop()
    places.push(place)
    if (places.length > placesMax) {
      places = places.filter((_, at) => at === 0 || at === places.length - 1 || at % 2 === 0)
    }
  }
  const move = (fromUs: number, through: Seq) => {
    nowUs = fromUs
    while (places.length > 1 && last().endsUs > fromUs) places.pop()
    let { seq: next, endsUs } = last()
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
      if (max >= fromUs) return note({ seq: seqOf(key), endsUs })
      endsUs = Math.max(endsUs, max + 1)
      next = seqOf(key) + 1
    }
    note({ seq: rows.length < rowsMax ? Math.max(next, through + 1) : next, endsUs })
  }
  return {
    seq: () => last().seq,
    fromUs: () => nowUs,
    move,
    firstFor: (fromUs) => (places.findLast(({ endsUs }) => endsUs <= fromUs) ?? base).seq,
  }
}
