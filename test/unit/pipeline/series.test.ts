import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { isFailure } from '../../../src/errors.ts'
import type { SeriesKey } from '../../../src/model.ts'
import { createSeriesTable } from '../../../src/pipeline/series.ts'

const idOf = (agent: string, key: SeriesKey): bigint =>
  createHash('sha256')
    .update(JSON.stringify([agent, key]))
    .digest()
    .readBigUInt64BE() >> 1n
const table = (max?: number) =>
  createSeriesTable({ agent: 'gw', seriesIdOf: idOf, ...(max === undefined ? {} : { max }) })
const refuses = (work: () => unknown, code: string, text: RegExp) =>
  assert.throws(work, (error) => isFailure(error, code) && text.test(error.message))

test('every spelling of one series is one ref', () => {
  const tag = fc.tuple(fc.string({ unit: 'grapheme', maxLength: 4 }), fc.string({ maxLength: 4 }))
  const tags = fc
    .uniqueArray(tag, { maxLength: 6, selector: ([name]) => name })
    .filter((all) => !JSON.stringify(all).includes('\\u0000'))
  fc.assert(
    fc.property(tags, fc.infiniteStream(fc.nat(5)), (given, order) => {
      const one = table()
      const ref = one.ref('s', given)
      const shuffled = given.slice()
      for (let at = shuffled.length - 1; at > 0; at--) {
        const other = (order.next().value as number) % (at + 1)
        ;[shuffled[at], shuffled[other]] = [shuffled[other] as never, shuffled[at] as never]
      }
      assert.equal(one.ref('s', [...shuffled, ['empty', '']]), ref)
      const kept = one.entry(ref).tags
      assert.deepEqual(
        kept.map(([name]) => name),
        given
          .filter(([name, value]) => name !== '' && value !== '')
          .map(([name]) => name)
          .sort(),
      )
      assert.equal(one.count(), 1)
    }),
  )
})

test('refs are dense and entries keep name, tags, unit and id', () => {
  const one = table()
  assert.equal(one.ref('a', [['x', '1']], 'bar'), 0)
  assert.equal(one.ref('a', [['x', '2']]), 1)
  assert.equal(one.ref('a', []), 2)
  assert.equal(one.ref('a', [['x', '1']]), 0)
  assert.deepEqual(one.entry(0), {
    name: 'a',
    tags: [['x', '1']],
    unit: 'bar',
    id: idOf('gw', { name: 'a', tags: [['x', '1']] }),
  })
  one.ref('a', [['x', '1']], 'mbar')
  assert.equal(one.entry(0).unit, 'mbar')
  assert.throws(() => one.entry(3))
})

test('a name that could run into its tags is not the tagged series', () => {
  const one = table()
  assert.notEqual(one.ref('a', [['b', 'c']]), one.ref('a,b=c', []))
})

test('the cap refuses the next series and keeps the known ones', () => {
  const one = table(2)
  one.ref('a', [])
  one.ref('b', [])
  refuses(() => one.ref('c', []), 'HF-I001', /2 series/)
  assert.equal(one.ref('b', []), 1)
  assert.equal(one.count(), 2)
})

test('names are refused with the reason, and nothing is kept of them', () => {
  const one = table()
  refuses(() => one.ref('', []), 'HF-I002', /empty/)
  refuses(() => one.ref('a\0b', []), 'HF-I002', /NUL/)
  refuses(() => one.ref('a', [['t', 'v\0']]), 'HF-I002', /NUL/)
  refuses(() => one.ref('a\ud800', []), 'HF-I002', /ill-formed/)
  refuses(() => one.ref('a', [['\udc00', 'v']]), 'HF-I002', /ill-formed/)
  refuses(() => one.ref('a', [['@every', '1']]), 'HF-I002', /Holdfast's own/)
  refuses(() => one.ref('a'.repeat(513), []), 'HF-I002', /512 bytes/)
  refuses(() => one.ref('ä'.repeat(257), []), 'HF-I002', /512 bytes/)
  refuses(
    () =>
      one.ref('a', [
        ['t', '1'],
        ['t', '2'],
      ]),
    'HF-I002',
    /twice/,
  )
  refuses(() => one.ref('a', [['t', 'x'.repeat(4096)]]), 'HF-I002', /4096 bytes/)
  const tags = Array.from({ length: 33 }, (_, at) => [`t${at}`, 'v'] as const)
  refuses(() => one.ref('a', tags), 'HF-I002', /32 tags/)
  assert.equal(one.count(), 0)
  one.ref('a', [['t', 'v']])
  refuses(() => one.ref('a\0t\0v', []), 'HF-I002', /NUL/)
})

test('two keys with one id are refused, not merged', () => {
  const one = createSeriesTable({ agent: 'gw', seriesIdOf: () => 7n })
  assert.equal(one.ref('a', []), 0)
  refuses(() => one.ref('b', []), 'HF-I003', /same id/)
  assert.equal(one.ref('a', []), 0)
  assert.equal(one.count(), 1)
})
