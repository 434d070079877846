/** An agent before PostgreSQL, by way of PgBouncer, all as processes: SIGKILLs, an outage, a restore; the checker judges. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { planSql } from '../../src/database/schema-postgres.ts'
import { createCertificates } from '../support/certificates.ts'
import { createHttpPublisher } from '../support/publisher.ts'
import { startPgBouncer, startPostgres } from '../support/servers.ts'
import { acceptedIn, createSite } from '../support/site.ts'

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
/** Of the agent; every fifth one falls together with the server, every fifth with PgBouncer. */
const kills = 20

test(`${kills} × SIGKILL of the agent, 4 of PostgreSQL, 4 of PgBouncer, a restore: nothing lost, altered or twice`, async () => {
  const certificates = await createCertificates()
  const postgres = await startPostgres({ certificates })
  const bouncer = await startPgBouncer(postgres, certificates)
  postgres.sql(planSql({ role: postgres.user }))
  const site = await createSite({
    certificates,
    database: { url: bouncer.url, postgres },
    destination: {
      name: 'plant-db',
      type: 'postgres',
      url: `postgres://${postgres.user}@localhost:${bouncer.port}/${postgres.database}`,
      password: postgres.password,
      tls: { ca: certificates.ca },
    },
  })
  await site.withReadBack((back) => back.installAudit())
  let agent = await site.startAgent()
  const publisher = createHttpPublisher(() => site.door)
  const stop = new AbortController()
  const flood = publisher.flood(40, stop.signal)
  try {
    for (let kill = 0; kill < kills; kill++) {
      await publisher.ackedMore(80)
      await pause(100 + Math.random() * 300)
      const server = kill % 5 === 1 ? postgres : kill % 5 === 3 ? bouncer : undefined
      await server?.kill()
      if (server !== undefined) await pause(Math.random() * 400)
      await agent.kill()
      agent = await site.startAgent()
      await server?.restart()
    }
  } finally {
    stop.abort()
    await flood
  }
  await site.drained(60)
  // A correction, written later than what it corrects, whatever is sent again afterwards.
  await publisher.correct('plant-1', 1_800_000_000_001_000, 4_711)
  await site.drained(30)
  const before = acceptedIn(await site.status())

  await postgres.stop()
  const saved = postgres.saveData()
  await postgres.restart()
  for (let more = 0; more < 10; more++) await publisher.send(40)
  await site.drained(60, before + 400)
  await postgres.stop()
  postgres.restoreData(saved)
  await postgres.restart()
  await publisher.send(40)
  await site.drained(60, before + 440)
  assert.match(agent.output(), /"event":"rewind"/)
  await agent.stop()

  const verdict = await site.verdict(publisher.journal())
  assert.deepEqual(verdict.reasons, [])
  assert.equal(verdict.duplicates + verdict.altered + verdict.declared_lost, 0)
  assert.ok(publisher.acked() > kills * 40, `only ${publisher.acked()} points were accepted`)
  await bouncer.stop()
  await postgres.stop()
})
