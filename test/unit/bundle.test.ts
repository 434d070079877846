import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { stringify } from 'yaml'
import { bundle } from '../../build/bundle.ts'
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
  const port = await freePort()
  const write = (name: string, content: object) => {
    const path = join(folder, name)
    writeFileSync(path, stringify(content))
    return path
  }
  const tls = { ca: certificates.ca }
  const config = write('holdfast.yaml', {
    agent: { name: 'gw', state_dir: join(folder, 'agent') },
    sources: [{ name: 'plant', type: 'simulate', points: 1_000 }],
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
  await agent.stop()
  await regional.stop()
  assert.equal(await agent.ended, 0)
  assert.equal(await regional.ended, 0)
})
