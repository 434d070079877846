import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { start } from '../support/processes.ts'
import { type Mosquitto, startMosquitto } from '../support/servers.ts'
import { temporaryFolder } from '../support/temp.ts'
import {
  connectPublisher,
  createMemory,
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

const child = join(import.meta.dirname, 'mqtt-child.ts')
const valuesIn = (file: string): string[] =>
  readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .flatMap((line) => (JSON.parse(line) as { points: string[] }).points)

for (const version of ['3.1.1', '5']) {
  test(`SIGKILL between commit and PUBACK adds nothing on redelivery, MQTT ${version}`, async () => {
    const file = join(temporaryFolder('mqtt'), 'spool')
    const run = (hangAfter: number) =>
      start(process.execPath, [child, broker.url, file, String(hangAfter), version])
    const publisher = await connectPublisher(broker.url)
    const first = run(0)
    // A fresh session commits once before it subscribes.
    await first.says('committed 0')
    await until('subscribed', () => broker.output().includes(`SUBACK to killed-${version}`))
    await publisher.publishAsync(`k/${version}/a`, '-1', { qos: 1 })
    await first.says('committed 1')
    await first.kill()
    const published: string[] = []
    const publish = async (value: string) => {
      published.push(value)
      await publisher.publishAsync(`k/${version}/a`, value, { qos: 1 })
    }
    for (let round = 0; round < 4; round++) {
      for (let at = 0; at < 30; at++) await publish(String(1_000 * round + at))
      // The same value on purpose, many times: each counts.
      for (let at = 0; at < 30; at++) await publish('7777')
      const one = run(1)
      await one.says(/committed [1-9]/)
      await one.kill()
    }
    const last = run(0)
    await until('everything', () => valuesIn(file).length >= 241)
    await publisher.publishAsync(`k/${version}/a`, 'true', { qos: 1 })
    await until('the last', () => valuesIn(file).includes('true'))
    await last.kill()
    await publisher.endAsync()
    assert.deepEqual(valuesIn(file), ['-1', ...published, 'true'])
  })
}

test('a connection cut between commit and PUBACK adds nothing; acks of a dead connection are dropped', async () => {
  const way = await startWay(broker.port)
  const memory = createMemory()
  const source = startSource(
    { url: way.url, client_id: 'cut', subscribe: [{ topic: 'c/#' }] },
    memory,
  )
  await until('subscribed', () => broker.output().includes('SUBACK to cut'))
  const publisher = await connectPublisher(broker.url)
  const { promise: released, resolve: release } = Promise.withResolvers<void>()
  source.gate.after = () => released
  for (let at = 0; at < 10; at++) await publisher.publishAsync('c/a', '1', { qos: 1 })
  await until('committed', () => memory.points.length === 10)
  way.cut()
  await until('noticed', () => broker.output().includes('Client cut closed its connection'))
  source.gate.after = undefined
  release()
  await publisher.publishAsync('c/a', '2', { qos: 1 })
  await until('the last', () => memory.points.some(([, value]) => value === 2))
  await source.stop()
  way.close()
  await publisher.endAsync()
  assert.equal(source.connects(), 2)
  assert.deepEqual(
    memory.points.map(([, value]) => value),
    [...Array.from({ length: 10 }, () => 1), 2],
  )
})
