import assert from 'node:assert/strict'
import { test } from 'node:test'
import { because, quality } from '../../../src/model.ts'
import { createTestMapper, parseMapping } from './map-support.ts'

const pointsOf = (
  mapping: Parameters<typeof createTestMapper>[0],
  payload: string,
  topic = 'a/b',
) => createTestMapper(mapping)(topic, payload)

test('a plain JSON scalar is one point named by its topic', () => {
  for (const [text, value] of [
    ['21.5', 21.5],
    ['true', true],
    ['"on"', 'on'],
    ['-0', -0],
  ] as const) {
    const { points, losses } = pointsOf({}, text)
    assert.deepEqual(points, [['a.b', 1_000, value, 0]])
    assert.deepEqual(losses, [])
  }
})

test('plain payloads: number, bool, string', () => {
  assert.deepEqual(pointsOf({ payload: 'number' }, ' +1.5e3\n').points, [['a.b', 1_000, 1_500, 0]])
  assert.deepEqual(pointsOf({ payload: 'bool' }, 'ON').points, [['a.b', 1_000, true, 0]])
  assert.deepEqual(pointsOf({ payload: 'string' }, '{x').points, [['a.b', 1_000, '{x', 0]])
  for (const text of ['', 'abc', '0x10', '1,5', 'NaN', '1e999']) {
    const { points, losses } = pointsOf({ payload: 'number' }, text)
    assert.deepEqual([points.length, losses[0]?.[0]], [0, 'malformed'], text)
  }
})

test('an object gives every scalar leaf, named by its path', () => {
  const { points, losses } = pointsOf({}, '{"t":1,"m":{"on":false,"s":["x",2]},"none":null}')
  assert.deepEqual(points, [
    ['a.b.t', 1_000, 1, 0],
    ['a.b.m.on', 1_000, false, 0],
    ['a.b.m.s[0]', 1_000, 'x', 0],
    ['a.b.m.s[1]', 1_000, 2, 0],
  ])
  assert.deepEqual(losses, [])
})

test('arrays of objects at a nested path, with time, quality, tags and template', () => {
  const map = createTestMapper({
    items: 'data.readings',
    series: '{topic[1]}.{item.id}.{field}',
    tags: { site: '{topic[0]}', line: '{payload.line}', last: '{topic[-1]}' },
    fields: { value: 'float', state: { path: 'st.code', type: 'int', unit: '1' } },
    time: 'ts',
    time_unit: 'ms',
    quality: 'q',
  })
  const { points, losses } = map(
    'north/press/x',
    '{"line":7,"ts":5,"data":{"readings":[{"id":"p1","value":1.5,"st":{"code":3},"ts":1700000000123,"q":"BAD"},{"id":"p2","value":2}]}}',
  )
  assert.deepEqual(losses, [])
  assert.deepEqual(points, [
    ['press.p1.value,last=x,line=7,site=north', 1_700_000_000_123_000, 1.5, quality.bad],
    ['press.p1.state,last=x,line=7,site=north', 1_700_000_000_123_000, 3n, quality.bad],
    ['press.p2.value,last=x,line=7,site=north', 5_000, 2, quality.uncertain | because.unknown],
  ])
})

test('points stamped on arrival increase strictly per series', () => {
  const map = createTestMapper({})
  assert.deepEqual(
    [map('a', '[1,2]').points, map('a', '3').points].flat().map(([, timeUs]) => timeUs),
    [1_000, 1_001, 1_002],
  )
})

test('int fields hold the very integer of the text; what is outside int64 is refused', () => {
  const one = (text: string) => pointsOf({ fields: { v: 'int' } }, `{"v":${text}}`)
  for (const text of ['9007199254740993', '-9223372036854775808', '9223372036854775807', '0', '-7'])
    assert.deepEqual(one(text).points, [['a.b.v', 1_000, BigInt(text), 0]])
  assert.deepEqual(one('1e3').points, [['a.b.v', 1_000, 1_000n, 0]])
  for (const text of [
    '9223372036854775808',
    '18446744073709551615',
    '1.5',
    '1e19',
    '"7"',
    'true',
    '9007199254740993.0',
    `1${'0'.repeat(60)}`,
  ]) {
    const { points, losses } = one(text)
    assert.deepEqual([points.length, losses.length, losses[0]?.[0]], [0, 1, 'refused'], text)
  }
})

test('long integers become floats by correct rounding where float is asked', () => {
  assert.deepEqual(pointsOf({}, '9007199254740993').points, [['a.b', 1_000, 9007199254740992, 0]])
  const [loss] = pointsOf({}, '1e999').losses
  assert.deepEqual(loss, ['refused', 'a number beyond float64', 1])
})

test('NUL, ill-formed Unicode, too long texts and wrong types are refused, the rest stands', () => {
  const { points, losses } = pointsOf(
    { fields: { a: 'string', b: 'string', c: 'string', d: 'bool', e: 'float', f: 'bool' } },
    `{"a":"x\\u0000","b":"\\ud800","c":"${'x'.repeat(70_000)}","d":1,"e":"1","f":2}`,
  )
  assert.deepEqual(points, [['a.b.d', 1_000, true, 0]])
  assert.deepEqual(
    losses.map(([reason, text]) => [reason, text.slice(0, 9)]),
    [
      ['refused', 'field "a"'],
      ['refused', 'field "b"'],
      ['refused', 'field "c"'],
      ['refused', 'field "e"'],
      ['refused', 'field "f"'],
    ],
  )
})

test('a message that is no JSON gives no point and one reason', () => {
  const map = createTestMapper({})
  for (const bytes of ['', '{', '{"a":1', '[1,]', 'nan', '{"a":1}x', '"\u0001"']) {
    const { points, losses } = map('a', bytes)
    assert.deepEqual([points.length, losses.length, losses[0]?.[0]], [0, 1, 'malformed'], bytes)
  }
  assert.deepEqual(map('a', Uint8Array.of(0x22, 0xff, 0x22)).losses, [
    ['malformed', 'not well-formed UTF-8', 1],
  ])
  assert.deepEqual(createTestMapper({ items: 'x.y' })('a', '{"x":{}}').losses, [
    ['malformed', 'nothing at x.y', 1],
  ])
})

test('the last of duplicate keys stands; __proto__ is a key like any other', () => {
  assert.deepEqual(pointsOf({}, '{"a":1,"a":2}').points, [['a.b.a', 1_000, 2, 0]])
  assert.deepEqual(pointsOf({}, '{"__proto__":{"x":1}}').points, [['a.b.__proto__.x', 1_000, 1, 0]])
})

test('depth and points of one message are bounded, and what is over is said', () => {
  const deep = `${'['.repeat(5_000)}1${']'.repeat(5_000)}`
  assert.deepEqual(pointsOf({}, deep).losses, [['refused', 'nested deeper than 16', 1]])
  const { points, losses } = pointsOf({}, `[${'1,'.repeat(60_001)}1]`)
  assert.deepEqual([points.length, losses.length], [60_000, 2])
})

test('an item without its time, without any field, or without what its name needs is refused', () => {
  assert.match(pointsOf({ time: 'ts' }, '{"v":1}').losses[0]?.[1] ?? '', /no time/)
  assert.match(pointsOf({ fields: { x: 'int' } }, '{"v":1}').losses[0]?.[1] ?? '', /no field/)
  assert.match(pointsOf({}, '{}').losses[0]?.[1] ?? '', /no field/)
  assert.match(pointsOf({ series: '{topic[9]}' }, '1').losses[0]?.[1] ?? '', /topic\[9\]/)
  assert.match(pointsOf({ tags: { l: '{item.l}' } }, '{"v":1}').losses[0]?.[1] ?? '', /tag "l"/)
})

test('quality as words, numbers and OPC codes', () => {
  const of = (as: 'word' | 'opc_da' | 'opc_ua', text: string) =>
    pointsOf({ fields: { v: 'int' }, quality: 'q', quality_as: as }, `{"v":1,"q":${text}}`)
      .points[0]?.[3]
  assert.deepEqual(
    ['"Good"', 'true', '0', '"?"', '2', 'false'].map((text) => of('word', text)),
    [0, 0, 0, 1, 2, 2],
  )
  assert.deepEqual(
    ['192', '216', '64', '0'].map((text) => of('opc_da', text)),
    [0, 0, 1, 2],
  )
  assert.deepEqual(
    ['0', '1073741824', '2147483648', '2150891520'].map((text) => of('opc_ua', text)),
    [0, 1, 2, 2],
  )
})

test('paths and templates that do not parse are configuration errors', () => {
  for (const mapping of [
    { series: '{topic[x]}' },
    { series: '{nope}' },
    { series: 'a{' },
    { series: '' },
    { items: 'a..b' },
    { time: '[x]' },
    { tags: { a: '{payload}' } },
  ]) {
    assert.throws(() => parseMapping(mapping), JSON.stringify(mapping))
  }
})
