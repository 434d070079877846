/**
 * The processes that `pipeline`, `drain`, `startup` and `idle` measure: the bundled agent, the bundled regional node and
 * PostgreSQL with the settings of the benches, and looks at them from outside: /proc, the region's meters, the database.
 *
 * Invariant: what is measured is never asked by a way that costs it more than a meter a few times a second.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { stringify } from 'yaml'
import { bundle } from '../../build/bundle.ts'
import { createControlClient } from '../../src/control/client.ts'
import type { AgentStatus } from '../../src/control/view.ts'
import { createCertificates, type TestCertificates } from '../support/certificates.ts'
import { freePort, type Running, start } from '../support/processes.ts'
import { type Postgres, startPostgres } from '../support/servers.ts'
import { temporaryFolder } from '../support/temp.ts'

/** One connection's bare COPY falls with the size of the index; these settings keep checkpoints out of the way. */
export const postgresSettings = ['max_wal_size = 16GB', 'shared_buffers = 1GB'] as const
export const startDatabase = (certificates: TestCertificates): Promise<Postgres> =>
  startPostgres({ certificates, settings: [...postgresSettings] })

/** A whole number from the environment, for shorter runs. */
export const countFrom = (name: string, fallback: number): number =>
  Number(process.env[name] ?? fallback)

export interface RigOptions {
  readonly sources: readonly object[]
  /** Without: the region's embedded database. */
  readonly postgres?: Postgres
  readonly certificates?: TestCertificates
  readonly name?: string
  /** In place of the relay to the region. */
  readonly destination?: object
  /** Of the agent's process, beside this one's. */
  readonly environment?: Readonly<Record<string, string>>
}
export interface Rig {
  readonly stateDir: string
  readonly program: string
  /** Resolves once it says that all of it runs; `readyMs` is the time from its start until then. */
  readonly startAgent: () => Promise<Running & { readonly readyMs: number }>
  readonly startRegional: () => Promise<Running>
  readonly status: () => Promise<AgentStatus>
  readonly region: () => Promise<{ readonly points: number; readonly bytes: number }>
}

/** A password does not stand in an address. */
const addressOf = (text: string): { url: string; password: string } => {
  const url = new URL(text)
  const { password } = url
  url.password = ''
  return { url: url.href, password }
}

let program: Promise<string> | undefined

/** Node of this process, with the profiler's flags if HOLDFAST_BENCH_PROFILE names a folder for its files. */
const nodeArgs = (role: string): readonly string[] => {
  const folder = process.env.HOLDFAST_BENCH_PROFILE
  if (folder === undefined) return []
  return ['--cpu-prof', `--cpu-prof-dir=${join(folder, role)}`]
}

export const createRig = async (options: RigOptions): Promise<Rig> => {
  program ??= bundle(join(import.meta.dirname, '../../dist'))
  const path = await program
  const folder = temporaryFolder('rig')
  const name = options.name ?? 'bench'
  const certificates = options.certificates ?? (await createCertificates())
  const key = await certificates.agent(name)
  const [port, meterPort] = [await freePort(), await freePort()]
  const runtimeDir = join(folder, 'run')
  mkdirSync(runtimeDir)
  const stateDir = join(folder, 'agent')
  const files = { agent: join(folder, 'holdfast.yaml'), regional: join(folder, 'regional.yaml') }
  const tls = { ca: certificates.ca }
  const agent = {
    agent: { name, state_dir: stateDir },
    sources: options.sources,
    spool: { size_max: '8GiB' },
    destinations: [
      options.destination ?? {
        name: 'region',
        type: 'relay',
        url: `https://localhost:${port}`,
        tls: { ...tls, ...key },
      },
    ],
  }
  const regional = {
    listen: `127.0.0.1:${port}`,
    state_dir: join(folder, 'region'),
    tls: { ...tls, ...certificates.server },
    metrics: { listen: `127.0.0.1:${meterPort}` },
    ...(options.postgres ? { database: { ...addressOf(options.postgres.url), tls } } : {}),
  }
  writeFileSync(files.agent, stringify(agent))
  writeFileSync(files.regional, stringify(regional))
  const run = (role: string, args: readonly string[]) =>
    start(process.execPath, [...nodeArgs(role), path, ...args], {
      env: { RUNTIME_DIRECTORY: runtimeDir, ...(role === 'agent' ? options.environment : {}) },
    })
  const client = createControlClient(join(runtimeDir, 'control.sock'), 10_000)
  return {
    stateDir,
    program: path,
    startAgent: async () => {
      const startMs = performance.now()
      const running = run('agent', ['run', '-c', files.agent])
      await running.says('agent_started')
      return { ...running, readyMs: performance.now() - startMs }
    },
    startRegional: async () => {
      const running = run('regional', ['regional', '-c', files.regional])
      await running.says('regional_listening')
      return running
    },
    status: () => client.get<AgentStatus>('/v1/status'),
    region: async () => {
      const text = await (await fetch(`http://127.0.0.1:${meterPort}/metrics`)).text()
      const read = (meter: string) =>
        Number(new RegExp(`^${meter}(?:\\{.*\\})? (\\S+)$`, 'm').exec(text)?.[1] ?? 0)
      return {
        points: read('holdfast_regional_points_committed_total'),
        bytes: read('holdfast_regional_bytes_received_total'),
      }
    },
  }
}

/** Looks every `everyMs` until `done` says so; the process must live. */
export const until = async (
  done: () => Promise<boolean>,
  watched: Running,
  everyMs = 200,
): Promise<void> => {
  let gone = false
  void watched.ended.then(() => {
    gone = true
  })
  while (!(await done())) {
    if (gone) throw new Error(`it ended:\n${watched.output().slice(-4_000)}`)
    await sleep(everyMs)
  }
}

/** Clock ticks of the kernel: USER_HZ, 100 on every Linux that Node runs on. */
const ticksPerSecond = 100
/** User and system time of a process and all its threads. */
export const cpuSecondsOf = (pid: number): number => {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond
}
/**
 * Resident memory; of that what is proportionally its own (Node's text is shared with whatever else runs it), and what is
 * in no file, which the kernel cannot take back.
 */
export interface MemoryMb {
  readonly rss: number
  readonly pss: number
  readonly anonymous: number
}
export const memoryMbOf = (pid: number): MemoryMb => {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1')
  const of = (name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1] ?? Number.NaN) / 1024
  return { rss: of('Rss'), pss: of('Pss'), anonymous: of('Anonymous') }
}
/** The highest of `looks` looks, `everyMs` apart. */
export const highestMemoryMbOf = async (
  pid: number,
  looks: number,
  everyMs: number,
): Promise<MemoryMb> => {
  let most: MemoryMb = { rss: 0, pss: 0, anonymous: 0 }
  for (let at = 0; at < looks; at++) {
    await sleep(everyMs)
    const { rss, pss, anonymous } = memoryMbOf(pid)
    most = {
      rss: Math.max(most.rss, rss),
      pss: Math.max(most.pss, pss),
      anonymous: Math.max(most.anonymous, anonymous),
    }
  }
  return most
}

/** The value below which `share` of the samples lie. */
export const percentile = (samples: readonly number[], share: number): number => {
  const sorted = samples.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}
/** CPU of a server and its children, gone ones too (`postgres` is one process a connection). */
const cpuSecondsOfTree = (pid: number): number => {
  const read = (path: string) => {
    try {
      return readFileSync(path, 'latin1')
    } catch {
      return '' // Gone meanwhile: its parent has its time.
    }
  }
  const stat = read(`/proc/${pid}/stat`)
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const own = [11, 12, 13, 14].reduce((sum, at) => sum + Number(fields[at] ?? 0), 0)
  const children = read(`/proc/${pid}/task/${pid}/children`).trim().split(' ').filter(Boolean)
  return (
    own / ticksPerSecond + children.reduce((sum, one) => sum + cpuSecondsOfTree(Number(one)), 0)
  )
}

/** CPU so far of what is measured, and of everything on this machine. */
interface Usage {
  readonly agent: number
  readonly regional: number
  readonly postgres: number
  readonly machine: number
  readonly atMs: number
}
export interface Watched {
  readonly agent: Running
  /** Without: the agent writes by itself. */
  readonly regional?: Running
  readonly postgres: Postgres
}
export const lookUsage = ({ agent, regional, postgres }: Watched): Usage => {
  const fields = /^cpu +(.*)$/m.exec(readFileSync('/proc/stat', 'latin1'))?.[1]?.split(' ') ?? []
  const busy = [0, 1, 2, 5, 6].reduce((sum, at) => sum + Number(fields[at]), 0)
  const postmaster = Number(
    readFileSync(join(postgres.folder, 'data', 'postmaster.pid'), 'utf8').split('\n', 1)[0],
  )
  return {
    agent: cpuSecondsOf(agent.pid),
    regional: regional === undefined ? 0 : cpuSecondsOf(regional.pid),
    postgres: cpuSecondsOfTree(postmaster),
    machine: busy / ticksPerSecond,
    atMs: performance.now(),
  }
}
/** Who spent how much between two looks; `other_cores` is what strangers took: with it above 0.1 the machine was busy. */
export const spentBetween = (before: Usage, after: Usage, points: number) => {
  const [agent, regional, postgres] = (['agent', 'regional', 'postgres'] as const).map(
    (one) => after[one] - before[one],
  ) as [number, number, number]
  const seconds = (after.atMs - before.atMs) / 1000
  const own = agent + regional + postgres
  return {
    agent_cpu_s_per_mpts: (agent / points) * 1e6,
    regional_cpu_s_per_mpts: (regional / points) * 1e6,
    postgres_cpu_s_per_mpts: (postgres / points) * 1e6,
    own_cores: own / seconds,
    other_cores: (after.machine - before.machine - own) / seconds,
  }
}
