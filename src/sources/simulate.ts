/**
 * A simulated plant as a source, for the demo and for load: `simulate-plant.ts` at a given rate.
 *
 * Invariants: with `points` exactly that many are emitted, each once; times of a series increase strictly; a spool
 * that lets it wait makes a hole in the readings, as a plant without a memory would, never a growing debt.
 */
import { z } from 'zod'
import { aborted } from '../host.ts'
import { segmentPointsMax, seriesMax } from '../limits.ts'
import type { Emit } from '../model.ts'
import { duration } from '../units.ts'
import { createPlant } from './simulate-plant.ts'
import { defineSource, type SourceDeps } from './source.ts'

const simulateConfig = z.strictObject({
  type: z.literal('simulate'),
  series: z.int().min(1).max(seriesMax).default(160).describe('How many'),
  rate: z
    .union([z.number().positive().max(10_000_000), z.literal('max')])
    .default(160)
    .describe('Points a second, all series together; "max" is as many as the spool takes'),
  seed: z
    .int()
    .min(0)
    .max(0xffff_ffff)
    .default(1)
    .describe('The same seed gives the same readings'),
  every: duration().prefault('100ms').describe('How often points are handed over'),
  points: z.int().min(0).optional().describe('Stop after this many'),
})
type Config = z.output<typeof simulateConfig>

export const simulateSource = defineSource({
  type: 'simulate',
  config: simulateConfig,
  create: (deps, config) => ({
    name: deps.name,
    run: (emit, signal) => run(deps, config, emit, signal),
  }),
})

/** Emits on their way at once: the spool flushes one while the next is made. */
const inFlightMax = 4
/** A plant this far behind the clock has been kept waiting and goes on at the present. */
const lagUsMax = 2_000_000

const run = async (
  { host, series, clock, name }: SourceDeps,
  config: Config,
  emit: Emit,
  signal: AbortSignal,
): Promise<void> => {
  // Faster than any spool, so that the plant's time never runs ahead of the clock's.
  const rate = config.rate === 'max' ? 10_000_000 : config.rate
  const periodUs = Math.max(1, Math.round((config.series / rate) * 1e6))
  const plant = createPlant({ series, seriesCount: config.series, seed: config.seed, periodUs })
  host.meter.gauge('holdfast_source_up', 1, { source: name })
  let left = config.points ?? Number.POSITIVE_INFINITY
  let lastMs = host.clock.monotonicMs()
  let owed = 0
  const waits: Promise<void>[] = []
  while (!signal.aborted && left > 0) {
    if (config.rate === 'max') owed = segmentPointsMax
    else {
      await host.clock.sleep(config.every, signal)
      const nowMs = host.clock.monotonicMs()
      owed = Math.min(segmentPointsMax, owed + ((nowMs - lastMs) / 1000) * rate)
      lastMs = nowMs
    }
    const count = Math.min(Math.floor(owed), left)
    if (count === 0 || signal.aborted) continue
    owed -= count
    left -= count
    const reading = clock()
    if (!reading.trusted) plant.setTimeUs(Number.NaN)
    else if (!(plant.timeUs() >= reading.nowUs - lagUsMax)) plant.setTimeUs(reading.nowUs)
    const wait = emit({ points: plant.next(count) })
    wait.catch(() => {})
    waits.push(wait)
    if (waits.length >= inFlightMax) await waits.shift()
  }
  await Promise.all(waits)
  await aborted(signal)
  host.meter.gauge('holdfast_source_up', 0, { source: name })
}
