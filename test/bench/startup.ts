/**
 * From the start of the bundled agent's process until it says that everything runs: with nothing in the spool, and with
 * 100 million points queued. No region is there, so that nothing drains meanwhile. Medians; the backlog is made by the
 * spool itself, from full segments of readings that hardly change, and every start opens it as a crash would leave it.
 */
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { seriesIdOf } from '../../src/codec/series-id.ts'
import { createSystemHost } from '../../src/host.ts'
import { segmentPointsMax } from '../../src/limits.ts'
import { createSeriesTable } from '../../src/pipeline/series.ts'
import { releasedAtUs } from '../../src/release.ts'
import { createPlant } from '../../src/sources/simulate-plant.ts'
import { openSpool } from '../../src/spool/spool.ts'
import { freePort, start } from '../support/processes.ts'
import { countFrom, cpuSecondsOf, createRig, percentile, type Rig } from './rig.ts'
import type { Figures } from './run.ts'

const backlogPoints = countFrom('HOLDFAST_BENCH_BACKLOG', 100_000_000)
const starts = 7

const queue = (stateDir: string): number => {
  const series = createSeriesTable({ agent: 'bench', seriesIdOf })
  const plant = createPlant({ series, seriesCount: 1_000, seed: 1, periodUs: 1_000_000 })
  plant.setTimeUs(releasedAtUs)
  const host = createSystemHost()
  const spool = openSpool({
    at: { path: join(stateDir, 'spool.db') },
    host,
    series,
    options: {
      agent: 'bench',
      lanes: [{ name: 'raw', maxDelayMs: 1_000, segmentPointsMax, policy: 'block' }],
      bytesMax: 8 * 1024 ** 3,
      diskFreeBytesMin: 0,
      keepSentMs: 86_400_000,
      compressor: 'zstd',
      configRevision: 0,
      clockFloorUs: releasedAtUs,
    },
  })
  spool.setClock({
    nowUs: host.clock.nowUs(),
    bootId: host.bootId,
    monotonicUs: host.clock.monotonicMs() * 1000,
    trusted: true,
  })
  spool.openReader('raw', 'region', 'oldest')
  for (let left = backlogPoints; left > 0; ) {
    const intakes = []
    for (let at = 0; at < 10 && left > 0; at++, left -= segmentPointsMax)
      intakes.push({ points: plant.next(Math.min(left, segmentPointsMax)) })
    const result = spool.commit([{ lane: 'raw', intakes, seal: true }])
    if (result.kind !== 'stored') throw new Error(result.kind)
  }
  const { bytesUsed } = spool.stats()
  spool.close()
  return bytesUsed
}

interface Start {
  readonly readyMs: number
  /** What it took of a CPU, whoever else wanted it: to the kernel's 10 ms. */
  readonly cpuMs: number
}
const startOnce = async (rig: Rig): Promise<Start> => {
  const agent = await rig.startAgent()
  const cpuMs = cpuSecondsOf(agent.pid) * 1000
  await agent.kill()
  return { readyMs: agent.readyMs, cpuMs }
}

/** What Node alone needs to say a word. */
const bareNodeMs = async (): Promise<number> => {
  const startMs = performance.now()
  const running = start(process.execPath, ['-e', 'console.error("here")'])
  await running.says('here')
  const ms = performance.now() - startMs
  await running.ended
  return ms
}

export const bench = async (): Promise<Figures> => {
  const listen = `127.0.0.1:${await freePort()}`
  const rig = await createRig({ sources: [{ name: 'door', type: 'http', listen }] })
  await startOnce(rig)
  const empty: Start[] = []
  const bare: number[] = []
  for (let at = 0; at < starts; at++) {
    rmSync(rig.stateDir, { recursive: true, force: true })
    empty.push(await startOnce(rig))
    bare.push(await bareNodeMs())
  }
  rmSync(rig.stateDir, { recursive: true, force: true })
  mkdirSync(rig.stateDir, { recursive: true })
  const bytes = queue(rig.stateDir)
  const backlog: Start[] = []
  for (let at = 0; at < starts; at++) backlog.push(await startOnce(rig))
  const median = (list: readonly Start[], of: keyof Start) =>
    percentile(
      list.map((one) => one[of]),
      0.5,
    )
  const least = (list: readonly Start[]) => Math.min(...list.map((one) => one.readyMs))
  return {
    ready_ms_empty: median(empty, 'readyMs'),
    ready_ms_backlog: median(backlog, 'readyMs'),
    ready_ratio_backlog_to_empty: median(backlog, 'readyMs') / median(empty, 'readyMs'),
    ready_ms_empty_least: least(empty),
    ready_ms_backlog_least: least(backlog),
    ready_cpu_ms_empty: median(empty, 'cpuMs'),
    ready_cpu_ms_backlog: median(backlog, 'cpuMs'),
    bare_node_ms: percentile(bare, 0.5),
    queued_points: backlogPoints,
    queued_mb: bytes / 1024 ** 2,
  }
}
