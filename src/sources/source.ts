/** What every source type is made of: its config schema and a maker. `table.ts` is the visible list. */
import type { z } from 'zod'
import type { Host } from '../host.ts'
import type { ClockReading, SeriesTable, Source } from '../model.ts'

export interface SourceDeps {
  readonly host: Host
  /** The source's name in the config; unique, part of kept keys, gap records and metrics. */
  readonly name: string
  readonly agent: string
  readonly series: SeriesTable
  /** For points stamped on arrival. While not trusted they are emitted with `timeBase: 'monotonic'`. */
  readonly clock: () => ClockReading
  /** What an earlier run of this source committed under `key` (see `Intake.kept`). */
  readonly kept: (key: string) => Promise<Uint8Array | null>
  /** True while the spool has no room or gives no answer: a door that can refuse (HTTP 503) should. */
  readonly blocked: () => boolean
  /** The settings with the secrets they refer to read again; undefined where that does not work. */
  readonly renewed?: () => unknown
}

export interface SourceType<Schema extends z.ZodType = z.ZodType> {
  readonly type: string
  /** A strict object with `type: z.literal(...)` and without `name`, `lane`, which the config adds. */
  readonly config: Schema
  readonly create: (deps: SourceDeps, config: z.output<Schema>) => Source
  /** Loads what it needs when it is used: called before the agent is ready, since an upgrade takes the files away. */
  readonly load?: () => Promise<unknown>
}
export const defineSource = <Schema extends z.ZodType>(
  source: SourceType<Schema>,
): SourceType<Schema> => source
