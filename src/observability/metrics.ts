/**
 * Counters and gauges over prom-client, made from the closed table in `meters.ts`.
 *
 * Invariants: the number of label sets per meter is bounded, for any input; counting never throws: a wrong name or
 * label shows as `holdfast_meter_errors_total` (and turns a test red) instead of stopping data.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { Meter } from '../host.ts'
import { type MeterDeclaration, meters } from './meters.ts'

export interface Meters extends Meter {
  /** Prometheus text format. */
  readonly text: () => Promise<string>
  readonly contentType: string
}
export interface MeterOptions {
  readonly declared?: Readonly<Record<string, MeterDeclaration>>
  /** Also report the process: CPU, memory, event loop. */
  readonly process?: boolean
}

/**
 * Between two looks at how late the event loop is; what is measured holds it. The default of 10 ms wakes an idle
 * process a hundred times a second: 0.4 % of a core, measured.
 */
export const eventLoopLookMs = 1_000
/** Sources × reasons of a large gateway; what comes after counts under `(other)`. */
const labelSetsMax = 1_000
type Labels = Readonly<Record<string, string>>
type Instrument = Counter | Gauge | Histogram

const create = (name: string, one: MeterDeclaration, registry: Registry): Instrument => {
  const common = { name, help: one.help, labelNames: [...one.labels], registers: [registry] }
  if (one.kind === 'counter') return new Counter(common)
  if (one.kind === 'gauge') return new Gauge(common)
  return new Histogram({ ...common, buckets: [...(one.buckets ?? [])] })
}

export const createMeter = (options: MeterOptions = {}): Meters => {
  const declared = options.declared ?? meters
  const registry = new Registry()
  if (options.process)
    collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: eventLoopLookMs })
  const instruments = new Map<string, Instrument>()
  const seen = new Map<string, Set<string>>()
  const errors = new Counter({
    name: 'holdfast_meter_errors_total',
    help: meters.holdfast_meter_errors_total?.help ?? '',
    registers: [registry],
  })
  /** Made at first use: a name that this process never counts is not shown as a zero. */
  const instrumentOf = (name: string): Instrument | undefined => {
    const known = instruments.get(name)
    const one = declared[name]
    if (known !== undefined || one === undefined) return known
    const made = create(name, one, registry)
    instruments.set(name, made)
    return made
  }

  const bounded = (name: string, labels: Labels): Labels => {
    const values = Object.values(labels)
    if (values.length === 0) return labels
    const sets = seen.get(name) ?? new Set<string>()
    seen.set(name, sets)
    const key = values.join('\0')
    if (sets.has(key)) return labels
    if (sets.size < labelSetsMax) {
      sets.add(key)
      return labels
    }
    return Object.fromEntries(Object.keys(labels).map((label) => [label, '(other)']))
  }
  const use = (name: string, labels: Labels, act: (one: Instrument, bound: Labels) => boolean) => {
    const one = instrumentOf(name)
    try {
      if (one !== undefined && act(one, bounded(name, labels))) return
    } catch {
      // Counted below.
    }
    errors.inc()
  }
  return {
    contentType: registry.contentType,
    text: () => registry.metrics(),
    count: (name, value = 1, labels = {}) =>
      use(name, labels, (one, bound) => {
        if (!(one instanceof Counter)) return false
        one.inc(bound, value)
        return true
      }),
    gauge: (name, value, labels = {}) =>
      use(name, labels, (one, bound) => {
        if (!(one instanceof Gauge)) return false
        one.set(bound, value)
        return true
      }),
    observe: (name, value, labels = {}) =>
      use(name, labels, (one, bound) => {
        if (!(one instanceof Histogram)) return false
        one.observe(bound, value)
        return true
      }),
  }
}
