import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { type Mosquitto, startMosquitto } from '../support/servers.ts'
import {
  connectPublisher,
  createMemory,
  startSource,
  stopSources,
  until,
} from '../unit/sources/mqtt-support.ts'

let broker: Mosquitto
before(async () => {
  broker = await startMosquitto()
})
after(async () => {
  await stopSources()
  await broker.stop()
})

for (const version of ['3.1.1', 5] as const) {
  test(`every message becomes its points, in order, MQTT ${version}`, async () => {
    const memory = createMemory()
    const source = startSource(
      { url: broker.url, version, client_id: `in-order-${version}`, subscribe: [{ topic: 'p/+' }] },
      memory,
    )
    source.gate.commit = () => new Promise((resolve) => setTimeout(resolve, 5))
    await until('subscribed', () => source.connects() === 1)
    await new Promise((resolve) => setTimeout(resolve, 100))
    const publisher = await connectPublisher(broker.url)
    for (let at = 0; at < 2_000; at++)
      publisher.publish('p/a', String(at), { qos: at % 2 === 0 ? 1 : 0 })
    await until('all points', () => memory.points.length === 2_000)
    await publisher.endAsync()
    await source.stop()
    const values = memory.points.map(([, value]) => value)
    assert.deepEqual(
      values.toSorted((a, b) => Number(a) - Number(b)),
      Array.from({ length: 2_000 }, (_, at) => at),
    )
    const even = values.filter((value) => Number(value) % 2 === 0)
    assert.deepEqual(
      even,
      Array.from({ length: 1_000 }, (_, at) => at * 2),
    )
  })
}
