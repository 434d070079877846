/**
 * What stands between a source and its lane of the spool: stamps, quality marks, counts.
 *
 * Invariants: resolves only when all of it is durable; what a source keeps of its own (`kept`) and its losses go with
 * the last part, so a failure in between means "send again", never "already have it"; counted only once durable; the
 * columns of what is durable are given back, so no source may read them then.
 */
import { giveBack } from '../batch.ts'
import type { Meter } from '../host.ts'
import type { ClockReading, Emit, Intake } from '../model.ts'
import type { SpoolPort } from '../spool-port.ts'
import {
  type ArrivalStamps,
  createArrivalStamps,
  flagAhead,
  flagNotANumber,
  type Stamped,
} from './quality.ts'

export interface IntakeParts {
  readonly spool: Pick<SpoolPort, 'append'>
  readonly lane: string
  readonly source: string
  readonly meter: Meter
  readonly clock: () => ClockReading
  /** Points further ahead of the trusted clock are marked; all are believed unless given. */
  readonly aheadUsMax?: number
  /** Share one among all intakes of an agent: two sources may feed one series. */
  readonly stamps?: ArrivalStamps
}

export const createIntake = (parts: IntakeParts): Emit => {
  const { spool, lane, source, meter, clock, stamps = createArrivalStamps(clock) } = parts
  const { aheadUsMax = Number.POSITIVE_INFINITY } = parts
  return async (intake) => {
    const { points, kept = [], losses = [], urgent = false } = intake
    if (points.count === 0 && kept.length === 0 && losses.length === 0 && !urgent) return
    flagNotANumber(points)
    const { trusted, nowUs } = clock()
    const believed = intake.timeBase === 'monotonic' || !trusted
    const ahead = believed ? 0 : flagAhead(points, nowUs + aheadUsMax)
    const stamped: readonly Stamped[] =
      intake.timeBase === 'monotonic' ? [{ points, timeBase: 'monotonic' }] : stamps.stamp(points)
    for (const [at, part] of stamped.entries()) {
      await spool.append(lane, at < stamped.length - 1 ? part : { ...part, kept, losses, urgent })
      giveBack(part.points)
    }
    giveBack(points)
    count(meter, source, intake, clock().nowUs)
    if (ahead > 0) meter.count('holdfast_points_ahead_total', ahead, { source })
  }
}

const count = (meter: Meter, source: string, intake: Intake, nowUs: number): void => {
  if (intake.points.count > 0) {
    meter.count('holdfast_points_received_total', intake.points.count, { source })
    const gauge = 'holdfast_source_last_point_timestamp_seconds'
    meter.gauge(gauge, nowUs / 1e6, { source })
  }
  for (const { reason, count } of intake.losses ?? []) {
    // A malformed message is counted in messages: nobody knows how many points it was.
    const name =
      reason === 'malformed' ? 'holdfast_messages_refused_total' : 'holdfast_points_refused_total'
    meter.count(name, count, { source, reason })
  }
}
