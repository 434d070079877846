/** Verbs that need no running agent, through the real process. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import {
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { parse } from 'yaml'
import type { LoadResult } from '../../../src/config/load.ts'
import { exitCodes } from '../../../src/errors.ts'
import { temporaryFolder } from '../../support/temp.ts'
import { holdfast } from './process.ts'

const folder = temporaryFolder('cli')

test('no verb, an unknown verb, a wrong flag: exit 2; help and version: exit 0', async () => {
  const [none, wrong, flag, help, version] = await Promise.all([
    holdfast([]),
    holdfast(['stats']),
    holdfast(['gaps', '--limit', '0']),
    holdfast(['--help']),
    holdfast(['version', '--json']),
  ])
  assert.equal(none.code, exitCodes.usage)
  assert.equal(wrong.code, exitCodes.usage)
  assert.match(wrong.err, /unknown command 'stats'\n\(Did you mean status\?\)/)
  assert.equal(flag.code, exitCodes.usage)
  assert.equal(help.code, 0)
  for (const verb of [
    'run',
    'init',
    'check',
    'status',
    'tap',
    'gaps',
    'quarantine',
    'replay',
    'regional',
    'destination',
    'demo',
  ])
    assert.match(help.out, new RegExp(`^  ${verb} `, 'm'))
  assert.deepEqual(Object.keys(JSON.parse(version.out)), ['holdfast', 'node', 'platform'])
})

test('init: by flags, idempotent; what it writes is valid', async () => {
  const site = join(folder, 'site')
  const args = [
    'init',
    '--directory',
    site,
    '--name',
    'gw-7',
    '--region',
    'https://region.test:8443',
    '--development-ca',
  ]
  const first = await holdfast(args)
  assert.equal(first.code, 0, first.err)
  assert.equal(first.out, '')
  const files = [
    'holdfast.yaml',
    'regional.yaml',
    'ca/ca.pem',
    'ca/ca-key.pem',
    'ca/gw-7.pem',
    'ca/gw-7-key.pem',
    'ca/region.pem',
    'ca/region-key.pem',
  ]
  const bytes = () => files.map((name) => readFileSync(join(site, name), 'utf8'))
  const before = bytes()
  for (const name of files.filter((one) => one.includes('-key')))
    assert.equal(statSync(join(site, name)).mode & 0o777, 0o600, name)
  const ca = new X509Certificate(readFileSync(join(site, 'ca/ca.pem')))
  const agent = new X509Certificate(readFileSync(join(site, 'ca/gw-7.pem')))
  const region = new X509Certificate(readFileSync(join(site, 'ca/region.pem')))
  assert.ok(agent.verify(ca.publicKey) && region.verify(ca.publicKey))
  assert.equal(agent.subject, 'CN=gw-7')
  for (const name of ['region.test', 'localhost']) assert.ok(region.checkHost(name), name)
  const [again, check, checkRegional] = await Promise.all([
    holdfast(args),
    holdfast(['check', '-c', join(site, 'holdfast.yaml'), '--deny-warnings']),
    holdfast(['check', '--regional', '-c', join(site, 'regional.yaml'), '--deny-warnings']),
  ])
  assert.equal(again.code, 0)
  assert.doesNotMatch(again.err, /wrote/)
  assert.deepEqual(bytes(), before)
  assert.equal(check.code, 0, check.err)
  assert.equal(checkRegional.code, 0, checkRegional.err)
})

test('init without a CA: a valid file that names what is still missing; --force replaces it', async () => {
  const site = join(folder, 'bare')
  const written = await holdfast([
    'init',
    '--directory',
    site,
    '--name',
    'gw-1',
    '--no-input',
    '--json',
  ])
  assert.equal(written.code, 0, written.err)
  const file = join(site, 'holdfast.yaml')
  assert.deepEqual(JSON.parse(written.out), { file, wrote: true, regional: null })
  assert.equal(existsSync(join(site, 'ca')), false)
  const check = await holdfast(['check', '--no-surroundings', '-c', file])
  assert.equal(check.code, 0, check.err)
  const uncommented = readFileSync(file, 'utf8').replaceAll(/^# {2}/gm, '  ')
  const secret = join(folder, 'mqtt-password')
  writeFileSync(secret, 'x')
  writeFileSync(join(site, 'mqtt.yaml'), uncommented.replace('/etc/holdfast/mqtt-password', secret))
  const example = await holdfast(['check', '--no-surroundings', '-c', join(site, 'mqtt.yaml')])
  assert.equal(example.code, 0, example.err)
  assert.match(uncommented, /^ {2}- name: plant\n {4}type: mqtt/m)
  const looked = await holdfast(['check', '-c', file])
  assert.equal(looked.code, exitCodes.configInvalid)
  assert.match(looked.err, /HF-C015 {2}\/etc\/holdfast\/ca\.pem does not exist/)
  const run = await holdfast(['run', '-c', file])
  assert.equal(run.code, exitCodes.tryLater, 'certificates may still come: worth another start')
  writeFileSync(file, 'mine')
  await holdfast(['init', '--directory', site, '--name', 'gw-1'])
  assert.equal(readFileSync(file, 'utf8'), 'mine')
  await holdfast(['init', '--directory', site, '--name', 'gw-1', '--force'])
  assert.match(readFileSync(file, 'utf8'), /^# Holdfast/)
})

test('init in the folder of an installed package: its file goes while nobody has changed it, rights stay', async () => {
  const site = join(folder, 'installed')
  const file = join(site, 'holdfast.yaml')
  const shipped = readFileSync(join(import.meta.dirname, '../../../platforms/linux/holdfast.yaml'))
  mkdirSync(site)
  writeFileSync(file, shipped, { mode: 0o644 })
  const flags = ['--region', 'https://region.test:8443', '--no-input']
  const init = (name: string) => holdfast(['init', '--directory', site, '--name', name, ...flags])
  assert.match((await init('gw-3')).err, /wrote .*holdfast\.yaml/)
  assert.match(readFileSync(file, 'utf8'), /name: gw-3/)
  assert.equal(statSync(file).mode & 0o777, 0o644)
  assert.match((await init('gw-4')).err, /kept .*holdfast\.yaml/)
  assert.match(readFileSync(file, 'utf8'), /name: gw-3/)
  const touched = shipped.toString().replace('size_max: 1GiB', 'size_max: 2GiB')
  writeFileSync(file, touched)
  await init('gw-5')
  assert.equal(readFileSync(file, 'utf8'), touched)
  assert.deepEqual(readdirSync(site), ['holdfast.yaml'])
})

test('init writes through no link: neither the configuration nor a key', async () => {
  const site = join(folder, 'linked')
  const outside = join(folder, 'outside')
  mkdirSync(join(site, 'ca'), { recursive: true })
  const names = ['holdfast.yaml', 'regional.yaml', 'ca/region.pem', 'ca/gw-6-key.pem']
  for (const name of names) {
    writeFileSync(outside, 'mine')
    symlinkSync(outside, join(site, name))
  }
  const args = ['init', '--directory', site, '--name', 'gw-6', '--development-ca', '--force']
  const made = await holdfast(args)
  assert.equal(made.code, 0, made.err)
  assert.equal(readFileSync(outside, 'utf8'), 'mine')
  for (const name of names) assert.ok(lstatSync(join(site, name)).isFile(), name)
})

test('init refuses a name or an address that cannot be', async () => {
  const [name, region] = await Promise.all([
    holdfast(['init', '--directory', join(folder, 'x'), '--name', 'a b']),
    holdfast(['init', '--directory', join(folder, 'x'), '--name', 'a', '--region', 'region:8443']),
  ])
  assert.equal(name.code, exitCodes.usage)
  assert.equal(region.code, exitCodes.usage)
  assert.equal(existsSync(join(folder, 'x')), false)
})

test('check: every problem on stderr, one verdict on stdout, exit 78; run refuses the same file', async () => {
  const file = join(folder, 'wrong.yaml')
  writeFileSync(
    file,
    'agent: {nam: gw}\nspool: {size_max: huge}\nsources: [{name: a, type: htttp}]\n',
  )
  const [check, json, run] = await Promise.all([
    holdfast(['check', '-c', file]),
    holdfast(['check', '-c', file, '--json']),
    holdfast(['run', '-c', file]),
  ])
  assert.equal(check.code, exitCodes.configInvalid)
  assert.match(check.out, /^invalid {2}.*wrong\.yaml \(4 errors, 1 warning\)/)
  assert.match(check.err, /wrong\.yaml:1:9 {2}error {2}HF-C003 {2}unknown key "nam" in agent/)
  assert.match(check.err, /\^\^\^ {2}did you mean "name"\?/)
  assert.match(check.err, /did you mean "http"\?/)
  const { ok, problems } = JSON.parse(json.out)
  assert.equal(ok, false)
  assert.equal(problems.length, 5)
  assert.equal(run.code, exitCodes.configInvalid)
  assert.equal(run.err, check.err)
})

test('run: a secret or a file that cannot be read now is worth another start (75), a reference that is none is not', async () => {
  const file = (name: string, token: string, more = '') => {
    const path = join(folder, name)
    const source = `{name: a, type: http, listen: '127.0.0.1:0', token: '${token}'}`
    writeFileSync(path, `agent: {name: gw, state_dir: ${folder}${more}}\nsources: [${source}]\n`)
    return path
  }
  /* biome-ignore-start lint/suspicious/noTemplateCurlyInString: this is what the user writes */
  const cases = [
    [file('missing.yaml', '${file:/nonexistent/token}'), exitCodes.tryLater],
    [file('unset.yaml', '${env:HOLDFAST_TEST_UNSET}'), exitCodes.tryLater],
    [file('none.yaml', '${nothing}'), exitCodes.configInvalid],
    [file('relative.yaml', '${file:token}'), exitCodes.configInvalid],
    [file('both.yaml', '${file:/nonexistent/token}', ', nme: x'), exitCodes.configInvalid],
    [folder, exitCodes.tryLater],
    [join(folder, 'not-there.yaml'), exitCodes.configInvalid],
  ] as const
  /* biome-ignore-end lint/suspicious/noTemplateCurlyInString: as above */
  const said = await Promise.all(cases.map(([path]) => holdfast(['run', '-c', path])))
  assert.deepEqual(
    said.map(({ code }, at) => [cases[at]?.[0], code]),
    cases.map(([path, code]) => [path, code]),
  )
})

test("a configuration of somebody else's in the working folder is passed over, and that is said", {
  skip: process.geteuid?.() === 0 ? false : 'needs root, to give a file away',
}, async () => {
  const cwd = join(folder, 'planted')
  mkdirSync(cwd)
  const state = (name: string) => join(folder, name)
  writeFileSync(join(cwd, 'holdfast.yaml'), `agent: {name: gw, state_dir: ${state('own')}}\n`)
  const ask = () => holdfast(['status'], { cwd })
  assert.match((await ask()).err, /own\/control\.sock/)
  const planted = [
    () => chownSync(join(cwd, 'holdfast.yaml'), 65534, 65534),
    () => {
      renameSync(join(cwd, 'holdfast.yaml'), join(cwd, 'theirs'))
      symlinkSync(join(cwd, 'theirs'), join(cwd, 'holdfast.yaml'))
    },
    () => {
      chownSync(join(cwd, 'theirs'), 0, 0)
      lchownSync(join(cwd, 'holdfast.yaml'), 65534, 65534)
    },
  ]
  for (const plant of planted) {
    plant()
    const { err } = await ask()
    assert.match(err, /passed over .*planted\/holdfast\.yaml: it belongs to user 65534; name it/)
    assert.doesNotMatch(err, /own\/control\.sock/)
  }
  const named = await holdfast(['status', '-c', 'holdfast.yaml'], { cwd })
  assert.match(named.err, /own\/control\.sock/)
  for (const verb of [['check', '--no-surroundings'], ['doctor']])
    assert.match((await holdfast(verb, { cwd })).err, /passed over/)
})

test("a regional.yaml of somebody else's in the working folder is passed over, by every verb of a regional node", {
  skip: process.geteuid?.() === 0 ? false : 'needs root, to give a file away',
}, async () => {
  const cwd = join(folder, 'planted-region')
  const made = await holdfast(['init', '--directory', cwd, '--name', 'g', '--development-ca'])
  assert.equal(made.code, 0, made.err)
  const file = join(cwd, 'regional.yaml')
  // A mistake of its own tells which file was read.
  writeFileSync(file, `${readFileSync(file, 'utf8')}planted: 1\n`)
  const verbs = [['regional'], ['regional', 'agents'], ['regional', 'admit', 'g']]
  for (const verb of verbs) assert.match((await holdfast(verb, { cwd })).err, /"planted"/)
  chownSync(file, 65534, 65534)
  for (const verb of verbs) {
    const { code, err } = await holdfast(verb, { cwd })
    assert.match(err, /passed over .*planted-region\/regional\.yaml: it belongs to user 65534/)
    assert.doesNotMatch(err, /"planted"/)
    assert.notEqual(code, 0)
  }
  assert.match((await holdfast(['regional', '-c', file], { cwd })).err, /"planted"/)
})

test("root's files in the agent's state folder are named, with the chown; no word of a failing disk", {
  skip: process.geteuid?.() === 0 ? false : 'needs root, to be somebody else',
}, () => {
  const state = join(folder, 'restored')
  mkdirSync(state)
  chownSync(state, 65534, 65534)
  for (const name of ['spool.db', 'spool.db-wal'])
    writeFileSync(join(state, name), '', { mode: 0o644 })
  chownSync(join(state, 'spool.db-wal'), 65534, 65534)
  const file = join(folder, 'restored.yaml')
  writeFileSync(file, `agent: {name: gw, state_dir: ${state}}\n`)
  // Loaded by root, looked at by somebody else: access(2) asks who a process really is.
  const program = `
    import { loadConfig } from ${JSON.stringify(join(import.meta.dirname, '../../../src/config/load.ts'))}
    process.setuid(65534)
    const result = loadConfig(process.argv[1], { environment: {}, catalog: { sources: [], destinations: [] } })
    process.stdout.write(JSON.stringify(result))`
  const load = () => {
    const args = ['--input-type=module', '-e', program, file]
    return JSON.parse(
      execFileSync(process.execPath, args, { encoding: 'utf8' }),
    ) as LoadResult<unknown>
  }
  chmodSync(folder, 0o755)
  const wrong = load()
  const errors = wrong.ok ? [] : wrong.problems.filter(({ severity }) => severity === 'error')
  assert.deepEqual(
    errors.map(({ code, text, hint }) => [code, text, hint]),
    [
      [
        'HF-C016',
        `${state}/spool.db belongs to user 0, and this user (65534) cannot write it`,
        `give it to the agent's user: chown --reference=${state} ${state}/spool.db*`,
      ],
    ],
  )
  chownSync(join(state, 'spool.db'), 65534, 65534)
  assert.equal(load().ok, true)
})

test('regional agents makes no database where there is none', async () => {
  const cwd = join(folder, 'region-asked')
  const made = await holdfast(['init', '--directory', cwd, '--name', 'g', '--development-ca'])
  assert.equal(made.code, 0, made.err)
  for (const verb of [['agents'], ['admit', 'gw']]) {
    const { code, err } = await holdfast(['regional', ...verb], { cwd })
    assert.equal(code, exitCodes.failed)
    assert.match(err, /HF-X404 there is no region's database .*region-state\/region\.db/)
  }
  assert.equal(existsSync(join(cwd, 'region-state')), false)
  const file = join(cwd, 'regional.yaml')
  writeFileSync(file, readFileSync(file, 'utf8').replace(/^state_dir: .*\n/m, ''))
  const unset = await holdfast(['regional', 'agents'], { cwd, env: { STATE_DIRECTORY: '' } })
  assert.match(unset.err, /\/var\/lib\/holdfast-regional\/region\.db/)
})

test('check --deny-warnings: what was a warning is an error', async () => {
  const file = join(folder, 'lonely.yaml')
  writeFileSync(file, `agent: {name: gw, state_dir: ${folder}}\n`)
  const [lenient, strict] = await Promise.all([
    holdfast(['check', '-c', file]),
    holdfast(['check', '-c', file, '--deny-warnings']),
  ])
  assert.deepEqual([lenient.code, strict.code], [0, exitCodes.configInvalid])
  assert.match(lenient.out, /^valid .*\(0 errors, 2 warnings\)/)
})

test('no agent there: exit 5, and where it was looked for', async () => {
  const socket = join(folder, 'none.sock')
  for (const args of [['status'], ['gaps'], ['tap'], ['replay', '--from', '1h']]) {
    const said = await holdfast([...args, '--socket', socket])
    assert.equal(said.code, exitCodes.notReachable, said.err)
    assert.match(said.err, new RegExp(`HF-X005 no agent answers on ${socket}`))
    assert.equal(said.out, '')
  }
  const json = await holdfast(['status', '--json', '--socket', socket])
  assert.equal(JSON.parse(json.out).error.code, 'HF-X005')
})

test('the socket is found through the configuration, even a broken one', async () => {
  const file = join(folder, 'broken.yaml')
  writeFileSync(file, 'agent: {name: 3, state_dir: here}\nnonsense: 1\n')
  const said = await holdfast(['status', '-c', file])
  assert.match(said.err, new RegExp(`no agent answers on ${folder}/here/control.sock`))
})

test('config schema and openapi are well-formed', async () => {
  const [agent, regional, api] = await Promise.all([
    holdfast(['config', 'schema']),
    holdfast(['config', 'schema', '--regional']),
    holdfast(['config', 'openapi']),
  ])
  const schema = JSON.parse(agent.out)
  assert.ok(schema.properties.spool.properties.size_max)
  assert.deepEqual(Object.keys(JSON.parse(regional.out).properties).slice(0, 2), ['listen', 'tls'])
  const file = join(import.meta.dirname, '../../../docs/formats/control-api.yaml')
  assert.deepEqual(parse(api.out), parse(readFileSync(file, 'utf8')))
})

test('regional plan prints SQL alone; a wrong regional configuration is exit 78', async () => {
  const [plan, wrong, none] = await Promise.all([
    holdfast(['regional', 'plan', '--role', 'writer', '--retention', '365d']),
    holdfast(['regional', 'plan', '--retention', 'long']),
    holdfast(['regional', '--listen', 'nowhere'], { cwd: folder }),
  ])
  assert.equal(plan.code, 0, plan.err)
  assert.match(plan.out, /^-- /)
  assert.match(plan.out, /"writer"/)
  assert.match(plan.out, /interval '8760 hours'/)
  assert.equal(wrong.code, exitCodes.usage)
  assert.equal(none.code, exitCodes.configInvalid)
  assert.match(none.err, /HF-C006 {2}listen must be ADDRESS:PORT/)
  assert.match(none.err, /HF-C004 {2}missing key "tls"/)
})

test('destination plan: the SQL for the user of the configuration; other types and names are told apart', async () => {
  const config = join(folder, 'plan.yaml')
  const url = 'postgres://gateway@db.example/plant'
  const carry = { name: 'carry', type: 'file', output_dir: folder }
  const quest = { name: 'trends', type: 'influx', dialect: 'questdb', url: 'http://127.0.0.1:1' }
  const database = { name: 'plant-db', type: 'postgres', url, password: 'hunter2' }
  const destinations = [database, carry, quest]
  writeFileSync(config, JSON.stringify({ agent: { name: 'gw' }, destinations }), { mode: 0o600 })
  const ask = (...args: string[]) => holdfast(['destination', 'plan', ...args, '-c', config])
  const [plan, tables, other, none] = await Promise.all([
    ask('plant-db', '--retention', '365d'),
    ask('trends'),
    ask('carry'),
    ask('nobody'),
  ])
  assert.equal(plan.code, 0, plan.err)
  assert.match(plan.out, /grant SELECT, INSERT, UPDATE on points to "gateway";/)
  assert.match(plan.out, /interval '8760 hours'/)
  assert.doesNotMatch(plan.out + plan.err, /hunter2/)
  assert.match(tables.out, /CREATE TABLE IF NOT EXISTS "points" .* DEDUP UPSERT KEYS/s)
  assert.match(other.err, /HF-X404 a destination of type file has no plan/)
  assert.match(none.err, /destinations: plant-db, carry, trends/)
  assert.deepEqual([other.code, none.code], [exitCodes.failed, exitCodes.failed])
})
