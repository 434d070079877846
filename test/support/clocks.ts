/** A wall clock of a process's own, which a test may set while it runs (libfaketime); its monotonic clock stays true. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { findTool } from './debian.ts'
import { temporaryFolder } from './temp.ts'

export interface FakeClock {
  readonly env: Readonly<Record<string, string>>
  /** From now on the process sees real time plus this. */
  readonly set: (offsetSeconds: number) => void
}

const library = 'libfaketime.so.1'
const folder = `/usr/lib/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu/faketime`
/** Why tests that need it are skipped, else false. */
export const noFakeClock = (): string | false => {
  try {
    findTool(library, 'libfaketime', `${folder}/${library}`)
    return false
  } catch (error) {
    return `libfaketime could not be had: ${error instanceof Error ? error.message.split('\n')[0] : error}`
  }
}

export const createFakeClock = (offsetSeconds: number): FakeClock => {
  const file = join(temporaryFolder('clock'), 'offset')
  const set = (seconds: number) =>
    writeFileSync(file, `${seconds < 0 ? '' : '+'}${Math.floor(seconds)}\n`)
  set(offsetSeconds)
  return {
    env: {
      LD_PRELOAD: findTool(library, 'libfaketime', `${folder}/${library}`).path,
      FAKETIME_TIMESTAMP_FILE: file,
      FAKETIME_NO_CACHE: '1',
      DONT_FAKE_MONOTONIC: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      NO_FAKE_STAT: '1',
    },
    set,
  }
}
