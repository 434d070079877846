import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { createCertificates } from '../support/certificates.ts'
import { type Mosquitto, startMosquitto } from '../support/servers.ts'
import {
  connectPublisher,
  createMemory,
  type MqttInput,
  startSource,
  startWay,
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
const subscribed = (client: string, at = broker) =>
  until('subscribed', () => at.output().includes(`SUBACK to ${client}`))

for (const version of ['3.1.1', 5] as const) {
  test(`a commit that takes 5 s loses no keepalive of 1 s, and stops the flow, MQTT ${version}`, async () => {
    const memory = createMemory()
    const client_id = `slow-${version}`
    const input: MqttInput = {
      url: broker.url,
      version,
      client_id,
      keepalive: '1s',
      subscribe: [{ topic: 's/#', payload: 'string', qos: 0 }],
    }
    const source = startSource(input, memory)
    await subscribed(client_id)
    const { promise: released, resolve: release } = Promise.withResolvers<void>()
    source.gate.commit = () => released
    const publisher = await connectPublisher(broker.url)
    // Far more than may wait, so that the socket is held while the commit blocks.
    const body = 'x'.repeat(50_000)
    for (let at = 0; at < 100; at++) await publisher.publishAsync('s/a', body, { qos: 0 })
    await new Promise((resolve) => setTimeout(resolve, 5_000))
    assert.equal(memory.points.length, 0)
    release()
    source.gate.commit = undefined
    await until('all', () => memory.points.length === 100)
    await source.stop()
    await publisher.endAsync()
    assert.deepEqual(
      source.logged.filter((one) => !one.startsWith('info')),
      [],
    )
    assert.equal(source.connects(), 1)
  })
}

test('TLS with client certificates: verified both ways, and read afresh at each connection', async () => {
  const certificates = await createCertificates()
  const secure = await startMosquitto({ certificates })
  const agent = await certificates.agent('edge')
  const tls = { ca: certificates.ca, ...agent }
  try {
    const memory = createMemory()
    const input = { url: secure.url, client_id: 'tls', subscribe: [{ topic: 't/#' }] }
    const source = startSource({ ...input, tls }, memory)
    await subscribed('tls', secure)
    const publisher = await connectPublisher(secure.url, {
      ca: readFileSync(tls.ca),
      cert: readFileSync(tls.cert),
      key: readFileSync(tls.key),
    })
    await publisher.publishAsync('t/a', '{"v":1.5}', { qos: 1 })
    await until('the point', () => memory.points.length === 1)
    assert.deepEqual(memory.points[0]?.slice(0, 2), ['t.a.v', 1.5])
    await publisher.endAsync()
    await source.stop()

    for (const wrong of [
      { ...tls, ca: (await createCertificates()).ca },
      { ca: tls.ca },
      { ...tls, servername: 'elsewhere' },
      { ...tls, cert: '/nonexistent' },
    ]) {
      const refused = startSource({ ...input, tls: wrong }, createMemory())
      await until('refused', () => refused.logged.some((one) => one.startsWith('warn')))
      assert.equal(refused.connects(), 0)
      await refused.stop()
    }
  } finally {
    await secure.stop()
  }
})

test('two clients of one id do not storm: each connection that did not last waits longer', async () => {
  const options = { url: broker.url, client_id: 'twin', subscribe: [{ topic: 'w/#' }] }
  for (const version of [5, '3.1.1'] as const) {
    const random = () => 1
    const one = startSource({ ...options, version }, createMemory(), { random })
    const two = startSource({ ...options, version }, createMemory(), { random })
    await new Promise((resolve) => setTimeout(resolve, 4_000))
    const connects = one.connects() + two.connects()
    // Waits of 0.5, 1, 2, 4 s (5 s more where the broker says why): a handful, not hundreds.
    assert.ok(connects >= 2 && connects <= 10, `${connects} connections`)
    await Promise.all([one.stop(), two.stop()])
  }
})

test('a broker that goes away is found again, and what it kept arrives once', async () => {
  const lasting = await startMosquitto({ persistence: true })
  const memory = createMemory()
  const source = startSource(
    { url: lasting.url, client_id: 'again', subscribe: [{ topic: 'r/#' }] },
    memory,
  )
  try {
    await subscribed('again', lasting)
    const publish = async (value: string) => {
      const publisher = await connectPublisher(lasting.url)
      await publisher.publishAsync('r/a', value, { qos: 1 })
      await publisher.endAsync()
    }
    await publish('1')
    await until('the first', () => memory.points.length === 1)
    await lasting.stop()
    await until('noticed', () => source.logged.some((one) => one.startsWith('warn')))
    await lasting.restart()
    await publish('2')
    await until('the second', () => memory.points.length === 2)
    assert.deepEqual(
      memory.points.map(([, value]) => value),
      [1, 2],
    )
  } finally {
    await source.stop()
    await lasting.stop()
  }
})

test('malformed and oversized messages are recorded with a sample, acked, and block nothing', async () => {
  const memory = createMemory()
  const source = startSource(
    { url: broker.url, client_id: 'bad', subscribe: [{ topic: 'm/#' }] },
    memory,
  )
  await subscribed('bad')
  const publisher = await connectPublisher(broker.url)
  const send = (payload: string | Buffer) => publisher.publishAsync('m/a', payload, { qos: 1 })
  await send('1')
  await send('{"broken')
  await send('{"also broken')
  await send(Buffer.alloc(9 * 1024 * 1024, 0x31))
  await send('"\\u0000"')
  await send('2')
  await until('both', () => memory.points.length === 2)
  await until('all losses', () => memory.losses.reduce((sum, one) => sum + one.count, 0) === 4)
  await until('acked', () => (broker.output().match(/PUBACK from bad/g) ?? []).length === 6)
  await source.stop()
  await publisher.endAsync()
  const reasons = new Set(memory.losses.map(({ reason, text }) => `${reason}: ${text}`))
  assert.deepEqual([...reasons].sort(), [
    'malformed: a message of more than 8388608 bytes',
    'malformed: not JSON: Unterminated string',
    'refused: a text with a NUL character',
  ])
  const sample = memory.losses.find(({ text }) => text.startsWith('not JSON'))?.sample
  assert.equal(Buffer.from(sample ?? []).toString(), 'm/a\n{"broken')
  assert.equal(memory.losses[0]?.source, 'plant')
})

test('a broker that stalls at its window of 20 gets early commits; one with nothing to send gets none', async () => {
  const memory = createMemory()
  const source = startSource(
    { url: broker.url, client_id: 'stall', receive_maximum: 20, subscribe: [{ topic: 'q/#' }] },
    memory,
  )
  await subscribed('stall')
  // Group commit: everything waits for the end of a long window, or for the first that is urgent.
  let waiting: (() => void)[] = []
  const commitAll = () => {
    for (const one of waiting) one()
    waiting = []
  }
  const timer = setInterval(commitAll, 1_000)
  source.gate.commit = (intake) =>
    new Promise((resolve) => {
      waiting.push(resolve)
      if (intake.urgent) commitAll()
    })
  const publisher = await connectPublisher(broker.url)
  await publisher.publishAsync('q/a', '1', { qos: 1 })
  const urgentBefore = memory.urgent
  await new Promise((resolve) => setTimeout(resolve, 200))
  assert.equal(memory.urgent, urgentBefore)
  for (let at = 0; at < 500; at++) publisher.publish('q/a', '1', { qos: 1 })
  await until('all', () => memory.points.length === 501)
  assert.ok(memory.urgent > urgentBefore)
  await source.stop()
  clearInterval(timer)
  await publisher.endAsync()
})

for (const version of ['3.1.1', 5] as const) {
  test(`a connection made again does not bring retained messages again, MQTT ${version}`, async () => {
    const client = `retained-${version}`
    const publisher = await connectPublisher(broker.url)
    await publisher.publishAsync(`${client}/a`, '1', { qos: 1, retain: true })
    const way = await startWay(broker.port)
    const memory = createMemory()
    const source = startSource(
      { url: way.url, version, client_id: client, subscribe: [{ topic: `${client}/#` }] },
      memory,
    )
    await until('the retained one', () => memory.points.length === 1)
    way.cut()
    await until('connected again', () => source.connects() === 2)
    await publisher.publishAsync(`${client}/b`, '2', { qos: 1 })
    await until('a new one', () => memory.points.some(([, value]) => value === 2))
    assert.equal(memory.points.length, 2)
    await source.stop()
    way.close()
  })
}
