/**
 * One agent before many servers, each wrong in its own way: an expired credential, a missing database, a folder that is
 * not there. Each pauses with one sentence and the remedy in status, health, log and metrics; nothing is lost, and the
 * destinations beside them notice nothing. Mended, each gets everything.
 */
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { parse, stringify } from 'yaml'
import { createControlClient } from '../../src/control/client.ts'
import { planSql } from '../../src/database/schema-postgres.ts'
import { createCertificates } from '../support/certificates.ts'
import { influxUser, startInflux } from '../support/influx-servers.ts'
import { killAll } from '../support/processes.ts'
import { prometheusUser, startPrometheus } from '../support/prometheus-server.ts'
import { createHttpPublisher } from '../support/publisher.ts'
import { startPostgres } from '../support/servers.ts'
import { cli, createSite } from '../support/site.ts'

after(killAll)
type Keys = Readonly<Record<string, unknown>>
interface Trouble {
  readonly name: string
  readonly wrong: Keys
  readonly right: Keys
  readonly code: string
  /** The sentence, in words of a person. */
  readonly says: RegExp
}
const points = 200

test('expired credentials, missing databases: each pauses with its sentence, the others flow, nothing is lost', async () => {
  const certificates = await createCertificates()
  const influx = await startInflux()
  await influx.query('CREATE DATABASE plant')
  const login = await startPrometheus({ login: true })
  const off = await startPrometheus({ receiver: false })
  const on = await startPrometheus()
  const postgres = await startPostgres({ certificates })
  postgres.sql(planSql({ role: postgres.user }))
  const site = await createSite({ certificates, lanes: { raw: { max_delay: '50ms' } } })
  const past = { fromMs: Date.now() - 3 * 86_400_000, days: 2 }
  const { certPem, keyPem } = await certificates.authority.agent(site.name, past)
  const expired = { cert: join(site.folder, 'late.crt'), key: join(site.folder, 'late.key') }
  writeFileSync(expired.cert, certPem)
  writeFileSync(expired.key, keyPem, { mode: 0o600 })
  const carry = join(site.folder, 'carry')
  mkdirSync(carry)

  const tls = { ca: certificates.ca }
  const historian = { type: 'influx', dialect: 'influxdb1', url: influx.url, ...influxUser }
  const prom = { type: 'prometheus', url: login.url, ...prometheusUser }
  const at = (database: string) =>
    `postgres://${postgres.user}@localhost:${postgres.port}/${database}`
  const plant = { type: 'postgres', url: at(postgres.database), password: postgres.password, tls }
  const relay = { type: 'relay', url: `https://localhost:${site.regionPort}` }
  const file = { type: 'file', disk_free_min: '1MiB' }
  const stranger = { password: 'of-somebody-else' }
  // Rotated at the end, under a running agent.
  const secretOf = (name: string) => join(site.folder, `${name}-password`)
  const gateway = 'CREATE USER gateway WITH PASSWORD'
  await influx.query(`${gateway} '${influxUser.password}' WITH ALL PRIVILEGES`)
  writeFileSync(secretOf('influx'), influxUser.password)
  writeFileSync(secretOf('postgres'), postgres.password)
  const kept = (name: string) => ({ password: `\u0024{file:${secretOf(name)}}` })
  const rotated = { ...historian, username: 'gateway', ...kept('influx') }
  const troubles: readonly Trouble[] = [
    {
      name: 'influx-login',
      wrong: { ...historian, database: 'plant', ...stranger },
      right: { ...rotated, database: 'plant' },
      code: 'HF-F120',
      says: /refuses the credentials/,
    },
    {
      name: 'influx-database',
      wrong: { ...historian, database: 'second' },
      right: { ...rotated, database: 'second' },
      code: 'HF-F121',
      says: /nothing to write to.*database not found/,
    },
    {
      name: 'prometheus-login',
      wrong: { ...prom, ...stranger },
      right: prom,
      code: 'HF-F160',
      says: /refuses the credentials/,
    },
    {
      name: 'prometheus-receiver',
      wrong: { type: 'prometheus', url: off.url },
      right: { type: 'prometheus', url: on.url },
      code: 'HF-F161',
      says: /nothing to write to/,
    },
    {
      name: 'postgres-login',
      wrong: { ...plant, ...stranger },
      right: { ...plant, ...kept('postgres') },
      code: 'HF-D020',
      says: /password authentication failed/,
    },
    {
      name: 'postgres-database',
      wrong: { ...plant, url: at('no_such') },
      right: { ...plant, ...kept('postgres') },
      code: 'HF-D020',
      says: /database "no_such" does not exist/,
    },
    {
      name: 'relay-certificate',
      wrong: { ...relay, tls: { ...tls, ...expired } },
      right: { ...relay, tls: { ...tls, ...site.agentKey } },
      code: 'HF-',
      says: /certificate of this agent.*expired|expired/,
    },
    {
      name: 'file-folder',
      wrong: { ...file, output_dir: join(site.folder, 'missing') },
      right: { ...file, output_dir: join(site.folder, 'missing') },
      code: 'HF-F150',
      says: /missing/,
    },
  ]
  const configure = (which: 'wrong' | 'right') => {
    const config = parse(readFileSync(site.config, 'utf8'))
    const bad = troubles.map((one) => ({ name: one.name, ...one[which] }))
    config.destinations = [...bad, { name: 'carry', ...file, output_dir: carry }]
    writeFileSync(site.config, stringify(config), { mode: 0o600 })
  }
  configure('wrong')
  const regional = await site.startRegional()
  let agent = await site.startAgent()
  // Near now: what Prometheus takes.
  const startUs = (Date.now() - 600_000) * 1_000
  const publisher = createHttpPublisher(() => site.door, { startUs })
  await publisher.send(points)
  const seen = await site.when(
    ({ destinations }) =>
      destinations.every((one) =>
        one.name === 'carry' ? one.pending === 0 && one.state === 'up' : one.state === 'blocked',
      ),
    60,
    200,
  )
  const metrics = await createControlClient(site.socket, 5_000).text('/v1/metrics')
  const spoken = cli(['status', '--socket', site.socket]).out
  for (const { name, code, says } of troubles) {
    const one = seen.destinations.find((destination) => destination.name === name)
    assert.ok(one !== undefined)
    assert.match(one.text, says, name)
    assert.doesNotMatch(one.text, /\n|of-somebody-else/)
    assert.ok(one.code.startsWith(code), `${name}: ${one.code}`)
    assert.ok(one.hint.length > 10, `${name}: no remedy`)
    assert.deepEqual([one.breaker, one.pending], ['open', points], name)
    const issue = seen.verdict.issues.find(({ reason }) => reason.startsWith(`${name}: `))
    assert.ok(issue !== undefined, `${name}: not in the verdict`)
    assert.deepEqual([issue.code, issue.fix], [one.code, one.hint])
    assert.ok(issue.effects.includes(`${points} points wait for it, nothing lost`))
    const lines = agent.output().split('\n')
    const blocked = lines.filter((line) => line.includes('"destination_blocked"'))
    const logged = blocked.find((line) => line.includes(`"${name}"`)) ?? ''
    assert.ok(logged.includes(one.code), `${name}: not in the log`)
    assert.ok(
      logged.includes(JSON.stringify(one.hint).slice(1, -1)),
      `${name}: no remedy in the log`,
    )
    assert.match(metrics, new RegExp(`holdfast_destination_breaker\\{destination="${name}"\\} 2`))
    assert.match(metrics, new RegExp(`holdfast_destination_up\\{destination="${name}"\\} 0`))
    const waits = metrics
      .split('\n')
      .find((line) => line.includes(`_blocked{destination="${name}"`))
    const quoted = (text: string) => JSON.stringify(text.slice(0, 300))
    const said = `code="${one.code}",reason=${quoted(one.text)},remedy=${quoted(one.hint)}} 1`
    assert.ok(waits?.endsWith(said), `${waits} beside ${said}`)
    assert.match(spoken, new RegExp(`${name} blocked {3}breaker open after`))
  }
  assert.match(metrics, /holdfast_destination_breaker\{destination="carry"\} 0/)
  const readers = seen.lanes.flatMap((lane) => lane.readers)
  for (const one of readers) assert.equal(one.declaredLost, 0, one.reader)
  await agent.stop()

  await influx.query('CREATE DATABASE second')
  mkdirSync(join(site.folder, 'missing'))
  configure('right')
  agent = await site.startAgent()
  const mended = await site.drained(60, points)
  for (const { lane, accepted, readers: all } of mended.lanes)
    for (const one of all)
      assert.deepEqual(
        [one.delivered, one.declaredLost, one.pending],
        [accepted, 0, 0],
        `${lane} ${one.reader}`,
      )
  for (const one of mended.destinations) assert.equal(one.breaker, 'closed', one.name)
  assert.deepEqual([await influx.count('plant'), await influx.count('second')], [points, points])
  for (const server of [login, on])
    assert.equal((await server.samples('{agent="gw-1"}')).length, points)
  assert.equal(postgres.sql('select count(*) from points').trim(), String(points))

  for (const name of ['influx', 'postgres']) writeFileSync(secretOf(name), 'quite-another-one\n')
  await influx.query("SET PASSWORD FOR gateway = 'quite-another-one'")
  postgres.sql(`alter role "${postgres.user}" password 'quite-another-one'`)
  postgres.sql(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'holdfast'",
  )
  await publisher.send(points)
  await site.drained(30, 2 * points)
  assert.equal(await influx.count('plant'), 2 * points)
  assert.equal(postgres.sql('select count(*) from points').trim(), String(2 * points))
  assert.ok(!agent.output().includes('quite-another-one'))
  await agent.stop()
  await regional.stop()
  assert.equal((await site.verdict(publisher.journal())).reasons.length, 0)
  for (const server of [influx, login, off, on, postgres]) await server.stop()
})
