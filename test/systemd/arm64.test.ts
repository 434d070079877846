/**
 * The arm64 package, as it is handed out, in a whole arm64 machine: Debian's kernel, a booted systemd, units as
 * shipped, on processors that qemu emulates. A release alone asks for it: it takes minutes. Each test goes on where the
 * one before has left the machine. Times are told, not asserted: they are the emulation's.
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { build } from 'esbuild'
import { packageDeb } from '../../build/package-deb.ts'
import type { AgentStatus } from '../../src/control/view.ts'
import { type Arm64Machine, bootArm64 } from '../support/arm64-machine.ts'
import {
  allArrived,
  configure,
  door,
  journalOf,
  restarted,
  restartsOf,
  show,
  unit,
  until,
} from '../support/gateway.ts'
import { noMachine } from '../support/machine.ts'
import { readPublished } from '../support/machine-publisher.ts'
import { killAll } from '../support/processes.ts'
import { temporaryFolder } from '../support/temp.ts'

const skip = noMachine()
const secrets = {
  token: randomBytes(12).toString('hex'),
  password: randomBytes(12).toString('hex'),
}
const patienceSeconds = 300
const published = '/root/published'
const group = '/sys/fs/cgroup/system.slice/holdfast.service'
/** Allowed to anybody, but not by the unit's filter: refused only where the filter knows arm64's own number of it. */
const tryPriority = `setpriority(0, 0, 5) ? print "priority: set\\n" : print "priority: $!\\n";\n`

let machine: Arm64Machine

/** Seconds since the machine began. */
const uptime = async () => Number((await machine.run('cat', '/proc/uptime')).split(' ')[0])
/** The same, of a moment that systemd noted. */
const noted = async (name: string) => Number((await show(machine, unit, name))[name]) / 1e6
const seconds = (from: number, to: number) => `${(to - from).toFixed(1)} s`
const status = async (): Promise<AgentStatus> =>
  JSON.parse((await machine.attempt('holdfast', 'status', '--json')).text.split('\n')[0] ?? '')
const recent = () => journalOf(machine, '-n', '40')
/** Resolves with a status that is so. */
const statusWhere = (is: (now: AgentStatus) => boolean): Promise<AgentStatus> =>
  until(
    async () => {
      const now = await status()
      return is(now) ? now : undefined
    },
    recent,
    patienceSeconds,
  )
const delivered = (now: AgentStatus) => now.destinations[0]?.points ?? 0

/** The publisher in one file, for the Node of the package. */
const publisherProgram = async (): Promise<Uint8Array> => {
  const { outputFiles } = await build({
    entryPoints: [join(import.meta.dirname, '../support/machine-publisher.ts')],
    bundle: true,
    platform: 'node',
    format: 'esm',
    write: false,
  })
  return outputFiles[0]?.contents ?? new Uint8Array()
}
const startPublishing = async (): Promise<void> => {
  machine.put('/opt/publisher.mjs', Buffer.from(await publisherProgram()))
  const program = ['/usr/lib/holdfast/bin/node', '/opt/publisher.mjs', door, secrets.token]
  const words = [...program, `${published}/journal.json`, 'plant', '500']
  await machine.run('mkdir', '-p', published)
  await machine.run('systemd-run', '--unit=publisher', ...words)
}

if (process.env.HOLDFAST_TEST_RELEASE === '1') {
  before(async () => {
    if (skip) return
    const folder = temporaryFolder('deb')
    renameSync(await packageDeb('arm64', folder), join(folder, 'holdfast.deb'))
    machine = await bootArm64(folder)
  })
  after(async () => {
    await machine?.powerOff()
    killAll()
  })

  test('an arm64 Debian boots: its own kernel, systemd as the first process', {
    skip,
  }, async (t) => {
    assert.equal((await machine.run('uname', '-m')).trim(), 'aarch64')
    assert.equal((await machine.run('cat', '/proc/1/comm')).trim(), 'systemd')
    assert.equal(await machine.run('systemctl', '--failed', '--plain', '--no-legend'), '')
    t.diagnostic((await machine.run('systemd-analyze', 'time')).split('\n')[0] ?? '')
    t.diagnostic(`kernel ${(await machine.run('uname', '-r')).trim()}`)
  })

  test('dpkg -i: enabled, started, ready, within its limits', { skip }, async (t) => {
    const from = await uptime()
    await machine.run('dpkg', '-i', '/drop/holdfast.deb')
    t.diagnostic(`dpkg -i until ready: ${seconds(from, await uptime())}`)
    const [started, ready] = [
      await noted('ExecMainStartTimestampMonotonic'),
      await noted('ActiveEnterTimestampMonotonic'),
    ]
    t.diagnostic(`of which start to ready: ${seconds(started, ready)}`)
    const seen = await show(machine, unit, 'ActiveState', 'UnitFileState', 'Type', 'WatchdogUSec')
    assert.deepEqual(seen, {
      ActiveState: 'active',
      UnitFileState: 'enabled',
      Type: 'notify',
      WatchdogUSec: '1min 30s',
    })
    await until(
      async () =>
        (await show(machine, unit, 'StatusText')).StatusText?.startsWith('ok: ') || undefined,
      recent,
      patienceSeconds,
    )
    // The kernel's own word on who it is, and on limits that a container does not have.
    const { MainPID: pid } = await show(machine, unit, 'MainPID')
    const process = await machine.run('cat', `/proc/${pid}/status`)
    const uid = (await machine.run('id', '-u', 'holdfast')).trim()
    assert.match(process, new RegExp(`^Uid:\\t${uid}\\t${uid}\\t`, 'm'))
    assert.match(process, /^NoNewPrivs:\t1$/m)
    assert.match(process, /^Seccomp:\t2$/m)
    const limits = await machine.sh(`cat ${group}/memory.max ${group}/pids.max`)
    assert.equal(limits, `${512 << 20}\n64\n`)
    const used = Number(await machine.run('cat', `${group}/memory.current`))
    assert.ok(used > 1 << 20)
    t.diagnostic(`memory of the unit, as its control group counts: ${Math.round(used / 1e6)} MB`)
  })

  test('points flow to a regional node; what the filter refuses is refused', {
    skip,
  }, async (t) => {
    machine.put('/opt/try.pl', tryPriority)
    machine.put(
      '/etc/systemd/system/holdfast.service.d/try.conf',
      '[Service]\nExecStartPre=/usr/bin/perl /opt/try.pl\n',
    )
    await configure(machine, secrets, { watchdogAsShipped: true })
    assert.equal(await machine.run('perl', '/opt/try.pl'), 'priority: set\n')
    assert.match(await journalOf(machine, '-u', unit), /^priority: Operation not permitted$/m)
    await startPublishing()
    const now = await statusWhere((one) => delivered(one) > 2_000)
    assert.equal(now.destinations[0]?.state, 'up')
    t.diagnostic(`${delivered(now)} points delivered so far`)
  })

  /** Does that, which ends the agent; resolves with how long it took to come back, and once it takes points again. */
  const backAfter = async (end: () => Promise<unknown>): Promise<string> => {
    const [restarts, from] = [await restartsOf(machine), await uptime()]
    await end()
    await restarted(machine, restarts, patienceSeconds)
    const ready = await noted('ActiveEnterTimestampMonotonic')
    const before = (await status()).lanes[0]?.accepted ?? 0
    await statusWhere((one) => (one.lanes[0]?.accepted ?? 0) > before + 1_000)
    return seconds(from, ready)
  }
  test('SIGKILL: back by itself, and points flow on', { skip }, async (t) => {
    const took = await backAfter(() => machine.run('systemctl', 'kill', '--signal=KILL', unit))
    t.diagnostic(`ready again ${took} after SIGKILL`)
  })

  test('at its limit of memory, the kernel ends it: back by itself', { skip }, async (t) => {
    // Lowered for this process alone: the next one has the unit's own.
    const took = await backAfter(() => machine.sh(`echo 16M >${group}/memory.max`))
    assert.match(await journalOf(machine, '-u', unit), /Failed with result 'oom-kill'/)
    assert.equal(await machine.run('cat', `${group}/memory.max`), `${512 << 20}\n`)
    t.diagnostic(`ready again ${took} after it`)
  })

  test('nothing is lost, doubled or altered', { skip }, async (t) => {
    await machine.run('systemctl', 'stop', 'publisher')
    const folder = temporaryFolder('published')
    await machine.copyOut(published, folder)
    const { journal } = readPublished(readFileSync(join(folder, 'journal.json'), 'utf8'))
    await statusWhere(({ lanes }) => {
      const readers = lanes.flatMap((lane) => lane.readers)
      return readers.length > 0 && readers.every(({ pending }) => pending === 0)
    })
    const verdict = await allArrived(machine, journal)
    assert.ok(verdict.accepted > 3_000)
    t.diagnostic(`${verdict.accepted} points accepted, ${verdict.delivered} delivered`)
    assert.doesNotMatch(await journalOf(machine, '-u', unit), /Watchdog timeout/)
  })

  test('removed: data stays; purged with everything sent: it goes', { skip }, async () => {
    await machine.run('dpkg', '-r', 'holdfast')
    assert.equal((await show(machine, unit, 'LoadState')).LoadState, 'not-found')
    for (const file of ['/var/lib/holdfast/spool.db', '/etc/holdfast/holdfast.yaml'])
      await machine.run('test', '-s', file)
    assert.match(await machine.run('dpkg', '-P', 'holdfast'), /kept \/var\/lib\/holdfast-regional/)
    for (const gone of ['/var/lib/holdfast', '/etc/holdfast/holdfast.yaml', '/usr/lib/holdfast'])
      await machine.run('test', '!', '-e', gone)
    await machine.run('test', '-s', '/var/lib/holdfast-regional/region.db')
    const { text } = await machine.attempt('dpkg', '-s', 'holdfast')
    assert.match(text, /is not installed/)
  })
}
