/**
 * A far side that keeps a ledger of what it committed, as the agent meets it: a regional node over HTTPS
 * (`relay-client.ts`), or the database itself (`postgres-side.ts`). `ledger-client.ts` makes a destination of it.
 *
 * Invariants: no call rejects for trouble on the way; an answer to `segments` is said only of what is committed.
 */
import type {
  HelloAnswer,
  HelloRequest,
  RelayError,
  SegmentsAnswer,
  SeriesAnswer,
  SeriesRequest,
} from '../protocol/relay-messages.ts'
import type { Parcel } from './ledger-batch.ts'
import type { Demand, Setback } from './relay-outcome.ts'

export type Said<T> =
  | { readonly kind: 'answer'; readonly answer: T }
  /** It asks for something first, or refuses one frame. */
  | { readonly kind: 'demand'; readonly code: Demand; readonly error: RelayError }
  /** `stalled`: nothing came back in time, the size may be to blame. */
  | { readonly kind: 'setback'; readonly setback: Setback; readonly stalled?: boolean }

export interface LedgerSide {
  readonly hello: (hello: HelloRequest, signal: AbortSignal) => Promise<Said<HelloAnswer>>
  readonly series: (series: SeriesRequest, signal: AbortSignal) => Promise<Said<SeriesAnswer>>
  readonly segments: (
    parcels: readonly Parcel[],
    signal: AbortSignal,
  ) => Promise<Said<SegmentsAnswer>>
}
