/** The development CA: certificates that TLS takes, for their purpose and time only. */
import assert from 'node:assert/strict'
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import { createDevelopmentCa, openDevelopmentCa } from '../../../src/regional/development-ca.ts'

const fromMs = Date.parse('2026-11-21T00:00:00Z')
const validity = { fromMs, days: 30 }
const serverAuth = '1.3.6.1.5.5.7.3.1'
const clientAuth = '1.3.6.1.5.5.7.3.2'

test('what it issues is signed by it, for its purpose, within its dates, with keys that match', async () => {
  const ca = await createDevelopmentCa('Dev', validity)
  const root = new X509Certificate(ca.caPem)
  assert.ok(root.ca)
  const server = await ca.server(['localhost', '127.0.0.1', '::1'])
  const agent = await ca.agent('gw-1', { fromMs, days: 5 })
  for (const [pair, use] of [
    [server, serverAuth],
    [agent, clientAuth],
  ] as const) {
    const one = new X509Certificate(pair.certPem)
    assert.ok(one.checkIssued(root) && one.verify(root.publicKey) && !one.ca)
    assert.deepEqual(one.keyUsage, [use])
    assert.ok(one.checkPrivateKey(createPrivateKey(pair.keyPem)))
  }
  const named = new X509Certificate(server.certPem)
  assert.ok(named.checkHost('localhost') && named.checkIP('127.0.0.1') && named.checkIP('::1'))
  const { subject, validTo } = new X509Certificate(agent.certPem)
  assert.equal(subject, 'CN=gw-1')
  assert.equal(Date.parse(validTo), fromMs + 5 * 86_400_000)
})

test('a CA made earlier goes on', async () => {
  const made = await createDevelopmentCa('Dev', validity)
  const again = await openDevelopmentCa(made.caPem, made.caKeyPem, validity)
  const { certPem } = await again.agent('gw-2')
  assert.ok(new X509Certificate(certPem).verify(new X509Certificate(made.caPem).publicKey))
})
