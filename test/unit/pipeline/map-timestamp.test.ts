import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseTime } from '../../../src/pipeline/timestamp.ts'

test('epoch times of every unit, floored to the microsecond', () => {
  assert.equal(parseTime(1_700_000_000, 's'), 1_700_000_000_000_000)
  assert.equal(parseTime(1_700_000_000.123456, 's'), 1_700_000_000_123_456)
  assert.equal(parseTime('1700000000.1234569', 's'), 1_700_000_000_123_456)
  assert.equal(parseTime('1700000000123.4569', 'ms'), 1_700_000_000_123_456)
  assert.equal(parseTime('1700000000123456.9', 'us'), 1_700_000_000_123_456)
  assert.equal(parseTime(1_700_000_000_123_456_789n, 'ns'), 1_700_000_000_123_456)
  assert.equal(parseTime('1700000000123456789', 'ns'), 1_700_000_000_123_456)
  assert.equal(parseTime(999, 'ns'), 0)
})

test('auto takes the unit from the size', () => {
  for (const value of [
    1_700_000_000,
    1_700_000_000_000,
    1_700_000_000_000_000,
    1_700_000_000_000_000_000n,
  ])
    assert.equal(parseTime(value, 'auto'), 1_700_000_000_000_000)
})

test('RFC 3339 with offsets and fractions', () => {
  assert.equal(parseTime('2023-11-14T22:13:20Z', 'auto'), 1_700_000_000_000_000)
  assert.equal(parseTime('2023-11-15T00:13:20.123456999+02:00', 'rfc3339'), 1_700_000_000_123_456)
  assert.equal(parseTime('2023-11-14 20:43:20.5-01:30', 'auto'), 1_700_000_000_500_000)
  assert.equal(parseTime('2016-12-31T23:59:60Z', 'auto'), Date.UTC(2017, 0, 1) * 1000)
  for (const text of [
    '2023-02-29T00:00:00Z',
    '2023-13-01T00:00:00Z',
    '2023-00-01T00:00:00Z',
    '2023-11-14T24:00:00Z',
    '2023-11-14T22:13:20',
    '2023-11-14',
    'now',
    '',
  ])
    assert.equal(typeof parseTime(text, 'auto'), 'string', text)
})

test('what is no time, or outside 1970 to 2255, is refused', () => {
  for (const value of [
    undefined,
    null,
    true,
    {},
    [],
    -1,
    '-1',
    1e300,
    Number.NaN,
    'abc',
    '1e9',
    10n ** 24n,
  ])
    assert.equal(typeof parseTime(value, 'auto'), 'string', String(value))
  assert.equal(typeof parseTime('1500-01-01T00:00:00Z', 'auto'), 'string')
  assert.equal(typeof parseTime('2300-01-01T00:00:00Z', 'auto'), 'string')
  assert.equal(typeof parseTime(1, 'rfc3339'), 'string')
})

test('every millisecond time comes through RFC 3339 and epoch alike', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 9e12 }), (ms) => {
      assert.equal(parseTime(new Date(ms).toISOString(), 'auto'), ms * 1000)
      assert.equal(parseTime(ms, 'ms'), ms * 1000)
      assert.equal(parseTime(String(ms / 1000), 's'), ms * 1000)
    }),
  )
})
