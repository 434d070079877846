/**
 * Points that a real InfluxDB refuses: listed and shown by the command line, sent again through SIGKILLs once the server
 * was mended, given up. The equation holds at every look, the server's own rows say that everything is there once.
 */
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { parse, stringify } from 'yaml'
import { createControlClient } from '../../src/control/client.ts'
import { kinds } from '../../src/model.ts'
import { check } from '../../src/verify/checker.ts'
import { influxUser, startInflux } from '../support/influx-servers.ts'
import { killAll } from '../support/processes.ts'
import { createHttpPublisher } from '../support/publisher.ts'
import { cli, createSite, type Site } from '../support/site.ts'

after(killAll)
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const kills = 6
const bitsOf = (value: number) => new BigUint64Array(new Float64Array([value]).buffer)[0] as bigint

interface Listed {
  readonly id: number
  readonly destination: string
  readonly why: string
  readonly points: number
  readonly text: string
}
const verb = (site: Site, ...args: string[]) =>
  cli(['quarantine', ...args, '--json', '--socket', site.socket])
const listed = (site: Site): readonly Listed[] => JSON.parse(verb(site).out).quarantine
/** Of both destinations; the equation holds or this fails. */
const books = async (site: Site) => {
  const { lanes } = await site.status()
  const [lane] = lanes
  assert.ok(lane !== undefined)
  for (const { reader, delivered, declaredLost, pending } of lane.readers)
    assert.equal(delivered + declaredLost + pending, lane.accepted, reader)
  return new Map(lane.readers.map((one) => [one.reader, one]))
}

test(`refused, mended, sent again through ${kills} × SIGKILL: moved from lost to delivered, there once`, async () => {
  const influx = await startInflux()
  await influx.query('CREATE DATABASE plant WITH DURATION 1h')
  const site = await createSite({
    lanes: { raw: { max_delay: '50ms' } },
    destination: {
      ...{ name: 'historian', type: 'influx', dialect: 'influxdb1', database: 'plant' },
      ...{ url: influx.url, tls: undefined, ...influxUser },
    },
  })
  const carry = join(site.folder, 'carry')
  mkdirSync(carry)
  const config = parse(readFileSync(site.config, 'utf8'))
  config.destinations.push({
    name: 'carry',
    type: 'file',
    output_dir: carry,
    disk_free_min: '1MiB',
  })
  writeFileSync(site.config, stringify(config), { mode: 0o600 })
  let agent = await site.startAgent()

  const fresh = createHttpPublisher(() => site.door, { startUs: (Date.now() - 60_000) * 1_000 })
  const old = createHttpPublisher(() => site.door, {
    ...{ name: 'old', startUs: (Date.now() - 86_400_000) * 1_000 },
  })
  for (let batch = 0; batch < 4; batch++) {
    await fresh.send(40)
    await old.send(50)
    await pause(120)
  }
  await site.drained(30, 360)
  let now = await books(site)
  assert.deepEqual(
    ['historian', 'carry'].map((name) => [now.get(name)?.delivered, now.get(name)?.declaredLost]),
    [
      [160, 200],
      [360, 0],
    ],
  )
  const rows = listed(site)
  assert.equal(
    rows.reduce((sum, { points }) => sum + points, 0),
    200,
  )
  for (const one of rows) {
    assert.deepEqual([one.destination, one.why], ['historian', 'retention'])
    assert.match(one.text, /beyond retention policy/)
  }
  const [first] = rows as [Listed]
  const shown = cli(['quarantine', 'show', String(first.id), '--socket', site.socket]).out
  assert.match(shown, /Lengthen the retention there, then: holdfast quarantine resend/)
  assert.match(shown, /^20\S+Z +old-\d+\.value +float +-?\d/m)

  // Not mended yet: nothing moves, and nothing else is disturbed.
  const refused = verb(site, 'resend', String(first.id))
  assert.equal(refused.code, 1)
  assert.deepEqual(JSON.parse(refused.out).resent[0].delivered, 0)
  assert.equal((await books(site)).get('historian')?.declaredLost, 200)
  assert.equal(
    (await site.status()).destinations.every(({ breaker }) => breaker === 'closed'),
    true,
  )

  await influx.query('ALTER RETENTION POLICY autogen ON plant DURATION INF')
  for (let kill = 0; kill < kills; kill++) {
    const client = createControlClient(site.socket, 20_000)
    const sending = listed(site).map(({ id }) =>
      client.post(`/v1/quarantine/${id}/resend`).catch(() => undefined),
    )
    await pause(Math.random() * 25)
    await agent.kill()
    await Promise.all(sending)
    agent = await site.startAgent()
    // What flows beside it goes on.
    await fresh.send(5)
    await site.drained(30, 360 + 5 * (kill + 1))
    now = await books(site)
    const there = await influx.count('plant')
    assert.ok(there >= (now.get('historian')?.delivered ?? 0), 'called delivered and not there')
  }
  const all = 360 + 5 * kills
  const sent = verb(site, 'resend', '--destination', 'historian')
  assert.equal(sent.code, 0, sent.out)
  assert.deepEqual(listed(site), [])
  now = await books(site)
  assert.deepEqual([now.get('historian')?.delivered, now.get('historian')?.declaredLost], [all, 0])
  const found = (await influx.points('plant')).map(([name, timeUs, value]) => ({
    ...{ series: `${name}.value`, timeUs, kind: kinds.float, bits: bitsOf(Number(value)) },
    ...{ text: null, quality: 0 },
  }))
  const journal = [...fresh.journal(), ...old.journal()]
  const evidence = { journal: [journal], gaps: [], reduced: 0, pending: 0 }
  const verdict = await check({ ...evidence, rows: [found], delivered: found.length })
  assert.deepEqual(verdict.reasons, [])
  const less = await check({ ...evidence, rows: [found.slice(1)], delivered: found.length - 1 })
  assert.equal(less.missing, 1)

  // Another type than the field has: given up.
  const word = 'offline'
  const text = createHttpPublisher(() => site.door, {
    ...{ startUs: Date.now() * 1_000, valueAt: (nth: number) => (nth === 3 ? word : nth) },
  })
  await text.send(20)
  await site.drained(30, all + 20)
  const [conflict] = listed(site) as [Listed]
  assert.deepEqual([conflict.why, conflict.points], ['refused', 1])
  assert.match(conflict.text, /field type conflict/)
  const id = String(conflict.id)
  assert.equal(verb(site, 'discard', id).code, 2, 'without --yes')
  assert.equal(verb(site, 'discard', id, '--yes').code, 0)
  assert.deepEqual(listed(site), [])
  now = await books(site)
  assert.deepEqual(
    [now.get('historian')?.delivered, now.get('historian')?.declaredLost],
    [all + 19, 1],
  )
  const { gaps } = JSON.parse(cli(['gaps', '--json', '--socket', site.socket]).out)
  assert.deepEqual(
    gaps.map(({ reason, count, destination }: Readonly<Record<string, unknown>>) => [
      ...[reason, count, destination],
    ]),
    [['discarded', 1, 'historian']],
  )
  await agent.stop()
  await influx.stop()
})
