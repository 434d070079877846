/** Secrets that are replaced in their files under a running agent: an MQTT password, tokens of the HTTP door and of metrics. */
import assert from 'node:assert/strict'
import { pbkdf2Sync, randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import mqtt from 'mqtt'
import { freePort, killAll } from '../support/processes.ts'
import { ownFile, ownFolder, startMosquitto } from '../support/servers.ts'
import { acceptedIn, createSite } from '../support/site.ts'
import { temporaryFolder } from '../support/temp.ts'

after(killAll)
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
/** As mosquitto_passwd writes it. */
const hashed = (password: string): string => {
  const salt = randomBytes(12)
  const hash = pbkdf2Sync(password, salt, 101, 64, 'sha512')
  return `gateway:$7$101$${salt.toString('base64')}$${hash.toString('base64')}\n`
}
/** Of what is asked again and again, until it is so. */
const becomes = async <T>(wanted: T, ask: () => Promise<T> | T): Promise<void> => {
  for (let tries = 0; ; tries++) {
    const seen = await ask()
    if (seen === wanted) return
    assert.ok(tries < 300, `${seen} instead of ${wanted}`)
    await pause(100)
  }
}

test('a password of MQTT and tokens of the door and of metrics are taken from their files without a restart, and the old ones are over', async () => {
  const passwords = join(ownFolder('passwd'), 'passwd')
  ownFile(passwords, hashed('first-password'))
  const broker = await startMosquitto({ settings: [`password_file ${passwords}`] })
  const secrets = temporaryFolder('secrets')
  const fileOf = (name: string) => join(secrets, name)
  const kept = (name: string) => `\u0024{file:${fileOf(name)}}`
  writeFileSync(fileOf('password'), 'first-password\n')
  writeFileSync(fileOf('token'), 'first-token-of-the-door\n')
  writeFileSync(fileOf('metrics'), 'first-token-of-metrics\n')
  const metricsAt = `127.0.0.1:${await freePort()}`
  const site = await createSite({
    door: { token: kept('token') },
    metrics: { listen: metricsAt, token: kept('metrics') },
    sources: [
      {
        ...{
          name: 'plant',
          type: 'mqtt',
          url: broker.url,
          subscribe: [{ topic: 'plant/#', payload: 'number' }],
        },
        ...{ username: 'gateway', password: kept('password') },
      },
    ],
  })
  const agent = await site.startAgent()
  let points = 0
  const post = async (token: string): Promise<number> => {
    const { status } = await fetch(`${site.door}/write`, {
      ...{ method: 'POST', body: `a v=${++points}`, headers: { authorization: `Token ${token}` } },
    })
    return status
  }
  const publish = async () => {
    const before = acceptedIn(await site.status())
    const client = await mqtt.connectAsync(broker.url, { reconnectPeriod: 0 })
    await client.publishAsync('plant/a', '1', { qos: 1 })
    await client.endAsync(true)
    await site.when((seen) => acceptedIn(seen) > before, 30, 100)
  }
  const scrape = async (token: string): Promise<number> => {
    const headers = { authorization: `Bearer ${token}` }
    return (await fetch(`http://${metricsAt}/metrics`, { headers })).status
  }
  /** Anew: what is published before nobody keeps. */
  const connections = () => agent.output().split('"event":"connected"').length - 1

  await becomes(1, connections)
  await publish()
  assert.deepEqual(
    [await post('first-token-of-the-door'), await post('second-token-of-the-door')],
    [204, 401],
  )

  writeFileSync(fileOf('token'), 'second-token-of-the-door\n')
  await becomes(204, () => post('second-token-of-the-door'))
  assert.equal(await post('first-token-of-the-door'), 401)
  assert.deepEqual(
    [await scrape('first-token-of-metrics'), await scrape('second-token-of-metrics')],
    [200, 401],
  )
  writeFileSync(fileOf('metrics'), 'second-token-of-metrics\n')
  await becomes(200, () => scrape('second-token-of-metrics'))
  assert.equal(await scrape('first-token-of-metrics'), 401)

  writeFileSync(fileOf('token'), '\n')
  await pause(2_500)
  assert.equal(
    await post('second-token-of-the-door'),
    204,
    'what cannot be read leaves the earlier one',
  )

  await broker.stop()
  ownFile(passwords, hashed('second-password'))
  await broker.restart()
  await becomes(true, () => agent.output().includes('the broker refuses this client'))
  writeFileSync(fileOf('password'), 'second-password\n')
  await becomes(2, connections)
  await publish()
  // Replaced before the broker asks for it: nothing is refused.
  const refusals = () => agent.output().split('the broker refuses this client').length
  const before = refusals()
  writeFileSync(fileOf('password'), 'third-password\n')
  await publish()
  assert.equal(refusals(), before)
  assert.doesNotMatch(agent.output(), /(?:first|second|third)-(?:password|token)/)
  await agent.stop()
  await broker.stop()
})
