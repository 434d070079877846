/**
 * A machine for tests: a real systemd, booted from a Debian root by systemd-nspawn, with a network of its own that is
 * nothing but a loopback, and a disk that is gone when it is. Needs root.
 *
 * Invariants: the host has no trace of it afterwards: no process, no mount, no control group; what a killed test left
 * is swept by the next one. Several may run at once.
 */
import { execFile, execFileSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { unpack } from './debian.ts'
import { debianRoot } from './debian-root.ts'
import { isRoot, type Running, start } from './processes.ts'

export interface Ran {
  readonly code: number
  /** stdout and stderr as they came. */
  readonly text: string
}
/** What a test can do in a machine of any kind. */
export interface Inside {
  /** Runs to its end inside; rejects, with what it said, unless it ends with 0. */
  readonly run: (command: string, ...args: readonly string[]) => Promise<string>
  /** The same, whatever its end. */
  readonly attempt: (command: string, ...args: readonly string[]) => Promise<Ran>
  /** A script of `sh -eu`. */
  readonly sh: (script: string) => Promise<string>
  readonly put: (path: string, content: string | Buffer, mode?: number) => void
  /** A folder of the host into one of the machine, which need not be there. */
  readonly copyIn: (from: string, to: string) => void
  /** A folder of the machine into one of the host. */
  readonly copyOut: (from: string, to: string) => Promise<void>
  readonly powerOff: () => Promise<void>
}
export interface Machine extends Inside {
  /** A program of the host in the machine's network. */
  readonly startBeside: (command: string, args: readonly string[]) => Running
  /** The first process of a unit, as the host counts. */
  readonly hostPid: (unit: string) => number
  /** How the host names a file of the machine. */
  readonly outside: (path: string) => string
}

const groups = '/sys/fs/cgroup'
const prefix = 'holdfast-machine-'
/** The trees that systemd wants to own: the unified one, or, on a hybrid host, the one without controllers as well. */
const trees = (): readonly string[] => {
  if (existsSync(join(groups, 'cgroup.controllers'))) return [groups]
  const both = ['systemd', 'unified'].map((name) => join(groups, name))
  const missing = both.find((tree) => !existsSync(join(tree, 'cgroup.procs')))
  if (missing !== undefined) throw new Error(`no control groups of systemd here: ${missing}`)
  return both
}
const removeGroup = (group: string): void => {
  for (const one of readdirSync(group, { withFileTypes: true }))
    if (one.isDirectory()) removeGroup(join(group, one.name))
  // Processes that were just killed stay in it for a moment.
  for (let tries = 0; tries < 20 && existsSync(group); tries++) {
    try {
      rmdirSync(group)
    } catch {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50)
    }
  }
}
/** Groups of machines whose test is gone. */
const sweep = (): void => {
  for (const tree of trees())
    for (const name of readdirSync(tree).filter((one) => one.startsWith(prefix))) {
      const owner = name.slice(prefix.length).split('-')[0]
      if (owner === String(process.pid) || !existsSync(`/proc/${owner}`))
        removeGroup(join(tree, name))
    }
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const bootSeconds = 60
/** The machine's first process as the host counts, once there is one. */
const leaderOf = async (name: string, nspawn: Running): Promise<number> => {
  const [tree = groups] = trees()
  const file = join(tree, name, 'payload/init.scope/cgroup.procs')
  let over = false
  void nspawn.ended.then(() => {
    over = true
  })
  for (let tries = 0; tries < bootSeconds * 20 && !over; tries++, await pause(50)) {
    const first = existsSync(file) ? Number(readFileSync(file, 'utf8').split('\n')[0]) : 0
    if (first > 0) return first
  }
  await nspawn.kill()
  sweep()
  throw new Error(`the machine did not boot:\n${nspawn.output().slice(-2_000)}`)
}

/** Why no machine can be booted here, else false. */
export const noMachine = (): string | false => (isRoot ? false : 'needs root (systemd-nspawn)')
/** Fetches what a machine is made of, into the cache. */
export const prepareMachines = (): void => {
  if (noMachine() !== false) return
  debianRoot()
  unpack('systemd-container')
}

let machines = 0
/** `binds` are folders of the host by the place where the machine sees them, to read. */
export const bootMachine = async (
  binds: Readonly<Record<string, string>> = {},
): Promise<Machine> => {
  sweep()
  const root = debianRoot()
  const tools = unpack('systemd-container')
  const name = `${prefix}${process.pid}-${machines++}`
  for (const tree of trees()) mkdirSync(join(tree, name))
  const enter = trees().map((tree) => `echo 0 > ${join(tree, name, 'cgroup.procs')}`)
  const nspawn = start(
    'unshare',
    [
      // What it writes below /run stays in here; killed from outside, it takes all of its processes along.
      ...['--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child', '--mount-proc'],
      ...['sh', '-euc'],
      `${enter.join('; ')}; mount -t tmpfs tmpfs /run; exec "$@"`,
      'sh',
      `${tools}/usr/bin/systemd-nspawn`,
      ...['--quiet', '--register=no', '--keep-unit', '--private-network', `--machine=${name}`],
      ...Object.entries(binds).map(([inside, folder]) => `--bind-ro=${folder}:${inside}`),
      ...['-D', root, '--volatile=overlay', '--boot'],
    ],
    {
      env: {
        LD_LIBRARY_PATH: ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu']
          .flatMap((one) => [`${tools}${one}/systemd`, `${tools}${one}`])
          .join(':'),
      },
    },
  )
  process.once('exit', sweep)
  const leader = await leaderOf(name, nspawn)
  const inside = ['-t', `${leader}`, '-m', '-u', '-i', '-n', '-p', '-C', '-r', '-w', '--']
  const attempt: Machine['attempt'] = (command, ...args) =>
    new Promise((resolve) => {
      const given = [...inside, command, ...args]
      execFile('nsenter', given, { timeout: 120_000, maxBuffer: 64 << 20 }, (error, out, err) =>
        resolve({ code: error === null ? 0 : Number(error.code ?? -1), text: out + err }),
      )
    })
  const run: Machine['run'] = async (command, ...args) => {
    const { code, text } = await attempt(command, ...args)
    if (code !== 0) throw new Error(`${command} ${args.join(' ')}: exit ${code}\n${text}`)
    return text
  }
  const outside: Machine['outside'] = (path) => `/proc/${leader}/root${path}`
  // "degraded" is a machine without some hardware; units that failed are the test's to look at.
  for (let tries = 0; tries < bootSeconds * 10; tries++, await pause(100))
    if (/running|degraded/.test((await attempt('systemctl', 'is-system-running')).text)) break
  writeFileSync(outside('/etc/hosts'), '127.0.0.1 localhost\n')
  return {
    run,
    attempt,
    hostPid: (unit) => {
      const [tree = groups] = trees()
      const file = join(tree, name, `payload/system.slice/${unit}.service/cgroup.procs`)
      return Number(readFileSync(file, 'utf8').split('\n')[0])
    },
    outside,
    sh: (script) => run('sh', '-euc', script),
    startBeside: (command, args) =>
      start('nsenter', ['-t', `${leader}`, '-n', '--', command, ...args]),
    put: (path, text, mode = 0o644) => {
      execFileSync('mkdir', ['-p', outside(path.slice(0, path.lastIndexOf('/')))])
      writeFileSync(outside(path), text, { mode })
    },
    copyIn: (from, to) => cpSync(from, outside(to), { recursive: true }),
    copyOut: async (from, to) => cpSync(outside(from), to, { recursive: true }),
    powerOff: async () => {
      await attempt('systemctl', 'poweroff')
      await Promise.race([nspawn.ended, pause(15_000)])
      await nspawn.kill()
      sweep()
    },
  }
}
