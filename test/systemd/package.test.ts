/**
 * What only a release needs to know of the packages: Debian's own judge finds nothing but what is overridden with a
 * reason, and the arm64 program, assembled wherever, runs.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { packageDeb } from '../../build/package-deb.ts'
import { verifyDeb } from '../../build/package-verify.ts'
import { arm64Runner } from '../support/arm64.ts'
import { lintian } from '../support/lintian.ts'
import { noMachine } from '../support/machine.ts'
import { temporaryFolder } from '../support/temp.ts'

if (process.env.HOLDFAST_TEST_RELEASE === '1') {
  const folder = temporaryFolder('deb')

  for (const arch of ['amd64', 'arm64'] as const)
    test(`lintian has nothing to say of the ${arch} package`, { skip: noMachine() }, async () => {
      const said = await lintian(await packageDeb(arch, folder, true))
      const lines = said.trimEnd().split('\n')
      // Overridden ones are shown: it did look.
      assert.ok(lines.some((line) => line.startsWith('O: holdfast: unstripped-binary-or-object')))
      assert.deepEqual(
        lines.filter((line) => !/^[ON]: /.test(line)),
        [],
      )
    })

  test('the arm64 program says its version, checks its configuration, and takes points for ten seconds', async (t) => {
    const file = await packageDeb('arm64', folder, true)
    const seen = await verifyDeb('arm64', file, {
      runner: arm64Runner(),
      only: ['contents', 'program', 'run'],
    })
    for (const { name, outcome, text } of seen) {
      assert.equal(outcome, 'ok', `${name}: ${text}`)
      t.diagnostic(`${name}: ${text}`)
    }
    assert.equal(seen.length, 3)
  })
}
