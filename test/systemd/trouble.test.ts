/**
 * The packaged agent in trouble, in a real systemd: a spool it crashes over, a version that is older than its spool, devices
 * it may not open unless told. Each test goes on where the one before has left the machine.
 */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
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
} from '../support/gateway.ts'
import { type Machine, noMachine } from '../support/machine.ts'
import { killAll } from '../support/processes.ts'

const skip = noMachine()
const state = '/var/lib/holdfast'
const dropIns = `/etc/systemd/system/${unit}.service.d`
const secrets = { token: 'a-token-of-the-tests', password: 'a-password-of-the-tests' }
let machine: Machine
let journal: readonly JournalPoint[] = []

before(async () => {
  if (!skip) machine = await bootWithPackage()
})
after(async () => {
  await machine?.powerOff()
  killAll()
})

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const pendingNow = async () => (await status(machine)).lanes[0]?.readers[0]?.pending ?? 0
/** Leaves more than `least` unsent points, all of them in the journal of the test. */
const leaveBacklog = async (name: string, least: number): Promise<number> => {
  await machine.run('systemctl', 'stop', 'holdfast-regional')
  const flow = await publish(machine, secrets.token, name)
  await until(
    async () => (await pendingNow()) > least || undefined,
    () => `no backlog of ${name}`,
  )
  journal = [...journal, ...(await flow.stop()).journal]
  return await pendingNow()
}
const asideIn = () =>
  readdirSync(machine.outside(state)).filter((name) => /\.suspect-[0-9a-f]{8}$/.test(name))
/** A verb as the agent's own user. */
const holdfast = (...words: readonly string[]) =>
  machine.run(
    'setpriv',
    ...['--reuid=holdfast', '--regid=holdfast', '--clear-groups', 'holdfast', ...words],
  )

test('five crashes in a minute: the unit goes on, the suspect spool is set aside, and its points are rescued', {
  skip,
}, async (t) => {
  await machine.run('dpkg', '-i', '/drop/holdfast.deb')
  machine.put(
    '/opt/bug.mjs',
    "process.once('SIGUSR2', () => { throw new Error('a bug of the test') })\n",
  )
  machine.put(`${dropIns}/bug.conf`, '[Service]\nEnvironment=NODE_OPTIONS=--import=/opt/bug.mjs\n')
  await configure(machine, secrets)
  const pending = await leaveBacklog('before', 2_000)
  const crash = async () => {
    const restarts = await restartsOf(machine)
    await machine.run('systemctl', 'kill', '--kill-whom=main', '--signal=USR2', unit)
    await restarted(machine, restarts)
  }
  const fromMs = Date.now()
  for (let nth = 0; nth < 4; nth++) await crash()
  assert.deepEqual(asideIn(), [], 'four are not enough')
  assert.equal(await pendingNow(), pending)
  await crash()
  t.diagnostic(`five crashes and starts in ${((Date.now() - fromMs) / 1000).toFixed(1)} s`)
  const errors = await journalOf(machine, '-u', unit, '-p', 'err')
  assert.match(errors, /a bug, please report it\nError: a bug of the test\n +at /)
  const [name = ''] = asideIn()
  const file = join(state, name)
  assert.equal(await pendingNow(), 0)
  const { verdict } = await status(machine)
  assert.ok(verdict.issues.some(({ code, fix }) => code === 'HF-H011' && fix.includes(file)))
  await until(
    async () =>
      (await show(machine, unit, 'StatusText')).StatusText?.startsWith('degraded: ') || undefined,
    async () => (await show(machine, unit, 'StatusText')).StatusText ?? '',
  )
  assert.equal((await show(machine, unit, 'StartLimitIntervalUSec')).StartLimitIntervalUSec, '0')

  // The new spool lacks nothing. Whoever removed the package now must not lose what was set aside.
  await machine.sh('/var/lib/dpkg/info/holdfast.prerm remove')
  assert.equal(await machine.run('cat', '/var/lib/holdfast.unsent'), 'unknown\n')
  await machine.run('rm', '/var/lib/holdfast.unsent')
  await machine.run('systemctl', 'start', unit, 'holdfast-regional')
  const flow = await publish(machine, secrets.token, 'after')
  await until(
    async () => ((await status(machine)).destinations[0]?.points ?? 0) > 500 || undefined,
    () => 'the new spool sends nothing',
  )
  journal = [...journal, ...(await flow.stop()).journal]
  assert.equal(JSON.parse(await holdfast('spool', 'check', file, '--json')).good, true)
  assert.equal(JSON.parse(await holdfast('spool', 'stats', file, '--json')).unsent, pending)
  assert.match(
    await holdfast('spool', 'salvage', file),
    new RegExp(`${pending.toLocaleString('en')} taken in now`),
  )
  const { accepted } = await nothingLost(machine, journal)
  t.diagnostic(`${pending} points rescued of ${accepted}`)
  await machine.sh(`rm ${dropIns}/bug.conf ${file}*; systemctl daemon-reload`)
  await machine.run('systemctl', 'restart', unit)
})

test('an older version that knows the spool takes it over as it is', { skip }, async (t) => {
  await machine.run('dpkg', '--force-confold', '-i', '/drop/later.deb')
  const pending = await leaveBacklog('downgraded', 2_000)
  assert.match(
    await machine.run('dpkg', '--force-confold', '-i', '/drop/holdfast.deb'),
    /downgrading holdfast/,
  )
  assert.equal(await pendingNow(), pending)
  t.diagnostic(`${pending} unsent points before and after`)
})

const digests = () =>
  readdirSync(machine.outside(state))
    .filter((name) => name.startsWith('spool.db'))
    .sort()
    .map((name) => {
      const bytes = readFileSync(machine.outside(join(state, name)))
      return `${name} ${createHash('sha256').update(bytes).digest('hex')}`
    })
/** Place of SQLite's user_version in a file, which says what wrote the spool. */
const versionAt = 60
/** Changes it; answers what it was before. */
const writtenBy = (version: number): number => {
  const path = machine.outside(join(state, 'spool.db'))
  const bytes = readFileSync(path)
  const before = bytes.readUInt32BE(versionAt)
  bytes.writeUInt32BE(version, versionAt)
  writeFileSync(path, bytes)
  return before
}

test('a spool of a newer version is refused byte for byte; purge keeps it; the newer version goes on', {
  skip,
}, async () => {
  await machine.run('systemctl', 'stop', unit)
  await machine.run('dpkg', '--force-confold', '-i', '/drop/later.deb')
  const { ActiveState } = await show(machine, unit, 'ActiveState')
  assert.equal(ActiveState, 'inactive', 'an upgrade started what a person had stopped')
  const known = writtenBy(9 + 9 * 65_536)
  const before = digests()
  assert.ok(before.length >= 2)
  await machine.run('systemctl', '--no-block', 'start', unit)
  await until(
    async () =>
      (await journalOf(machine, '-u', unit, '-p', 'err', '-n', '50')).includes('HF-S003') ||
      undefined,
    () => journalOf(machine, '-u', unit, '-n', '50'),
  )
  await pause(2_000)
  assert.deepEqual(await show(machine, unit, 'ActiveState', 'ExecMainStatus', 'NRestarts'), {
    ActiveState: 'failed',
    ExecMainStatus: '78',
    NRestarts: '0',
  })
  const { text } = await machine.attempt('holdfast', 'doctor', '--no-color')
  assert.match(text, /^BAD +unit .*HF-S003: its spool was written by a newer version\n +=/m)
  assert.deepEqual(digests(), before)
  await machine.run('dpkg', '-r', 'holdfast')
  assert.match(await machine.run('dpkg', '-P', 'holdfast'), /never sent: unknown\n/)
  assert.deepEqual(
    digests().filter((one) => !/-(wal|shm) /.test(one)),
    before,
    'counting what is unsent leaves an empty log beside it',
  )

  writtenBy(known)
  assert.notDeepEqual(digests(), before)
  putAgentConfig(machine)
  await machine.run('dpkg', '--force-confold', '-i', '/drop/later.deb')
  await machine.run('systemctl', 'start', 'holdfast-regional')
  await nothingLost(machine, journal)
})

/** Does in the unit what the text says, in Perl, before the agent starts; answers what it printed. */
const inUnit = async (program: string, dropIn = ''): Promise<string> => {
  machine.put('/opt/try.pl', program)
  // Whatever the unit starts is in its sandbox: what the agent may do, this may, and no more.
  machine.put(`${dropIns}/try.conf`, '[Service]\nExecStartPre=/usr/bin/perl /opt/try.pl\n')
  if (dropIn !== '') machine.put(`${dropIns}/devices.conf`, dropIn)
  await machine.sh(`systemctl daemon-reload; systemctl restart ${unit}`)
  const [, said = ''] =
    [...(await journalOf(machine, '-u', unit, '-n', '100')).matchAll(/tried: (.*)/g)].at(-1) ?? []
  await machine.sh(`rm -f ${dropIns}/try.conf ${dropIns}/devices.conf; systemctl daemon-reload`)
  return said
}
const devices = readFileSync(
  join(import.meta.dirname, '../../platforms/linux/serial-can.conf'),
  'utf8',
)
const without = (line: RegExp): string => {
  const text = devices.replace(line, '')
  assert.notEqual(text, devices)
  return text
}

/** A serial line's far side, which answers each line in capitals; its near side is /dev/ttyUSB0, as udev would set it up. */
const farSide = `
use Fcntl;
sysopen(my $far, '/dev/ptmx', O_RDWR | O_NOCTTY) or die $!;
my $number = pack('i', 0);
ioctl($far, 0x40045431, $number) or die $!;
ioctl($far, 0x80045430, $number) or die $!;
my $near = '/dev/pts/' . unpack('i', $number);
system("stty -F $near raw -echo; chgrp dialout $near; chmod 660 $near; ln -sf $near /dev/ttyUSB0") == 0 or die;
# Held open here too: the line must not hang up when the unit closes it.
open(my $held, '+<', $near) or die $!;
while (sysread($far, my $text, 99)) { syswrite($far, uc $text) }
`
const talk = `
open(my $port, '+<', '/dev/ttyUSB0') or do { print "tried: no port: ", $!+0, "\\n"; exit };
syswrite($port, "ping\\n"); alarm 10; sysread($port, my $text, 99); chomp $text; print "tried: $text\\n";
`
test('a serial port: the unit speaks over it with the drop-in, and cannot open it without', {
  skip,
}, async () => {
  machine.put('/opt/far.pl', farSide)
  await machine.sh(`
    systemd-run --quiet --unit=far-side perl /opt/far.pl
    until [ -e /dev/ttyUSB0 ]; do sleep 0.1; done`)
  assert.equal(await inUnit(talk), 'no port: 2')
  assert.equal(await inUnit(talk, devices), 'PING')
  // Each of the two lines is needed: devices are there and belong to another, or are not there.
  assert.equal(await inUnit(talk, without(/^SupplementaryGroups=.*$/m)), 'no port: 13')
  assert.equal(await inUnit(talk, without(/^PrivateDevices=.*$/m)), 'no port: 2')
})

/**
 * A socket of the family, once as SocketCAN asks for it, once of a type that is none. Of a family that the kernel gets to
 * see it says that the type is wrong (22), before it looks whether it has the family: so a kernel without CAN tells a
 * filter's refusal (97) from its own, too.
 */
const can = `
socket(my $raw, 29, 3, 1) ? print "tried: open" : print "tried: ", $!+0;
socket(my $odd, 29, 15, 0) ? print " open\\n" : print " ", $!+0, "\\n";
`
test('CAN: with the drop-in its sockets reach the kernel, without it the filter of the unit refuses them', {
  skip,
}, async (t) => {
  machine.put('/opt/try.pl', can)
  const [, plain = ''] = /tried: (.*)/.exec(await machine.run('perl', '/opt/try.pl')) ?? []
  assert.match(plain, /^(open|97) 22$/)
  assert.equal(await inUnit(can), '97 97')
  assert.equal(await inUnit(can, without(/ AF_CAN$/m)), '97 97')
  assert.equal(await inUnit(can, devices), plain)
  t.diagnostic(`this kernel ${plain.startsWith('open') ? 'has CAN' : 'has no CAN'}`)
})
