/** Processes of the demo: real ones of this very program, gone when the demo is, whatever happens. */
import { type ChildProcess, spawn } from 'node:child_process'
import { appendFileSync } from 'node:fs'

export interface Part {
  readonly name: string
  /** First JSON line on stdout; rejects when the process ends before. */
  readonly firstLine: Promise<Readonly<Record<string, unknown>>>
  readonly ended: Promise<number | NodeJS.Signals>
  readonly alive: () => boolean
  readonly signal: (signal: NodeJS.Signals) => void
}
export interface Parts {
  /** Runs `holdfast ...args`; what it says on stderr goes into `logFile`. */
  readonly start: (name: string, args: readonly string[], logFile: string) => Part
  readonly killAll: () => void
}

/** `self` is how this program was started: the runtime and its script. */
export const createParts = (self: readonly [string, string]): Parts => {
  const children = new Set<ChildProcess>()
  const killAll = () => {
    for (const child of children) child.kill('SIGKILL')
  }
  process.once('exit', killAll)
  return {
    killAll,
    start: (name, args, logFile) => {
      const child = spawn(self[0], [self[1], ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
      children.add(child)
      let text = ''
      let alive = true
      const first = Promise.withResolvers<Readonly<Record<string, unknown>>>()
      // Nobody has to wait for it.
      first.promise.catch(() => {})
      child.stdout.on('data', (data: Buffer) => {
        appendFileSync(logFile, data)
        if (text.includes('\n')) return
        text += data.toString('utf8')
        const end = text.indexOf('\n')
        if (end < 0) return
        try {
          first.resolve(JSON.parse(text.slice(0, end)))
        } catch (error) {
          first.reject(error)
        }
      })
      child.stderr.on('data', (data: Buffer) => appendFileSync(logFile, data))
      const ended = new Promise<number | NodeJS.Signals>((resolve) => {
        child.once('close', (code, signal) => {
          alive = false
          children.delete(child)
          first.reject(
            new Error(`${name} ended (${code ?? signal}) before it was ready; its log: ${logFile}`),
          )
          resolve(code ?? signal ?? 0)
        })
        child.once('error', () => {})
      })
      return {
        name,
        firstLine: first.promise,
        ended,
        alive: () => alive,
        signal: (signal) => {
          child.kill(signal)
        },
      }
    },
  }
}
