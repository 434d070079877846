/** What every destination type is made of: its config schema and a maker. `table.ts` is the visible list. */
import type { z } from 'zod'
import type { Host } from '../host.ts'
import type { Destination } from '../model.ts'
import type { SpoolPort } from '../spool-port.ts'
import type { LinkStep, LinkTarget } from './link.ts'

export interface DestinationDeps {
  readonly host: Host
  /** The destination's name in the config: it *is* the reader's identity, a new endpoint keeps its cursors. */
  readonly name: string
  readonly agent: string
  readonly spool: Pick<
    SpoolPort,
    'epoch' | 'spoolId' | 'dictionary' | 'epochs' | 'kept' | 'keep' | 'allowFormat'
  >
  /** The settings with the secrets they refer to read again; undefined where that does not work. */
  readonly renewed?: () => unknown
  /** The far side's idea of the time, for measuring the clock's offset. */
  readonly farTime: (wallUs: number) => void
}

export interface PlanOptions {
  /** Who will write; else the user of the configuration. */
  readonly role?: string
  /** Let points go after this long, as the far side writes it ("24 hours"). */
  readonly retention?: string
}
export interface DestinationType<Schema extends z.ZodType = z.ZodType> {
  readonly type: string
  readonly config: Schema
  readonly create: (deps: DestinationDeps, config: z.output<Schema>) => Destination
  /** Loads what it needs when it is used: called before the agent is ready, since an upgrade takes the files away. */
  readonly load?: () => Promise<unknown>
  /**
   * Where its far side is, for a look at the way there (`link.ts`), or its hosts, of which one is enough; without it
   * there is none to look at.
   */
  readonly link?: (config: z.output<Schema>, agent: string) => LinkTarget | readonly LinkTarget[]
  /**
   * What comes behind the way there, for `holdfast destination test`: 'one-point' sends one point of a series of its
   * own; a function looks for itself; without it only the agent itself may write there.
   */
  readonly tryOut?:
    | 'one-point'
    | ((config: z.output<Schema>, host: Host) => Promise<readonly LinkStep[]>)
  /** Why a point of now would do harm there; then `holdfast destination test` writes one only when it is told to. */
  readonly spoiledByNow?: (config: z.output<Schema>) => string | undefined
  /** What may go wrong as it is configured, with the lanes that it takes; said by plan and test. */
  readonly warnings?: (config: z.output<Schema>, lanes: readonly string[]) => readonly string[]
  /** What a person runs on the far side before the first send; nothing for types that need nothing. */
  readonly plan?: (config: z.output<Schema>, options: PlanOptions) => string
}
export const defineDestination = <Schema extends z.ZodType>(
  one: DestinationType<Schema>,
): DestinationType<Schema> => one
