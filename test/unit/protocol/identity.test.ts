/** Chains and counters of signed requests; the whole of it over HTTPS stands in regional/server.test.ts. */
import assert from 'node:assert/strict'
import { createPrivateKey, generateKeyPairSync, verify } from 'node:crypto'
import { test } from 'node:test'
import {
  chainTrouble,
  createCounters,
  encodeCertificates,
  signRequest,
  verifyRequest,
} from '../../../src/protocol/identity.ts'
import { createDevelopmentCa } from '../../../src/regional/development-ca.ts'
import { certificatesIn } from '../../../src/tls.ts'

const nowMs = Date.parse('2026-11-21T10:00:00Z')
const validity = { fromMs: nowMs, days: 10 }
const ca = await createDevelopmentCa('test', validity)
const roots = certificatesIn(ca.caPem)
const dayMs = 86_400_000

test('a chain leads to the CA within its dates, or it does not count', async () => {
  const chain = certificatesIn((await ca.agent('a')).certPem)
  assert.equal(chainTrouble(chain, roots, nowMs), null)
  assert.match(chainTrouble(chain, roots, nowMs + 11 * dayMs) ?? '', /only/)
  assert.match(chainTrouble(chain, roots, nowMs - dayMs) ?? '', /only/)
  assert.match(chainTrouble(chain, [], nowMs) ?? '', /does not lead/)
  assert.match(chainTrouble([], roots, nowMs) ?? '', /does not lead/)
  const other = await createDevelopmentCa('test', validity)
  assert.match(chainTrouble(chain, certificatesIn(other.caPem), nowMs) ?? '', /does not lead/)
  // A leaf is no CA, whatever it is put before.
  const second = certificatesIn((await ca.agent('b')).certPem)
  assert.match(chainTrouble([...second, ...chain], [], nowMs) ?? '', /does not lead/)
})

test('only certificates made for clients, that name the agent, count', async () => {
  const parts = {
    method: 'POST',
    path: '/v1/hello',
    agent: 'gw',
    epoch: '0'.repeat(32),
    audience: 'r:1',
    counter: 1,
    body: Buffer.from('x'),
  }
  const check = async (pair: { certPem: string; keyPem: string }) => {
    const certificate = encodeCertificates(certificatesIn(pair.certPem))
    const signature = signRequest(parts, createPrivateKey(pair.keyPem))
    return verifyRequest(parts, { certificate, signature }, roots, nowMs)
  }
  assert.deepEqual(await check(await ca.agent('gw')), { agent: 'gw' })
  assert.deepEqual(await check(await ca.server(['gw'])), {
    refused: 'certificate is not made for clients',
  })
  assert.ok('refused' in (await check(await ca.agent('gw2'))))
  assert.ok('refused' in (await check({ certPem: ca.caPem, keyPem: ca.caKeyPem })))
  for (const certificate of ['', '!!', 'AAAA', 'x '.repeat(100), 'A'.repeat(20_000)])
    assert.ok('refused' in verifyRequest(parts, { certificate, signature: '' }, roots, nowMs))
})

test('keys of other kinds sign too', () => {
  for (const { publicKey, privateKey } of [
    generateKeyPairSync('ed25519'),
    generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ]) {
    const parts = { method: 'POST', path: '/', agent: 'a', epoch: '', audience: '', counter: 1 }
    const signature = signRequest({ ...parts, body: new Uint8Array(0) }, privateKey)
    const empty = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
    const text = `holdfast-request-1\nPOST\n/\na\n\n\n1\n${empty}`
    const hash = publicKey.asymmetricKeyType === 'rsa' ? 'sha256' : null
    assert.ok(verify(hash, Buffer.from(text), publicKey, Buffer.from(signature, 'base64')))
  }
})

test('a counter is taken once, in any order within the window', () => {
  const counters = createCounters()
  const take = (counter: number, agent = 'a') => counters.take(agent, 'e', counter)
  assert.deepEqual([take(2), take(1), take(2), take(1)], [true, true, false, false])
  assert.ok(take(2, 'b'))
  assert.ok(take(1_000))
  assert.ok(!take(744))
  assert.ok(take(745))
  for (const wrong of [0, -1, 1.5, Number.NaN, 2 ** 60]) assert.ok(!take(wrong))
  for (let counter = 1_001; counter < 5_000; counter++) assert.ok(take(counter))
  assert.ok(!take(4_000))
})
