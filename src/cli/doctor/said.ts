/**
 * What programs of the system say, within a bound of time and of bytes.
 * Invariant: one that hangs, on a stuck disk beyond any signal, is left behind: nobody waits for its end.
 */
import { spawn } from 'node:child_process'
import { systemClock } from '../../host.ts'

export interface Heard {
  readonly text: string
  /** Null where it did not end by itself. */
  readonly code: number | null
  /** Why the rest is missing; '' when it said all it had to say. */
  readonly cut: string
}
interface Bounds {
  readonly ms?: number
  readonly bytesMax?: number
}

/** Null when there is no such program. What was said by the bound is kept. */
export const hear = (
  program: string,
  args: readonly string[],
  { ms = 5_000, bytesMax = 1 << 20 }: Bounds = {},
): Promise<Heard | null> =>
  new Promise((resolve) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'] })
    const parts: Buffer[] = []
    let bytes = 0
    const end = (code: number | null, cut: string) => {
      cancel()
      child.stdout.destroy()
      child.kill('SIGKILL')
      child.unref()
      resolve({ text: Buffer.concat(parts).toString('utf8'), code, cut })
    }
    const cancel = systemClock.after(ms, () => end(null, `after ${ms / 1_000} s`))
    child.stdout.on('data', (data: Buffer) => {
      const room = bytesMax - bytes
      parts.push(data.subarray(0, room))
      bytes += Math.min(room, data.length)
      if (data.length > room) end(null, `after ${Math.round(bytesMax / 1e6)} MB`)
    })
    child.once('error', () => {
      cancel()
      resolve(null)
    })
    child.once('close', (code) => end(code, ''))
  })

/** All that a program says, or null when it is not there, fails, hangs or does not end. */
export const said = async (program: string, ...args: string[]): Promise<string | null> => {
  const heard = await hear(program, args)
  return heard?.code === 0 ? heard.text : null
}
