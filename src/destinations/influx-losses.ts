/**
 * Points of a batch that are not written, and the lines that say so in a measurement of their own.
 *
 * Invariants: one loss a (seq, reason), as an ack takes it; a gap line of a loss whose time is known is the same
 * however often it is sent; a loss of unknown time is stamped when it is sent, its epoch and seq tell it apart.
 */
import type { Host } from '../host.ts'
import type { Gap, PointsLost, SendBatch, Seq } from '../model.ts'
import { writeLine } from '../protocol/line-write.ts'
import type { InfluxDialect } from './influx-dialects.ts'

/** Why a point is not written: a closed list, the label of a counter. */
export type LeftOutReason = 'name' | 'value' | 'time' | 'retention' | 'refused'
export interface LeftOut {
  readonly count: number
  /** The first of them, for the log. */
  readonly text: string
}
export interface Losses {
  readonly add: (
    reason: LeftOutReason,
    text: string,
    seq: Seq,
    series: string,
    timeUs: number,
  ) => void
  readonly byReason: () => ReadonlyMap<LeftOutReason, LeftOut>
  readonly lost: () => readonly PointsLost[]
}
export const createLosses = (): Losses => {
  const reasons = new Map<LeftOutReason, LeftOut>()
  const seqs = new Map<Seq, PointsLost>()
  return {
    add: (reason, text, seq, series, timeUs) => {
      const before = reasons.get(reason)
      reasons.set(reason, { count: (before?.count ?? 0) + 1, text: before?.text ?? text })
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
    lost: () => [...seqs.values()],
  }
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
    for (const [reason, { count, text }] of reasons)
      host.log.error('points_left_out', { destination, lane, reason, count, text })
  }
}

export const gapsMeasurement = 'holdfast_gaps'
interface GapWriting extends Pick<InfluxDialect, 'timeUnitUs' | 'strings'> {
  readonly agent: string
  readonly nowUs: number
}
/** Records of one lane and reason with one first time stay apart by this many units of time. */
const slots = 1_000

/** One line a tombstone and a loss, as far as line protocol can say the names. */
export const gapLines = (
  { items, lane }: SendBatch,
  lost: readonly PointsLost[],
  { agent, nowUs, timeUnitUs, strings }: GapWriting,
): readonly string[] => {
  const lineOf = (seq: Seq, seqLast: Seq, epoch: string, gap: Gap) => {
    const sinceUs = gap.timeUsMin === 0 ? Math.floor(nowUs) : gap.timeUsMin
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
    return writeLine({
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
      timeUs: (Math.floor(sinceUs / timeUnitUs) + (seqLast % slots)) * timeUnitUs,
    })
  }
  const lostBySeq = new Map(lost.map((one) => [one.seq, one]))
  return items.flatMap((item) => {
    const gap = item.type === 'tombstone' ? item.gap : lostBySeq.get(item.seq)
    if (gap === undefined) return []
    const seqLast = item.type === 'tombstone' ? item.seqLast : item.seq
    return lineOf(item.seq, seqLast, item.epoch, gap) ?? []
  })
}
