/**
 * What only a release needs to know of the packages, as they are handed out: Debian's own judge finds nothing but what
 * is overridden with a reason, all checks of `npm run package:deb -- --verify` are good, two builds are the same bytes,
 * and the arm64 program, assembled wherever, runs.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { packageDeb } from '../../build/package-deb.ts'
import { architectures, nativeArchitecture } from '../../build/package-parts.ts'
import { verifyDeb } from '../../build/package-verify.ts'
import { arm64Runner } from '../support/arm64.ts'
import { lintian } from '../support/lintian.ts'
import { noMachine } from '../support/machine.ts'
import { temporaryFolder } from '../support/temp.ts'

/** Both packages, built once, at the first question. */
const built = new Map<string, Promise<string>>()
const folder = temporaryFolder('deb')
const packageOf = (arch: (typeof architectures)[number]): Promise<string> => {
  const file = built.get(arch) ?? packageDeb(arch, folder)
  built.set(arch, file)
  return file
}
/** This machine installs packages of its own architecture alone. */
const notHere = ['life cycle']
const checks = [
  'size',
  'contents',
  'libraries',
  'manual',
  'exposure',
  'program',
  'run',
  'reproducible',
]

if (process.env.HOLDFAST_TEST_RELEASE === '1')
  for (const arch of architectures) {
    test(`lintian has nothing to say of the ${arch} package`, { skip: noMachine() }, async () => {
      const lines = (await lintian(await packageOf(arch))).trimEnd().split('\n')
      // Overridden ones are shown: it did look.
      assert.ok(lines.some((line) => line.startsWith('O: holdfast: unstripped-binary-or-object')))
      assert.deepEqual(
        lines.filter((line) => !/^[ON]: /.test(line)),
        [],
      )
    })

    const only = arch === nativeArchitecture ? [...checks, ...notHere] : checks
    test(`the ${arch} package: ${only.join(', ')}`, { skip: noMachine() }, async (t) => {
      const seen = await verifyDeb(arch, await packageOf(arch), {
        runner: arch === 'arm64' ? arm64Runner() : [],
        rebuild: (output) => packageDeb(arch, output),
        only,
      })
      for (const { name, outcome, text } of seen) {
        assert.equal(outcome, 'ok', `${name}: ${text}`)
        t.diagnostic(`${name}: ${text}`)
      }
      assert.equal(seen.length, only.length)
    })
  }
