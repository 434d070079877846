import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { dictionaryHashStart, extendDictionaryHash } from '../../../src/codec/series-id.ts'
import {
  createDictionaryCache,
  newEntries,
  packIds,
  unpackIds,
} from '../../../src/database/dictionary.ts'

const id = fc.bigInt({ min: 0n, max: (1n << 63n) - 1n })

test('ids survive packing', () => {
  fc.assert(
    fc.property(fc.array(id), (ids) => {
      assert.deepEqual(unpackIds(packIds(ids)), ids)
    }),
  )
})

test('hashes at every length are those of the running hash, however the dictionary grew', () => {
  fc.assert(
    fc.property(fc.array(id, { maxLength: 20 }), fc.array(fc.nat(20)), (ids, cuts) => {
      const cache = createDictionaryCache(extendDictionaryHash)
      for (const cut of cuts) cache.put('a', 'e', ids.slice(0, cut))
      const { hashes } = cache.put('a', 'e', ids)
      let hash = dictionaryHashStart
      assert.equal(hashes[0], hash)
      ids.forEach((each, at) => {
        hash = extendDictionaryHash(hash, each)
        assert.equal(hashes[at + 1], hash)
      })
      assert.equal(hashes.length, ids.length + 1)
    }),
  )
})

test('a database that came back with other entries replaces what was cached', () => {
  const cache = createDictionaryCache(extendDictionaryHash)
  cache.put('a', 'e', [1n, 2n])
  const { ids, hashes } = cache.put('a', 'e', [3n])
  assert.deepEqual(ids, [3n])
  assert.equal(hashes[1], extendDictionaryHash(dictionaryHashStart, 3n))
  assert.equal(cache.get('a', 'e')?.ids.length, 1)
  assert.equal(cache.get('b', 'e'), undefined)
})

test('entries join what is known, repeat it, or are refused', () => {
  const entry = (each: bigint) => ({ id: each, name: `${each}`, tags: [], unit: '' })
  const known = [1n, 2n, 3n]
  assert.deepEqual(newEntries(known, 'e', 1, [entry(2n), entry(3n), entry(4n)]), [entry(4n)])
  assert.deepEqual(newEntries(known, 'e', 0, [entry(1n)]), [])
  assert.deepEqual(newEntries(known, 'e', 4, [entry(5n)]), {
    kind: 'need-series',
    epoch: 'e',
    first: 3,
  })
  assert.ok('kind' in newEntries(known, 'e', 2, [entry(9n)]))
})
