/** `holdfast destination list` and `test` before real servers: every step with its time, every trouble with its remedy. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, globSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { stringify } from 'yaml'
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

after(killAll)
interface Step {
  readonly step: string
  readonly good: boolean
  readonly ms: number
  readonly text: string
  readonly code: string
  readonly hint: string
}
const configOf = (destinations: readonly object[]) => {
  const folder = temporaryFolder('verbs')
  const path = join(folder, 'holdfast.yaml')
  writeFileSync(path, stringify({ agent: { name: 'gw-7', state_dir: folder }, destinations }))
  return path
}
const tried = (config: string, name: string): { code: number; steps: readonly Step[] } => {
  const { code, out, err } = cli(['destination', 'test', name, '--json', '-c', config])
  assert.notEqual(out, '', err)
  const { steps, ok } = JSON.parse(out) as { steps: Step[]; ok: boolean }
  assert.equal(code, ok ? 0 : 1)
  for (const one of steps) {
    assert.ok(one.ms >= 0)
    assert.equal(one.good, one.hint === '', JSON.stringify(one))
  }
  return { code, steps }
}
const shape = (steps: readonly Step[]) =>
  steps.map(({ step, good }) => `${step} ${good ? 'ok' : 'BAD'}`)

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
  assert.deepEqual(shape(good.steps), ['dns ok', 'tcp ok', 'hello ok', 'write ok'])
  assert.match(good.steps[3]?.text ?? '', /acknowledged/)
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
  const config = configOf([{ name: 'prom', type: 'prometheus', url: prometheus.url }])
  assert.deepEqual(shape(tried(config, 'prom').steps), ['dns ok', 'tcp ok', 'hello ok', 'write ok'])
  assert.equal((await prometheus.samples('{__name__="holdfast_probe",agent="gw-7"}')).length, 1)
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
  assert.equal(idle.types.find(({ system }) => system === 'InfluxDB 2')?.proven, false)
  assert.deepEqual(idle.configured, [{ name: 'carry', type: 'file', proven: true, status: null }])
  const agent = await site.startAgent()
  await site.when((seen) => seen.destinations[0]?.state === 'up')
  assert.equal(asked().configured[0]?.status?.state, 'up')
  const text = cli(['destination', 'list', '-c', site.config, '--socket', site.socket]).out
  assert.match(text, /^influx +influxdb2 +InfluxDB 2 +unproven$/m)
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
  const tests = new Set(globSync('test/**/*.test.ts'))
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
