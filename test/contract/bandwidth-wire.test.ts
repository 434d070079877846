/**
 * `bandwidth` on real sockets: one agent, a backlog, and before each server a relay that counts what comes up. A slow
 * machine sends less: it cannot turn a bound red.
 */
import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { parse, stringify } from 'yaml'
import { openLink } from '../../src/cli/demo/link.ts'
import { createControlClient } from '../../src/control/client.ts'
import { planSql } from '../../src/database/schema-postgres.ts'
import { createCertificates } from '../support/certificates.ts'
import { influxUser, startInflux } from '../support/influx-servers.ts'
import { freePort, killAll } from '../support/processes.ts'
import { startPrometheus } from '../support/prometheus-server.ts'
import { startPostgres } from '../support/servers.ts'
import { createSite } from '../support/site.ts'

after(killAll)
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const rate = 16_000
const [posts, pointsOfPost] = [60, 1_000]
const watchedMs = 4_000
/** A request, or what a segment comes to there where that is more, and what connections begin with. */
const batchBytes: Readonly<Record<string, number>> = {
  ...{ region: 48_000, influx: 64_000, prometheus: 64_000, postgres: 120_000, carry: 160_000 },
}

test('bandwidth: no destination sends more on the wire than its ceiling, beyond one batch; all is counted', async () => {
  const certificates = await createCertificates()
  const influx = await startInflux()
  await influx.query('CREATE DATABASE plant')
  const prometheus = await startPrometheus({ outOfOrderWindow: '1h' })
  const postgres = await startPostgres({ certificates })
  postgres.sql(planSql({ role: postgres.user }))
  const regionPort = await freePort()
  const portOf = (url: string) => Number(new URL(url).port)
  const links = {
    region: await openLink(regionPort),
    influx: await openLink(portOf(influx.url)),
    prometheus: await openLink(portOf(prometheus.url)),
    postgres: await openLink(postgres.port),
  }
  after(async () => {
    for (const link of Object.values(links)) await link[Symbol.asyncDispose]()
  })
  const site = await createSite({
    ...{ certificates, regionPort, relayPort: links.region.port },
    lanes: { raw: { max_delay: '50ms' } },
  })
  const carry = join(site.folder, 'carry')
  mkdirSync(carry)
  const config = parse(readFileSync(site.config, 'utf8'))
  const local = (at: { readonly port: number }) => `http://127.0.0.1:${at.port}`
  const database = `${postgres.user}@localhost:${links.postgres.port}/${postgres.database}`
  config.destinations.push(
    {
      ...{ name: 'influx', type: 'influx', dialect: 'influxdb1', database: 'plant', ...influxUser },
      url: local(links.influx),
    },
    {
      ...{ name: 'prometheus', type: 'prometheus', out_of_order_window: '1h' },
      url: local(links.prometheus),
    },
    {
      ...{ name: 'postgres', type: 'postgres', url: `postgres://${database}` },
      ...{ password: postgres.password, tls: { ca: certificates.ca } },
    },
    { name: 'carry', type: 'file', output_dir: carry, disk_free_min: '1MiB', compression: 'none' },
  )
  for (const one of config.destinations)
    Object.assign(one, { from: 'oldest', bandwidth: `${(rate * 8) / 1_000} kbit/s` })
  writeFileSync(site.config, stringify(config), { mode: 0o600 })
  const carried = () =>
    readdirSync(carry)
      .filter((name) => name.endsWith('.part'))
      .reduce((sum, name) => sum + statSync(join(carry, name)).size, 0)
  const ways: Readonly<Record<string, () => number>> = {
    ...Object.fromEntries(Object.entries(links).map(([name, link]) => [name, link.bytesUp])),
    carry: carried,
  }

  const regional = await site.startRegional()
  const agent = await site.startAgent()
  const seen: { readonly atMs: number; readonly bytes: Readonly<Record<string, number>> }[] = []
  const look = () => {
    const bytes = Object.fromEntries(Object.entries(ways).map(([name, way]) => [name, way()]))
    seen.push({ atMs: performance.now(), bytes })
  }
  look()
  const watch = setInterval(look, 20)
  after(() => clearInterval(watch))
  const fromMs = Date.now() - 600_000
  for (let nth = 0; nth < posts; nth++) {
    const lines = Array.from({ length: pointsOfPost }, (_, at) => {
      const value = Math.round(Math.sin(nth + at / 50) * 1e4) / 100
      return `line-${at % 40} signal=${value} ${(fromMs + nth * 100 + Math.floor(at / 40)) * 1_000}`
    })
    const { status } = await fetch(`${site.door}/write?precision=us`, {
      ...{ method: 'POST', body: lines.join('\n') },
    })
    assert.equal(status, 204)
  }
  await pause(watchedMs)
  clearInterval(watch)
  look()
  const metrics = await createControlClient(site.socket, 5_000).text('/v1/metrics')
  const last = seen.at(-1)
  assert.deepEqual(Object.keys(ways).sort(), Object.keys(batchBytes).sort())
  for (const [name, batch] of Object.entries(batchBytes)) {
    for (const [from, one] of seen.entries())
      for (const other of seen.slice(from)) {
        const bytes = (other.bytes[name] ?? 0) - (one.bytes[name] ?? 0)
        const allowed = (rate * (other.atMs - one.atMs)) / 1_000 + batch
        assert.ok(bytes <= allowed, `${name}: ${bytes} in ${other.atMs - one.atMs} ms`)
      }
    const told = new RegExp(
      `^holdfast_destination_bytes_sent_total\\{destination="${name}"\\} (\\d+)$`,
      'm',
    )
    const counted = Number(told.exec(metrics)?.[1])
    const wire = last?.bytes[name] ?? 0
    assert.ok(wire > 10_000, `${name} sent ${wire}`)
    // Counted once a request is over; TLS adds its own.
    assert.ok(counted >= 0.9 * wire - batch && counted > 5_000, `${name}: ${counted} of ${wire}`)
    assert.ok(counted <= wire + batch, `${name}: ${counted} of ${wire}`)
  }
  await agent.kill()
  await regional.stop()
  for (const server of [influx, prometheus, postgres]) await server.stop()
})
