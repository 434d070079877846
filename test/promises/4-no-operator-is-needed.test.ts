/** "No operator is needed after a fault": outages, failovers, full disks, certificates, clocks, clones and restores. */
import assert from 'node:assert/strict'
import { copyFileSync, cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { openLink } from '../../src/cli/demo/link.ts'
import { createCertificates } from '../support/certificates.ts'
import { freePort } from '../support/processes.ts'
import { createHttpPublisher } from '../support/publisher.ts'
import { startPgBouncer, startPostgres } from '../support/servers.ts'
import { createSite } from '../support/site.ts'

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

test('PostgreSQL is killed, and restored to an earlier moment: the agent rewinds and nothing is lost', async () => {
  const certificates = await createCertificates()
  const postgres = await startPostgres({ certificates })
  const bouncer = await startPgBouncer(postgres, certificates)
  const site = await createSite({ certificates, database: { url: bouncer.url, postgres } })
  const regional = await site.startRegional()
  const agent = await site.startAgent()
  const publisher = createHttpPublisher(() => site.door)
  for (let round = 0; round < 5; round++) await publisher.send(200)
  await site.drained()
  await postgres.stop()
  const saved = postgres.saveData()
  await postgres.restart()
  for (let round = 0; round < 5; round++) await publisher.send(200)
  await site.drained()
  // The tail that was committed and acknowledged since is gone: an asynchronous failover, or a restore.
  await postgres.kill()
  await publisher.send(50)
  postgres.restoreData(saved)
  await postgres.restart()
  await publisher.send(50)
  await site.drained(120)
  await agent.stop()
  const verdict = await site.verdict(publisher.journal())
  assert.deepEqual(verdict.reasons, [])
  assert.equal(verdict.delivered, publisher.acked())
  assert.match(agent.output(), /rewind/)
  await regional.stop()
  await bouncer.stop()
  await postgres.stop()
})

test('a link that is away longer than sent points are held loses nothing', async () => {
  const regionPort = await freePort()
  const link = await openLink(regionPort)
  const site = await createSite({ relayPort: link.port, regionPort, spool: { keep_sent: '1s' } })
  const regional = await site.startRegional()
  const agent = await site.startAgent()
  const publisher = createHttpPublisher(() => site.door)
  await publisher.send(500)
  await site.drained()
  link.cut()
  for (let round = 0; round < 20; round++) {
    await publisher.send(100)
    await pause(200)
  }
  const waiting = (await site.status()).lanes.flatMap((lane) => lane.readers)
  assert.equal(
    waiting.reduce((sum, reader) => sum + reader.pending, 0),
    2000,
  )
  link.heal()
  await site.drained()
  await agent.stop()
  await regional.stop()
  await link[Symbol.asyncDispose]()
  const verdict = await site.verdict(publisher.journal())
  assert.deepEqual(verdict.reasons, [])
  assert.equal(verdict.delivered, publisher.acked())
})

test('certificates that expired are replaced, and both sides go on without a restart', async () => {
  const certificates = await createCertificates()
  const site = await createSite({ certificates })
  const dayMs = 86_400_000
  const ended = { fromMs: Date.now() - 3 * dayMs, days: 2 }
  const good = {
    ...site.agentKey,
    cert: `${site.agentKey.cert}.good`,
    key: `${site.agentKey.key}.good`,
  }
  copyFileSync(site.agentKey.cert, good.cert)
  copyFileSync(site.agentKey.key, good.key)
  await certificates.agent(site.name, ended)
  const regional = await site.startRegional()
  const agent = await site.startAgent()
  const publisher = createHttpPublisher(() => site.door)
  assert.ok(await publisher.send(100))
  await agent.says(/expired/i)
  const before = await site.status()
  assert.equal(before.destinations[0]?.pending, 100)
  copyFileSync(good.key, site.agentKey.key)
  copyFileSync(good.cert, site.agentKey.cert)
  await site.drained(120)
  await agent.stop()
  await regional.stop()
  assert.deepEqual((await site.verdict(publisher.journal())).reasons, [])
})

test('a spool restored to an earlier moment goes on in a new epoch; nothing that reached the region is lost', async () => {
  const site = await createSite()
  const regional = await site.startRegional()
  const publisher = createHttpPublisher(() => site.door)
  let agent = await site.startAgent()
  await publisher.send(300)
  await site.drained()
  await agent.stop()
  const saved = join(site.folder, 'saved')
  cpSync(site.stateDir, saved, { recursive: true })
  agent = await site.startAgent()
  await publisher.send(300)
  await site.drained()
  await agent.kill()
  rmSync(site.stateDir, { recursive: true })
  cpSync(saved, site.stateDir, { recursive: true })
  agent = await site.startAgent()
  assert.ok(await publisher.send(300))
  // The region cannot know yet that the original is gone: until it has been silent long enough the newcomer is fenced.
  await agent.says(/fenced/)
  assert.equal((await site.status()).destinations[0]?.state, 'blocked')
  await agent.stop()
  await regional.stop()
  // An operator's word admits it; the ten minutes of silence are played in the simulation.
  await site.admitFenced()
  const again = await site.startRegional()
  agent = await site.startAgent()
  await site.drained(90)
  await agent.stop()
  await again.stop()
  assert.deepEqual((await site.verdict(publisher.journal())).reasons, [])
})
