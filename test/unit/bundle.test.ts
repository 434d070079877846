import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { globSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { stringify } from 'yaml'
import { bundle } from '../../build/bundle.ts'
import { promClientParts, undiciParts } from '../../build/bundle-parts.ts'
import { createCertificates } from '../support/certificates.ts'
import { freePort, start } from '../support/processes.ts'
import { temporaryFolder } from '../support/temp.ts'

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
