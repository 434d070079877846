/** Records lives and examines their crash states on several processes, of this tree or of a mutated copy of it. */
import { fork, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { compiled } from '../../support/shim.ts'
import { advance, emptyDisk, filesOf, readTrace } from './trace.ts'
import type { Found } from './worker.ts'

const projectRoot = join(import.meta.dirname, '../../..')
const openings = 3
/** In memory where there is such a place: images are flushed by the thousand. */
const scratchRoot = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()
/** A worker that says nothing for so long hangs. */
const silenceMs = 60_000

export const recorder = (): string | null =>
  process.platform === 'linux' ? compiled('../fault/crash/recorder.c') : null

export interface Life {
  readonly seed: number
  readonly folder: string
  readonly trace: string
  readonly steps: number
}

/** Throws when the trace does not explain every byte the process left. */
const checkTrace = (folder: string, trace: string): number => {
  const disk = emptyDisk()
  const steps = readTrace(trace)
  for (const step of steps) if (step.name !== 'notes') advance(disk, step)
  const files = filesOf(disk)
  const left = readdirSync(folder).filter((name) => name !== 'notes')
  const same =
    left.length === files.size &&
    left.every((name) => files.get(name)?.equals(readFileSync(join(folder, name))) === true)
  if (!same) throw new Error(`the trace says ${[...files.keys()]}, the folder has ${left}`)
  return steps.length
}

/** A process's life in several openings, written down. */
export const recordLife = (root: string, seed: number, base: string): Life => {
  const folder = join(base, `life-${seed}`)
  const trace = join(base, `trace-${seed}`)
  mkdirSync(folder)
  for (let opening = 0; opening < openings; opening++) {
    const { status, signal, stderr } = spawnSync(
      process.execPath,
      [join(root, 'test/fault/crash/writer.ts'), folder, String(seed), String(opening)],
      {
        encoding: 'utf8',
        timeout: 60_000,
        env: {
          ...process.env,
          LD_PRELOAD: recorder() ?? '',
          HF_RECORD_FOLDER: folder,
          HF_RECORD_TRACE: trace,
        },
      },
    )
    if (status !== 0 && signal !== 'SIGKILL') throw new Error(`life ${seed} died: ${stderr}`)
  }
  return { seed, folder, trace, steps: checkTrace(folder, trace) }
}

export interface Many {
  readonly states: number
  readonly workers: number
  readonly stopAtRed?: boolean
  readonly root?: string
}
const askWorker = (life: Life, base: string, many: Many, worker: number): Promise<Found> =>
  new Promise((resolve, reject) => {
    const { states, workers } = many
    const child = fork(join(many.root ?? projectRoot, 'test/fault/crash/worker.ts'), [
      ...[life.trace, base],
      ...[life.seed, states, worker, workers, many.stopAtRed === true ? 1 : 0].map(String),
    ])
    const stop = () => child.kill('SIGKILL')
    process.once('exit', stop)
    let watch = setTimeout(stop, silenceMs)
    let found: Found | null = null
    child.on('message', (message) => {
      clearTimeout(watch)
      watch = setTimeout(stop, silenceMs)
      if ('wrong' in (message as object)) found = message as Found
    })
    child.on('exit', (code, signal) => {
      clearTimeout(watch)
      process.off('exit', stop)
      if (found === null) reject(new Error(`worker ended with ${code ?? signal}`))
      else resolve(found)
    })
  })

/** One life, `states` of its crash states. */
export const explore = async (
  seed: number,
  many: Many,
): Promise<Found & { readonly steps: number }> => {
  const base = mkdtempSync(join(scratchRoot, 'hf-crash-'))
  const forget = () => rmSync(base, { recursive: true, force: true })
  process.once('exit', forget)
  try {
    const life = recordLife(many.root ?? projectRoot, seed, base)
    const all = await Promise.all(
      Array.from({ length: many.workers }, (_, worker) => askWorker(life, base, many, worker)),
    )
    return {
      steps: life.steps,
      states: all.reduce((sum, one) => sum + one.states, 0),
      distinct: all.reduce((sum, one) => sum + one.distinct, 0),
      wrong: all.flatMap((one) => one.wrong).sort((a, b) => a.state - b.state),
    }
  } finally {
    process.off('exit', forget)
    forget()
  }
}
