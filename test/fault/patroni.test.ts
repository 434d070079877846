/**
 * A real Patroni cluster of three fails over and is restored to an earlier moment, while two agents send: one by way of a
 * regional node, one into the database by itself. What was acknowledged is there afterwards, once and unaltered.
 */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { planSql } from '../../src/database/schema-postgres.ts'
import { createCertificates } from '../support/certificates.ts'
import { findTool } from '../support/debian.ts'
import { startPatroni } from '../support/patroni.ts'
import { killAll, type Running } from '../support/processes.ts'
import { createHttpPublisher, type HttpPublisher } from '../support/publisher.ts'
import { acceptedIn, createSite, type Site } from '../support/site.ts'

after(killAll)
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

const missing = (): string | false => {
  try {
    findTool('etcd', 'etcd-server', '/usr/bin/etcd')
    findTool('patroni', 'patroni', '/usr/bin/patroni')
    return false
  } catch {
    return 'no Patroni or etcd: neither on the PATH nor to be had from Debian'
  }
}

interface Way {
  readonly site: Site
  readonly publisher: HttpPublisher
  agent: Running
  /** What the agents before this one said. */
  said: string
}
/** Of each agent, in three parts of the story. */
const kills = 20
const killAgents = async (ways: readonly Way[], times: number): Promise<void> => {
  for (let time = 0; time < times; time++) {
    await pause(200 + Math.random() * 600)
    for (const way of ways) {
      await way.agent.kill()
      way.said += way.agent.output()
      way.agent = await way.site.startAgent()
    }
  }
}
const deliveredIn = async ({ site }: Way): Promise<number> => {
  const { lanes } = await site.status()
  return lanes.reduce((sum, lane) => sum + (lane.readers[0]?.delivered ?? 0), 0)
}
/** Until the far side of each way has acknowledged so many points more than now. */
const moreAcked = async (ways: readonly Way[], points: number): Promise<void> => {
  for (const way of ways) {
    const wanted = (await deliveredIn(way)) + points
    for (let tries = 0; (await deliveredIn(way)) < wanted; tries++) {
      if (tries > 400)
        throw new Error(`stuck: ${JSON.stringify((await way.site.status()).destinations)}`)
      await pause(200)
    }
  }
}

test(`failover and point-in-time restore of a Patroni cluster under load, ${kills} × SIGKILL of each agent: relay and postgres`, {
  skip: missing(),
}, async (context) => {
  const startedMs = Date.now()
  const say = (what: string) =>
    context.diagnostic(`${Math.round((Date.now() - startedMs) / 1000)} s: ${what}`)
  const certificates = await createCertificates()
  const cluster = await startPatroni(certificates)
  context.after(() => cluster.stop())
  await cluster.sql(planSql({ role: cluster.user }), cluster.database)
  const tls = { ca: certificates.ca }
  const urls = cluster.urls.map((url) =>
    url.replace('//holdfast@', `//holdfast:${cluster.password}@`),
  )
  const common = { certificates, database: { url: urls, postgres: cluster } }
  const plant = { name: 'plant-db', type: 'postgres', url: cluster.urls, tls }
  const sites = [
    await createSite({ ...common, agent: 'by-relay' }),
    await createSite({
      ...common,
      agent: 'by-itself',
      destination: { ...plant, password: cluster.password },
    }),
  ]
  const [relayed] = sites as [Site, Site]
  const regional = await relayed.startRegional()
  const ways: Way[] = []
  for (const site of sites)
    ways.push({
      site,
      agent: await site.startAgent(),
      publisher: createHttpPublisher(() => site.door, { name: site.name }),
      said: '',
    })
  const stop = new AbortController()
  const floods = ways.map(({ publisher }) => publisher.flood(40, stop.signal))
  try {
    await moreAcked(ways, 2_000)
    await killAgents(ways, kills - 8)
    say('both send')
    // The leader dies, and comes back as a follower.
    const killed = await cluster.killLeader()
    await killAgents(ways, 3)
    await cluster.ready(1)
    say(`${killed} killed, another leads`)
    cluster.startNode(killed)
    await moreAcked(ways, 2_000)
    await cluster.ready(2)
    say('both send, three nodes')
    // What is acknowledged after this moment will be forgotten.
    cluster.backup()
    await moreAcked(ways, 1_000)
    await cluster.sql(`select pg_create_restore_point('noon')`)
    await moreAcked(ways, 2_000)
    await cluster.sql('select pg_switch_wal()')
    await moreAcked(ways, 500)
    say('backup, restore point, more')
    await cluster.restoreTo('noon')
    say('restored')
    await killAgents(ways, 5)
    await moreAcked(ways, 2_000)
    say('both send again')
  } finally {
    stop.abort()
    await Promise.all(floods)
  }
  for (const { site, publisher, agent, said } of ways) {
    const seen = await site.drained(90)
    assert.ok(acceptedIn(seen) >= publisher.acked())
    await agent.stop()
    say(`${site.name}: ${publisher.acked()} points accepted, drained`)
    const verdict = await site.verdict(publisher.journal())
    assert.deepEqual(verdict.reasons, [], site.name)
    assert.equal(verdict.duplicates + verdict.altered + verdict.declared_lost, 0, site.name)
    assert.match(said + agent.output(), /"event":"rewind"/, site.name)
  }
  // What counts duplicates is written by triggers of the database itself: every point stands in it, …
  const [audited] = await cluster.sql(
    `select count(*) as unseen from points p where not exists
      (select from points_audit a where a.series_id = p.series_id and a.time = p.time)`,
    cluster.database,
  )
  assert.equal(Number(audited?.unseen), 0)
  // … and a point that is written once more turns each verdict red.
  for (const { site, publisher } of ways) {
    await cluster.sql(
      `update points set quality = quality where (series_id, time) in (select p.series_id, p.time
        from points p join series s using (series_id) where s.agent = '${site.name}' limit 1)`,
      cluster.database,
    )
    const verdict = await site.verdict(publisher.journal())
    assert.deepEqual([verdict.duplicates, verdict.ok], [1, false], site.name)
  }
  await regional.stop()
})
