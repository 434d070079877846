/** What each answer to a write means, with the servers' own words as recorded from InfluxDB 1.6.7 and documented of 2. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readInfluxReply } from '../../../src/destinations/influx-outcome.ts'

const read = (status: number, body = '', headers: Record<string, string> = {}, lines = 10) =>
  readInfluxReply({ status, headers, body: Buffer.from(body) }, lines, 0)
const kindOf = (reading: ReturnType<typeof read>): string =>
  reading.kind === 'setback' ? reading.setback.kind : reading.kind
const error = (text: string) => JSON.stringify({ error: text })

const table: [string, ReturnType<typeof read>, string][] = [
  ['the documented code is an ack', read(204), 'taken'],
  ['no other 2xx is', read(200, '{"results":[]}'), 'later'],
  ['nor 202', read(202), 'later'],
  ['a portal', read(302), 'later'],
  [
    'partial write of InfluxDB 1: the count misleads',
    read(400, error('partial write: field type conflict: … dropped=1')),
    'suspect',
  ],
  [
    'parse error of InfluxDB 1',
    read(400, error("unable to parse 'bad': missing fields")),
    'suspect',
  ],
  [
    'parse error of InfluxDB 2',
    read(400, '{"code":"invalid","message":"unable to parse"}'),
    'suspect',
  ],
  [
    'partial write of InfluxDB 2',
    read(422, '{"code":"unprocessable entity","message":"x"}'),
    'suspect',
  ],
  ['parse error of VictoriaMetrics', read(400, 'cannot parse "bad": no fields'), 'suspect'],
  [
    'plain HTTP to a server in Go that speaks HTTPS',
    read(400, 'Client sent an HTTP request to an HTTPS server.'),
    'blocked',
  ],
  [
    'all points too old',
    read(400, error('partial write: points beyond retention policy dropped=10')),
    'too-old',
  ],
  [
    'some points too old: which, it does not say',
    read(400, error('partial write: points beyond retention policy dropped=9')),
    'suspect',
  ],
  [
    'a 400 page is of something in between',
    read(400, '<h1>', { 'content-type': 'text/html' }),
    'later',
  ],
  ['wrong password', read(401, error('authorization failed')), 'blocked'],
  ['no right', read(403, error('not authorized to write')), 'blocked'],
  ['no database', read(404, error('database not found: "nope"')), 'blocked'],
  [
    'no retention policy, said with 500',
    read(500, error('retention policy not found: nix')),
    'blocked',
  ],
  ['other 500', read(500, error('timeout')), 'later'],
  ['too big', read(413, error('Request Entity Too Large')), 'too-big'],
  ['throttled', read(429), 'later'],
  ['gateway', read(502), 'later'],
  ['proxy', read(407), 'blocked'],
]
for (const [what, reading, kind] of table)
  test(what, () => assert.equal(kindOf(reading), kind, JSON.stringify(reading)))

test('Retry-After is heard', () => {
  const reading = read(503, '', { 'retry-after': '7' })
  assert.ok(reading.kind === 'setback' && reading.setback.kind === 'later')
  assert.equal(reading.setback.afterMs, 7_000)
})
test('what needs a person says what was said, and what to do', () => {
  for (const reading of [read(401, error('bad user')), read(404, error('bad user'))]) {
    assert.ok(reading.kind === 'setback' && reading.setback.kind === 'blocked')
    assert.match(reading.setback.text, /bad user/)
    assert.ok(reading.setback.hint.length > 10)
  }
})
