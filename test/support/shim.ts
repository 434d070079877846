/** `test/fault/faultshim.c`, compiled for this host: flushes and writes of chosen files fail or take long, on command. */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { temporaryFolder } from './temp.ts'

export interface Shim {
  /** For the process whose files named `match` are concerned. */
  readonly env: Readonly<Record<string, string>>
  /** From the next call on; '' for no fault. Words: see the source. */
  readonly order: (words: string) => void
}

const libraries = new Map<string, string | null>()
/** A library for LD_PRELOAD from a C source (relative to this file); null where no C compiler is. */
export const compiled = (source: string): string | null => {
  const known = libraries.get(source)
  if (known !== undefined) return known
  let library: string | null = join(temporaryFolder('shim'), `${basename(source, '.c')}.so`)
  const from = join(import.meta.dirname, source)
  try {
    const flags = ['-shared', '-fPIC', '-O1', '-o', library]
    execFileSync('cc', [...flags, from, '-ldl', '-lpthread'], { stdio: 'pipe' })
  } catch {
    library = null
  }
  libraries.set(source, library)
  return library
}
export const shimLibrary = (): string | null => compiled('../fault/faultshim.c')
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
