/** Credentials that are renewed in a file, before a server that takes only what it is told to. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { stringify } from 'yaml'
import { catalog } from '../../../src/config/catalog.ts'
import { loadConfig } from '../../../src/config/load.ts'
import { createLogin } from '../../../src/destinations/login.ts'
import { createSystemHost, silentLog } from '../../../src/host.ts'
import { createTestLog } from '../../contract/destination-log.ts'
import { temporaryFolder } from '../../support/temp.ts'

const signal = new AbortController().signal
const refused = { kind: 'blocked', code: 'HF-1', text: 'no', hint: '' } as const

test('a refusal of what has been replaced since is not held against the new one', () => {
  let file = 'one'
  let reads = 0
  const read = () => {
    reads++
    return { token: file }
  }
  const login = createLogin({ token: 'one' }, read, 'HF-1')
  const first = login.current()
  assert.equal(reads, 0)
  const other = { ...refused, code: 'HF-2' }
  assert.deepEqual([login.heard(first, other), reads], [other, 0])
  assert.equal(login.heard(first, refused), refused)
  // Looked for again before the next try, and found.
  file = 'two'
  const second = login.current()
  assert.equal(second.token, 'two')
  // Two requests were on their way with the first.
  for (let times = 0; times < 2; times++) assert.equal(login.heard(first, refused).kind, 'later')
  assert.equal(login.heard(second, refused), refused)
  file = 'three'
  assert.equal(login.heard(second, refused).kind, 'later')
  assert.equal(login.current().token, 'three')
  const fixed = createLogin({ token: 'one' }, undefined, 'HF-1')
  assert.equal(fixed.heard(fixed.current(), refused), refused)
  assert.equal(fixed.current().token, 'one')
})

test('influx and prometheus log in with what the file holds once the earlier one was refused', async () => {
  const folder = temporaryFolder('login')
  const file = join(folder, 'token')
  let taken = 'first-token'
  const server = createServer((request, response) => {
    const good = request.headers.authorization?.endsWith(` ${taken}`)
    request.resume().once('end', () => response.writeHead(good ? 204 : 401).end())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const token = `\u0024{file:${file}}`
  const path = join(folder, 'holdfast.yaml')
  const influx = { type: 'influx', dialect: 'influxdb2', org: 'o', bucket: 'b' }
  const destinations = [
    { name: 'influx', ...influx, url, token },
    { name: 'prom', type: 'prometheus', url, token },
  ]
  writeFileSync(file, `${taken}\n`)
  writeFileSync(path, stringify({ agent: { name: 'gw-7', state_dir: folder }, destinations }))
  const secrets: string[] = []
  const loaded = loadConfig(path, {
    ...{ environment: {}, catalog, surroundings: false },
    onSecret: (secret) => secrets.push(secret),
  })
  assert.ok(loaded.ok)
  const host = createSystemHost({ log: silentLog })
  for (const { of, name, settings, renewed } of loaded.config.destinations) {
    const log = createTestLog('gw-7')
    const deps = { host, name, agent: 'gw-7', spool: log.spool, farTime: () => {}, renewed }
    await using destination = of.create(deps, settings)
    const before = taken
    const send = async () => {
      const item = log.add([{ name: 'a', timeUs: 1_700_000_000_000_000, value: 1 }])
      return await destination.send(log.batch([item]), signal)
    }
    assert.equal((await send()).kind, 'stored', name)
    // The server first: it pauses, with the remedy, until the file holds the new one.
    taken = `second-${name}`
    const said = await send()
    assert.ok(said.kind === 'blocked' && /read again before each try/.test(said.hint), name)
    writeFileSync(file, `${taken}\n`)
    assert.equal((await send()).kind, 'stored', name)
    // The file first: no pause at all.
    taken = `third-${name}`
    writeFileSync(file, `${taken}\n`)
    assert.equal((await send()).kind, 'later', name)
    assert.equal((await send()).kind, 'stored', name)
    assert.ok(secrets.includes(taken))
    taken = before
    writeFileSync(file, `${taken}\n`)
  }
  // The configuration itself is not read again, and what does not work leaves everything as it is.
  writeFileSync(path, 'broken: [')
  const [one] = loaded.config.destinations
  assert.equal((one?.renewed() as { token: string }).token, 'first-token')
  writeFileSync(file, '')
  assert.equal(one?.renewed(), undefined)
  await new Promise((resolve) => server.close(resolve))
})
