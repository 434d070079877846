/** Spools for tests: real SQLite, in memory or in a file, with a clock the test moves. */
import { createBatchBuilder } from '../../../src/batch.ts'
import { openSegment } from '../../../src/codec/segment.ts'
import { seriesIdOf } from '../../../src/codec/series-id.ts'
import { type Clock, silentLog } from '../../../src/host.ts'
import type { Intake, LaneItem, PointBatch } from '../../../src/model.ts'
import { createSeriesTable } from '../../../src/pipeline/series.ts'
import { type AnchorFile, createMemoryAnchor } from '../../../src/spool/anchor.ts'
import {
  type LaneOptions,
  openSpool,
  type Spool,
  type SpoolOptions,
  type StageReader,
} from '../../../src/spool/spool.ts'

export interface TestClock extends Clock {
  /** Moves time; whatever is due runs. */
  readonly pass: (ms: number) => Promise<void>
  /** Moves time alone. */
  readonly jump: (ms: number) => void
  readonly timers: () => number
}
export const createTestClock = (): TestClock => {
  let nowMs = 1_000
  let next = 0
  const timers = new Map<number, { readonly atMs: number; readonly work: () => void }>()
  const after = (ms: number, work: () => void) => {
    const id = next++
    timers.set(id, { atMs: nowMs + ms, work })
    return () => {
      timers.delete(id)
    }
  }
  const settle = async () => {
    for (let turn = 0; turn < 50; turn++) await Promise.resolve()
  }
  return {
    nowUs: () => 1_700_000_000_000_000 + nowMs * 1000,
    monotonicMs: () => nowMs,
    after,
    sleep: (ms, signal) =>
      new Promise((resolve) => {
        if (signal?.aborted) return resolve()
        const cancel = after(ms, resolve)
        const wake = () => {
          cancel()
          resolve()
        }
        signal?.addEventListener('abort', wake, { once: true })
      }),
    jump: (ms) => {
      nowMs += ms
    },
    timers: () => timers.size,
    pass: async (ms) => {
      const end = nowMs + ms
      await settle()
      for (;;) {
        const due = [...timers].filter(([, timer]) => timer.atMs <= end)
        due.sort(([, a], [, b]) => a.atMs - b.atMs)
        const first = due[0]
        if (first === undefined) break
        timers.delete(first[0])
        nowMs = Math.max(nowMs, first[1].atMs)
        first[1].work()
        await settle()
      }
      nowMs = end
      await settle()
    },
  }
}

let counter = 0
/** Bytes that differ from call to call and are the same in every run. */
export const countingBytes = (length: number): Uint8Array => {
  const bytes = new Uint8Array(length)
  new DataView(bytes.buffer).setUint32(0, ++counter)
  return bytes
}

export const agent = 'agent-1'
export const newSeries = () => createSeriesTable({ agent, seriesIdOf })

export const laneOptions = (name: string, change: Partial<LaneOptions> = {}): LaneOptions => ({
  name,
  maxDelayMs: 1_000,
  segmentPointsMax: 100,
  policy: 'block',
  ...change,
})
export const spoolOptions = (change: Partial<SpoolOptions> = {}): SpoolOptions => ({
  agent,
  lanes: [laneOptions('raw')],
  bytesMax: 64 * 1024 * 1024,
  diskFreeBytesMin: 0,
  keepSentMs: 0,
  compressor: 'zstd',
  configRevision: 1,
  clockFloorUs: 1_600_000_000_000_000,
  ...change,
})

export interface Rig {
  readonly clock: TestClock
  readonly series: ReturnType<typeof newSeries>
  readonly anchorFile: AnchorFile
  /** What the spool sees of its disk; the test's to change. */
  readonly disk: { freeBytes: number }
  readonly open: (
    image?: Uint8Array | null,
    failpoint?: (name: string) => void,
    stages?: readonly StageReader[],
    options?: Partial<SpoolOptions>,
  ) => Spool
  /** Opens a copy that shares nothing with the rig's spool, its anchor included. */
  readonly look: (image: Uint8Array) => Spool
}
export const createRig = (change: Partial<SpoolOptions> = {}): Rig => {
  const clock = createTestClock()
  const series = newSeries()
  const anchorFile = createMemoryAnchor()
  const disk = { freeBytes: 1e12 }
  const parts = {
    host: { clock, randomBytes: countingBytes, bootId: 'b0'.repeat(16), log: silentLog },
    series,
    options: spoolOptions(change),
    diskFreeBytes: () => disk.freeBytes,
  }
  return {
    clock,
    series,
    anchorFile,
    disk,
    open: (image = null, failpoint = () => {}, stages = [], options = {}) =>
      openSpool({
        ...parts,
        options: { ...parts.options, ...options },
        at: { image },
        anchorFile,
        failpoint,
        stages,
      }),
    look: (image) => openSpool({ ...parts, at: { image }, anchorFile: createMemoryAnchor() }),
  }
}

/** `count` float points of one series, times and values counting up from `first`. */
export const floats = (
  series: Rig['series'],
  first: number,
  count: number,
  name = 's',
): PointBatch => {
  const builder = createBatchBuilder()
  const ref = series.ref(name, [])
  for (let at = first; at < first + count; at++) builder.addFloat(ref, at * 1000, at, 0)
  return builder.take()
}
export const intake = (points: PointBatch): Intake => ({ points })

export const store = (spool: Spool, points: PointBatch, lane = 'raw', seal = false): void => {
  const result = spool.commit([{ lane, intakes: [{ points }], seal }])
  if (result.kind !== 'stored') throw new Error(`full: ${result.reason}`)
}
/** All float values of the items, in order, tombstones as `[reason, count]`. */
export const contents = (items: readonly LaneItem[]) =>
  items.flatMap((item): (number | readonly [string, number])[] => {
    if (item.type === 'tombstone') return [[item.gap.reason, item.gap.count]]
    const { points } = openSegment(item.bytes)
    return [...new Float64Array(points.bits.buffer, points.bits.byteOffset, points.count)]
  })
export const readAll = (spool: Spool, lane = 'raw', after = 0): readonly LaneItem[] => {
  const items: LaneItem[] = []
  for (;;) {
    const some = spool.read(lane, after, 1e9)
    const last = some[some.length - 1]
    if (last === undefined) return items
    items.push(...some)
    after = last.type === 'segment' ? last.seq : last.seqLast
  }
}
/** Throws unless the books of every reader balance. */
export const assertBooks = (spool: Spool): void => {
  for (const lane of spool.lanes()) {
    for (const { reader, pending, delivered, declaredLost } of lane.readers) {
      const ahead = pending < 0 || delivered < 0 || declaredLost < 0
      if (ahead) throw new Error(`${lane.lane}/${reader}: ${pending} ${delivered} ${declaredLost}`)
    }
  }
}
