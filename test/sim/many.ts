/** Many seeds on several processes, of this tree or of a mutated copy of it. Every process it starts ends with it. */
import { fork } from 'node:child_process'
import { join } from 'node:path'
import { inMutatedCopy, type Mutant } from '../support/mutants.ts'
import { noTotals, type Totals, totalNames } from './plan.ts'
import type { SeedResult } from './world.ts'

export interface Many {
  readonly seeds: number
  readonly from: number
  readonly workers: number
  /** Ends with the first red one of which it says so; without it all seeds run. */
  readonly endAt?: (red: SeedResult) => boolean
  /** Of these seeds those alone whose stages are of this kind. */
  readonly stages?: string
  /** The tree whose `test/sim/worker.ts` runs. */
  readonly root?: string
  readonly onRed?: (result: SeedResult) => void
}
export interface ManyResult {
  readonly done: number
  readonly red: readonly SeedResult[]
  readonly totals: Totals
  readonly digests: ReadonlyMap<number, string>
  readonly virtualMs: number
}

const projectRoot = join(import.meta.dirname, '../..')
/** A worker that says nothing for so long hangs. */
const silenceMs = 300_000

export const runMany = async (many: Many): Promise<ManyResult> => {
  const totals = noTotals()
  const red: SeedResult[] = []
  const digests = new Map<number, string>()
  let virtualMs = 0
  let ended = false
  const children = Array.from({ length: many.workers }, (_, at) =>
    fork(join(many.root ?? projectRoot, 'test/sim/worker.ts'), [
      String(many.from + at),
      String(many.from + many.seeds),
      String(many.workers),
      many.stages ?? '',
    ]),
  )
  const stop = () => {
    for (const child of children) child.kill('SIGKILL')
  }
  process.once('exit', stop)
  await Promise.all(
    children.map((child) => {
      let last = many.from
      let watch = setTimeout(stop, silenceMs)
      child.on('message', (message) => {
        const result = message as SeedResult
        last = result.seed
        clearTimeout(watch)
        watch = setTimeout(() => {
          console.log(`no word after seed ${last}`)
          child.kill('SIGKILL')
        }, silenceMs)
        if (ended) return
        digests.set(result.seed, result.digest)
        virtualMs += result.virtualMs
        for (const name of totalNames) totals[name] += result.totals[name]
        if (result.ok) return
        red.push(result)
        many.onRed?.(result)
        ended = many.endAt?.(result) === true
        if (ended) stop()
      })
      return new Promise((resolve) =>
        child.on('exit', () => {
          clearTimeout(watch)
          resolve(null)
        }),
      )
    }),
  )
  process.off('exit', stop)
  return { done: digests.size, red, totals, digests, virtualMs }
}

/** Where one kind of seeds alone can show it, the others are passed over. */
export interface SimMutant extends Mutant {
  readonly stages?: string
}
export interface MutantResult {
  readonly name: string
  /** 'killed' by the checker or an invariant; everything else is a failure of the simulation. */
  readonly end: 'killed' | 'survived' | 'died otherwise' | 'no longer applies'
  readonly seed: number
  readonly text: string
}

/** Reasons that the checker or an invariant gives, not a crash of the mutated code. */
const byVerdict =
  /^(?:missing|altered|duplicate|too many|not drained|ahead|unexplained|derived|rules|windows|historian|stands still|\d+ forks)/

const verdictOf = ({ reasons }: SeedResult) => reasons.find((one) => byVerdict.test(one))

/** Runs seeds over a copy of `src` with one wrong change. */
export const runMutant = async (
  mutant: SimMutant,
  many: Pick<Many, 'seeds' | 'workers'>,
): Promise<MutantResult> => {
  const { name, stages } = mutant
  const only = stages === undefined ? {} : { stages }
  const ran = await inMutatedCopy(
    mutant,
    ['test/sim', 'test/support', 'test/reduce', 'test/unit/spool'],
    (root) =>
      runMany({
        ...{ ...many, from: 1, root, ...only },
        // Which of two is told first is chance, and a mutant may also break otherwise before.
        endAt: (red) => verdictOf(red) !== undefined,
      }),
  )
  if (typeof ran === 'number')
    return { name, end: 'no longer applies', seed: 0, text: `${ran} places` }
  const { red, done } = ran
  const first = red.find((one) => verdictOf(one) !== undefined) ?? red[0]
  if (first === undefined) return { name, end: 'survived', seed: done, text: `${done} seeds` }
  const text = verdictOf(first)
  if (text !== undefined) return { name, end: 'killed', seed: first.seed, text }
  return { name, end: 'died otherwise', seed: first.seed, text: first.reasons[0] ?? '' }
}
