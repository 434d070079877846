/** A copy of this tree with one wrong change, for negative controls; gone afterwards. */
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
