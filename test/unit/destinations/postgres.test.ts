/** What a `postgres` destination's configuration may say. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { postgresDestination } from '../../../src/destinations/postgres.ts'

const parse = (given: object) => {
  const result = postgresDestination.config.safeParse({ type: 'postgres', ...given })
  return result.success ? result.data : result.error.issues.map((issue) => issue.message).join()
}
const there = 'postgres://holdfast@db.example/plant'
const here = 'postgres://holdfast@127.0.0.1:6432/plant'

test('one address or several; the password stands apart', () => {
  const one = parse({ url: there, password: 'secret' })
  assert.ok(typeof one === 'object')
  assert.deepEqual(one.url, [there])
  const two = parse({ url: [there, here] })
  assert.ok(typeof two === 'object' && two.url.length === 2)
  assert.match(String(parse({ url: 'postgres://holdfast:secret@db.example/plant' })), /no password/)
  assert.doesNotMatch(String(parse({ url: 'postgres://u:secret@h/d' })), /secret/)
  assert.match(String(parse({ url: 'postgres://db.example/plant' })), /name a user/)
  assert.match(String(parse({ url: 'mysql://u@h/d' })), /must be postgres:/)
})

test('TLS is off on this machine alone', () => {
  const socket = 'postgres://holdfast@localhost/plant?host=/run/postgresql'
  for (const url of [here, socket]) assert.equal(typeof parse({ url, tls: 'off' }), 'object', url)
  for (const url of [there, [here, there], 'postgres://u@127.0.0.1.example/d'])
    assert.match(String(parse({ url, tls: 'off' })), /not on this machine/, String(url))
})
