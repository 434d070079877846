import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { globSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { stringify } from 'yaml'
import { bundle } from '../../build/bundle.ts'
import { promClientParts, undiciParts } from '../../build/bundle-parts.ts'
import { createControlClient } from '../../src/control/client.ts'
import type { AgentStatus } from '../../src/control/view.ts'
import { createCertificates } from '../support/certificates.ts'
import { freePort, killAll, start } from '../support/processes.ts'
import { temporaryFolder } from '../support/temp.ts'

after(killAll)
test('the bundled agent and region do what the sources do: lazily loaded packages and the thread are found', async () => {
  const folder = temporaryFolder('bundle')
  symlinkSync(join(import.meta.dirname, '../../node_modules'), join(folder, 'node_modules'))
  const program = await bundle(join(folder, 'dist'))
  // yaml, a package that only this verb loads.
  const schema = execFileSync(process.execPath, [program, 'config', 'openapi'], {
    encoding: 'utf8',
    cwd: folder,
  })
  assert.match(schema, /\/v1\/status/)

  const certificates = await createCertificates()
  const key = await certificates.agent('gw')
  const [port, doorPort] = [await freePort(), await freePort()]
  const write = (name: string, content: object) => {
    const path = join(folder, name)
    writeFileSync(path, stringify(content))
    return path
  }
  const tls = { ca: certificates.ca }
  const config = write('holdfast.yaml', {
    agent: { name: 'gw', state_dir: join(folder, 'agent') },
    sources: [
      { name: 'plant', type: 'simulate', points: 1_000 },
      { name: 'door', type: 'http', listen: `127.0.0.1:${doorPort}` },
    ],
    destinations: [
      { name: 'region', type: 'relay', url: `https://localhost:${port}`, tls: { ...tls, ...key } },
    ],
  })
  const agent = start(process.execPath, [program, 'run', '-c', config])
  await agent.says('destination_waiting')
  const regional = start(process.execPath, [
    program,
    'regional',
    '-c',
    write('regional.yaml', {
      listen: `127.0.0.1:${port}`,
      state_dir: join(folder, 'region'),
      tls: { ...tls, ...certificates.server },
    }),
  ])
  await regional.says('regional_listening')
  await agent.says('destination_reached')
  const point = { method: 'POST', body: 'press value=1 1000' }
  assert.equal((await fetch(`http://127.0.0.1:${doorPort}/write`, point)).status, 204)
  await agent.stop()
  await regional.stop()
  assert.equal(await agent.ended, 0)
  assert.equal(await regional.ended, 0)
})

/** Says which files are loaded, when they are. */
const loadTeller = `
import { registerHooks } from 'node:module'
import { writeSync } from 'node:fs'
registerHooks({
  load: (url, context, next) => {
    if (!url.startsWith('node:')) writeSync(2, 'loaded ' + url + '\\n')
    return next(url, context)
  },
})`
test('once an agent has started it loads no file any more: an upgrade may take them away', async () => {
  const folder = temporaryFolder('loaded')
  symlinkSync(join(import.meta.dirname, '../../node_modules'), join(folder, 'node_modules'))
  const program = await bundle(join(folder, 'dist'))
  const [doorPort, ...dead] = await Promise.all(Array.from({ length: 6 }, freePort))
  const at = (nth: number) => `127.0.0.1:${dead[nth]}`
  const certificates = await createCertificates()
  const tls = { ca: certificates.ca, ...(await certificates.agent('gw')) }
  const config = join(folder, 'holdfast.yaml')
  writeFileSync(
    config,
    stringify({
      agent: { name: 'gw', state_dir: join(folder, 'agent') },
      sources: [
        { name: 'door', type: 'http', listen: `127.0.0.1:${doorPort}` },
        { name: 'plant', type: 'mqtt', url: `mqtt://${at(0)}`, subscribe: [{ topic: 'a/#' }] },
      ],
      destinations: [
        { name: 'relay', type: 'relay', url: `https://${at(1)}`, tls },
        { name: 'postgres', type: 'postgres', url: `postgres://w@${at(2)}/d`, tls: 'off' },
        {
          name: 'influx',
          type: 'influx',
          dialect: 'influxdb1',
          url: `http://${at(3)}`,
          database: 'd',
        },
        { name: 'prometheus', type: 'prometheus', url: `http://${at(4)}` },
        { name: 'file', type: 'file', output_dir: folder },
      ],
    }),
  )
  const hook = join(folder, 'hook.mjs')
  writeFileSync(hook, loadTeller)
  const agent = start(process.execPath, ['--import', hook, program, 'run', '-c', config])
  await agent.says('agent_started')
  rmSync(join(folder, 'dist'), { recursive: true })
  await agent.says('source_listening')
  const point = { method: 'POST', body: 'press value=1 1000' }
  assert.equal((await fetch(`http://127.0.0.1:${doorPort}/write`, point)).status, 204)
  // Everything has been tried by then, and failed for other reasons than a missing file.
  const client = createControlClient(join(folder, 'agent', 'control.sock'), 2_000)
  const tried = ({ destinations, sources }: AgentStatus) =>
    destinations.every(({ type, failures }) => type === 'file' || failures > 0) &&
    sources.some(({ type, text }) => type === 'mqtt' && text !== '')
  let seen = await client.get<AgentStatus>('/v1/status')
  for (let tries = 0; tries < 100 && !tried(seen); tries++) {
    await new Promise((resolve) => setTimeout(resolve, 100))
    seen = await client.get<AgentStatus>('/v1/status')
  }
  assert.ok(tried(seen), JSON.stringify([seen.destinations, seen.sources]))
  await agent.stop()
  const [before = '', after = ''] = agent.output().split('agent_started')
  assert.ok(before.split('loaded ').length > 20, 'the teller tells')
  assert.doesNotMatch(after, /loaded |ERR_MODULE_NOT_FOUND/)
})

const root = join(import.meta.dirname, '../..')
test('of undici the bundle has what the sources ask for', () => {
  const asked = globSync('src/**/*.ts', { cwd: root }).flatMap((file) =>
    [...readFileSync(join(root, file), 'utf8').matchAll(/^(.*)(?:from|import\() ?'undici'/gm)].map(
      ([, before = '']) => before,
    ),
  )
  const values = asked.filter((line) => !line.startsWith('import type'))
  assert.ok(values.length > 0)
  for (const line of values) {
    const [, names = ''] = /const \{ ([\w, ]+) \} = await $/.exec(line) ?? assert.fail(line)
    for (const name of names.split(', ')) assert.ok(name in undiciParts, name)
  }
})

test('of prom-client the bundle has what the sources ask for', () => {
  const asked = globSync('src/**/*.ts', { cwd: root }).flatMap((file) =>
    [...readFileSync(join(root, file), 'utf8').matchAll(/^import (.*) from 'prom-client'$/gm)].map(
      ([, names = '']) => names,
    ),
  )
  assert.ok(asked.length > 0)
  for (const line of asked) {
    const [, names = ''] = /^\{ ([\w, ]+) \}$/.exec(line) ?? assert.fail(line)
    for (const name of names.split(', ')) assert.ok(name in promClientParts, name)
  }
})

test('the thread of the spool loads nothing that it has no use for', async () => {
  const folder = join(temporaryFolder('thread'), 'dist')
  await bundle(folder)
  const found = new Set<string>()
  const load = (name: string) => {
    if (found.has(name)) return
    found.add(name)
    const text = readFileSync(join(folder, name), 'utf8')
    for (const [, part = ''] of text.matchAll(/(?:from|import) ?"\.\/(part-\w+\.mjs)"/g)) load(part)
  }
  load('spool-worker.mjs')
  assert.ok(found.size > 3)
  for (const name of found)
    assert.doesNotMatch(
      readFileSync(join(folder, name), 'utf8'),
      /ZodError|FastifyError|undici/,
      name,
    )
})
