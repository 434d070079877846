/** Certificate files: what does not work is never taken, what works is taken while running. */
import assert from 'node:assert/strict'
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { isFailure } from '../../src/errors.ts'
import { type Log, silentLog, systemClock } from '../../src/host.ts'
import { createDevelopmentCa } from '../../src/regional/development-ca.ts'
import { openTlsFiles, type TlsFiles } from '../../src/tls.ts'
import { temporaryFolder } from '../support/temp.ts'

const ca = await createDevelopmentCa('test', { fromMs: Date.now(), days: 3 })
const host = { clock: systemClock, log: silentLog }

const folderWith = async () => {
  const folder = temporaryFolder('tlsfiles')
  const paths = { ca: join(folder, 'ca'), cert: join(folder, 'cert'), key: join(folder, 'key') }
  const write = (one: { certPem: string; keyPem: string }) => {
    writeFileSync(paths.key, one.keyPem)
    writeFileSync(paths.cert, one.certPem)
  }
  writeFileSync(paths.ca, ca.caPem)
  write(await ca.agent('a'))
  return { folder, paths, write }
}
const changed = (files: TlsFiles) =>
  new Promise<void>((resolve) => {
    const stop = files.onChange(() => {
      stop()
      resolve()
    })
  })

test('files that do not work are refused with a code at the start', async () => {
  const { paths } = await folderWith()
  const other = await ca.agent('b')
  const failsWith = (code: string, change: object) =>
    assert.throws(
      () => openTlsFiles({ ...paths, ...change }, host),
      (error) => isFailure(error, code),
    )
  const fileWith = (text: string) => {
    const path = `${paths.ca}-${text.length}`
    writeFileSync(path, text)
    return path
  }
  failsWith('HF-N001', { cert: '/nowhere/cert' })
  failsWith('HF-N002', { cert: fileWith('no PEM') })
  failsWith('HF-N002', {
    ca: fileWith('-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----'),
  })
  failsWith('HF-N002', { key: fileWith('no key at all') })
  failsWith('HF-N003', { key: fileWith(other.keyPem) })
  failsWith('HF-N003', { key: undefined })
})

test('reload takes what works, keeps the old where it does not, and says which', async () => {
  const { paths, write } = await folderWith()
  const warnings: unknown[] = []
  const log: Log = { ...silentLog, warn: (_, fields) => warnings.push(fields?.code) }
  using files = openTlsFiles(paths, { ...host, log })
  const before = files.current()
  let changes = 0
  files.onChange(() => changes++)
  assert.equal(files.reload(), true)
  assert.equal(changes, 0)
  writeFileSync(paths.key, (await ca.agent('b')).keyPem)
  assert.equal(files.reload(), false)
  writeFileSync(paths.key, '')
  assert.equal(files.reload(), false)
  rmSync(paths.key)
  assert.equal(files.reload(), false)
  assert.deepEqual(warnings, ['HF-N003', 'HF-N002', 'HF-N001'])
  assert.equal(files.current(), before)
  write(await ca.agent('b', { fromMs: Date.now(), days: 1 }))
  assert.equal(files.reload(), true)
  assert.equal(changes, 1)
  assert.notEqual(files.current().cert, before.cert)
  const inADayUs = (Date.now() + 86_400_000) * 1000
  assert.ok(Math.abs((files.expiresAtUs() ?? 0) - inADayUs) < 60e6)
})

test('files written in place are noticed', async () => {
  const { paths, write } = await folderWith()
  using files = openTlsFiles(paths, host, { watch: true })
  const before = files.current().cert
  const noticed = changed(files)
  write(await ca.agent('b'))
  await noticed
  assert.notEqual(files.current().cert, before)
})

test('a link swapped beside them, as Kubernetes does, is noticed', async () => {
  const folder = temporaryFolder('tlslinks')
  const version = async (name: string) => {
    mkdirSync(join(folder, name))
    const { certPem, keyPem } = await ca.agent(name)
    writeFileSync(join(folder, name, 'tls.crt'), certPem)
    writeFileSync(join(folder, name, 'tls.key'), keyPem)
  }
  await version('..one')
  symlinkSync('..one', join(folder, '..data'))
  const paths = { cert: join(folder, 'tls.crt'), key: join(folder, 'tls.key') }
  symlinkSync('..data/tls.crt', paths.cert)
  symlinkSync('..data/tls.key', paths.key)
  using files = openTlsFiles(paths, host, { watch: true })
  const before = files.current().cert
  const noticed = changed(files)
  await version('..two')
  symlinkSync('..two', join(folder, '..data_tmp'))
  renameSync(join(folder, '..data_tmp'), join(folder, '..data'))
  await noticed
  assert.notEqual(files.current().cert, before)
})
