/**
 * The Debian package in a real systemd, from installation to purge, with points flowing all the time: nothing is lost,
 * whatever happens to the unit. Each test goes on where the one before has left the machine.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, type TestContext, test } from 'node:test'
import { packageDeb } from '../../build/package-deb.ts'
import type { JournalPoint } from '../../src/verify/checker.ts'
import { configure, drained, publish, show, status, until, verdictOf } from '../support/gateway.ts'
import { bootMachine, type Machine, noMachine } from '../support/machine.ts'
import { killAll } from '../support/processes.ts'
import { temporaryFolder } from '../support/temp.ts'

const skip = noMachine()
const unit = 'holdfast'
const secrets = {
  token: `canary-${randomBytes(12).toString('hex')}`,
  password: `canary-${randomBytes(12).toString('hex')}`,
}
const nowMs = () => Number(process.hrtime.bigint() / 1_000_000n)
/** Moment at which the unit was last ready; the machine shares the host's monotonic clock. */
const readySinceMs = async (): Promise<number> =>
  Number(
    (await show(machine, unit, 'ActiveEnterTimestampMonotonic')).ActiveEnterTimestampMonotonic,
  ) / 1000
const journalOf = (...more: readonly string[]) =>
  machine.run('journalctl', '--no-pager', '-o', 'cat', ...more)

let machine: Machine
let flow: Awaited<ReturnType<typeof publish>>
const journal: JournalPoint[] = []
const ackedAtMs: number[] = []

/** The same package under a later version, uncompressed. */
const later = (file: string, folder: string): void => {
  const tree = join(folder, 'later')
  execFileSync('dpkg-deb', ['-R', file, tree])
  const control = join(tree, 'DEBIAN/control')
  writeFileSync(control, readFileSync(control, 'utf8').replace(/^(Version: .*)$/m, '$1+later'))
  const out = join(folder, 'later.deb')
  execFileSync('dpkg-deb', ['--root-owner-group', '-Znone', '-b', tree, out], { stdio: 'ignore' })
}
before(async () => {
  if (skip) return
  const folder = temporaryFolder('deb')
  const file = await packageDeb(process.arch === 'arm64' ? 'arm64' : 'amd64', folder)
  execFileSync('cp', [file, join(folder, 'holdfast.deb')])
  later(file, folder)
  machine = await bootMachine({ '/drop': folder })
})
after(async () => {
  await machine?.powerOff()
  killAll()
})

/** Waits until the unit has started again after `sinceMs`, and says how long that took. */
const startedAgain = async (sinceMs: number, restarts: number): Promise<number> => {
  await until(
    async () => {
      const seen = await show(machine, unit, 'ActiveState', 'NRestarts')
      return seen.ActiveState === 'active' && Number(seen.NRestarts) > restarts ? true : undefined
    },
    () => journalOf('-u', unit, '-n', '30'),
  )
  return (await readySinceMs()) - sinceMs
}
const restartsOf = async () => Number((await show(machine, unit, 'NRestarts')).NRestarts)
const say = (t: TestContext, text: string) => t.diagnostic(text)

test('installed: enabled, started, ready, and said how it is', { skip }, async (t) => {
  const startMs = nowMs()
  await machine.run('dpkg', '-i', '/drop/holdfast.deb')
  const took = nowMs() - startMs
  const seen = await show(machine, unit, 'ActiveState', 'UnitFileState', 'Type', 'RestartUSec')
  assert.deepEqual(seen, {
    ActiveState: 'active',
    UnitFileState: 'enabled',
    Type: 'notify',
    RestartUSec: '1s',
  })
  await until(
    async () =>
      (await show(machine, unit, 'StatusText')).StatusText?.startsWith('ok: ') ? true : undefined,
    async () => (await show(machine, unit, 'StatusText')).StatusText ?? '',
  )
  const regional = await show(machine, 'holdfast-regional', 'ActiveState', 'UnitFileState')
  assert.deepEqual(regional, { ActiveState: 'inactive', UnitFileState: 'disabled' })
  say(t, `dpkg -i until ready: ${took} ms`)
})

test('points flow to a regional node, keys are credentials of the unit', { skip }, async (t) => {
  await configure(machine, secrets)
  const { ExecMainStartTimestampMonotonic } = await show(
    machine,
    unit,
    'ExecMainStartTimestampMonotonic',
  )
  say(
    t,
    `start to ready: ${Math.round((await readySinceMs()) - Number(ExecMainStartTimestampMonotonic) / 1000)} ms`,
  )
  flow = await publish(machine, secrets.token)
  const seen = await until(
    async () => {
      const now = await status(machine)
      return (now.destinations[0]?.points ?? 0) > 500 ? now : undefined
    },
    () => journalOf('-u', unit, '-n', '30'),
  )
  assert.equal(seen.destinations[0]?.state, 'up')
})

test('SIGKILL: back by itself', { skip }, async (t) => {
  const restarts = await restartsOf()
  const killedMs = nowMs()
  await machine.run('systemctl', 'kill', '--signal=KILL', unit)
  say(t, `ready again ${Math.round(await startedAgain(killedMs, restarts))} ms after SIGKILL`)
})

test('a stopped event loop trips the watchdog', { skip }, async (t) => {
  const restarts = await restartsOf()
  const stoppedMs = nowMs()
  await machine.run('systemctl', 'kill', '--kill-whom=main', '--signal=STOP', unit)
  const took = Math.round(await startedAgain(stoppedMs, restarts))
  assert.match(await journalOf('-u', unit), /Watchdog timeout/)
  say(t, `ready again ${took} ms after SIGSTOP, of which WatchdogSec is 4 s (90 s as shipped)`)
})

test('SIGHUP: reloaded, the process stays', { skip }, async () => {
  const pid = (await show(machine, unit, 'MainPID')).MainPID
  await machine.run('systemctl', 'reload', unit)
  await until(
    async () =>
      (await journalOf('-u', unit, '-n', '50')).includes('the configuration is unchanged')
        ? true
        : undefined,
    () => journalOf('-u', unit, '-n', '30'),
  )
  const seen = await show(machine, unit, 'MainPID', 'ActiveState')
  assert.deepEqual(seen, { MainPID: pid, ActiveState: 'active' })
})

test('upgraded over a running backlog', { skip }, async (t) => {
  await machine.run('systemctl', 'stop', 'holdfast-regional')
  await until(
    async () => ((await status(machine)).lanes[0]?.readers[0]?.pending ?? 0) > 5_000 || undefined,
    () => 'no backlog',
  )
  const [fromMs, pid] = [Date.now(), (await show(machine, unit, 'MainPID')).MainPID]
  await machine.run('dpkg', '--force-confold', '-i', '/drop/later.deb')
  assert.notEqual((await show(machine, unit, 'MainPID')).MainPID, pid)
  const { pending = 0 } = (await status(machine)).lanes[0]?.readers[0] ?? {}
  assert.ok(pending > 5_000, `the backlog is gone: ${pending}`)
  const toMs = Date.now() + 5_000
  await machine.run('systemctl', 'start', 'holdfast-regional')
  await new Promise((resolve) => setTimeout(resolve, 5_000))
  const published = await flow.stop()
  journal.push(...published.journal)
  ackedAtMs.push(...published.ackedAtMs)
  const during = ackedAtMs.filter((ms) => ms >= fromMs && ms <= toMs)
  const pauses = during.map((ms, at) => ms - (during[at - 1] ?? fromMs))
  say(
    t,
    `longest time without an ack while upgrading: ${Math.max(...pauses)} ms; backlog ${pending} points`,
  )
})

test('nothing is lost, doubled or altered', { skip }, async (t) => {
  await drained(machine)
  await machine.run('systemctl', 'stop', 'holdfast-regional')
  const verdict = await verdictOf(machine, journal)
  assert.deepEqual(verdict.reasons, [])
  assert.equal(verdict.declared_lost, 0)
  assert.ok(verdict.accepted > 5_000)
  say(t, `${verdict.accepted} points accepted, ${verdict.delivered} delivered`)
  // The checker is awake: one value more than the region has, and it says so.
  const [first] = journal.filter(({ acked }) => acked)
  assert.ok(first)
  const changed = await verdictOf(machine, [...journal, { ...first, timeUs: first.timeUs + 1 }])
  assert.equal(changed.ok, false)
})
