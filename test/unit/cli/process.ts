/** Runs the real command as a real process and gathers what it says. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'

export const mainPath = join(import.meta.dirname, '../../../src/cli/main.ts')

export interface Said {
  readonly code: number
  readonly out: string
  readonly err: string
}
export const holdfast = async (
  args: readonly string[],
  options: {
    readonly env?: Record<string, string>
    readonly cwd?: string
    readonly input?: string
  } = {},
): Promise<Said> => {
  const { HOLDFAST_CONFIG: _c, HOLDFAST_SOCKET: _s, NO_COLOR: _n, ...clean } = process.env
  const child = spawn(process.execPath, [mainPath, ...args], {
    env: { ...clean, ...options.env },
    ...(options.cwd ? { cwd: options.cwd } : {}),
    stdio: 'pipe',
  })
  let out = ''
  let err = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    err += text
  })
  child.stdin.end(options.input ?? '')
  const [code] = (await once(child, 'close')) as [number | null]
  return { code: code ?? -1, out, err }
}
