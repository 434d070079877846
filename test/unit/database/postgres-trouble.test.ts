import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isExpected, troubleOf } from '../../../src/database/postgres-trouble.ts'
import { Failure } from '../../../src/errors.ts'

const error = (code: string, text = 'said') => Object.assign(new Error(text), { code })
const kindOf = (code: string): string => {
  const trouble = troubleOf(error(code))
  return trouble.kind === 'blocked' ? trouble.code : trouble.kind
}

test('what passes by itself is later', () => {
  const codes = [
    '40001',
    '40P01',
    '55P03',
    '57014',
    '57P01',
    '57P03',
    '53300',
    '53200',
    '08006',
    '08P01',
  ]
  for (const code of [
    ...codes,
    '25006',
    '23505',
    'ECONNREFUSED',
    'ETIMEDOUT',
    'ENOTFOUND',
    'EPIPE',
  ])
    assert.equal(kindOf(code), 'later', code)
  assert.equal(troubleOf(new Error('Connection terminated unexpectedly')).kind, 'later')
})

test('what was not done in time says so, what never began does not', () => {
  const stalled = (one: Error) => {
    const said = troubleOf(one)
    assert.ok(said.kind === 'later')
    assert.equal(said.stalled === true, /^the database was not done in time: /.test(said.text))
    return said.stalled === true
  }
  assert.ok(stalled(error('57014', 'canceling statement due to statement timeout')))
  assert.ok(stalled(new Error('Query read timeout')))
  for (const code of ['55P03', '57P01', '53300', 'ETIMEDOUT', 'ECONNREFUSED'])
    assert.ok(!stalled(error(code)), code)
  assert.ok(!stalled(new Error('timeout exceeded when trying to connect')))
})

test('who listens there and is no PostgreSQL is asked about', () => {
  const said = troubleOf(new Error('Connection terminated due to connection timeout'))
  assert.ok(said.kind === 'later')
  assert.match(said.text, /is it PostgreSQL that listens there/)
})

test('what needs a person is blocked, with a code and a hint', () => {
  const expected = {
    '28P01': 'HF-D020',
    '28000': 'HF-D020',
    '3D000': 'HF-D020',
    '42501': 'HF-D023',
    '42P01': 'HF-D024',
    '42703': 'HF-D024',
    '53100': 'HF-D010',
    '22021': 'HF-D022',
    '0A000': 'HF-D025',
    XX001: 'HF-D011',
    CERT_HAS_EXPIRED: 'HF-D021',
    SELF_SIGNED_CERT_IN_CHAIN: 'HF-D021',
    ERR_TLS_CERT_ALTNAME_INVALID: 'HF-D021',
    UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'HF-D021',
  }
  for (const [code, wanted] of Object.entries(expected)) assert.equal(kindOf(code), wanted, code)
  const trouble = troubleOf(error('28P01'))
  assert.ok(trouble.kind === 'blocked' && trouble.hint.length > 0)
})

test('PgBouncer, which has one code for all it refuses, is told by its words', () => {
  for (const text of [
    'SASL authentication failed',
    'no such user: holdfast',
    'no such database: plant',
    'database "plant" does not exist',
  ]) {
    const trouble = troubleOf(error('08P01', text))
    assert.ok(trouble.kind === 'blocked' && trouble.code === 'HF-D020', text)
  }
  assert.equal(troubleOf(error('08P01', 'query_wait_timeout')).kind, 'later')
})

test('several refused addresses are told by the first', () => {
  const both = new AggregateError([error('ECONNREFUSED', 'connect ECONNREFUSED ::1:5432')])
  const trouble = troubleOf(Object.assign(both, { code: 'ECONNREFUSED' }))
  assert.ok(trouble.kind === 'later' && trouble.text.includes('::1:5432'))
})

test('bugs are not taken for trouble outside', () => {
  for (const bug of [new TypeError('x'), new Failure('HF-D005', 'x'), 'text'])
    assert.equal(isExpected(bug), false)
  assert.ok(isExpected(error('57014')))
})
