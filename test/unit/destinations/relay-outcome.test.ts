/** What every answer and every broken connection means. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { readReply } from '../../../src/destinations/relay-outcome.ts'
import { troubleOf } from '../../../src/destinations/relay-trouble.ts'
import { retryAfterMs } from '../../../src/destinations/retry-after.ts'
import { errorCodes } from '../../../src/protocol/relay-messages.ts'

const nowUs = Date.parse('2026-11-21T10:00:00Z') * 1000
const json = { 'content-type': 'application/json; charset=utf-8' }
const reply = (status: number, headers: object = {}, body: string | object = '') => ({
  status,
  headers: headers as Record<string, string>,
  body: Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)),
})
const meaning = (status: number, headers: object = {}, body: string | object = '') => {
  const reading = readReply(reply(status, headers, body), nowUs)
  return reading.kind === 'setback' ? reading.setback : reading
}

test('Retry-After: seconds, a date by their own clock, nothing else', () => {
  const date = 'Sat, 21 Nov 2026 10:02:00 GMT'
  assert.equal(retryAfterMs('120', undefined, nowUs), 120_000)
  assert.equal(retryAfterMs(' 0 ', undefined, nowUs), 0)
  assert.equal(retryAfterMs(date, undefined, nowUs), 120_000)
  assert.equal(retryAfterMs(date, 'Sat, 21 Nov 2026 10:01:30 GMT', nowUs), 30_000)
  assert.equal(retryAfterMs(date, 'Sat, 21 Nov 2026 11:00:00 GMT', nowUs), 0)
  for (const text of [undefined, '', 'soon', '-5', '1.5', '12 s', '2026-11-21', '9'.repeat(20)])
    assert.equal(retryAfterMs(text, undefined, nowUs), undefined, text)
})

test('every word of the region has its meaning', () => {
  const said = (code: string, more: object = {}, status = 400) =>
    meaning(status, json, { error: { code, text: 'why', ...more } })
  assert.deepEqual(said('busy', { afterMs: 1500 }, 429), {
    kind: 'later',
    text: 'why',
    afterMs: 1500,
  })
  assert.deepEqual(said('unavailable', {}, 503), { kind: 'later', text: 'why' })
  assert.deepEqual(said('too-big', { bytesMax: 99 }, 413), {
    kind: 'smaller',
    text: 'why',
    bytesMax: 99,
  })
  const blockedAs = (code: string) => {
    const one = said(code)
    return one.kind === 'blocked' && one.hint !== '' ? one.code : one.kind
  }
  assert.deepEqual(
    ['fenced', 'fork', 'not-allowed', 'bad-request', 'blocked', 'not-found'].map(blockedAs),
    ['HF-F110', 'HF-F111', 'HF-F112', 'HF-F113', 'HF-F114', 'HF-F115'],
  )
  for (const code of ['need-series', 'need-hello', 'bad-frame'])
    assert.equal(said(code, {}, 409).kind, 'demand')
  for (const code of errorCodes) assert.ok(said(code).kind)
  const stalled = (more: object) => {
    const error = { code: 'unavailable', text: 'why', ...more }
    const reading = readReply(reply(503, json, { error }), nowUs)
    return reading.kind === 'setback' && reading.stalled === true
  }
  assert.deepEqual([stalled({ stalled: true }), stalled({})], [true, false])
})

test('whoever else answers is believed nothing', () => {
  const kinds = (statuses: readonly number[], headers: object = {}, body: string | object = '') => [
    ...new Set(statuses.map((status) => meaning(status, headers, body).kind)),
  ]
  assert.deepEqual(kinds([200, 201, 204, 301, 302, 307, 400, 408, 429, 500, 502, 503, 504]), [
    'later',
  ])
  assert.deepEqual(kinds([401, 403, 404, 405, 407, 421]), ['blocked'])
  assert.deepEqual(kinds([413]), ['smaller'])
  assert.deepEqual(kinds([200], { 'content-type': 'text/html' }, '{"region":"r"}'), ['later'])
  assert.deepEqual(kinds([500], json, '{"error":{"code":"busy"}}'), ['later'])
  assert.deepEqual(kinds([500], json, '{"error":'), ['later'])
  assert.deepEqual(meaning(503, { 'retry-after': '3' }), {
    kind: 'later',
    text: 'HTTP 503, not in the words of a regional node',
    afterMs: 3_000,
  })
  fc.assert(
    fc.property(
      fc.integer({ min: 100, max: 599 }),
      fc.string(),
      fc.json(),
      (status, type, body) => {
        const one = meaning(status, { 'content-type': type }, body)
        assert.ok(one.kind !== 'answer' || type === 'application/json')
      },
    ),
  )
})

const context = {
  authority: 'region:8443',
  nowUs,
  certificateExpiresAtUs: nowUs + 1e6,
  answered: true,
}
const broken = (code: string, message = code, cause?: unknown) =>
  Object.assign(new Error(message, { cause }), { code })

test('broken connections: which side is wrong, and what to do', () => {
  const blockedBy = (code: string) => {
    const trouble = troubleOf(broken('UND_ERR_SOCKET', 'wrapped', broken(code)), context)
    return trouble.kind === 'blocked' ? trouble.code : trouble.kind
  }
  assert.equal(blockedBy('CERT_HAS_EXPIRED'), 'HF-N010')
  assert.equal(blockedBy('SELF_SIGNED_CERT_IN_CHAIN'), 'HF-N011')
  assert.equal(blockedBy('UNABLE_TO_VERIFY_LEAF_SIGNATURE'), 'HF-N011')
  assert.equal(blockedBy('ERR_TLS_CERT_ALTNAME_INVALID'), 'HF-N012')
  assert.equal(blockedBy('ERR_SSL_TLSV1_ALERT_UNKNOWN_CA'), 'HF-N013')
  assert.equal(blockedBy('ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED'), 'HF-N013')
  assert.equal(blockedBy('ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED'), 'HF-N013')
  assert.equal(blockedBy('ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION'), 'HF-N015')
  assert.equal(blockedBy('ERR_SSL_WRONG_VERSION_NUMBER'), 'HF-N015')
  const raw =
    '40CD0550597F0000:error:0A00010B:SSL routines:tls_validate_record_header:wrong version number:../a.c:77:\n'
  const spoken = troubleOf(broken('ERR_SSL_WRONG_VERSION_NUMBER', raw), context)
  assert.equal('text' in spoken && spoken.text, 'no TLS 1.3 with region:8443: wrong version number')
  // A wrong clock here mends itself.
  assert.equal(blockedBy('CERT_NOT_YET_VALID'), 'later')
  for (const code of [
    'ECONNREFUSED',
    'ENOTFOUND',
    'EAI_AGAIN',
    'ECONNRESET',
    'EHOSTUNREACH',
    'ETIMEDOUT',
  ])
    assert.equal(blockedBy(code), 'later', code)
  assert.equal(troubleOf(new AggregateError([broken('ECONNREFUSED')]), context).kind, 'later')
  assert.equal(troubleOf('a string', context).kind, 'later')
})

test('a hang-up before anything was ever answered says what it may be', () => {
  const hangUp = broken('UND_ERR_SOCKET', 'other side closed')
  const first = troubleOf(hangUp, { ...context, answered: false })
  assert.ok(first.kind === 'later' && /does it trust/.test(first.text))
  const afterwards = troubleOf(hangUp, context)
  assert.ok(afterwards.kind === 'later' && !/does it trust/.test(afterwards.text))
})

test('a hang-up after the own certificate expired says so', () => {
  const late = { ...context, certificateExpiresAtUs: nowUs - 1e6 }
  const trouble = troubleOf(broken('UND_ERR_SOCKET', 'other side closed'), late)
  assert.ok(trouble.kind === 'blocked' && trouble.code === 'HF-N014')
  assert.match(trouble.text, /expired on 2026-11-21/)
  assert.equal(troubleOf(broken('ECONNREFUSED'), late).kind, 'later')
})
