/** "Once in effect": a broker that never heard the ack sends again, and every message still counts once. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connectAsync } from 'mqtt'
import { openHeldLink } from '../support/held-link.ts'
import { startMosquitto } from '../support/servers.ts'
import { acceptedIn, createSite } from '../support/site.ts'

const release = process.env.HOLDFAST_TEST_RELEASE === '1'
const rounds = release ? 200 : 4
/** What a broker leaves unanswered at once on each connection (mosquitto's default). */
const inFlight = 20
const versions = ['3.1.1', '5'] as const

test(`${rounds} × SIGKILL between commit and PUBACK, and ${rounds} at any moment: distinct and equal messages count once`, async () => {
  const broker = await startMosquitto({ quiet: true })
  const link = await openHeldLink(broker.port)
  const site = await createSite({
    sources: versions.map((version) => ({
      ...{ name: `plant-${version}`, type: 'mqtt', version, url: `mqtt://127.0.0.1:${link.port}` },
      receive_maximum: inFlight,
      subscribe: [{ topic: `v${version}/+`, payload: 'number' }],
    })),
  })
  const regional = await site.startRegional()
  const startAgent = async () => {
    const running = await site.startAgent()
    await running.says(/"connected"[\s\S]*"connected"/)
    return running
  }
  let agent = await startAgent()
  const publisher = await connectAsync(broker.url, { reconnectPeriod: 0 })
  const published: number[] = []
  const publish = async (count: number) => {
    const answers: Promise<unknown>[] = []
    for (let at = 0; at < count; at++) {
      // Each second one is the same as its neighbours, on purpose.
      const value = published.length % 2 === 0 ? published.length : 7
      published.push(value)
      for (const version of versions)
        answers.push(publisher.publishAsync(`v${version}/a`, String(value), { qos: 1 }))
    }
    await Promise.all(answers)
  }
  const committed = (points: number) => site.when((seen) => acceptedIn(seen) >= points)
  for (let round = 0; round < rounds; round++) {
    await committed(published.length * versions.length)
    // Committed is not yet acknowledged: an ack that is held back too would take its place among the unanswered.
    await link.quiet(500)
    link.hold()
    const before = published.length
    await publish(inFlight + 15)
    await committed(before * versions.length + inFlight)
    await agent.kill()
    link.drop()
    agent = await startAgent()
    const flood = publish(60)
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 150))
    await agent.kill()
    link.drop()
    await flood
    agent = await startAgent()
  }
  await site.drained(60, published.length * versions.length)
  await agent.stop()
  await regional.stop()
  await publisher.endAsync()
  await link[Symbol.asyncDispose]()
  await broker.stop()
  await site.withReadBack(async (back, delivered) => {
    const found = new Map<string, number[]>()
    const floats = new DataView(new ArrayBuffer(8))
    for await (const { name, bits } of back.readBack(site.name)) {
      floats.setBigUint64(0, bits as bigint)
      found.set(name, [...(found.get(name) ?? []), floats.getFloat64(0)])
    }
    for (const version of versions) assert.deepEqual(found.get(`v${version}.a`), published)
    assert.equal(delivered, published.length * versions.length)
    assert.deepEqual(await back.gapsOf(site.name), [])
  })
})
