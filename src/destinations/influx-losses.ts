/**
 * Points of a batch that are not written, and the lines that say so in a measurement of their own.
 *
 * Invariants: one loss a (seq, reason), as an ack takes it; a gap line of a loss whose time is known is the same
 * however often it is sent; a loss of unknown time, or of one that is too old there, is stamped when it is sent, its
 * epoch and seq tell it apart.
 */
import type { Host } from '../host.ts'
import { refusedPointsMax } from '../limits.ts'
import type { Gap, PointsLost, Refusal, RefusedPoints, SendBatch, Seq } from '../model.ts'
import { writeLine } from '../protocol/line-write.ts'
import type { InfluxDialect } from './influx-dialects.ts'

export interface LeftOut {
  readonly count: number
  /** The first of them, for the log. */
  readonly text: string
}
export interface LeftOutPoint {
  readonly why: Refusal
  /** The same for all points like it: the far side's words, or ours. */
  readonly text: string
  readonly seq: Seq
  /** Its place in the segment. */
  readonly at: number
  readonly series: string
  readonly timeUs: number
}
export interface Losses {
  readonly add: (point: LeftOutPoint) => void
  readonly byReason: () => ReadonlyMap<Refusal, LeftOut>
  readonly lost: () => readonly PointsLost[]
}
/** Different words of one segment's refusals; then the last one stands for the rest. */
const textsMax = 16
type Group = RefusedPoints & { readonly at: number[] }

export const createLosses = (): Losses => {
  const reasons = new Map<Refusal, LeftOut>()
  const seqs = new Map<Seq, PointsLost>()
  const groups = new Map<Seq, Group[]>()
  const note = ({ why, text, seq, at }: LeftOutPoint) => {
    const known = groups.get(seq) ?? []
    groups.set(seq, known)
    const same = known.find((one) => one.why === why && one.text === text)
    const group = same ?? (known.length < textsMax ? undefined : known.at(-1))
    if (group === undefined) known.push({ why, text, at: [at] })
    else if (group.at.length < refusedPointsMax) group.at.push(at)
  }
  const groupsOf = (seq: Seq): readonly RefusedPoints[] =>
    (groups.get(seq) ?? []).map((one) => ({ ...one, at: one.at.toSorted((a, b) => a - b) }))
  return {
    add: (point) => {
      const { why, text, seq, series, timeUs } = point
      const before = reasons.get(why)
      const first = before?.text ?? `${series} at ${timeUs} µs: ${text}`
      reasons.set(why, { count: (before?.count ?? 0) + 1, text: first })
      note(point)
      const sum = seqs.get(seq)
      seqs.set(seq, {
        seq,
        reason: 'rejected',
        count: (sum?.count ?? 0) + 1,
        source: sum === undefined || sum.source === series ? series : '',
        timeUsMin: Math.min(sum?.timeUsMin ?? timeUs, timeUs),
        timeUsMax: Math.max(sum?.timeUsMax ?? timeUs, timeUs),
      })
    },
    byReason: () => reasons,
    // In the segment's order, whatever the search's was: of two points of one time the later stands.
    lost: () => [...seqs.values()].map((one) => ({ ...one, refused: groupsOf(one.seq) })),
  }
}

/** What a person can do about it, in log and quarantine. */
export const remedies: Readonly<Record<Refusal, string>> = {
  name: 'It has no place for such a name: rename the series or tag, or discard.',
  value: 'It holds no such value: map it to one that it holds, or discard.',
  time: 'It keeps one of them, or no such time: nothing to mend, discard.',
  retention: 'Lengthen the retention there, then: holdfast quarantine resend ID. Or discard.',
  refused: 'Mend there what it says, then: holdfast quarantine resend ID. Or discard.',
}

const logEveryMs = 60_000
/** Counts losses by reason, and logs the first of each, once a minute at most: after the batch is stored. */
export const createLossTeller = (
  host: Pick<Host, 'clock' | 'log' | 'meter'>,
  destination: string,
) => {
  let loggedMs = Number.NEGATIVE_INFINITY
  return (lane: string, losses: Losses): void => {
    const reasons = losses.byReason()
    for (const [reason, { count }] of reasons) {
      const labels = { destination, reason }
      host.meter.count('holdfast_destination_points_left_out_total', count, labels)
    }
    const nowMs = host.clock.monotonicMs()
    if (reasons.size === 0 || nowMs - loggedMs < logEveryMs) return
    loggedMs = nowMs
    for (const [reason, { count, text }] of reasons) {
      const said = { lane, reason, count, text, hint: remedies[reason] }
      host.log.error('points_left_out', said)
    }
  }
}

export const gapsMeasurement = 'holdfast_gaps'
interface GapWriting extends Pick<InfluxDialect, 'timeUnitUs' | 'timeTail' | 'strings'> {
  readonly agent: string
  readonly nowUs: number
  /** Stamped when they are sent, whatever their times. */
  readonly late: boolean
  /** Whether the server holds such a time; a record of another is stamped when it is sent, too. */
  readonly holds?: (timeUs: number) => boolean
}
/** Records of one lane and reason with one first time stay apart by this many units of time. */
const slots = 1_000

/** One line a tombstone and a loss, as far as line protocol can say the names. */
export const gapLines = (
  { items, lane }: SendBatch,
  lost: readonly PointsLost[],
  { agent, nowUs, timeUnitUs, timeTail, strings, late, holds = () => true }: GapWriting,
): readonly string[] => {
  const lineOf = (seq: Seq, seqLast: Seq, epoch: string, gap: Gap) => {
    const stamp = (us: number) => (Math.floor(us / timeUnitUs) + (seqLast % slots)) * timeUnitUs
    const ownUs = stamp(gap.timeUsMin)
    const times =
      gap.timeUsMin === 0
        ? []
        : ([
            ['from_us', BigInt(gap.timeUsMin)],
            ['to_us', BigInt(gap.timeUsMax)],
          ] as const)
    const texts = [
      ['epoch', epoch] as const,
      ...(gap.source === '' ? [] : [['source', gap.source] as const]),
    ]
    const line = writeLine({
      measurement: gapsMeasurement,
      tags: [
        ['agent', agent],
        ['lane', lane],
        ['reason', gap.reason],
      ],
      fields: [
        ['count', BigInt(gap.count)],
        ['seq', BigInt(seq)],
        ['seq_last', BigInt(seqLast)],
        ...times,
        ...(strings ? texts : []),
      ],
      timeUs: late || gap.timeUsMin === 0 || !holds(ownUs) ? stamp(nowUs) : ownUs,
    })
    return line === undefined ? [] : [`${line}${timeTail}`]
  }
  const lostBySeq = new Map(lost.map((one) => [one.seq, one]))
  return items.flatMap((item) => {
    const gap = item.type === 'tombstone' ? item.gap : lostBySeq.get(item.seq)
    if (gap === undefined) return []
    const seqLast = item.type === 'tombstone' ? item.seqLast : item.seq
    return lineOf(item.seq, seqLast, item.epoch, gap)
  })
}
