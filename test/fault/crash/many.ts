/** Records lives and examines their crash states on several processes, of this tree or of a mutated copy of it. */
import { fork, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { compiled } from '../../support/shim.ts'
import type { FlipsFound } from './flip-worker.ts'
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
/** Runs one worker to its end and answers with its last message. */
const runWorker = <Result>(
  program: string,
  args: readonly (string | number)[],
  isResult: (message: object) => boolean,
): Promise<Result> =>
  new Promise((resolve, reject) => {
    const child = fork(program, args.map(String))
    const stop = () => child.kill('SIGKILL')
    process.once('exit', stop)
    let watch = setTimeout(stop, silenceMs)
    let found: Result | null = null
    child.on('message', (message) => {
      clearTimeout(watch)
      watch = setTimeout(stop, silenceMs)
      if (isResult(message as object)) found = message as Result
    })
    child.on('exit', (code, signal) => {
      clearTimeout(watch)
      process.off('exit', stop)
      if (found === null) reject(new Error(`worker ended with ${code ?? signal}`))
      else resolve(found)
    })
  })

/** A recorded life in a folder that is gone afterwards. */
const withLife = async <T>(
  root: string,
  seed: number,
  work: (life: Life, base: string) => Promise<T>,
): Promise<T> => {
  const base = mkdtempSync(join(scratchRoot, 'hf-crash-'))
  const forget = () => rmSync(base, { recursive: true, force: true })
  process.once('exit', forget)
  try {
    return await work(recordLife(root, seed, base), base)
  } finally {
    process.off('exit', forget)
    forget()
  }
}
const each = <T>(workers: number, work: (worker: number) => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: workers }, (_, worker) => work(worker)))

/** One life, `states` of its crash states. */
export const explore = (
  seed: number,
  { states, workers, stopAtRed = false, root = projectRoot }: Many,
): Promise<Found & { readonly steps: number }> =>
  withLife(root, seed, async (life, base) => {
    const program = join(root, 'test/fault/crash/worker.ts')
    const all = await each(workers, (worker) =>
      runWorker<Found>(
        program,
        [life.trace, base, seed, states, worker, workers, stopAtRed ? 1 : 0],
        (message) => 'wrong' in message,
      ),
    )
    return {
      steps: life.steps,
      states: all.reduce((sum, one) => sum + one.states, 0),
      distinct: all.reduce((sum, one) => sum + one.distinct, 0),
      wrong: all.flatMap((one) => one.wrong).sort((a, b) => a.state - b.state),
    }
  })

/** One life, `flips` single flipped bits in what it left. */
export const flipBits = (seed: number, flips: number, workers: number): Promise<FlipsFound> =>
  withLife(projectRoot, seed, async (life, base) => {
    const program = join(projectRoot, 'test/fault/crash/flip-worker.ts')
    const all = await each(workers, (worker) =>
      runWorker<FlipsFound>(
        program,
        [life.folder, base, seed, flips, worker, workers],
        (message) => 'wrong' in message,
      ),
    )
    const sum = (kind: keyof FlipsFound['ends']) =>
      all.reduce((total, one) => total + one.ends[kind], 0)
    return {
      ends: { whole: sum('whole'), declared: sum('declared'), refused: sum('refused') },
      wrong: all.flatMap((one) => one.wrong),
    }
  })
