import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import {
  dictionaryHashStart,
  extendDictionaryHash,
  seriesIdOf,
} from '../../../src/codec/series-id.ts'

test('a series id is the hash that decision 0001 lays down', () => {
  const bytes = Buffer.concat([
    Buffer.from('holdfast-series-1'),
    ...['gw-1', 'temp', 'line', 'ä', 'site', 'x'].flatMap((text) => {
      const length = Buffer.alloc(4)
      length.writeUInt32LE(Buffer.byteLength(text))
      return [length, Buffer.from(text)]
    }),
  ])
  const hash = createHash('sha256').update(bytes).digest().subarray(0, 8)
  hash[0] = (hash[0] as number) & 0x7f
  const key = {
    name: 'temp',
    tags: [
      ['line', 'ä'],
      ['site', 'x'],
    ],
  } as const
  assert.equal(seriesIdOf('gw-1', key), hash.readBigUInt64BE())
})
test('ids do not depend on where one text ends and the next begins, stay below 2^63, and are pinned', () => {
  const id = (agent: string, name: string, ...tags: [string, string][]) =>
    seriesIdOf(agent, { name, tags })
  const ids = [id('a', 'bc'), id('ab', 'c'), id('a', 'b', ['c', '']), id('a', 'b', ['', 'c'])]
  assert.equal(new Set(ids).size, ids.length)
  for (let n = 0; n < 50; n++) assert.ok(id('a', `${n}`) < 1n << 63n)
  // Ids stand in databases: this number never changes.
  assert.equal(id('a', 'n', ['x', 'y']), 5_511_101_521_496_104_940n)
})
test('the running hash of the dictionary says order and length', () => {
  assert.equal(dictionaryHashStart, '0'.repeat(32))
  const one = extendDictionaryHash(dictionaryHashStart, 5n)
  const bytes = Buffer.alloc(24)
  bytes[23] = 5
  assert.equal(one, createHash('sha256').update(bytes).digest('hex').slice(0, 32))
  assert.notEqual(
    extendDictionaryHash(one, 6n),
    extendDictionaryHash(extendDictionaryHash(dictionaryHashStart, 6n), 5n),
  )
})
