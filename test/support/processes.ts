/** Child processes of tests: started in their own group, and gone when the test process is, whatever happens. */

import { type ChildProcess, spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createServer } from 'node:net'

const children = new Set<ChildProcess>()
/** SIGKILL to everything started here and still running: what a failed test leaves would keep its file from ending. */
export const killAll = (): void => {
  for (const child of children) killGroup(child, 'SIGKILL')
}
process.once('exit', killAll)
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () =>
    process.exit(128 + (signal === 'SIGINT' ? 2 : signal === 'SIGTERM' ? 15 : 1)),
  )
}

const killGroup = (child: ChildProcess, signal: NodeJS.Signals) => {
  if (child.pid === undefined) return
  try {
    process.kill(-child.pid, signal)
  } catch {
    // Already gone.
  }
}

export interface Running {
  readonly pid: number
  /** stdout and stderr so far, the last megabyte. */
  readonly output: () => string
  /** Resolves with the exit code, or the signal's name. */
  readonly ended: Promise<number | NodeJS.Signals>
  readonly signal: (signal: NodeJS.Signals) => void
  /** SIGTERM, then SIGKILL after `graceMs`. */
  readonly stop: (graceMs?: number) => Promise<void>
  /** SIGKILL to the whole group. */
  readonly kill: () => Promise<void>
  /** Resolves when the output contains `text`; rejects, with the output, when the process ends first. */
  readonly says: (text: string | RegExp) => Promise<void>
}
export interface StartOptions {
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly cwd?: string
  /** Run as the unprivileged user `nobody` when this process is root. */
  readonly unprivileged?: boolean
}
export const nobody = 65_534
export const isRoot = process.getuid?.() === 0

/** Even a test process that is killed takes its children along: the kernel tells them (util-linux, on every Debian). */
const dieWithParent =
  process.platform === 'linux' && existsSync('/usr/bin/setpriv')
    ? ['/usr/bin/setpriv', '--pdeathsig', 'KILL', '--']
    : []

export const start = (
  command: string,
  args: readonly string[],
  options: StartOptions = {},
): Running => {
  const [program = command, ...words] = [...dieWithParent, command, ...args]
  const child = spawn(program, words, {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...options.env },
    ...(options.cwd ? { cwd: options.cwd } : {}),
    ...(options.unprivileged && isRoot ? { uid: nobody, gid: nobody } : {}),
  })
  children.add(child)
  let output = ''
  const listeners = new Set<() => void>()
  const take = (data: Buffer) => {
    output = (output + data.toString('utf8')).slice(-(1 << 20))
    for (const listener of listeners) listener()
  }
  child.stdout?.on('data', take)
  child.stderr?.on('data', take)
  let gone = false
  const ended = new Promise<number | NodeJS.Signals>((resolve) => {
    child.once('error', (error) => {
      output += String(error)
      gone = true
      resolve(127)
    })
    child.once('close', (code, signal) => {
      gone = true
      children.delete(child)
      for (const listener of listeners) listener()
      resolve(code ?? signal ?? 0)
    })
  })
  return {
    pid: child.pid ?? -1,
    output: () => output,
    ended,
    signal: (signal) => killGroup(child, signal),
    stop: async (graceMs = 10_000) => {
      killGroup(child, 'SIGTERM')
      const timer = setTimeout(() => killGroup(child, 'SIGKILL'), graceMs)
      await ended
      clearTimeout(timer)
    },
    kill: async () => {
      killGroup(child, 'SIGKILL')
      await ended
    },
    says: (text) =>
      new Promise((resolve, reject) => {
        const look = () => {
          const found = typeof text === 'string' ? output.includes(text) : text.test(output)
          if (!found && !gone) return
          listeners.delete(look)
          if (found) resolve()
          else reject(new Error(`${command} ended before saying ${text}:\n${output.slice(-4000)}`))
        }
        listeners.add(look)
        look()
      }),
  }
}

/** A loopback port that was free a moment ago. */
export const freePort = async (): Promise<number> => {
  for (;;) {
    // Below those that the kernel gives to connections: one of these could take it before the server does.
    const port = randomInt(20_000, 32_000)
    const server = createServer().listen(port, '127.0.0.1')
    const free = await once(server, 'listening').then(
      () => true,
      () => false,
    )
    if (!free) continue
    server.close()
    await once(server, 'close')
    return port
  }
}
