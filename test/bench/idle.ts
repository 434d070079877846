/**
 * What the bundled agent takes while it has little to do: memory and CPU with a region connected and nothing to send,
 * memory at 10,000 and 100,000 points a second through the whole way. Baseline: Node that does nothing.
 * Memory is resident memory as the kernel counts it, the highest seen after the first seconds, all threads together.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort, start } from '../support/processes.ts'
import {
  countFrom,
  cpuSecondsOf,
  createRig,
  highestMemoryMbOf,
  type MemoryMb,
  memoryMbOf,
} from './rig.ts'
import type { Figures } from './run.ts'

const seconds = countFrom('HOLDFAST_BENCH_IDLE_SECONDS', 30)
const warmSeconds = Math.min(10, seconds)

interface Look {
  readonly memory: MemoryMb
  readonly cpuPercent: number
}
/**
 * What the package's unit sets: young objects get less room, threads share one arena of malloc, which maps what is large
 * by itself; and what Node makes of its MemoryMax=512M, a heap of half as much at most.
 */
const frugal = {
  NODE_OPTIONS: '--max-semi-space-size=1 --max-old-space-size=256',
  MALLOC_ARENA_MAX: '1',
  MALLOC_MMAP_THRESHOLD_: '32768',
}

const measure = async (
  source: object,
  environment: Readonly<Record<string, string>> = {},
): Promise<Look> => {
  const rig = await createRig({ sources: [source], environment })
  const regional = await rig.startRegional()
  const agent = await rig.startAgent()
  await sleep(warmSeconds * 1000)
  const [cpu, startMs] = [cpuSecondsOf(agent.pid), performance.now()]
  const memory = await highestMemoryMbOf(agent.pid, seconds * 2, 500)
  const share = (cpuSecondsOf(agent.pid) - cpu) / ((performance.now() - startMs) / 1000)
  await agent.stop()
  await regional.stop()
  return { memory, cpuPercent: share * 100 }
}

const bareNode = async (): Promise<number> => {
  const running = start(process.execPath, ['-e', 'setInterval(() => {}, 60_000)'])
  await sleep(1_000)
  const { rss } = memoryMbOf(running.pid)
  await running.kill()
  return rss
}

export const bench = async (): Promise<Figures> => {
  const plant = { name: 'plant', type: 'simulate', series: 1_000 }
  const listen = `127.0.0.1:${await freePort()}`
  const idle = await measure({ name: 'door', type: 'http', listen })
  const slow = await measure({ ...plant, rate: 10_000 })
  const fast = await measure({ ...plant, rate: 100_000 })
  const frugalIdle = await measure({ name: 'door', type: 'http', listen }, frugal)
  const frugalSlow = await measure({ ...plant, rate: 10_000 }, frugal)
  const frugalFast = await measure({ ...plant, rate: 100_000 }, frugal)
  return {
    rss_mb_idle: idle.memory.rss,
    rss_mb_10k: slow.memory.rss,
    rss_mb_100k: fast.memory.rss,
    cpu_percent_idle: idle.cpuPercent,
    cpu_percent_10k: slow.cpuPercent,
    cpu_percent_100k: fast.cpuPercent,
    frugal_rss_mb_idle: frugalIdle.memory.rss,
    frugal_rss_mb_10k: frugalSlow.memory.rss,
    frugal_rss_mb_100k: frugalFast.memory.rss,
    frugal_pss_mb_idle: frugalIdle.memory.pss,
    frugal_pss_mb_10k: frugalSlow.memory.pss,
    frugal_pss_mb_100k: frugalFast.memory.pss,
    frugal_anonymous_mb_idle: frugalIdle.memory.anonymous,
    frugal_anonymous_mb_10k: frugalSlow.memory.anonymous,
    frugal_anonymous_mb_100k: frugalFast.memory.anonymous,
    frugal_cpu_percent_100k: frugalFast.cpuPercent,
    bare_node_rss_mb: await bareNode(),
  }
}
