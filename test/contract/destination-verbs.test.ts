/** `holdfast destination list` and `test` before real servers: every step with its time, every trouble with its remedy. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, globSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { z } from 'zod'
import { planSql } from '../../src/database/schema-postgres.ts'
import { proofs } from '../../src/destinations/proven.ts'
import { destinationTypes } from '../../src/destinations/table.ts'
import { createCertificates } from '../support/certificates.ts'
import { influxUser, startInflux } from '../support/influx-servers.ts'
import { killAll } from '../support/processes.ts'
import { startPrometheus } from '../support/prometheus-server.ts'
import { startPostgres } from '../support/servers.ts'
import { cli, createSite } from '../support/site.ts'
import { temporaryFolder } from '../support/temp.ts'
import { configOf, shape, tried } from './destination-tried.ts'

after(killAll)
test('destination test: a good server, a wrong password, a missing database, nobody there', async () => {
  const influx = await startInflux()
  await influx.query('CREATE DATABASE plant')
  const base = {
    type: 'influx',
    dialect: 'influxdb1',
    url: influx.url,
    database: 'plant',
    ...influxUser,
  }
  const folder = temporaryFolder('carry')
  const config = configOf([
    { name: 'good', ...base },
    { name: 'password', ...base, password: 'of-somebody-else' },
    { name: 'nowhere', ...base, database: 'no_such' },
    { name: 'closed', ...base, url: 'http://127.0.0.1:1' },
    { name: 'carry', type: 'file', output_dir: folder, disk_free_min: '1KiB' },
    { name: 'unmounted', type: 'file', output_dir: join(folder, 'missing') },
  ])
  const good = tried(config, 'good')
  assert.deepEqual(shape(good.steps), ['dns ok', 'tcp ok', 'hello ok', 'ready ok', 'write ok'])
  assert.match(good.steps[4]?.text ?? '', /acknowledged/)
  assert.equal(await influx.count('plant'), 1)
  const password = tried(config, 'password').steps
  assert.deepEqual(shape(password), ['dns ok', 'tcp ok', 'hello BAD'])
  assert.equal(password[2]?.code, 'HF-F120')
  const nowhere = tried(config, 'nowhere').steps.at(-1)
  assert.ok(nowhere?.code === 'HF-F121', JSON.stringify(nowhere))
  assert.deepEqual(shape(tried(config, 'closed').steps), ['dns ok', 'tcp BAD'])
  assert.deepEqual(shape(tried(config, 'carry').steps), ['write ok'])
  assert.deepEqual(readdirSync(folder), [])
  const missing = tried(config, 'unmounted').steps
  assert.equal(missing[0]?.code, 'HF-F150')
  const spoken = cli(['destination', 'test', 'password', '-c', config])
  assert.match(spoken.out, /^BAD {2}hello +[\d.]+ ms {2}HF-F120 .*\n {5}= /m)
  assert.ok(!spoken.out.includes('of-somebody-else') && !spoken.err.includes('of-somebody-else'))
  assert.equal(cli(['destination', 'test', 'nobody', '-c', config]).code, 1)
  await influx.stop()
})

test('destination test: Prometheus takes a point; to a region nothing is written', async () => {
  const [prometheus, site] = [await startPrometheus(), await createSite()]
  const prom = { type: 'prometheus', url: prometheus.url }
  const config = configOf([
    { name: 'prom', ...prom },
    { name: 'window', ...prom, out_of_order_window: '1h' },
  ])
  const held = async () =>
    (await prometheus.samples('{__name__="holdfast_probe",agent="gw-7"}')).length
  const way = ['dns ok', 'tcp ok', 'hello ok', 'ready ok']
  // In order: a point of now would have the server refuse an old backlog.
  const careful = tried(config, 'prom')
  assert.deepEqual(shape(careful.steps), way)
  assert.match(careful.nothingWritten ?? '', /--write/)
  assert.match(cli(['destination', 'test', 'prom', '-c', config]).err, /nothing was written/)
  assert.equal(await held(), 0)
  assert.deepEqual(shape(tried(config, 'window', '--no-write').steps), way)
  assert.equal(await held(), 0)
  assert.deepEqual(shape(tried(config, 'window').steps), [...way, 'write ok'])
  assert.equal(await held(), 1)
  const several = (name: string, ...verb: string[]) => {
    const lanes = { raw: {}, alarms: {} }
    const both = configOf(
      [
        { name: 'prom', ...prom },
        { name: 'window', ...prom, out_of_order_window: '1h' },
      ],
      { lanes },
    )
    return JSON.parse(cli(['destination', ...verb, name, '--json', '-c', both]).out) as {
      readonly warnings: readonly string[]
      readonly plan?: string
    }
  }
  assert.match(several('prom', 'test').warnings.join(), /2 lanes.*out of bounds/)
  assert.deepEqual(several('window', 'test', '--no-write').warnings, [])
  assert.match(several('prom', 'plan').warnings.join(), /2 lanes.*out of bounds/)
  assert.match(several('window', 'plan').plan ?? '', /out_of_order_time_window: 60m/)
  assert.deepEqual(careful.warnings, [])
  const told = tried(config, 'prom', '--write')
  assert.deepEqual([shape(told.steps), told.nothingWritten], [[...way, 'write ok'], undefined])
  assert.equal(await held(), 2)
  await prometheus.stop()
  const off = await startPrometheus({ receiver: false })
  const refused = tried(configOf([{ name: 'off', type: 'prometheus', url: off.url }]), 'off').steps
  assert.equal(refused.at(-1)?.code, 'HF-F161')
  await off.stop()
  const regional = await site.startRegional()
  const region = tried(site.config, 'region').steps
  assert.deepEqual(shape(region), ['dns ok', 'tcp ok', 'tls ok', 'hello ok'])
  await regional.stop()
  assert.deepEqual(shape(tried(site.config, 'region').steps), ['dns ok', 'tcp BAD'])
})

test('destination list: types with what proved them, the configured ones with their state', async () => {
  const folder = temporaryFolder('carry')
  mkdirSync(join(folder, 'out'))
  const site = await createSite({
    destination: {
      name: 'carry',
      type: 'file',
      url: undefined,
      tls: undefined,
      output_dir: join(folder, 'out'),
    },
  })
  const asked = () => {
    const { out, code } = cli([
      'destination',
      'list',
      '--json',
      '-c',
      site.config,
      '--socket',
      site.socket,
    ])
    assert.equal(code, 0)
    return JSON.parse(out) as {
      types: { type: string; dialect: string | null; system: string; proven: boolean }[]
      configured: { name: string; proven: boolean; status: { state: string } | null }[]
    }
  }
  const idle = asked()
  assert.deepEqual(
    [...new Set(idle.types.map(({ type }) => type))],
    destinationTypes.map(({ type }) => type),
  )
  // A dialect that nobody has entered would stand here too, unproven.
  const dialects = destinationTypes.flatMap(({ type, config }) => {
    const found = z.toJSONSchema(config, { io: 'input', unrepresentable: 'any' }).properties
      ?.dialect
    return typeof found === 'object' ? (found.enum ?? []).map((one) => `${type} ${one}`) : []
  })
  const listed = new Set(idle.types.map(({ type, dialect }) => `${type} ${dialect}`))
  assert.ok(dialects.length >= 3)
  for (const one of dialects) assert.ok(listed.has(one), one)
  assert.equal(idle.types.find(({ system }) => system === 'InfluxDB 3')?.proven, false)
  assert.deepEqual(idle.configured, [{ name: 'carry', type: 'file', proven: true, status: null }])
  const agent = await site.startAgent()
  await site.when((seen) => seen.destinations[0]?.state === 'up')
  assert.equal(asked().configured[0]?.status?.state, 'up')
  const text = cli(['destination', 'list', '-c', site.config, '--socket', site.socket]).out
  assert.match(text, /^influx +influxdb3 +InfluxDB 3 +unproven$/m)
  assert.match(text, /^carry +file +proven +up/m)
  await agent.stop()
})

test('test:real runs the contract against a server of one’s own, and says when it does not hold', async () => {
  const prometheus = await startPrometheus()
  const run = (url: string) =>
    spawnSync('node', ['--test-reporter=spec', 'test/real/run.ts', 'prometheus', '--url', url], {
      encoding: 'utf8',
      env: { ...process.env, NODE_TEST_CONTEXT: undefined },
    })
  const good = run(prometheus.url)
  assert.equal(good.status, 0, good.stdout.slice(-2_000))
  assert.match(good.stdout, /remote write 1\.0\): the contract holds/)
  await prometheus.stop()
  const bad = run(prometheus.url)
  assert.equal(bad.status, 1)
  assert.match(bad.stdout, /RED/)
})

test('test:real against a database and a regional node, which keep the books', async () => {
  const certificates = await createCertificates()
  const postgres = await startPostgres({ certificates })
  postgres.sql(planSql({ role: postgres.user }))
  const site = await createSite({ certificates, database: { url: postgres.url, postgres } })
  const regional = await site.startRegional()
  const run = (...args: string[]) =>
    spawnSync('node', ['--test-reporter=spec', 'test/real/run.ts', ...args], {
      encoding: 'utf8',
      timeout: 120_000,
      env: { ...process.env, NODE_TEST_CONTEXT: undefined, PGPASSWORD: postgres.password },
    })
  const address = `postgres://${postgres.user}@localhost:${postgres.port}/${postgres.database}`
  const set = (keys: Readonly<Record<string, string>>) =>
    Object.entries(keys).flatMap(([key, value]) => ['--set', `${key}=${value}`])
  const { ca } = certificates
  const gone = `postgres://${postgres.user}@localhost:1/${postgres.database}`
  const hosts = (...url: string[]) => ({
    ...{ name: `hosts-${url.length}`, type: 'postgres', url },
    ...{ password: postgres.password, tls: { ca } },
  })
  const config = configOf([hosts(gone, address), hosts(gone), hosts(gone, address, gone)])
  const two = tried(config, 'hosts-2')
  assert.deepEqual(shape(two.steps), ['dns ok', 'tcp BAD', 'dns ok', 'tcp ok', 'login ok'])
  const [, down] = two.steps
  assert.deepEqual([two.code, down?.host, down?.bearable], [0, 'localhost:1', true])
  assert.equal(tried(config, 'hosts-3').code, 0)
  const none = tried(config, 'hosts-1')
  assert.deepEqual([none.code, shape(none.steps)], [1, ['dns ok', 'tcp BAD']])
  const looked = cli(['doctor', '--json', '-c', config]).out
  const { findings } = JSON.parse(looked) as { findings: { check: string; state: string }[] }
  const statesOf = (name: string) =>
    findings.flatMap(({ check, state }) => (check === `to ${name}` ? [state] : []))
  assert.deepEqual(statesOf('hosts-2'), ['good', 'warning', 'good', 'good', 'good'])
  assert.deepEqual(statesOf('hosts-1'), ['good', 'bad'])
  const password = '$PGPASSWORD'
  const direct = run('postgres', '--url', address, ...set({ ca, password }))
  assert.equal(direct.status, 0, direct.stdout.slice(-3_000))
  assert.match(direct.stdout, /PostgreSQL: the contract holds/)
  assert.match(direct.stdout, /an answer lost with its connection is later/)
  const keys = { ca, ...site.agentKey, agent: site.name, database_ca: ca }
  const url = `https://localhost:${site.regionPort}`
  const relay = run('relay', '--url', url, '--database', address, ...set(keys))
  assert.equal(relay.status, 0, relay.stdout.slice(-3_000))
  assert.match(relay.stdout, /a Holdfast regional node: the contract holds/)
  await regional.stop()
  await postgres.stop()
  assert.equal(run('postgres', '--url', address, ...set({ ca, password })).status, 1)
})

test('what is called proven names tests that are there, and the README says the same', () => {
  const readme = readFileSync('README.md', 'utf8')
  const tests = new Set(globSync(['test/**/*.test.ts', 'test/real/run.ts']))
  for (const { type, version, tests: files, system } of proofs) {
    assert.equal(version === null, files.length === 0, system)
    for (const file of files) assert.ok(tests.has(file) && existsSync(file), file)
    const rows = readme.split('\n').filter((line) => line.startsWith(`| \`${type}\``))
    assert.ok(rows.length > 0, `README says nothing of ${type}`)
    if (version === null)
      assert.ok(
        rows.some((row) => row.includes(system) && row.includes('unproven')),
        system,
      )
  }
  for (const [, named] of readme.matchAll(/^\| `([a-z]+)`[,|( ](?!\| proven by)/gm))
    assert.ok(
      destinationTypes.some(({ type }) => type === named),
      `README lists ${named}`,
    )
})
