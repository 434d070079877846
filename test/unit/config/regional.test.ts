// biome-ignore-all lint/suspicious/noTemplateCurlyInString: references to secrets are written so
import assert from 'node:assert/strict'
import { chmodSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { renderProblems } from '../../../src/config/problems.ts'
import { loadRegionalConfig, type RegionalFlags } from '../../../src/config/regional.ts'
import { temporaryFolder } from '../../support/temp.ts'

const folder = temporaryFolder('regional')
const load = (text: string | null, flags: RegionalFlags = {}, env: Record<string, string> = {}) => {
  const path = join(folder, 'regional.yaml')
  if (text !== null) {
    writeFileSync(path, text)
    chmodSync(path, 0o600)
  }
  return loadRegionalConfig(text === null ? null : path, {
    environment: env,
    flags,
    surroundings: false,
  })
}
const good = (...args: Parameters<typeof load>) => {
  const result = load(...args)
  assert.ok(result.ok, result.ok ? '' : renderProblems(result.problems))
  return result.config
}
const codes = (...args: Parameters<typeof load>) => {
  const result = load(...args)
  return result.ok ? [] : result.problems.map((one) => `${one.line}:${one.column} ${one.code}`)
}
const tls = 'tls: {ca: ca.pem, cert: region.pem, key: region-key.pem}\n'

test('a small file: embedded database, paths from the file’s folder, defaults', () => {
  const config = good(`state_dir: state\n${tls}`)
  assert.equal(config.listen, '0.0.0.0:8443')
  assert.equal(config.tls.ca, join(folder, 'ca.pem'))
  assert.equal(config.state_dir, join(folder, 'state'))
  assert.equal(config.database, null)
  assert.equal(config.identity, 'certificate')
})

test('PostgreSQL: one server or several, a password from outside, TLS in full unless on this machine', () => {
  const config = good(
    `${tls}database: {url: ["postgres://w@a/d", "postgres://w@b/d"], password: "\${env:PW}"}\n`,
    {},
    { PW: 'from-the-environment' },
  )
  assert.deepEqual(config.database?.urls, ['postgres://w@a/d', 'postgres://w@b/d'])
  assert.equal(config.database?.password, 'from-the-environment')
  assert.deepEqual(config.database?.tls, {})
  assert.deepEqual(config.secrets, ['from-the-environment'])
  for (const url of [
    'postgres://w@127.0.0.1/d',
    'postgres://w@%2Frun%2Fpg/d',
    'postgres://w@/d?host=/run/pg',
  ])
    good(`${tls}database: {url: "${url}", tls: off}\n`)
  assert.deepEqual(codes(`${tls}database: {url: "postgres://w@db/d", tls: off}\n`), [
    '2:43 HF-C018',
  ])
})

test('a password in a URL is a secret: by reference alone, and shown nowhere', () => {
  const bad = `${tls}database: {url: "postgres://w:hunter22@db/d"}\n`
  assert.deepEqual(codes(bad), ['2:17 HF-C044'])
  const refused = load(bad)
  assert.ok(!refused.ok)
  assert.doesNotMatch(JSON.stringify(refused.problems), /hunter22/)
  assert.match(String(refused.problems[0]?.hint), /"password" beside it, as \$\{file:/)
  const all = `${tls}database: {url: ["postgres://w@a/d", "postgres://w:hunter22@b/d"]}\n`
  assert.deepEqual(codes(all), ['2:38 HF-C044'])
  const referred = `${tls}database: {url: "postgres://w:\${env:PW}@db/d"}\n`
  assert.deepEqual(good(referred, {}, { PW: 'pass-word' }).secrets, ['pass-word', 'pass-word'])
})

test('flags alone, and flags over a file; references in flags are resolved', () => {
  const flags = { tlsCa: '/a', tlsCert: '/b', tlsKey: '/c', listen: '127.0.0.1:0', stateDir: '/s' }
  const config = good(
    null,
    { ...flags, database: 'postgres://w:${env:PW}@db/d' },
    { PW: 'pass-word' },
  )
  assert.deepEqual(config.tls, { ca: '/a', cert: '/b', key: '/c' })
  assert.deepEqual(config.database?.urls, ['postgres://w:pass-word@db/d'])
  assert.deepEqual(config.secrets, ['pass-word', 'pass-word'])
  const both = good(`listen: 127.0.0.1:1\n${tls}`, { listen: '127.0.0.1:2', tlsKey: '/k' })
  assert.equal(both.listen, '127.0.0.1:2')
  assert.deepEqual(both.tls, {
    ca: join(folder, 'ca.pem'),
    cert: join(folder, 'region.pem'),
    key: '/k',
  })
  assert.equal(load(null, { ...flags, database: 'postgres://${env:NONE}@db/d' }).ok, false)
})

test('all problems at once', () => {
  assert.deepEqual(
    codes(
      'listn: 1\ntls: {ca: a, cert: b}\nmetrics: {listen: "0.0.0.0:9"}\ndatabase: {url: mysql://x}\n',
    ),
    ['1:1 HF-C003', '2:1 HF-C004', '4:17 HF-C006'],
  )
  assert.deepEqual(codes(`${tls}identity: signature\nmetrics: {listen: "0.0.0.0:9"}\n`), [
    '2:11 HF-C019',
    '3:19 HF-C014',
  ])
})

test('the password of the database is read again from its file, and from nothing else', () => {
  const file = join(folder, 'database-password')
  writeFileSync(file, 'first-password\n')
  const { database } = good(
    `${tls}database: {url: "postgres://w@a/d", password: "\${file:${file}}"}\n`,
  )
  assert.equal(database?.password, 'first-password')
  writeFileSync(file, 'second-password\n')
  writeFileSync(join(folder, 'regional.yaml'), 'database: {password: of-another-file}\n')
  assert.equal(database?.renewed(), 'second-password')
  rmSync(file)
  assert.equal(database?.renewed(), undefined)
})

test('the token of the metrics too, unless what is there now is none', () => {
  const file = join(folder, 'metrics-token')
  const write = (text: string) => writeFileSync(file, `${text}\n`)
  write('first-token-of-metrics')
  const { renewedToken } = good(
    `${tls}metrics: {listen: "127.0.0.1:9", token: "\${file:${file}}"}\n`,
  )
  write('second-token-of-metrics')
  assert.equal(renewedToken(), 'second-token-of-metrics')
  for (const none of ['', 'too short']) {
    write(none)
    assert.equal(renewedToken(), undefined)
  }
  assert.equal(good(tls).renewedToken(), undefined)
})
