/**
 * The Debian package as installed: its size, the time from the start of its unit's command until systemd would hear
 * READY=1, with its files in the page cache and without, and what the agent takes while idle. The environment is the
 * unit's. Baseline: Node that does nothing.
 */
import { execFileSync } from 'node:child_process'
import { globSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { packageDeb } from '../../build/package-deb.ts'
import { architectures, nativeArchitecture } from '../../build/package-parts.ts'
import { type Running, start } from '../support/processes.ts'
import { temporaryFolder } from '../support/temp.ts'
import { countFrom, cpuSecondsOf, highestMemoryMbOf, type MemoryMb, percentile } from './rig.ts'
import type { Figures } from './run.ts'

const starts = 7
const seconds = countFrom('HOLDFAST_BENCH_IDLE_SECONDS', 30)

/** What systemd would hear, a line each. */
const listener = `use Socket; $| = 1;
  socket(my $s, AF_UNIX, SOCK_DGRAM, 0); bind($s, pack_sockaddr_un($ARGV[0])) or die $!; print "bound\\n";
  while (defined recv($s, my $text, 9999, 0)) { print "$text\\n" }`

interface Installed {
  readonly library: string
  readonly start: () => Promise<Running & { readonly readyMs: number }>
}
const install = (file: string): Installed => {
  const root = temporaryFolder('installed')
  execFileSync('dpkg-deb', ['-x', file, root])
  const library = join(root, 'usr/lib/holdfast')
  const unit = readFileSync(join(root, 'usr/lib/systemd/system/holdfast.service'), 'utf8')
  const words = /^Environment=(.*)$/m.exec(unit)?.[1]?.split(' ') ?? []
  const environment = Object.fromEntries(words.map((word) => word.split(/=(.*)/s).slice(0, 2)))
  const command = ['bin/launch', 'bin/node', 'agent.mjs'].map((one) => join(library, one))
  const config = join(root, 'etc/holdfast/holdfast.yaml')
  return {
    library,
    start: async () => {
      const folder = temporaryFolder('notify')
      mkdirSync(join(folder, 'state'))
      const env = {
        ...environment,
        NOTIFY_SOCKET: join(folder, 's'),
        STATE_DIRECTORY: join(folder, 'state'),
        RUNTIME_DIRECTORY: folder,
      }
      const hears = start('perl', ['-e', listener, env.NOTIFY_SOCKET])
      await hears.says('bound')
      const startMs = performance.now()
      const agent = start('perl', [...command, 'run', '--config', config], { env })
      await hears.says('READY=1')
      const readyMs = performance.now() - startMs
      await hears.kill()
      return { ...agent, readyMs }
    },
  }
}
/** The kernel lets go of what it holds of these files. */
const evict = (folder: string): void => {
  for (const file of globSync('**', { cwd: folder }).map((one) => join(folder, one)))
    if (statSync(file).isFile())
      execFileSync('dd', [`if=${file}`, 'iflag=nocache', 'count=0', 'status=none'])
}
const startOnce = async (installed: Installed): Promise<number> => {
  const agent = await installed.start()
  await agent.stop()
  return agent.readyMs
}
const idle = async (agent: Running): Promise<{ memory: MemoryMb; cpuPercent: number }> => {
  await sleep(Math.min(10, seconds) * 1000)
  const [cpu, startMs] = [cpuSecondsOf(agent.pid), performance.now()]
  const memory = await highestMemoryMbOf(agent.pid, seconds, 1_000)
  const used = cpuSecondsOf(agent.pid) - cpu
  return { memory, cpuPercent: (used / ((performance.now() - startMs) / 1000)) * 100 }
}

export const bench = async (): Promise<Figures> => {
  const folder = temporaryFolder('deb')
  const files = [await packageDeb('amd64', folder), await packageDeb('arm64', folder)]
  const [amd64, arm64] = files.map((file) => statSync(file).size / 1e6)
  const installed = install(files[architectures.indexOf(nativeArchitecture)] ?? '')
  const cold: number[] = []
  const warm: number[] = []
  for (let at = 0; at < starts; at++) {
    execFileSync('sync')
    evict(installed.library)
    cold.push(await startOnce(installed))
    warm.push(await startOnce(installed))
  }
  const agent = await installed.start()
  const seen = await idle(agent)
  await agent.stop()
  rmSync(folder, { recursive: true })
  return {
    package_mb_amd64: amd64 ?? 0,
    package_mb_arm64: arm64 ?? 0,
    package_ready_ms_cold: percentile(cold, 0.5),
    package_ready_ms_cold_least: Math.min(...cold),
    package_ready_ms_warm: percentile(warm, 0.5),
    package_ready_ms_warm_least: Math.min(...warm),
    package_rss_mb_idle: seen.memory.rss,
    package_pss_mb_idle: seen.memory.pss,
    package_anonymous_mb_idle: seen.memory.anonymous,
    package_cpu_percent_idle: seen.cpuPercent,
  }
}
