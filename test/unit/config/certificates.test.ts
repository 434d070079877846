import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { checkCertificates } from '../../../src/config/certificates.ts'
import { createDevelopmentCa } from '../../../src/regional/development-ca.ts'
import { temporaryFolder } from '../../support/temp.ts'

const folder = temporaryFolder('certificates')
const fromMs = Date.UTC(2026, 10, 21)
const dayUs = 86_400e6
const ca = await createDevelopmentCa('test', { fromMs, days: 100 })
const write = (name: string, text: string) => {
  const path = join(folder, name)
  writeFileSync(path, text)
  return path
}
const pairOf = async (name: string) => {
  const { certPem, keyPem } = await ca.agent(name)
  return { cert: write(`${name}.pem`, certPem), key: write(`${name}-key.pem`, keyPem) }
}
const codes = (tls: object, at: { type?: string; days?: number; agent?: string } = {}) =>
  checkCertificates(
    { destinations: [{ type: at.type ?? 'relay', tls }] },
    { nowUs: fromMs * 1_000 + (at.days ?? 0) * dayUs, agent: at.agent ?? 'gw-1' },
  ).map(({ severity = 'error', code, path }) => `${severity} ${code} ${path?.join('.')}`)

test('a pair that fits, in its time, for this agent', async () => {
  assert.deepEqual(codes(await pairOf('gw-1')), [])
})

test('ended, ending, of another agent, of another key, no certificate at all', async () => {
  const mine = await pairOf('gw-1')
  const other = await pairOf('gw-2')
  const at = 'destinations.0.tls'
  assert.deepEqual(codes(mine, { days: 90 }), [`warning HF-C042 ${at}.cert`])
  assert.deepEqual(codes(mine, { days: 101 }), [`warning HF-C042 ${at}.cert`])
  assert.deepEqual(codes(other), [`error HF-C023 ${at}.cert`])
  assert.deepEqual(codes(other, { type: 'mqtt' }), [])
  assert.deepEqual(codes({ cert: mine.cert, key: other.key }), [`error HF-C022 ${at}.key`])
  assert.deepEqual(codes({ cert: mine.cert, key: mine.cert }), [`error HF-C022 ${at}.key`])
  assert.deepEqual(codes({ cert: mine.key, key: mine.key }), [`error HF-C021 ${at}.cert`])
  assert.deepEqual(codes({ cert: '/none', key: '/none' }), [])
})
