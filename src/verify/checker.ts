/**
 * The verdict on a whole run: did every accepted point arrive once in effect, unaltered, or was its loss declared?
 *
 * It trusts no counter of the agent. *Accepted* is the publisher's own journal of acks. *Delivered*
 * and *altered* are read
 * back from the region's database bit by bit, *declared lost* are the gap records found there,
 * *duplicates* are rows it
 * wrote oftener than points were accepted. *Pending* may only come from the spool's file once the
 * agent has stopped (0 when
 * it has drained).
 *
 * What must hold: accepted = delivered + reduced + pending + declared lost; of each (series, time)
 * the last accepted value
 * stands, or an earlier one where the later is declared lost; a key without a row lies in a gap or is pending.
 * A point that was attempted and never answered may be there or not: it widens `accepted` from a number to a range.
 */
import type { GapReason } from '../model.ts'
import { bitsOf, createPointTable, type ExactPoint, type PointTable } from './point-table.ts'

export type { ExactPoint }
export interface JournalPoint extends ExactPoint {
  /** False: attempted, and the answer never came. In the place where it was attempted. */
  readonly acked: boolean
}
export interface GapFound {
  readonly reason: GapReason
  readonly count: number
  readonly timeUsMin: number
  readonly timeUsMax: number
}
type Many<T> = AsyncIterable<readonly T[]> | Iterable<readonly T[]>

export interface Evidence {
  /** In accept order. */
  readonly journal: Many<JournalPoint>
  /** Messages a door could not take (malformed, refused), acked and attempted: each must be a gap record. */
  readonly losses?: { readonly acked: number; readonly unsure: number }
  readonly rows: Many<ExactPoint>
  /** One entry for each time the region inserted or overwrote a row; absent where it was not recorded. */
  readonly writes?: Many<{ readonly series: string; readonly timeUs: number }>
  readonly gaps: readonly GapFound[]
  /** Points of the segments the region took in, each seq once: its ledger, in the transaction of the points. */
  readonly delivered: number
  readonly reduced: number
  readonly pending: number
  /** Whether the newest point of this key is left out by a stated contract (`reduction.ts`). */
  readonly leftOut?: (series: string, timeUs: number) => boolean
  /** Whether it was asked for again and may have been written once more. */
  readonly askedAgain?: (series: string, timeUs: number) => boolean
}
export interface Verdict {
  readonly accepted: number
  readonly delivered: number
  readonly reduced: number
  readonly pending: number
  readonly declared_lost: number
  readonly duplicates: number
  readonly altered: number
  readonly missing: number
  readonly ok: boolean
  /** One line each, the first few of every kind. */
  readonly reasons: readonly string[]
}

const reasonsMax = 12

/** Whether a loss of a point at this time was declared: a gap without times covers all. */
const coverageOf = (gaps: readonly GapFound[]) => {
  const spans = gaps.filter(({ reason, count }) => count > 0 && !isMessage(reason))
  const whole = spans.some(({ timeUsMin, timeUsMax }) => timeUsMin === 0 && timeUsMax === 0)
  return (timeUs: number) =>
    whole || spans.some((gap) => gap.timeUsMin <= timeUs && timeUs <= gap.timeUsMax)
}
/** Losses that never were points of the journal. */
const isMessage = (reason: GapReason) => reason === 'malformed' || reason === 'refused'

/** How a row stands to what was accepted under its key. */
const judge = (table: PointTable, slot: number, row: ExactPoint) => {
  const bits = bitsOf(row)
  // Newest first. Attempts without an answer may have won or not; the newest acked one must have, unless it is lost.
  let passed = 0
  for (let at = table.newest(slot); at !== 0; at = table.values.before(at)) {
    if (table.values.same(at, row, bits)) return passed === 0 ? 'good' : 'older'
    if (table.values.acked(at)) passed++
  }
  return 'foreign'
}

export const check = async (evidence: Evidence): Promise<Verdict> => {
  const table = createPointTable()
  const reasons: string[] = []
  const say = (text: string) => {
    if (reasons.length < reasonsMax) reasons.push(text)
  }
  const { losses = { acked: 0, unsure: 0 } } = evidence
  let { acked, unsure } = losses
  for await (const points of evidence.journal) {
    for (const point of points) {
      table.add(point, point.acked)
      if (point.acked) acked++
      else unsure++
    }
  }

  const covered = coverageOf(evidence.gaps)
  const excused = (timeUs: number) => evidence.pending > 0 || covered(timeUs)
  let [altered, duplicates, missing] = [0, 0, 0]
  for await (const rows of evidence.rows) {
    for (const row of rows) {
      const slot = table.find(row.series, row.timeUs)
      const where = `${row.series} at ${row.timeUs}`
      if (slot === -1) {
        altered++
        say(`altered: ${where} was never sent`)
      } else if (!table.see(slot)) {
        duplicates++
        say(`duplicate: two rows of ${where}`)
      } else {
        const standing = judge(table, slot, row)
        if (standing === 'good' || (standing === 'older' && excused(row.timeUs))) continue
        altered++
        say(`altered: ${where} holds ${standing === 'older' ? 'an older value' : 'another value'}`)
      }
    }
  }
  for await (const writes of evidence.writes ?? []) {
    for (const { series, timeUs } of writes) {
      const slot = table.find(series, timeUs)
      if (slot === -1) continue
      const again = evidence.askedAgain?.(series, timeUs) === true ? 1 : 0
      if (table.written(slot) <= table.acked(slot) + table.unsure(slot) + again) continue
      duplicates++
      say(`duplicate: ${series} at ${timeUs} was written again`)
    }
  }
  for (const { slot, timeUs } of table.unseen()) {
    const count = table.acked(slot)
    if (count === 0 || excused(timeUs)) continue
    const series = table.nameOf(slot)
    if (evidence.leftOut?.(series, timeUs) === true) continue
    missing += count
    say(`missing: ${series} at ${timeUs}, accepted, not there, not declared lost`)
  }

  const { delivered, reduced, pending } = evidence
  const declared_lost = evidence.gaps.reduce((sum, gap) => sum + gap.count, 0)
  const answered = delivered + reduced + pending + declared_lost
  if (answered < acked) {
    missing = Math.max(missing, acked - answered)
    say(`missing: ${acked} accepted, ${answered} answered for`)
  }
  // A spool older than its anchor knows how much it lacks, not how much of that had arrived: it
  // declares at most that.
  const atMost = evidence.gaps.reduce(
    (sum, { reason, count }) => sum + (reason === 'anchor' ? count : 0),
    0,
  )
  if (answered > acked + unsure + atMost) {
    say(`too many: ${answered} answered for, only ${acked + unsure} were ever sent`)
  }
  return {
    accepted: Math.min(Math.max(answered, acked), acked + unsure),
    delivered,
    reduced,
    pending,
    declared_lost,
    duplicates,
    altered,
    missing,
    ok: reasons.length === 0,
    reasons,
  }
}
