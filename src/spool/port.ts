/** A spool and its group commit as one `SpoolPort`, all in this thread (simulation, tests, tools). */
import type { Host } from '../host.ts'
import type { ClockReading, SeriesTable, SpoolPort } from '../model.ts'
import { createIngest, type Ingest, type IngestOptions } from './ingest.ts'
import type { Spool, SpoolOptions } from './spool.ts'
import { createTap } from './tap.ts'

/** What the agent needs beyond what a forwarder or a source sees. */
export interface LocalSpoolPort extends SpoolPort {
  readonly hurry: () => void
  readonly setClock: (reading: ClockReading) => Promise<void>
  readonly lastWallUs: () => number
  readonly configure: (options: Partial<SpoolOptions>, ingest?: IngestOptions) => Promise<void>
}

export const createSpoolIngest = (
  spool: Spool,
  clock: Host['clock'],
  options: IngestOptions,
): Ingest => {
  const ingest = createIngest(spool, clock, options)
  ingest.moved()
  return ingest
}

export const createSpoolPort = (
  spool: Spool,
  ingest: Ingest,
  series: Pick<SeriesTable, 'entry'>,
): LocalSpoolPort => {
  const tap = createTap(series)
  /** Synchronous work as a promise: what it throws rejects. */
  const now = async <T>(work: () => T): Promise<T> => work()
  const moved = async <T>(work: () => T): Promise<T> => {
    const result = work()
    ingest.moved()
    return result
  }
  return {
    epoch: spool.epoch,
    spoolId: spool.spoolId,
    append: (lane, intake) => {
      tap.show(intake.points)
      return ingest.append(lane, intake)
    },
    hurry: ingest.hurry,
    blocked: ingest.blocked,
    bytesWaiting: ingest.bytesWaiting,
    seal: ingest.seal,
    openReader: (lane, reader, from) => now(() => spool.openReader(lane, reader, from)),
    closeReader: (lane, reader) => now(() => spool.closeReader(lane, reader)),
    read: (lane, after, bytesMax, upTo) => now(() => spool.read(lane, after, bytesMax, upTo)),
    whenPast: ingest.whenPast,
    startLive: (lane, reader) =>
      now(() => {
        const cursor = spool.startLive(lane, reader)
        ingest.acked()
        return cursor
      }),
    ack: (lane, reader, acked) =>
      now(() => {
        const cursor = spool.ack(lane, reader, acked)
        ingest.acked()
        return cursor
      }),
    rewind: (lane, reader, after) => moved(() => spool.rewind(lane, reader, after)),
    quarantine: (lane, seq, reason, text) => moved(() => spool.quarantine(lane, seq, reason, text)),
    lanes: () => now(spool.lanes),
    epochs: () => now(spool.epochs),
    dictionary: (epoch, first, max) => now(() => spool.dictionary(epoch, first, max)),
    kept: (key) => now(() => spool.kept(key)),
    keep: (kept) => now(() => spool.keep(kept)),
    allowFormat: (version) => now(() => spool.allowFormat(version)),
    stats: () => now(() => ({ ...spool.stats(), blockedReason: ingest.blockedReason() })),
    gaps: (limit) => now(() => spool.gaps(limit)),
    quarantined: (limit) => now(() => spool.quarantined(limit)),
    estimate: (lane, fromUs, toUs) => now(() => spool.estimate(lane, fromUs, toUs)),
    tap: tap.listen,
    setClock: (reading) =>
      moved(() => {
        while (spool.setClock(reading));
      }),
    lastWallUs: spool.lastWallUs,
    configure: (options, ingestOptions) =>
      moved(() => {
        spool.configure(options)
        if (ingestOptions !== undefined) ingest.configure(ingestOptions)
      }),
    [Symbol.asyncDispose]: async () => {
      await ingest.close()
      spool.close()
    },
  }
}
