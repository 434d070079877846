/**
 * Sources as services: each gets its intake into its lane, and a face for status. What a source says of itself it says
 * by meter and log like everything else; this listens in, so that no source needs a second way to report.
 */
import type { Config, SourceConfig } from './config/schema.ts'
import { textOf } from './errors.ts'
import type { Host, Log, LogFields, Meter } from './host.ts'
import type { ClockReading, Emit, SeriesTable, Service } from './model.ts'
import type { SourceStatus } from './observability/health.ts'
import { createIntake } from './pipeline/intake.ts'
import type { ArrivalStamps } from './pipeline/quality.ts'
import type { SpoolPort } from './spool-port.ts'

export interface AgentSource extends Service {
  readonly status: () => SourceStatus
}
export interface AgentSourceParts {
  readonly host: Host
  readonly agent: string
  readonly spool: Pick<SpoolPort, 'append' | 'kept' | 'blocked'>
  readonly series: SeriesTable
  readonly clock: () => ClockReading
  readonly stamps: ArrivalStamps
  readonly aheadUsMax: number
}

/** Only where classes read do times decide anything: a forecast in another lane is nobody's wrong clock. */
export const aheadUsMaxOf = (config: Pick<Config, 'agent' | 'classes'>, lane: string): number =>
  config.classes.some((one) => one.lane === lane)
    ? config.agent.max_ahead * 1_000
    : Number.POSITIVE_INFINITY

/** Points a second as an exponential mean over about ten seconds. */
const rateWindowMs = 10_000

export const createAgentSource = (parts: AgentSourceParts, config: SourceConfig): AgentSource => {
  const { host, agent, spool, series, clock, stamps, aheadUsMax } = parts
  const { name, type, lane } = config
  let state: SourceStatus['state'] = 'starting'
  let sinceUs = host.clock.nowUs()
  let text = ''
  let pointsAhead = 0
  let [points, lastPointUs, rate, rateAtMs] = [0, 0, 0, host.clock.monotonicMs()]

  const become = (next: SourceStatus['state'], why = '') => {
    if (next !== state) sinceUs = host.clock.nowUs()
    state = next
    text = why
  }
  const meter: Meter = {
    ...host.meter,
    gauge: (meterName, value, labels) => {
      if (meterName === 'holdfast_source_up')
        become(value === 1 ? 'running' : 'restarting', value === 1 ? '' : text)
      host.meter.gauge(meterName, value, labels)
    },
  }
  const hearing = (log: Log): Log => {
    const keep = (event: string, fields: LogFields = {}) => {
      const why = fields.why ?? fields.error ?? fields.text
      text = why === undefined ? event : `${event}: ${textOf(why)}`
    }
    return {
      ...log,
      warn: (event, fields) => {
        keep(event, fields)
        log.warn(event, fields)
      },
      error: (event, fields) => {
        keep(event, fields)
        log.error(event, fields)
      },
      child: (fields) => hearing(log.child(fields)),
    }
  }
  const moveRate = (added: number) => {
    const nowMs = host.clock.monotonicMs()
    rate = rate * Math.exp((rateAtMs - nowMs) / rateWindowMs) + (added / rateWindowMs) * 1000
    rateAtMs = nowMs
  }
  const counted: Meter = {
    ...host.meter,
    count: (meterName, by, labels) => {
      if (meterName === 'holdfast_points_ahead_total') pointsAhead += by ?? 1
      host.meter.count(meterName, by, labels)
    },
  }
  const into = { spool, lane, source: name, meter: counted, clock, stamps, aheadUsMax }
  const intake = createIntake(into)
  const emit: Emit = async (one) => {
    await intake(one)
    points += one.points.count
    if (one.points.count > 0) lastPointUs = host.clock.nowUs()
    moveRate(one.points.count)
  }
  const source = config.of.create(
    {
      host: { ...host, log: hearing(host.log), meter },
      name,
      agent,
      series,
      clock,
      kept: spool.kept,
      blocked: spool.blocked,
      renewed: config.renewed,
    },
    config.settings,
  )
  return {
    name: `source ${name}`,
    run: async (signal) => {
      try {
        await source.run(emit, signal)
      } catch (error) {
        become('restarting', textOf(error))
        host.meter.count('holdfast_source_restarts_total', 1, { source: name })
        throw error
      }
    },
    status: () => {
      moveRate(0)
      return {
        name,
        type,
        lane,
        state,
        code: state === 'running' ? '' : 'HF-H005',
        text: state === 'running' ? '' : text,
        hint: '',
        sinceUs,
        points,
        pointsPerSecond: rate,
        lastPointUs,
        pointsAhead,
      }
    },
  }
}
