/** Makes a test of each mutant, and before them one of the copy as it is, by the test file that must turn red. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Mutant, survives } from '../support/mutants.ts'

export const findAll = (byFile: readonly (readonly [string, readonly Mutant[]])[]): void => {
  for (const [file, mutants] of byFile) {
    test(`as it is, a copy passes ${file}: what turns it red is the change`, async () => {
      const same = "name: 'rules',"
      const none = { name: 'none', file: 'pipeline/rules.ts', find: same, put: same }
      assert.equal(await survives(none, ['test/reduce', 'test/unit', 'test/support'], [file]), true)
    })
    for (const mutant of mutants) {
      test(`found: ${mutant.name}`, async () => {
        assert.equal(
          await survives(mutant, ['test/reduce', 'test/unit', 'test/support'], [file]),
          false,
        )
      })
    }
  }
}
