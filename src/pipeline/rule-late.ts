/**
 * What a point out of order breaks, mended: between the two knots around it every point of the raw lane is sent.
 *
 * Invariants: a job's range lies strictly between two points already sent, so whatever was left out beyond it is drawn
 * as before; ranges are read from the raw lane once a step, and none is longer than `mendSpanUsMax`.
 */
import type { Pieces, PointBatch, StageInput } from '../model.ts'
import type { KnotRange } from './rule-knots.ts'
import type { StageSeries } from './stage-series.ts'

export interface MendJob extends KnotRange {
  readonly own: number
  /** Time of the point that came late: its newest value is sent after all others. */
  readonly timeUs: number
}

/** Between the same two knots many may have come late. */
interface Span extends KnotRange {
  /** Where all of them have one time, that. */
  onlyUs: number
}
const addSpan = (spans: Span[], { fromUs, toUs, timeUs }: MendJob): void => {
  const known = spans.find((one) => one.fromUs === fromUs && one.toUs === toUs)
  if (known === undefined) spans.push({ fromUs, toUs, onlyUs: timeUs })
  else if (known.onlyUs !== timeUs) known.onlyUs = Number.NaN
}

/**
 * Calls `send` with every raw point inside a job's range, but for those at its own time, and at the end `read` with
 * each job that had one, and whether raw points of it may be gone.
 */
export function* mend(
  jobs: readonly MendJob[],
  raw: StageInput['raw'],
  series: StageSeries,
  send: (own: number, batch: PointBatch, i: number) => void,
  read: (job: MendJob, lacking: boolean) => void,
): Pieces<void> {
  const sorted = jobs
    .filter(({ fromUs, toUs }) => toUs > fromUs)
    .sort((a, b) => a.fromUs - b.fromUs)
  for (let first = 0; first < sorted.length; ) {
    let { fromUs, toUs } = sorted[first] as MendJob
    const group = new Map<number, Span[]>()
    let next = first
    for (; next < sorted.length && (sorted[next] as MendJob).fromUs <= toUs; next++) {
      const job = sorted[next] as MendJob
      toUs = Math.max(toUs, job.toUs)
      const spans = group.get(job.own) ?? []
      group.set(job.own, spans)
      addSpan(spans, job)
    }
    for (const batch of series.met(raw)(fromUs + 1, toUs)) {
      const owns = series.owns()
      for (let i = 0; i < batch.count; i++) {
        const own = owns[batch.series[i] as number] ?? -1
        if (own < 0) continue
        const time = batch.timeUs[i] as number
        const inside = group
          .get(own)
          ?.some((span) => time > span.fromUs && time < span.toUs && time !== span.onlyUs)
        if (inside) send(own, batch, i)
      }
      yield batch.count
    }
    first = next
  }
  // What is damaged is known once it was read.
  for (const job of sorted) read(job, raw.lacks?.(job.fromUs + 1, job.toUs) === true)
}
