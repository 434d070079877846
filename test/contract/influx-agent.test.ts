/** An agent before InfluxDB 1, both as processes: SIGKILL of either and an outage lose nothing and alter nothing. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { influxUser, startInflux } from '../support/influx-servers.ts'
import { createHttpPublisher } from '../support/publisher.ts'
import { createSite } from '../support/site.ts'

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const bitsOf = (value: number) => new BigUint64Array(new Float64Array([value]).buffer)[0]
/** Of the agent; every third one falls together with the server. */
const kills = 6

test(`${kills} × SIGKILL of the agent, outages and SIGKILL of InfluxDB: counts and values are equal`, async () => {
  const influx = await startInflux()
  await influx.query('CREATE DATABASE plant')
  const site = await createSite({
    destination: {
      name: 'influx',
      type: 'influx',
      dialect: 'influxdb1',
      url: influx.url,
      database: 'plant',
      ...influxUser,
      tls: undefined,
    },
  })
  let agent = await site.startAgent()
  const publisher = createHttpPublisher(() => site.door)
  const stop = new AbortController()
  const flood = publisher.flood(40, stop.signal)
  try {
    for (let kill = 0; kill < kills; kill++) {
      await pause(200 + Math.random() * 300)
      const outage = kill % 3 === 1
      if (outage) await influx.kill()
      if (outage) await pause(400)
      await agent.kill()
      agent = await site.startAgent()
      if (outage) await influx.restart()
    }
  } finally {
    stop.abort()
    await flood
  }
  await publisher.send(10)
  const { destinations } = await site.drained(45)
  await agent.stop()
  assert.equal(destinations.length, 1)

  const journal = publisher.journal()
  const sent = new Map(journal.map((point) => [`${point.series}@${point.timeUs}`, point]))
  const rows = await influx.points('plant')
  const held = new Set<string>()
  for (const [measurement, timeUs, value] of rows) {
    const key = `${measurement}.value@${timeUs}`
    assert.ok(!held.has(key), `${key} is there twice`)
    held.add(key)
    assert.equal(bitsOf(value as number), sent.get(key)?.bits, `${key} is altered`)
  }
  const missing = journal.filter(
    ({ acked, series, timeUs }) => acked && !held.has(`${series}@${timeUs}`),
  )
  assert.deepEqual(missing, [])
  assert.ok(publisher.acked() > kills * 40, `only ${publisher.acked()} points were accepted`)
  await influx.stop()
})
