/** `test/fault/faultshim.c`, compiled for this host: flushes and writes of chosen files fail or take long, on command. */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { temporaryFolder } from './temp.ts'

export interface Shim {
  /** For the process whose files named `match` are concerned. */
  readonly env: Readonly<Record<string, string>>
  /** From the next call on; '' for no fault. Words: see the source. */
  readonly order: (words: string) => void
}

let library: string | null | undefined
/** Null where no C compiler is. */
export const shimLibrary = (): string | null => {
  if (library !== undefined) return library
  const path = join(temporaryFolder('shim'), 'faultshim.so')
  const source = join(import.meta.dirname, '../fault/faultshim.c')
  try {
    execFileSync('cc', ['-shared', '-fPIC', '-O1', '-o', path, source, '-ldl'], { stdio: 'pipe' })
    library = path
  } catch {
    library = null
  }
  return library
}
/** Why tests that need it are skipped, else false. */
export const noShim = (): string | false =>
  process.platform === 'linux' && shimLibrary() !== null
    ? false
    : 'no C compiler (or not Linux): flushes cannot be made to fail'

export const createShim = (match: string): Shim => {
  const control = join(temporaryFolder('shim'), 'control')
  writeFileSync(control, '')
  return {
    env: {
      LD_PRELOAD: shimLibrary() ?? '',
      HF_SHIM_MATCH: match,
      HF_SHIM_CONTROL: control,
    },
    order: (words) => writeFileSync(control, words),
  }
}
