import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { matchesGlob, meansSeries, seriesText } from '../../../src/pipeline/globs.ts'

test('globs: star, question mark, everything else literal, and no blow-up', () => {
  const same = (pattern: string, text: string) =>
    new RegExp(
      `^${pattern
        .split('')
        .map((c) => (c === '*' ? '[^]*' : c === '?' ? '[^]' : c.replace(/[^a]/, '\\$&')))
        .join('')}$`,
    ).test(text)
  const word = fc.string({ unit: fc.constantFrom('a', '*', '?', '.', '/'), maxLength: 8 })
  fc.assert(fc.property(word, word, (p, t) => matchesGlob(p, t) === same(p, t)))
  assert.equal(matchesGlob('*a'.repeat(200), 'a'.repeat(5_000).concat('b')), false)
})

test('a series is meant by its name, and with a comma by what tap and explain call it', () => {
  const tags = [
    ['line', '2'],
    ['site', 'b'],
  ] as const
  const press = { name: 'press/t', tags }
  assert.equal(seriesText(press), 'press/t,line=2,site=b')
  for (const glob of ['press/t', 'press/*', 'press/t,line=2,site=b', 'press/t,*', '*,line=2*'])
    assert.ok(meansSeries(glob, press), glob)
  for (const glob of ['*2', '*=b', 'press/t,line=3*', 'press/t,line=2', 'oven,*'])
    assert.ok(!meansSeries(glob, press), glob)
  assert.ok(meansSeries('a,b', { name: 'a,b', tags: [] }), 'a comma of the name itself')
})
