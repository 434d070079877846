/**
 * What rules and windows cost the flash card: bytes that reach the disk, and what a save of state does to acks. 10,000
 * series through a real spool with its stages, as the agent drives them (a clock reading a second): without stages, with
 * a swinging door, with windows of 10 s, 1 min and 1 h, and the same windows over series that speak every 10 s.
 *
 * Time is virtual, but for the spool: what a call takes passes on the clock too, so an ack waits as long as it would
 * behind the spool's thread. Disk bytes are what the kernel charges this process for, so TMPDIR must lie on a disk.
 */
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { createBatchBuilder } from '../../src/batch.ts'
import { seriesIdOf } from '../../src/codec/series-id.ts'
import { type Clock, createSystemHost } from '../../src/host.ts'
import { keepSentMsDefault, segmentPointsMax } from '../../src/limits.ts'
import type { Stage } from '../../src/model.ts'
import { compileClasses, type SeriesClass } from '../../src/pipeline/classes.ts'
import { createRulesStage } from '../../src/pipeline/rules.ts'
import { createSeriesTable } from '../../src/pipeline/series.ts'
import { createWindowsStage } from '../../src/pipeline/windows.ts'
import { createSpoolIngest, createSpoolPort, type SpoolCalls } from '../../src/spool/port.ts'
import { openSpool, type Spool } from '../../src/spool/spool.ts'
import { forgetFolder, temporaryFolder } from '../support/temp.ts'
import { laneOptions, spoolOptions } from '../unit/spool/support.ts'
import { createRandom } from './recordings.ts'
import { countFrom, percentile } from './rig.ts'
import type { Figures } from './run.ts'

const agent = 'bench'
const seriesCount = 10_000
const hourUs = 3_600_000_000
/** An hour's end lies in the warm-up, so every statistic series has its name by then. */
const hourEndUs = 472_223 * hourUs
const startUs = hourEndUs - 70_000_000
const warmSeconds = 90
const seconds = countFrom('HOLDFAST_BENCH_WEAR_SECONDS', 240)
const stepMs = 20

/** What the spool's thread would be busy with passes on it too (`spend`). */
interface WearClock extends Clock {
  readonly runUntil: (ms: number) => Promise<void>
  readonly spend: (ms: number) => void
}
const createWearClock = (fromUs: number): WearClock => {
  let nowMs = 0
  let next = 0
  const timers = new Map<number, { readonly atMs: number; readonly work: () => void }>()
  const after = (ms: number, work: () => void) => {
    const id = next++
    timers.set(id, { atMs: nowMs + ms, work })
    return () => {
      timers.delete(id)
    }
  }
  /** The first that is due by then, the older of two. */
  const due = (ms: number) => {
    let first: number | undefined
    for (const [id, { atMs }] of timers) {
      const best = first === undefined ? ms : (timers.get(first)?.atMs ?? ms)
      if (first === undefined ? atMs <= best : atMs < best) first = id
    }
    return first
  }
  const settle = async () => {
    for (let turn = 0; turn < 30; turn++) await Promise.resolve()
  }
  return {
    nowUs: () => fromUs + Math.floor(nowMs * 1_000),
    monotonicMs: () => nowMs,
    after,
    sleep: (ms, signal) =>
      new Promise((resolve) => {
        if (signal?.aborted) return resolve()
        after(ms, resolve)
      }),
    spend: (ms) => {
      nowMs += ms
    },
    runUntil: async (ms) => {
      await settle()
      for (let id = due(ms); id !== undefined; id = due(ms)) {
        const timer = timers.get(id)
        timers.delete(id)
        nowMs = Math.max(nowMs, timer?.atMs ?? 0)
        timer?.work()
        await settle()
      }
      nowMs = Math.max(nowMs, ms)
    },
  }
}

const bytesWritten = (): number =>
  Number(/^write_bytes: (\d+)$/m.exec(readFileSync('/proc/self/io', 'latin1'))?.[1] ?? Number.NaN)

/** Walks of one decimal; `everySeconds` between two points of a series, each series at a moment of its own. */
const createFlow = (everySeconds: number) => {
  const table = createSeriesTable({ agent, seriesIdOf })
  const refs = Array.from({ length: seriesCount }, (_, at) =>
    table.ref('plant/line/sensor', [
      ['device', `pump-${at % 100}`],
      ['id', String(at)],
    ]),
  )
  const random = createRandom(5)
  const values = Float64Array.from(refs, () => 200 + Math.round(random() * 1_000))
  const perStep = (seriesCount * stepMs) / 1_000 / everySeconds
  let next = 0
  return {
    table,
    pointsASecond: seriesCount / everySeconds,
    points: (timeUs: number) => {
      const builder = createBatchBuilder(perStep)
      for (let at = 0; at < perStep; at++, next = (next + 1) % seriesCount) {
        values[next] = (values[next] as number) + Math.round(random() * 6 - 3)
        builder.addFloat(refs[next] as number, timeUs, (values[next] as number) / 10, 0)
      }
      return builder.take()
    },
  }
}

/** Bytes and times of the spool's calls since the last `reset`. */
interface Ledger {
  /** Of calls in which no state was saved, by call. */
  plain: Map<string, { calls: number; bytes: number; ms: number; msMax: number }>
  saving: { name: string; bytes: number; ms: number }[]
  saves: number
  savedBytes: number
  decidedBytes: number
}
const emptyLedger = (): Ledger => ({
  plain: new Map(),
  saving: [],
  saves: 0,
  savedBytes: 0,
  decidedBytes: 0,
})

const watched = (stage: Stage, ledger: () => Ledger): Stage => ({
  ...stage,
  save: () => {
    const bytes = stage.save()
    ledger().saves++
    ledger().savedBytes += bytes.length
    return bytes
  },
  decided: () => {
    const bytes = stage.decided?.() ?? new Uint8Array(0)
    ledger().decidedBytes += bytes.length
    return bytes
  },
})
const timedCalls = (spool: Spool, clock: WearClock, ledger: () => Ledger): SpoolCalls => {
  const timed =
    <A extends readonly unknown[], R>(name: string, call: (...args: A) => R) =>
    (...args: A): R => {
      const { saves } = ledger()
      const bytes = bytesWritten()
      const startMs = performance.now()
      const result = call(...args)
      const ms = performance.now() - startMs
      clock.spend(ms)
      const written = bytesWritten() - bytes
      if (ledger().saves > saves) ledger().saving.push({ name, bytes: written, ms })
      else {
        const one = ledger().plain.get(name) ?? { calls: 0, bytes: 0, ms: 0, msMax: 0 }
        ledger().plain.set(name, {
          calls: one.calls + 1,
          bytes: one.bytes + written,
          ms: one.ms + ms,
          msMax: Math.max(one.msMax, ms),
        })
      }
      return result
    }
  return {
    ...spool,
    commit: timed('commit', spool.commit),
    seal: timed('seal', spool.seal),
    derive: timed('derive', spool.derive),
    tick: timed('tick', spool.tick),
    flush: timed('flush', spool.flush),
  }
}

/**
 * What the saves cost: the calls in which they were, less what such a call writes without one; and what was logged in
 * their place, which goes into the write-ahead log and into the file.
 */
const stateBytesOf = ({ plain, saving, decidedBytes }: Ledger): number =>
  2 * decidedBytes +
  saving.reduce((sum, { name, bytes }) => {
    const { calls, bytes: all } = plain.get(name) ?? { calls: 1, bytes: 0 }
    return sum + Math.max(0, bytes - all / calls)
  }, 0)

/** How long one call held the spool's thread at most. */
const longestOf = ({ plain, saving }: Ledger): number =>
  Math.max(0, ...[...plain.values()].map(({ msMax }) => msMax), ...saving.map(({ ms }) => ms))

const settled = (): number => {
  for (let i = 0; i < 3; i++) globalThis.gc?.()
  const { heapUsed, arrayBuffers, external } = process.memoryUsage()
  return heapUsed + Math.max(arrayBuffers, external)
}

const derivedLane = (name: string) => laneOptions(name, { segmentPointsMax, derived: true })
const run = async (stages: readonly Stage[], everySeconds: number) => {
  const heapBefore = settled()
  const folder = temporaryFolder('bench')
  const path = join(folder, 'spool.db')
  const flow = createFlow(everySeconds)
  const host = createSystemHost()
  const clock = createWearClock(startUs)
  let ledger = emptyLedger()
  const lanes = [laneOptions('raw', { segmentPointsMax }), derivedLane('out')]
  const spool = openSpool({
    at: { path },
    host: { ...host, clock },
    series: flow.table,
    options: spoolOptions({ lanes, bytesMax: 2 ** 31, keepSentMs: keepSentMsDefault }),
    stages: stages.map((stage) => ({
      reader: `@${stage.name}`,
      lane: 'raw',
      stage: watched(stage, () => ledger),
    })),
  })
  const calls = timedCalls(spool, clock, () => ledger)
  const ingest = createSpoolIngest(calls, clock, { commitWindowMs: 100, lanes })
  const port = createSpoolPort(calls, ingest, flow.table)
  const acksMs: number[] = []
  let nextTickMs = 0
  const flowFor = async (fromMs: number, forSeconds: number) => {
    for (let at = 0; at < (forSeconds * 1_000) / stepMs; at++) {
      const atMs = fromMs + at * stepMs
      await clock.runUntil(atMs)
      const timeUs = startUs + atMs * 1_000
      void port
        .append('raw', { points: flow.points(timeUs) })
        .then(() => acksMs.push(clock.monotonicMs() - atMs))
      if (atMs < nextTickMs) continue
      // Not in step with the seals: a second after the answer.
      nextTickMs += 1_003
      const monotonicUs = Math.floor(clock.monotonicMs() * 1_000)
      void port.setClock({ nowUs: clock.nowUs(), bootId: host.bootId, monotonicUs, trusted: true })
    }
  }
  const firstBytes = bytesWritten()
  await flowFor(0, warmSeconds)
  const firstAckMs = Math.max(...acksMs)
  acksMs.length = 0
  const before = bytesWritten()
  ledger = emptyLedger()
  await flowFor(warmSeconds * 1_000, seconds)
  const bytes = bytesWritten() - before
  const measured = ledger
  const fileBytes = statSync(path).size
  const heapMb = (settled() - heapBefore) / 2 ** 20
  await port[Symbol.asyncDispose]()
  forgetFolder(folder)
  const perMinute = (of: number) => of / 2 ** 20 / (seconds / 60)
  return {
    mbPerMinute: perMinute(bytes),
    bytesPerPoint: bytes / (seconds * flow.pointsASecond),
    stateMbPerMinute: perMinute(stateBytesOf(measured)),
    savesPerMinute: measured.saves / (seconds / 60),
    saveMb: measured.savedBytes / Math.max(1, measured.saves) / 2 ** 20,
    saveMs: Math.max(0, ...measured.saving.map(({ ms }) => ms)),
    holdMs: longestOf(measured),
    firstMb: (before - firstBytes) / 2 ** 20,
    firstAckMs,
    fileMb: fileBytes / 2 ** 20,
    heapMb,
    ackMsP50: percentile(acksMs, 0.5),
    ackMsP99: percentile(acksMs, 0.99),
    ackMsMax: Math.max(...acksMs),
  }
}

const ten = [
  ...(['count', 'good_count', 'min', 'max', 'first', 'last', 'mean', 'twa', 'delta'] as const),
  'stddev',
] as const
const classesOf = (one: Pick<SeriesClass, 'reduce' | 'windows'>) =>
  compileClasses([{ name: 'all', match: {}, ...one }])
const rules = () =>
  createRulesStage({
    classes: classesOf({
      reduce: { method: 'swinging_door', deviation: 0.5, lane: 'out' },
      windows: [],
    }),
  })
const windows = () =>
  createWindowsStage({
    classes: classesOf({
      reduce: { method: 'none' },
      windows: [10e6, 60e6, hourUs].map((everyUs) => ({
        ...{ everyUs, statistics: ten, latenessUs: 5_000_000, lane: 'out' },
      })),
    }),
    timeZone: 'UTC',
    idOf: (key) => seriesIdOf(agent, key),
  })

export const bench = async (): Promise<Figures> => {
  const figures: Record<string, number> = {}
  const measure = async (name: string, stages: readonly Stage[], everySeconds: number) => {
    const one = await run(stages, everySeconds)
    if (process.env.HOLDFAST_BENCH_WEAR_ALL)
      process.stderr.write(`${name} ${JSON.stringify(one)}\n`)
    figures[`${name}_mb_per_min`] = one.mbPerMinute
    figures[`${name}_bytes_per_raw_point`] = one.bytesPerPoint
    figures[`${name}_ack_ms_p50`] = one.ackMsP50
    figures[`${name}_ack_ms_p99`] = one.ackMsP99
    figures[`${name}_ack_ms_max`] = one.ackMsMax
    figures[`${name}_hold_ms_max`] = one.holdMs
    figures[`${name}_heap_mb`] = one.heapMb
    figures[`${name}_first_mb`] = one.firstMb
    figures[`${name}_first_ack_ms_max`] = one.firstAckMs
    if (stages.length === 0) return one
    figures[`${name}_state_mb_per_min`] = one.stateMbPerMinute
    figures[`${name}_saves_per_min`] = one.savesPerMinute
    figures[`${name}_save_mb`] = one.saveMb
    figures[`${name}_save_ms_max`] = one.saveMs
    return one
  }
  await measure('wear_none', [], 1)
  await measure('wear_rules', [rules()], 1)
  await measure('wear_windows', [windows()], 1)
  await measure('wear_slow_none', [], 10)
  await measure('wear_slow', [rules(), windows()], 10)
  return figures
}
