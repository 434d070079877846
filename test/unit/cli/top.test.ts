/** The live view: rates from two looks, the whole view once, lines in a pipe, and an agent that goes and comes back. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { cutTo, movedBetween, plainLine, screenLines } from '../../../src/cli/top.ts'
import { openControlSocket } from '../../../src/control/socket.ts'
import type { AgentStatus } from '../../../src/control/view.ts'
import { exitCodes } from '../../../src/errors.ts'
import { silentLog } from '../../../src/host.ts'
import { temporaryFolder } from '../../support/temp.ts'
import { createView, status } from '../control/view.ts'
import { holdfast, mainPath } from './process.ts'

const folder = temporaryFolder('top')
const open = new Set<AsyncDisposable>()
after(async () => {
  for (const one of open) await one[Symbol.asyncDispose]()
})
/** An agent that accepts 300 points and delivers 200 between two looks, a second apart. */
const moving = (): (() => Promise<AgentStatus>) => {
  let look = 0
  return async () => {
    const seconds = look++
    const [lane] = status.lanes
    const [reader] = lane?.readers ?? []
    assert.ok(lane && reader)
    const readers = [{ ...reader, delivered: reader.delivered + 200 * seconds }]
    const lanes = [{ ...lane, accepted: lane.accepted + 300 * seconds, readers }]
    return { ...status, upForUs: status.upForUs + seconds * 1e6, lanes }
  }
}
const serve = async (path: string) => {
  const { view } = createView({ status: moving() })
  const socket = await openControlSocket({ path, view, log: silentLog })
  open.add(socket)
  return socket
}

test('rates come from two looks at one opening', async () => {
  const next = moving()
  const [first, second] = [await next(), await next()]
  const moved = movedBetween(first, second)
  assert.equal(moved.acceptedPerSecond.get('raw'), 300)
  assert.equal(moved.ackedPerSecond.get('raw north'), 200)
  assert.equal(movedBetween(null, second).acceptedPerSecond.size, 0)
  assert.equal(movedBetween({ ...first, epoch: 'f'.repeat(32) }, second).acceptedPerSecond.size, 0)
  assert.equal(
    movedBetween(second, { ...first, upForUs: second.upForUs + 1e6 }).acceptedPerSecond.get('raw'),
    0,
  )
  assert.match(
    plainLine(moved),
    /^2026-11-21T00:00:00\.000Z {2}ok {2}in 300\/s {2}acked 200\/s {2}pending north up 96$/,
  )
})

test('why intake waits, and what a far side says, stand in the view and move no cursor', () => {
  const [destination] = status.destinations
  assert.ok(destination && status.spool)
  const lines = screenLines(
    movedBetween(null, {
      ...status,
      spool: { ...status.spool, blockedReason: 'quota' },
      destinations: [{ ...destination, state: 'blocked', code: 'HF-N010', text: 'ended\x1b[2J' }],
    }),
    (_, text) => text,
  ).join('\n')
  assert.match(lines, /INTAKE WAITS: quota/)
  assert.match(lines, /north +blocked .*HF-N010 ended/)
  assert.ok(!lines.includes('\x1b'))
})

test('a line is cut to the width that is seen: colours take none of it, and none is left on', () => {
  const red = (text: string) => `\x1b[31m${text}\x1b[0m`
  assert.equal(cutTo('12345', 5), '12345')
  assert.equal(cutTo('123456', 5), '1234…')
  assert.equal(cutTo(red('12345'), 5), red('12345'))
  assert.equal(cutTo(`${red('12')}3456`, 5), `${red('12')}34…`)
  assert.equal(cutTo(red('123456'), 5), `${red('1234')}…`)
  assert.equal(cutTo(`1234567${red('8')}`, 5), `1234${red('')}…`)
})

test('--once: the whole view, or one object; without a terminal, lines; no agent, exit 5', async () => {
  const path = join(folder, 'a')
  await serve(path)
  const at = ['--socket', path, '--interval', '50ms']
  const view = await holdfast(['top', '--once', ...at])
  assert.equal(view.code, 0, view.err)
  assert.match(view.out, /^OK {2}gw-0042/)
  assert.match(view.out, /^press +raw +running +9,840\/s/m)
  assert.match(view.out, /^ {2}north +200\/s +96/m)
  assert.ok(!view.out.includes('\x1b'))
  const json = JSON.parse((await holdfast(['top', '--once', '--json', ...at])).out) as {
    acceptedPerSecond: Record<string, number>
  }
  assert.equal(json.acceptedPerSecond.raw, 300)
  const none = await holdfast(['top', '--once', '--socket', join(folder, 'none')])
  assert.equal(none.code, exitCodes.notReachable)
})

test('an agent that goes away while it is watched is said, and found again', async () => {
  const path = join(folder, 'b')
  const first = await serve(path)
  const child = spawn(process.execPath, [mainPath, 'top', '--socket', path, '--interval', '20ms'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  after(() => child.kill('SIGKILL'))
  let [out, err] = ['', '']
  let wake = () => {}
  const hear = (stream: 'out' | 'err') => (text: Buffer) => {
    if (stream === 'out') out += text
    else err += text
    wake()
  }
  child.stdout.on('data', hear('out'))
  child.stderr.on('data', hear('err'))
  const until = async (good: () => boolean) => {
    while (!good()) await new Promise<void>((resolve) => (wake = resolve))
  }
  await until(() => out.includes('acked 200/s'))
  await first[Symbol.asyncDispose]()
  open.delete(first)
  await until(() => err.includes('no agent answers'))
  out = ''
  await serve(path)
  await until(() => out.includes('  in '))
  child.kill('SIGINT')
  const [code] = (await once(child, 'close')) as [number]
  assert.equal(code, 0)
})
