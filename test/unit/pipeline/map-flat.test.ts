import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createFlatReader } from '../../../src/pipeline/flat.ts'
import { createTestMapper } from './map-support.ts'

const reader = createFlatReader()
const keysOf = (keys: readonly string[]) => keys.map((key) => Buffer.from(JSON.stringify(key)))
/** When it reads, it has read what JSON.parse reads. */
const check = (bytes: Buffer, keys: readonly string[]): boolean => {
  if (!reader.read(bytes, keysOf(keys))) return false
  const parsed = JSON.parse(bytes.toString()) as Record<string, unknown>
  assert.deepEqual(Object.keys(parsed), keys)
  keys.forEach((key, at) => {
    assert.ok(Object.is(reader.values[at], parsed[key]), `${bytes}: ${String(reader.values[at])}`)
  })
  return true
}

const space = fc.constantFrom('', '', '', ' ', '\n', '\t\r ')
const literal = fc.oneof(
  fc
    .tuple(fc.integer({ min: -1e6, max: 1e6 }), fc.integer({ min: 0, max: 6 }))
    .map(([value, places]) => (value / 1000).toFixed(places)),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => JSON.stringify(value)),
  fc.bigInt({ min: -(2n ** 70n), max: 2n ** 70n }).map(String),
  fc.string().map((value) => JSON.stringify(value)),
  fc.constantFrom(
    'true',
    'false',
    'null',
    '-0',
    '0',
    '01',
    '-',
    '1.',
    '.5',
    '1e5',
    '1E5',
    '0.0',
    '-0.0',
    'nul',
    '[]',
    '{}',
    '"',
    '123456789012345',
    '1234567890123456',
    '0.1234567890123456',
    '99999999999999.9',
  ),
)
const objects = fc
  .tuple(
    fc.uniqueArray(fc.string({ minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 5 }),
    fc.array(literal, { minLength: 5, maxLength: 5 }),
    space,
    space,
  )
  .map(([names, values, before, after]) => {
    // Index-like keys are moved to the front by JSON.parse; sensors do not send them.
    const keys = names.map((name) => `k${name}`)
    const pairs = keys.map(
      (key, at) => `${before}${JSON.stringify(key)}${after}:${before}${values[at]}${after}`,
    )
    return { keys, text: `${after}{${pairs.join(',')}}${before}` }
  })

test('what the flat reader reads is what JSON.parse reads', () => {
  fc.assert(
    fc.property(objects, ({ keys, text }) => {
      check(Buffer.from(text), keys)
    }),
    { numRuns: 3_000 },
  )
})

test('also after any byte was changed, added or cut', () => {
  fc.assert(
    fc.property(
      objects,
      fc.nat(),
      fc.nat(255),
      fc.constantFrom('set', 'insert', 'cut'),
      ({ keys, text }, where, byte, how) => {
        const bytes = Buffer.from(text)
        const at = where % bytes.length
        const changed =
          how === 'cut'
            ? bytes.subarray(0, at)
            : Buffer.concat([
                bytes.subarray(0, at),
                Buffer.of(byte),
                bytes.subarray(how === 'set' ? at + 1 : at),
              ])
        check(changed, keys)
      },
    ),
    { numRuns: 5_000 },
  )
})

test('ordinary messages are read, without a full parse', () => {
  for (const text of [
    '{"ts":1700000000123,"value":21.53,"on":true,"state":"run","none":null}',
    '{ "ts": 1700000000123, "value": -0.5, "on": false, "state": "", "none": 0 }\n',
  ])
    assert.ok(check(Buffer.from(text), ['ts', 'value', 'on', 'state', 'none']), text)
})

test('a topic whose messages were seen gives the same points and losses as one never seen', () => {
  const value = fc.oneof(literal, fc.constant('1.5'))
  const mappings = [
    {},
    { time: 'a' },
    { fields: { b: 'int', a: 'string', c: 'bool' } },
    { fields: { c: { path: 'b', type: 'float', unit: 'm' } }, time: 'a', time_unit: 's' },
  ] as const
  fc.assert(
    fc.property(
      fc.constantFrom(...mappings),
      fc.array(fc.tuple(value, value, value), { minLength: 2, maxLength: 5 }),
      (mapping, rows) => {
        const seen = createTestMapper(mapping)
        seen('p/q', '{"a":1700000000,"b":2,"c":true}')
        for (const [a, b, c] of rows) {
          const text = `{"a":${a},"b":${b},"c":${c}}`
          const withoutStamps = ({ points, losses }: ReturnType<typeof seen>) => ({
            points: points.map(([series, timeUs, ...rest]) => [
              series,
              'time' in mapping ? timeUs : 0,
              ...rest,
            ]),
            losses,
          })
          assert.deepEqual(
            withoutStamps(seen('p/q', text)),
            withoutStamps(createTestMapper(mapping)('p/q', text)),
          )
        }
      },
    ),
    { numRuns: 400 },
  )
})
