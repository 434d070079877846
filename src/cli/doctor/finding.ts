/** What `holdfast doctor` finds: one line each, with the remedy where something is wrong. */
import { type ExecFileException, execFile } from 'node:child_process'

export interface Finding {
  readonly check: string
  /** `unknown`: it could not be looked at from here; it makes no verdict worse. */
  readonly state: 'good' | 'warning' | 'bad' | 'unknown'
  readonly text: string
  /** '' where nothing is to be done. */
  readonly fix: string
  readonly code?: string
  /** How long the step took, where that says something. */
  readonly ms?: number
}
export const good = (check: string, text: string): Finding => ({
  check,
  state: 'good',
  text,
  fix: '',
})
export const warning = (check: string, text: string, fix: string): Finding => ({
  check,
  state: 'warning',
  text,
  fix,
})
export const bad = (check: string, text: string, fix: string): Finding => ({
  check,
  state: 'bad',
  text,
  fix,
})
export const unknown = (check: string, text: string, fix = ''): Finding => ({
  check,
  state: 'unknown',
  text,
  fix,
})

const outputBytesMax = 1 << 20
const programMs = 5_000
/** What a program of the system says, or null when it is not there, fails or hangs. */
export const said = (program: string, ...args: string[]): Promise<string | null> =>
  new Promise((resolve) => {
    execFile(
      program,
      args,
      { timeout: programMs, maxBuffer: outputBytesMax },
      (error: ExecFileException | null, stdout: string) => resolve(error === null ? stdout : null),
    )
  })
