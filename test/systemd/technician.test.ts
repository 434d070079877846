/**
 * What a technician does by hand on a gateway with the package, in a real systemd: a first look, `init` by flags and by
 * prompts, doctor, top, a support bundle. Each test goes on where the one before has left the machine.
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import {
  bootWithPackage,
  configure,
  journalOf,
  publish,
  putAgentConfig,
  restarted,
  show,
  status,
  unit,
  until,
} from '../support/gateway.ts'
import { type Machine, noMachine } from '../support/machine.ts'
import { killAll } from '../support/processes.ts'

const skip = noMachine()
const etc = '/etc/holdfast'
const serialAndCan = '/usr/share/doc/holdfast/examples/serial-can.conf'
const canary = () => `canary-${randomBytes(12).toString('hex')}`
const secrets = { token: canary(), password: canary(), literal: canary() }
let machine: Machine

before(async () => {
  if (!skip) machine = await bootWithPackage()
})
after(async () => {
  await machine?.powerOff()
  killAll()
})

/** Ports that anybody listens on: state 0A of TCP, and every UDP socket. */
const listening = async (): Promise<readonly number[]> => {
  const lines = (await machine.sh('cat /proc/net/tcp /proc/net/tcp6 /proc/net/udp /proc/net/udp6'))
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
  const own = lines.filter(([, , far, state]) => state === '0A' || /^0+:0000$/.test(far ?? ''))
  return own.map(([, near = '']) => Number.parseInt(near.split(':')[1] ?? '', 16))
}
const traceOf = (folder: string) =>
  machine.sh(`find ${folder} -printf '%p %m %u %g %s %T@ %l\n' | sort; cat ${folder}/*.*`)

test('as installed: all files are there, nothing listens, nothing is configured', {
  skip,
}, async () => {
  // The root of the tests leaves manuals and documents out; a gateway does not.
  await machine.sh('rm -f /etc/dpkg/dpkg.cfg.d/*; dpkg -i /drop/holdfast.deb')
  assert.deepEqual(await listening(), [])
  assert.equal((await show(machine, unit, 'ActiveState')).ActiveState, 'active')
  assert.equal(await machine.run('dpkg', '--verify', 'holdfast'), '')
  const { sources, destinations } = await status(machine)
  assert.deepEqual([sources, destinations], [[], []])
  const page = readFileSync(join(import.meta.dirname, '../../docs/operate/install.md'), 'utf8')
  const places = [...page.matchAll(/^\| `(\/[^`]+)`/gm)].map(([, path = '']) => path)
  for (const path of [...places, '/usr/share/doc/holdfast/sbom.cdx.json', serialAndCan])
    await machine.run('test', '-e', path)
  assert.ok(places.length >= 6)
})

/** Types an answer to each question, when it is asked, at a terminal. */
const atTerminal = (command: string, answers: readonly (readonly [string, string])[]) =>
  machine.sh(`
    cd /root; rm -f keys screen; mkfifo keys; touch screen
    script -qefc '${command}' screen <keys >/dev/null & exec 3>keys
    ${answers.map(([question, answer]) => `until grep -q '${question}' screen; do sleep 0.05; done; echo '${answer}' >&3`).join('\n')}
    wait; cat screen`)
const asUnit = (...words: readonly string[]) =>
  machine.attempt('runuser', '-u', 'holdfast', '--', 'holdfast', ...words)
const states = async (): Promise<readonly (string | undefined)[]> =>
  await Promise.all(
    [unit, 'holdfast-regional'].map(
      async (name) => (await show(machine, name, 'ActiveState')).ActiveState,
    ),
  )

test("init by prompts over the package's file, Enter and Enter: with the certificates there, the unit is ready", {
  skip,
}, async () => {
  await machine.run('cp', '-p', `${etc}/holdfast.yaml`, '/root/as-installed.yaml')
  const screen = await atTerminal(`holdfast init --directory ${etc}`, [
    ['Name of this gateway', ''],
    ['regional node listen', ''],
  ])
  assert.doesNotMatch(screen, /development CA/)
  const next = [...screen.matchAll(/^(?:next:)? {2,}(\S.*?)\r?$/gm)].map(([, line]) => line)
  assert.deepEqual(next, [
    `install -m 640 -g holdfast ca.pem agent.pem agent-key.pem ${etc}/`,
    'sudo -u holdfast holdfast check',
    'systemctl restart holdfast',
  ])
  await machine.sh(`
    cd /root; name=$(sed -n 's/^  name: \\([^ ]*\\) .*/\\1/p' ${etc}/holdfast.yaml)
    holdfast init --directory pki --name "$name" --development-ca --no-input
    cd pki/ca; mv "$name.pem" agent.pem; mv "$name-key.pem" agent-key.pem
    ${next[0]}`)
  assert.match((await asUnit('check')).text, /^valid /m)
  await machine.run('systemctl', 'restart', unit)
  assert.equal((await show(machine, unit, 'ActiveState')).ActiveState, 'active')
})

test('a changed configuration is said until the restart that takes it up', { skip }, async () => {
  const said = async () =>
    `${(await machine.attempt('holdfast', 'status')).text}${(await machine.attempt('holdfast', 'doctor')).text}`
  assert.doesNotMatch(await said(), /changed since/)
  await machine.sh(`echo '# more' >>${etc}/holdfast.yaml; systemctl reload ${unit}`)
  assert.equal([...(await said()).matchAll(/changed since the agent began/g)].length, 2)
  await machine.run('systemctl', 'restart', unit)
  assert.doesNotMatch(await said(), /changed since/)
})

test('a configuration that the unit cannot read: tried again until it can, and the reason is an error in the journal', {
  skip,
}, async () => {
  await machine.sh(`chmod 600 ${etc}/holdfast.yaml; systemctl --no-block restart ${unit}`)
  await until(
    async () =>
      (await journalOf(machine, '-u', unit, '-p', 'err')).includes('HF-C001') || undefined,
    () => journalOf(machine, '-u', unit, '-n', '30'),
  )
  await machine.run('chmod', '644', `${etc}/holdfast.yaml`)
  await restarted(machine, 0)
  assert.match(await journalOf(machine, '-u', unit), /status=75/)
})

test("init --development-ca in the package's place: both units start, and the region says who is heard", {
  skip,
}, async () => {
  await machine.sh(`
    systemctl stop ${unit}; rm -r ${etc}/*.pem /var/lib/holdfast; cp -p /root/as-installed.yaml ${etc}/holdfast.yaml
    umask 077; holdfast init --directory ${etc} --name gw-7 --development-ca --no-input
    systemctl start holdfast-regional; systemctl restart ${unit}`)
  assert.deepEqual(await states(), ['active', 'active'])
  assert.match(await traceOf(`${etc}/ca`), /ca-key\.pem 600 root root/)
  await until(
    async () => (await status(machine)).destinations[0]?.state === 'up' || undefined,
    () => journalOf(machine, '-u', unit, '-n', '30'),
  )
  await machine.run('systemctl', 'stop', unit, 'holdfast-regional')
  const heard = await asUnit('regional', 'agents')
  assert.match(heard.text, /^gw-7 {2}heard /m)
  // A copy of nothing in the agent's own folder, as root, would stand in the agent's way.
  await machine.run('test', '!', '-e', '/var/lib/holdfast/region.db')
  await machine.sh(`
    rm -r ${etc}/ca ${etc}/regional.yaml /var/lib/holdfast /var/lib/holdfast-regional
    cp -p /root/as-installed.yaml ${etc}/holdfast.yaml; systemctl start ${unit}`)
})

test('init by flags: takes the place of the file nobody has touched, and run again changes nothing', {
  skip,
}, async () => {
  const init = (name: string) =>
    machine.run(
      ...(['holdfast', 'init', '--directory', etc, '--name', name] as const),
      ...['--region', 'https://localhost:8443', '--no-input'],
    )
  assert.match(await init('gw-7'), /wrote +\/etc\/holdfast\/holdfast\.yaml/)
  const text = readFileSync(machine.outside(`${etc}/holdfast.yaml`), 'utf8')
  assert.match(text, /name: gw-7/)
  const before = await traceOf(etc)
  for (const name of ['gw-7', 'gw-8'])
    assert.match(await init(name), /kept +\/etc\/holdfast\/holdfast\.yaml/)
  assert.equal(await traceOf(etc), before)
  // The unit can read it: what is still missing are the certificates that it names.
  assert.match((await asUnit('check')).text, /HF-C015 +\/etc\/holdfast\/ca\.pem does not exist/)
})

test('init by prompts, at a terminal: the same, and run again it changes nothing', {
  skip,
}, async () => {
  const init = (name: string) =>
    atTerminal('holdfast init --directory /root/site', [
      ['Name of this gateway', name],
      ['regional node listen', 'https://region.test:8443'],
      ['development CA', 'yes'],
    ])
  assert.match(await init('gw-9'), /wrote +\/root\/site\/holdfast\.yaml/)
  const text = readFileSync(machine.outside('/root/site/holdfast.yaml'), 'utf8')
  assert.match(text, /name: gw-9/)
  assert.match(text, /url: "https:\/\/region\.test:8443"/)
  const before = await traceOf('/root/site')
  assert.match(before, /gw-9-key\.pem 600 root root/)
  assert.doesNotMatch(await init('gw-9'), /wrote/)
  assert.equal(await traceOf('/root/site'), before)
  await machine.run('holdfast', 'check', '--config', '/root/site/holdfast.yaml')
})

interface Finding {
  readonly check: string
  readonly state: string
  readonly text: string
}
const doctor = async (): Promise<{ code: number; of: (check: string) => readonly Finding[] }> => {
  const { code, text } = await machine.attempt('holdfast', 'doctor', '--json')
  const { findings } = JSON.parse(text.split('\n')[0] ?? '') as { findings: Finding[] }
  return { code, of: (check) => findings.filter((one) => one.check === check) }
}

test('doctor looks at everything on the way, as root, and says what is wrong', {
  skip,
}, async (t) => {
  await configure(machine, secrets)
  await until(
    async () => (await status(machine)).destinations[0]?.state === 'up' || undefined,
    () => journalOf(machine, '-u', unit, '-n', '30'),
  )
  const well = await doctor()
  const needed = ['config', 'room', 'flush', 'clock', 'rights', 'unit', 'certificate', 'wear']
  for (const check of needed) assert.ok(well.of(check).length > 0, `${check} was not looked at`)
  assert.deepEqual(
    well.of('to region').map(({ state, text }) => [state, text.split(' ')[0]]),
    ['dns', 'tcp', 'tls', 'hello'].map((step) => ['good', step]),
  )
  for (const { text } of [...well.of('flush'), ...well.of('unit')]) t.diagnostic(text)
  assert.deepEqual([well.of('unit')[0]?.state, well.of('room')[0]?.state], ['good', 'good'])
  // The machine's disk is memory, and doctor does not take that for a disk.
  assert.match(well.of('flush')[0]?.text ?? '', /too fast to be true/)
  // Another user sees less, says who sees all of it, and finds nothing wrong for that.
  const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'] as const
  const stranger = await machine.attempt(...nobody, 'holdfast', 'doctor', '--no-color')
  assert.match(stranger.text, /^\? +config .*\n +=.*root/m)
  assert.doesNotMatch(stranger.text, /^BAD/m)
  await machine.run('systemctl', 'stop', 'holdfast-regional')
  const alone = await doctor()
  assert.equal(alone.code, 4)
  assert.deepEqual(
    alone.of('to region').map(({ state }) => state),
    ['good', 'bad'],
  )
  await machine.run('systemctl', 'stop', unit)
  assert.match((await doctor()).of('unit')[0]?.text ?? '', /inactive/)
  await machine.run('systemctl', 'start', unit, 'holdfast-regional')
})

test('top shows what moves', { skip }, async () => {
  const flow = await publish(machine, secrets.token, 'plant')
  const seen = await until(
    async () => {
      const found = JSON.parse(await machine.run('holdfast', 'top', '--once', '--json'))
      return found.sources?.[0]?.pointsPerSecond > 0 ? found : undefined
    },
    () => machine.run('holdfast', 'top', '--once', '--json'),
  )
  assert.ok(seen)
  await flow.stop()
})

test('a support bundle: listed before it is written, what helps is in it, no secret is', {
  skip,
}, async (t) => {
  // In a configuration that is refused, so that the journal would have it.
  const wrong = `sources: [{name: a, type: http, token: ${secrets.literal}, tokn: ${secrets.literal}}]\n`
  machine.put(`${etc}/holdfast.yaml`, `agent: {name: gw-1}\n${wrong}`)
  await machine.run('systemctl', 'reload', unit)
  await until(
    async () =>
      (await journalOf(machine, '-u', unit, '-n', '50')).includes('configuration is refused') ||
      undefined,
    () => journalOf(machine, '-u', unit, '-n', '30'),
  )
  const make = (output: string) =>
    machine.run('holdfast', 'support-bundle', '--output', output, '--yes')
  const whileWrong = await make('/root/wrong.txt')
  putAgentConfig(machine)
  const listed = await make('/root/bundle.txt')
  assert.match(listed, /^journal +[0-9]/m)
  const key = readFileSync(machine.outside('/root/agent-key.pem'), 'utf8')
  const keyLines = key.split('\n').filter((line) => line.length > 16 && !line.startsWith('-----'))
  assert.ok(keyLines.length > 0)
  for (const name of ['wrong', 'bundle']) {
    const text = readFileSync(machine.outside(`/root/${name}.txt`), 'utf8')
    for (const word of [
      'agent_started',
      'configuration is refused',
      'holdfast_points_received_total',
    ])
      assert.ok(text.includes(word), `${name}: ${word} is not in it`)
    for (const secret of [...Object.values(secrets), ...keyLines])
      for (const said of [text, listed, whileWrong])
        assert.ok(!said.includes(secret), `${name}: ${secret} is in it`)
    t.diagnostic(`${name}: ${Math.round(text.length / 1024)} KiB`)
  }
  // The search would have found them: the files they came from have them.
  assert.equal(readFileSync(machine.outside('/root/plant-password'), 'utf8'), secrets.password)
})

test('planted links: verbs run as root write through none', { skip }, async () => {
  await machine.sh(`
    mkdir /precious; echo mine >/precious/a.file; chmod 666 /precious/a.file
    cd /var/lib/holdfast; for name in .doctor .doctor-probe lives.json.new spool.db-damaged; do ln -s /precious/a.file $name; done
    cd ${etc}; ln -s /precious/a.file regional.yaml.new; mv holdfast.yaml /root; ln -s /precious/a.file holdfast.yaml`)
  const before = await traceOf('/precious')
  const flags = ['--directory', etc, '--name', 'gw-1', '--no-input', '--force']
  await machine.attempt('holdfast', 'doctor')
  await machine.run('holdfast', 'init', ...flags)
  await machine.attempt(
    'holdfast',
    'support-bundle',
    '--output',
    `${etc}/regional.yaml.new`,
    '--yes',
  )
  await machine.attempt('systemctl', 'restart', unit)
  assert.equal(await traceOf('/precious'), before)
  await machine.run('test', '-f', `${etc}/holdfast.yaml`, '-a', '!', '-L', `${etc}/holdfast.yaml`)
  // The trace tells: one byte more and it is another.
  await machine.sh('echo >>/precious/a.file')
  assert.notEqual(await traceOf('/precious'), before)
})
