/**
 * How the last lives of the agent over this spool ended: five crashes within a minute and the spool is suspected.
 *
 * Invariants: a life that ended in good order, whatever its exit code, is no crash; lives of another boot are not
 * counted (no power cut, no clock: monotonic time decides), nor is one whose process still runs; what cannot be read
 * counts as nothing; a file beside the spool, replaced whole, never flushed: it only has to outlive its process.
 */
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { isFailure } from '../errors.ts'
import type { Host } from '../host.ts'
import { setAsideIn } from './set-aside.ts'

export interface Lives {
  /** The spool is to be set aside before it is opened. */
  readonly suspect: boolean
  /** The spool has done what it is there for: from now on a signal that kills the process says nothing of it. */
  readonly proven: () => void
  /** The process ends by itself with this failure, or in good order. Only the first word counts. */
  readonly ends: (failure?: unknown) => void
  /** It ends by a bug (an exception nobody caught). */
  readonly crashes: () => void
}
export interface LivesParts {
  readonly stateDir: string
  readonly host: Pick<Host, 'clock' | 'bootId' | 'log'>
  readonly pid: number
  /** Whether a process of that number runs. */
  readonly runs: (pid: number) => boolean
}

export const crashesMax = 5
export const crashesWithinMs = 60_000
const livesKept = 16
const fileName = 'lives.json'
const life = z.strictObject({
  boot: z.string(),
  pid: z.number(),
  startMs: z.number(),
  /** `open`: nothing heard since; `proven`: likewise, but its spool worked; `crashed`: by a bug. */
  state: z.enum(['open', 'proven', 'crashed']),
})
type Life = z.output<typeof life>
const lives = z.array(life).max(livesKept)

/** Bugs and damage that the spool may be the cause of; a disk that fails or is full is not mended by a new file. */
const suspicious = (failure: unknown): boolean => {
  if (!isFailure(failure)) return true
  if (failure.code === 'HF-S074') return failure.cause !== undefined && suspicious(failure.cause)
  return failure.code === 'HF-S005' || failure.code === 'HF-S099'
}

/**
 * Bugs count, whatever the spool had done before. A process that was ended without a word (kill -9, the kernel) counts
 * only if nobody saw the spool work, in this life or in one after it.
 */
const crashesOf = (dead: readonly Life[]): number => {
  let [bugs, silent] = [0, 0]
  for (const { state } of dead) {
    if (state === 'crashed') bugs++
    else silent = state === 'proven' ? 0 : silent + 1
  }
  return bugs + silent
}

/** Notes the beginning of a life; call it before the spool is opened. */
export const beginLife = (parts: LivesParts): Lives => {
  const { stateDir, host, pid, runs } = parts
  const path = join(stateDir, fileName)
  const nowMs = host.clock.monotonicMs()
  const read = (): readonly Life[] => {
    try {
      return lives.parse(JSON.parse(readFileSync(path, 'utf8')))
    } catch {
      return []
    }
  }
  const save = (all: readonly Life[]) => {
    try {
      // Made anew, so that a link planted in its place is replaced and not followed.
      rmSync(`${path}.new`, { force: true })
      writeFileSync(`${path}.new`, JSON.stringify(all), { flag: 'wx', mode: 0o600 })
      renameSync(`${path}.new`, path)
    } catch {
      // A folder that takes no file: opening the spool says so, with its code.
    }
  }
  const young = (one: Life) =>
    one.boot === host.bootId && one.startMs <= nowMs && one.startMs >= nowMs - crashesWithinMs
  const dead = (one: Life) => one.pid === pid || !runs(one.pid)
  const before = read().filter(young)
  const crashes = crashesOf(before.filter(dead))
  const open = setAsideIn(readdirSync(stateDir), stateDir).filter(
    (one) => one.kind === 'suspect' && !one.dealtWith,
  )
  const loops = crashes >= crashesMax
  // Crashes that go on over a new spool were not the old one's fault: setting aside again would only fill the disk.
  if (loops && open.length > 0)
    host.log.error('crashes_go_on', { crashes, setAside: open[0]?.file })
  const suspect = loops && open.length === 0
  let mine: Life | null = { boot: host.bootId, pid, startMs: nowMs, state: 'open' }
  const others = suspect ? [] : before.slice(1 - livesKept)
  save([...others, mine])
  const become = (next: Life | null) => {
    if (mine === null) return
    const was = mine
    mine = next?.state === 'crashed' ? null : next
    const rest = read().filter((one) => one.pid !== pid || one.startMs !== was.startMs)
    save(next === null ? rest : [...rest.slice(1 - livesKept), next])
  }
  const crashesNow = () => {
    if (mine !== null) become({ ...mine, state: 'crashed' })
  }
  return {
    suspect,
    proven: () => {
      if (mine?.state === 'open') become({ ...mine, state: 'proven' })
    },
    ends: (failure) => {
      if (failure !== undefined && suspicious(failure)) crashesNow()
      else become(null)
    },
    crashes: crashesNow,
  }
}
