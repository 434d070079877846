/** A spool and its group commit as one `SpoolPort`: the spool may be in this thread or behind a worker. */
import type { Host } from '../host.ts'
import type { ClockReading, SeriesTable } from '../model.ts'
import type { SpoolPort } from '../spool-port.ts'
import { createIngest, type Ingest, type IngestOptions } from './ingest.ts'
import type { Spool, SpoolOptions } from './spool.ts'
import { createTap } from './tap.ts'

/** What the agent needs beyond what a forwarder or a source sees. */
export interface AgentSpoolPort extends SpoolPort {
  /** Tell it whenever trust changes, and now and then: points that wait for a trusted clock are settled. */
  readonly setClock: (reading: ClockReading) => Promise<void>
  /** Last trusted wall time the spool remembered when it was opened: part of the clock's floor. */
  readonly lastWallUs: number
  readonly configure: (options: Partial<SpoolOptions>, ingest?: IngestOptions) => Promise<void>
}

type MaybeLater<F> = F extends (...args: infer A) => infer R
  ? (...args: A) => R | Promise<R>
  : never
/** The spool's calls, answered at once or by a worker. */
export type SpoolCalls = {
  readonly [K in Exclude<
    keyof Spool,
    'epoch' | 'spoolId' | 'heads' | 'image' | 'lastWallUs'
  >]: MaybeLater<Spool[K]>
} & Pick<Spool, 'epoch' | 'spoolId' | 'heads' | 'lastWallUs'>

export const createSpoolIngest = (
  spool: SpoolCalls,
  clock: Host['clock'],
  options: IngestOptions,
): Ingest => {
  const ingest = createIngest(spool, clock, options)
  ingest.moved()
  return ingest
}

export const createSpoolPort = (
  spool: SpoolCalls,
  ingest: Ingest,
  series: Pick<SeriesTable, 'entry'>,
): AgentSpoolPort => {
  const tap = createTap(series)
  /** Heads or open segments may have moved: timers and waiters look again. */
  const moved = async <T>(work: () => T | Promise<T>): Promise<T> => {
    const result = await work()
    ingest.moved()
    return result
  }
  /** An ack may free room, and wants to be durable before long. */
  const acked = async <T>(work: () => T | Promise<T>): Promise<T> => {
    const result = await work()
    ingest.acked()
    return result
  }
  return {
    epoch: spool.epoch,
    spoolId: spool.spoolId,
    append: (lane, intake) => {
      tap.show(intake.points)
      return ingest.append(lane, intake)
    },
    blocked: ingest.blocked,
    bytesWaiting: ingest.bytesWaiting,
    seal: async (lane) => {
      const derived = spool.heads().some((one) => one.lane === lane && one.derived)
      // What stages still have to give out belongs to it, if they get there soon.
      if (derived) await ingest.derived()
      await ingest.seal(lane)
    },
    openReader: async (lane, reader, from) => spool.openReader(lane, reader, from),
    closeReader: (lane, reader) => acked(() => spool.closeReader(lane, reader)),
    read: async (lane, after, bytesMax, upTo) => spool.read(lane, after, bytesMax, upTo),
    whenPast: ingest.whenPast,
    startLive: (lane, reader) => acked(() => spool.startLive(lane, reader)),
    ack: (lane, reader, upTo) => acked(() => spool.ack(lane, reader, upTo)),
    rewind: (lane, reader, after, held) => moved(() => spool.rewind(lane, reader, after, held)),
    quarantine: (lane, seq, reason, text) => moved(() => spool.quarantine(lane, seq, reason, text)),
    lanes: async () => spool.lanes(),
    epochs: async () => spool.epochs(),
    dictionary: async (epoch, first, max) => spool.dictionary(epoch, first, max),
    kept: async (key) => spool.kept(key),
    keep: async (kept) => spool.keep(kept),
    allowFormat: async (version) => spool.allowFormat(version),
    stats: async () => ({ ...(await spool.stats()), blockedReason: ingest.blockedReason() }),
    gaps: async (limit) => spool.gaps(limit),
    quarantined: async (limit) => spool.quarantined(limit),
    refused: async (id) => spool.refused(id),
    resendable: async (id) => spool.resendable(id),
    resent: (id, bytes, refused) => acked(() => spool.resent(id, bytes, refused)),
    discardQuarantined: async (id) => spool.discardQuarantined(id),
    sealsBeside: async (lane, range, between) => spool.sealsBeside(lane, range, between),
    newest: async (bytes) => spool.newest(bytes),
    estimate: async (lane, fromUs, toUs) => spool.estimate(lane, fromUs, toUs),
    tap: tap.listen,
    setClock: (reading) =>
      moved(async () => {
        while (await spool.setClock(reading));
        const ticks = spool.heads().some((lane) => lane.ticks)
        if (reading.trusted && ticks) await spool.tick(reading.nowUs)
      }),
    lastWallUs: spool.lastWallUs(),
    configure: (options, ingestOptions) =>
      moved(async () => {
        await spool.configure(options)
        if (ingestOptions !== undefined) ingest.configure(ingestOptions)
      }),
    [Symbol.asyncDispose]: async () => {
      await ingest.close()
      await spool.close()
    },
  }
}
