/**
 * The Debian package in a real systemd, from installation to purge, with points flowing all the time: nothing is lost,
 * whatever happens to the unit. Each test goes on where the one before has left the machine. Times are told, not asserted:
 * their goals are the benchmarks' (`test/bench`).
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, type TestContext, test } from 'node:test'
import { createControlClient } from '../../src/control/client.ts'
import type { JournalPoint } from '../../src/verify/checker.ts'
import {
  bootWithPackage,
  configure,
  journalOf,
  nothingLost,
  publish,
  putAgentConfig,
  restarted,
  restartsOf,
  show,
  status,
  unit,
  until,
  verdictOf,
} from '../support/gateway.ts'
import { holdThread } from '../support/held-thread.ts'
import { type Machine, noMachine } from '../support/machine.ts'
import { killAll } from '../support/processes.ts'

const skip = noMachine()
const secrets = {
  token: `canary-${randomBytes(12).toString('hex')}`,
  password: `canary-${randomBytes(12).toString('hex')}`,
  /** In a configuration that is refused. */
  literal: `canary-${randomBytes(12).toString('hex')}`,
}
const nowMs = () => Number(process.hrtime.bigint() / 1_000_000n)
/** Moment at which the unit was last ready; the machine shares the host's monotonic clock. */
const readySinceMs = async (): Promise<number> =>
  Number(
    (await show(machine, unit, 'ActiveEnterTimestampMonotonic')).ActiveEnterTimestampMonotonic,
  ) / 1000

let machine: Machine
let flow: Awaited<ReturnType<typeof publish>>
let journal: readonly JournalPoint[] = []

before(async () => {
  if (!skip) machine = await bootWithPackage()
})
after(async () => {
  await machine?.powerOff()
  killAll()
})

/** Waits until the unit has started again after `sinceMs`, and says how long that took. */
const startedAgain = async (sinceMs: number, restarts: number): Promise<number> => {
  await restarted(machine, restarts)
  return (await readySinceMs()) - sinceMs
}
/** What doctor says of one thing, with its state. */
const doctorSays = async (check: string): Promise<string> => {
  const { text } = await machine.attempt('holdfast', 'doctor', '--json')
  const { findings } = JSON.parse(text.split('\n')[0] ?? '') as {
    findings: { check: string; state: string; text: string; fix: string }[]
  }
  const found = findings.filter((one) => one.check === check)
  return found.map((one) => `${one.state}: ${one.text} = ${one.fix}`).join('\n')
}
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

test('the journal has priorities and fields', { skip }, async () => {
  const read = (...match: readonly string[]) =>
    journalOf(
      machine,
      '-u',
      unit,
      '--output-fields=MESSAGE,HOLDFAST_AGENT,SYSLOG_IDENTIFIER',
      '-o',
      'json',
      ...match,
    )
  const [entry] = (await read('HOLDFAST_EVENT=agent_started', 'PRIORITY=6')).trim().split('\n')
  const seen = JSON.parse(entry ?? '') as Readonly<Record<string, string>>
  assert.equal(seen.SYSLOG_IDENTIFIER, 'holdfast')
  assert.equal(seen.HOLDFAST_AGENT, 'unnamed-gateway')
  assert.match(seen.MESSAGE ?? '', /^agent_started agent=unnamed-gateway /)
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
  flow = await publish(machine, secrets.token, 'plant')
  const seen = await until(
    async () => {
      const now = await status(machine)
      return (now.destinations[0]?.points ?? 0) > 500 ? now : undefined
    },
    () => journalOf(machine, '-u', unit, '-n', '30'),
  )
  assert.equal(seen.destinations[0]?.state, 'up')
})

test('SIGKILL: back by itself', { skip }, async (t) => {
  const restarts = await restartsOf(machine)
  const killedMs = nowMs()
  await machine.run('systemctl', 'kill', '--signal=KILL', unit)
  say(t, `ready again ${Math.round(await startedAgain(killedMs, restarts))} ms after SIGKILL`)
})

test('a stopped event loop trips the watchdog', { skip }, async (t) => {
  const restarts = await restartsOf(machine)
  const stoppedMs = nowMs()
  await machine.run('systemctl', 'kill', '--kill-whom=main', '--signal=STOP', unit)
  const took = Math.round(await startedAgain(stoppedMs, restarts))
  assert.match(await journalOf(machine, '-u', unit), /Watchdog timeout/)
  say(t, `ready again ${took} ms after SIGSTOP, of which WatchdogSec is 4 s (90 s as shipped)`)
})

test('JavaScript that never ends trips the watchdog, though the process runs', {
  skip,
}, async (t) => {
  const restarts = await restartsOf(machine)
  await machine.run('systemctl', 'kill', '--kill-whom=main', '--signal=USR1', unit)
  const program = join(import.meta.dirname, '../support/busy-loop.ts')
  await machine.startBeside(process.execPath, [program]).says('busy')
  const busyMs = nowMs()
  const { MainPID: pid } = await show(machine, unit, 'MainPID')
  // It runs, and runs hot: nothing has stopped it.
  const ticks = async () => {
    const stat = await machine.run('cat', `/proc/${pid}/stat`)
    const [state, ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return { state, user: Number(rest[10]) }
  }
  const before = await ticks()
  await new Promise((resolve) => setTimeout(resolve, 1_000))
  const after = await ticks()
  assert.equal(after.state, 'R')
  assert.ok(after.user > before.user)
  const took = Math.round(await startedAgain(busyMs, restarts))
  const killed = (await journalOf(machine, '-u', unit)).match(/Watchdog timeout/g)
  assert.equal(killed?.length, 2)
  assert.match(await doctorSays('unit'), /^warning: .*; last killed by the watchdog/)
  say(t, `ready again ${took} ms after its event loop stood, of which WatchdogSec is 4 s`)
})

test('a spool thread that does not answer trips the watchdog, though the event loop runs', {
  skip,
}, async (t) => {
  const restarts = await restartsOf(machine)
  const heldMs = nowMs()
  const holder = await holdThread(machine.hostPid(unit), /^spool/)
  const took = Math.round(await startedAgain(heldMs, restarts))
  await holder.kill()
  const killed = (await journalOf(machine, '-u', unit)).match(/Watchdog timeout/g)
  assert.equal(killed?.length, 3)
  say(t, `ready again ${took} ms after the thread was held`)
})

test('SIGHUP: reloaded, the process stays; what is wrong is refused', { skip }, async () => {
  const pid = (await show(machine, unit, 'MainPID')).MainPID
  const reload = async (says: string) => {
    await machine.run('systemctl', 'reload', unit)
    await until(
      async () => (await journalOf(machine, '-u', unit, '-n', '50')).includes(says) || undefined,
      () => journalOf(machine, '-u', unit, '-n', '30'),
    )
  }
  await reload('the configuration is unchanged')
  // Asked by the signal alone systemd hears of it from the agent: RELOADING=1, then READY=1.
  const changedAt = () => show(machine, unit, 'StateChangeTimestampMonotonic', 'ActiveState')
  const before = await changedAt()
  await new Promise((resolve) => setTimeout(resolve, 300))
  assert.deepEqual(await changedAt(), before)
  await machine.run('systemctl', 'kill', '--kill-whom=main', '--signal=HUP', unit)
  await until(
    async () => {
      const now = await changedAt()
      const { StateChangeTimestampMonotonic: at } = now
      return now.ActiveState === 'active' && at !== before.StateChangeTimestampMonotonic
        ? true
        : undefined
    },
    () => 'systemd heard of no reload',
  )
  // The excerpt of a mistake shows its neighbours, where secrets may stand.
  const wrong = `sources: [{name: a, type: http, token: ${secrets.literal}, tokn: ${secrets.literal}}]\n`
  machine.put('/etc/holdfast/holdfast.yaml', `agent: {name: gw-1}\n${wrong}`)
  await reload('the new configuration is refused')
  const seen = await show(machine, unit, 'MainPID', 'ActiveState')
  assert.deepEqual(seen, { MainPID: pid, ActiveState: 'active' })
})

test('exit 78 alone is not started again: a wrong configuration waits for a person', {
  skip,
}, async () => {
  await machine.attempt('systemctl', 'restart', unit)
  const twice = 2 * 1_000 // RestartSec
  await new Promise((resolve) => setTimeout(resolve, twice))
  const seen = await show(machine, unit, 'ActiveState', 'ExecMainStatus', 'NRestarts')
  assert.deepEqual(seen, { ActiveState: 'failed', ExecMainStatus: '78', NRestarts: '0' })
  // Why it ended stands where people are told to look.
  assert.match(await journalOf(machine, '-u', unit, '-p', 'err'), /error +HF-C003 .*"tokn"/)
  assert.match(await doctorSays('unit'), /^bad: .*exit 78, HF-C003.* = holdfast check/)
  putAgentConfig(machine)
  await machine.run('systemctl', 'start', unit)
})

/** What an agent does only when it is asked, of a process that has run for a while. */
const usesEverything = async (): Promise<void> => {
  const client = createControlClient(machine.outside('/run/holdfast/control.sock'), 5_000)
  const { lanes } = await status(machine)
  assert.ok((await client.text('/v1/metrics')).includes('holdfast_points_received_total'))
  for (const path of ['/v1/gaps?limit=10', '/v1/quarantine?limit=10']) await client.get(path)
  await machine.run('systemctl', 'reload', unit)
  await until(
    async () =>
      ((await status(machine)).lanes[0]?.accepted ?? 0) > (lanes[0]?.accepted ?? 0) || undefined,
    () => 'it takes no points any more',
  )
}

test('upgraded over a running backlog', { skip }, async (t) => {
  await machine.run('systemctl', 'stop', 'holdfast-regional')
  await until(
    async () => ((await status(machine)).lanes[0]?.readers[0]?.pending ?? 0) > 5_000 || undefined,
    () => 'no backlog',
  )
  const [fromMs, pid] = [Date.now(), (await show(machine, unit, 'MainPID')).MainPID]
  const parts = () => machine.sh('ls /usr/lib/holdfast | grep part-')
  const old = await parts()
  // Between the two the agent runs on, over files of another version.
  await machine.run('dpkg', '--force-confold', '--unpack', '/drop/later.deb')
  assert.notEqual(await parts(), old, 'nothing of it was replaced')
  await usesEverything()
  assert.equal((await show(machine, unit, 'MainPID')).MainPID, pid)
  await machine.run('dpkg', '--force-confold', '--configure', 'holdfast')
  assert.notEqual((await show(machine, unit, 'MainPID')).MainPID, pid)
  assert.doesNotMatch(await journalOf(machine, '-u', unit), /ERR_MODULE_NOT_FOUND|Cannot find/)
  const { pending = 0 } = (await status(machine)).lanes[0]?.readers[0] ?? {}
  assert.ok(pending > 5_000, `the backlog is gone: ${pending}`)
  const toMs = Date.now() + 5_000
  await machine.run('systemctl', 'start', 'holdfast-regional')
  await new Promise((resolve) => setTimeout(resolve, 5_000))
  const published = await flow.stop()
  journal = published.journal
  const during = published.ackedAtMs.filter((ms) => ms >= fromMs && ms <= toMs)
  const pauses = during.map((ms, at) => ms - (during[at - 1] ?? fromMs))
  say(
    t,
    `longest time without an ack while upgrading: ${Math.max(...pauses)} ms; backlog ${pending} points`,
  )
})

test('nothing is lost, doubled or altered', { skip }, async (t) => {
  const verdict = await nothingLost(machine, journal)
  assert.ok(verdict.accepted > 5_000)
  say(t, `${verdict.accepted} points accepted, ${verdict.delivered} delivered`)
  // The checker is awake: one point more than the region has, and it says so.
  const [first] = journal.filter(({ acked }) => acked)
  assert.ok(first)
  const changed = await verdictOf(machine, [...journal, { ...first, timeUs: first.timeUs + 1 }])
  assert.equal(changed.ok, false)
})

test('no secret in the journal, in metrics, or in what systemd and the agent say', {
  skip,
}, async () => {
  const client = createControlClient(machine.outside('/run/holdfast/control.sock'), 5_000)
  const said = [
    await machine.run('journalctl', '--no-pager', '-o', 'export'),
    await client.text('/v1/metrics'),
    await client.text('/v1/status'),
    await machine.run('systemctl', 'show', unit),
  ].join('\n')
  // They were really there, and what is searched is what was said.
  const token = readFileSync(
    machine.outside('/run/credentials/holdfast.service/door-token'),
    'utf8',
  )
  assert.equal(token, secrets.token)
  for (const word of ['agent_started', 'tokn', 'holdfast_points_received_total', 'StatusText='])
    assert.ok(said.includes(word), `${word} was not told`)
  for (const [name, secret] of Object.entries(secrets))
    assert.ok(!said.includes(secret), `${name} was told`)
})

test('as small as said: exposure at most 1.5, limits, restarts', { skip }, async (t) => {
  for (const name of [unit, 'holdfast-regional']) {
    const file = `/lib/systemd/system/${name}.service`
    await machine.run('systemd-analyze', 'verify', '--man=no', file)
    const check = ['security', '--offline=true', '--no-pager', file]
    const text = await machine.run('systemd-analyze', ...check, '--threshold=15')
    say(t, `${name}: exposure ${/level for .*: ([\d.]+)/.exec(text)?.[1]}`)
    assert.notEqual((await machine.attempt('systemd-analyze', ...check, '--threshold=5')).code, 0)
    const seen = await show(
      machine,
      name,
      'MemoryMax',
      'TasksMax',
      'RestartPreventExitStatus',
      'User',
    )
    assert.ok(Number(seen.MemoryMax) <= 2 * 1024 ** 3)
    assert.deepEqual(
      [seen.TasksMax, seen.RestartPreventExitStatus, seen.User],
      ['64', '78', 'holdfast'],
    )
  }
})

const precious = '/precious'
const traceOf = () =>
  machine.sh(`find ${precious} -printf '%p %m %u %g %s %T@ %l\n' | sort; sha256sum ${precious}/*`)

test('planted links in state and configuration: nothing outside is changed by a start', {
  skip,
}, async () => {
  await machine.sh(`
    mkdir ${precious}; echo mine >${precious}/file; chmod 666 ${precious}/file; echo key >${precious}/key
    for folder in /var/lib/holdfast /etc/holdfast; do
      ln -s ${precious} $folder/outside; ln -s ${precious}/file $folder/planted; ln -s ${precious}/key $folder/more.pem
    done`)
  const before = await traceOf()
  // A state folder that is not the unit's own user's: systemd gives it back, all of it, at the next start.
  await machine.sh(`systemctl stop ${unit}; chown root: /var/lib/holdfast; systemctl start ${unit}`)
  assert.equal((await machine.sh('stat -c %U /var/lib/holdfast')).trim(), 'holdfast')
  assert.equal(await traceOf(), before)
  // A spool that is a link leads nowhere, whatever the agent makes of it.
  await machine.sh(`
    systemctl stop ${unit}; cp -a /var/lib/holdfast /root/kept
    rm /var/lib/holdfast/spool.db*; ln -s ${precious}/file /var/lib/holdfast/spool.db`)
  await machine.attempt('systemctl', 'start', unit)
  assert.equal(await traceOf(), before)
  await machine.sh(`
    systemctl stop ${unit}; rm -r /var/lib/holdfast; mv /root/kept /var/lib/holdfast; systemctl start ${unit}`)
  assert.equal(await traceOf(), before)
})

test('removed: data stays; purged: unsent points and their keys stay, and are said', {
  skip,
}, async (t) => {
  const more = await publish(machine, secrets.token, 'later')
  await until(
    async () => ((await status(machine)).lanes[0]?.readers[0]?.pending ?? 0) > 2_000 || undefined,
    () => 'no backlog',
  )
  journal = [...journal, ...(await more.stop()).journal]
  const pending = (await status(machine)).lanes[0]?.readers[0]?.pending
  const before = await traceOf()
  await machine.run('dpkg', '-r', 'holdfast')
  assert.equal((await show(machine, unit, 'LoadState')).LoadState, 'not-found')
  for (const file of ['/var/lib/holdfast/spool.db', '/etc/holdfast/holdfast.yaml'])
    await machine.run('test', '-s', file)
  const said = await machine.run('dpkg', '-P', 'holdfast')
  assert.match(said, new RegExp(`never sent: ${pending}\\n`))
  for (const file of ['/var/lib/holdfast/spool.db', '/etc/holdfast/agent.pem'])
    await machine.run('test', '-s', file)
  assert.equal(await traceOf(), before)
  say(t, `${pending} unsent points kept`)
})

test('installed again: what was kept arrives, and nothing is lost', { skip }, async () => {
  putAgentConfig(machine)
  await machine.run('dpkg', '--force-confold', '-i', '/drop/later.deb')
  await machine.run('systemctl', 'start', 'holdfast-regional')
  await nothingLost(machine, journal)
})

test('purged with everything sent: the spool goes, a region stays unless told; links lead nowhere', {
  skip,
}, async () => {
  const before = await traceOf()
  assert.match(await machine.run('dpkg', '-P', 'holdfast'), /kept \/var\/lib\/holdfast-regional/)
  await machine.run('test', '!', '-e', '/var/lib/holdfast')
  await machine.run('test', '-s', '/var/lib/holdfast-regional/region.db')
  await machine.run('dpkg', '--force-confmiss', '-i', '/drop/holdfast.deb')
  await machine.run('env', 'HOLDFAST_PURGE_DATA=yes', 'dpkg', '-P', 'holdfast')
  const left = await machine.sh(
    "find /etc /usr /var /run -name '*holdfast*' -not -path '*/holdfast.service.d*' -not -path '/var/log/*'",
  )
  assert.equal(left, '')
  assert.equal(await traceOf(), before)
})
