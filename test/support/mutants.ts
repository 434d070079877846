/** A copy of this tree with one wrong change, for negative controls; gone afterwards. */
import { execFile } from 'node:child_process'
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

/** The text it replaces must occur exactly once, so that a mutant that no longer applies fails instead of passing unseen. */
export interface Mutant {
  readonly name: string
  /** Below `src`. */
  readonly file: string
  readonly find: string
  readonly put: string
}

/** Of `end-at-red.ts`: a test failed, and one had passed or did so afterwards. */
const endedAtRed = 99

const projectRoot = join(import.meta.dirname, '../..')

/** Runs `work` in a copy of `src`, of these tests and what they share; answers how many places there are when not one. */
export const inMutatedCopy = async <T>(
  mutant: Mutant,
  tests: readonly string[],
  work: (root: string) => Promise<T>,
): Promise<T | number> => {
  const root = mkdtempSync(join(tmpdir(), 'holdfast-mutant-'))
  const forget = () => rmSync(root, { recursive: true, force: true })
  process.once('exit', forget)
  try {
    for (const part of ['src', 'package.json', ...tests]) {
      mkdirSync(dirname(join(root, part)), { recursive: true })
      cpSync(join(projectRoot, part), join(root, part), { recursive: true })
    }
    symlinkSync(join(projectRoot, 'node_modules'), join(root, 'node_modules'))
    const file = join(root, 'src', mutant.file)
    const parts = readFileSync(file, 'utf8').split(mutant.find)
    if (parts.length !== 2) return parts.length - 1
    writeFileSync(file, parts.join(mutant.put))
    return await work(root)
  } finally {
    process.off('exit', forget)
    forget()
  }
}

/**
 * Whether these test files pass in a copy with the change, which also has all that is under `tests`; how many places it
 * fits when not one. One test that is red beside one that is green is enough to know.
 */
export const survives = async (
  mutant: Mutant,
  tests: readonly string[],
  files: readonly string[],
): Promise<boolean | number> =>
  await inMutatedCopy(mutant, tests, async (root) => {
    const env = {
      ...process.env,
      HOLDFAST_REDUCE_RUNS: '200',
      HOLDFAST_TEST_SEED: undefined,
      NODE_TEST_CONTEXT: undefined,
      // Gone with the copy, whatever the tests had no time to remove.
      TMPDIR: root,
    }
    const preload = (name: string) => ['--import', join(projectRoot, 'test/support', name)]
    const options = [...preload('seed.ts'), ...preload('end-at-red.ts'), '--test']
    const paths = files.map((file) => join(root, file))
    const args = [...options, '--test-isolation=none', ...paths]
    return await new Promise<boolean>((resolve, reject) => {
      execFile(process.execPath, args, { env, timeout: 120_000 }, (error, out) => {
        if (error?.killed === true) reject(new Error(`${mutant.name}: no end`))
        // Red for the right reason: a test passed, and one failed.
        else if (error !== null && error.code !== endedAtRed) reject(new Error(out.slice(-2_000)))
        else if (/ℹ pass 0\n/.test(out)) reject(new Error(`${mutant.name}: nothing passes`))
        else resolve(error === null)
      })
    })
  })
