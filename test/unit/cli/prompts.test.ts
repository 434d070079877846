/** A person who does not answer: Ctrl-C and Ctrl-D at every prompt end it with 130, without a word, and nothing is written. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { openControlSocket } from '../../../src/control/socket.ts'
import { exitCodes } from '../../../src/errors.ts'
import { silentLog } from '../../../src/host.ts'
import { temporaryFolder } from '../../support/temp.ts'
import { createView } from '../control/view.ts'
import { mainPath } from './process.ts'

const skip = existsSync('/usr/bin/script') ? false : 'no script(1): nobody sits at a terminal'
const open: AsyncDisposable[] = []
after(async () => {
  for (const one of open) await one[Symbol.asyncDispose]()
})
const quoted = (words: readonly string[]) => words.map((one) => `'${one}'`).join(' ')

/** At a terminal: each key is pressed when its question stands there. */
const atTerminal = async (
  args: readonly string[],
  keys: readonly (readonly [question: string, key: string])[],
) => {
  const command = quoted([process.execPath, mainPath, ...args])
  const child = spawn('/usr/bin/script', ['-qefc', command, '/dev/null'], { stdio: 'pipe' })
  let [screen, at] = ['', 0]
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    screen += text
    const [question, key] = keys[at] ?? []
    if (question === undefined || key === undefined || !screen.includes(question)) return
    at++
    child.stdin.write(key)
  })
  const [code] = (await once(child, 'close')) as [number | null]
  assert.equal(at, keys.length, screen)
  return { code, screen }
}

for (const [name, key] of [
  ['Ctrl-C', '\x03'],
  ['Ctrl-D', '\x04'],
] as const)
  test(`${name} at a prompt: 130, no bug, nothing written`, { skip }, async () => {
    const folder = temporaryFolder('prompt')
    const recorded = createView()
    const socket = join(folder, 's')
    open.push(await openControlSocket({ path: socket, view: recorded.view, log: silentLog }))
    const site = join(folder, 'site')
    const end = async (
      args: readonly string[],
      keys: readonly (readonly [question: string, key: string])[],
    ) => {
      const { code, screen } = await atTerminal([...args, '--socket', socket], keys)
      assert.equal(code, exitCodes.interrupted, screen)
      assert.doesNotMatch(screen, /bug|AbortError|HF-|\n\s+at /)
    }
    await end(['init', '--directory', site], [['Name of this gateway?', key]])
    await end(
      ['init', '--directory', site],
      [
        ['Name of this gateway?', 'gw-1\r'],
        ['regional node listen?', key],
      ],
    )
    assert.ok(!existsSync(site))
    await end(['quarantine', 'discard', '7'], [['Go on?', key]])
    await end(['forget', 'north'], [['Go on?', key]])
    assert.deepEqual(recorded.acts, [])
    const output = join(folder, 'bundle.txt')
    const config = join(folder, 'none.yaml')
    await end(['support-bundle', '-c', config, '--output', output], [['Write this to', key]])
    assert.deepEqual(readdirSync(folder), ['s'])
  })

test('the same questions answered: what was asked for happens', { skip }, async () => {
  const site = join(temporaryFolder('prompt'), 'site')
  const { code, screen } = await atTerminal(
    ['init', '--directory', site],
    [
      ['Name of this gateway?', 'gw-1\r'],
      ['regional node listen?', '\r'],
      ['development CA', '\r'],
    ],
  )
  assert.equal(code, 0, screen)
  assert.deepEqual(readdirSync(site), ['holdfast.yaml'])
})
