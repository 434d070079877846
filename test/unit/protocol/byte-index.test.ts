import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createByteIndex } from '../../../src/protocol/byte-index.ts'

test('finds exactly what was added and not forgotten, under its own parent, in lockstep with a map', () => {
  const key = fc.tuple(fc.nat(3), fc.uint8Array({ minLength: 1, maxLength: 3, max: 3 }))
  let [found, forgotten] = [0, 0]
  fc.assert(
    fc.property(fc.array(key, { minLength: 30, maxLength: 80, size: 'max' }), ([...keys]) => {
      const index = createByteIndex({ entriesMax: 12, bytesMax: 24 })
      const model = new Map<string, { entry: number; value: number }>()
      let bytesUsed = 0
      for (const [at, [parent, bytes]] of keys.entries()) {
        const name = `${parent} ${bytes}`
        const padded = Uint8Array.of(9, ...bytes, 9)
        const entry = index.find(parent, padded, 1, 1 + bytes.length)
        assert.equal(entry, model.get(name)?.entry ?? -1)
        if (entry >= 0) {
          found++
          assert.equal(index.value(entry), model.get(name)?.value)
          assert.equal(index.follow(entry, parent, padded, 1), 1 + bytes.length)
          assert.equal(index.follow(entry, parent + 1, padded, 1), -1)
          assert.equal(index.follow(entry, parent, padded.subarray(0, bytes.length), 1), -1)
          continue
        }
        if (model.size === 12 || bytesUsed + bytes.length > 24) {
          forgotten++
          model.clear()
          bytesUsed = 0
        }
        bytesUsed += bytes.length
        model.set(name, { entry: index.add(parent, padded, 1, 1 + bytes.length, at), value: at })
      }
    }),
    { numRuns: 400 },
  )
  assert.ok(found > 100 && forgotten > 100, `${found} ${forgotten}`)
})

test('a guess is what came after last time, and no guess survives being forgotten as a truth', () => {
  const index = createByteIndex({ entriesMax: 2, bytesMax: 100 })
  const bytes = Buffer.from('abc')
  const a = index.add(-1, bytes, 0, 1, 10)
  const b = index.add(-1, bytes, 1, 2, 11)
  assert.equal(index.after(a), -1)
  index.setAfter(a, b)
  assert.equal(index.after(a), b)
  const c = index.add(-1, bytes, 2, 3, 12)
  assert.equal(index.after(c), -1)
  assert.equal(index.follow(b, -1, bytes, 1), -1)
  assert.equal(index.after(b), -1)
  index.setAfter(b, c)
  index.setAfter(-1, c)
  assert.equal(index.after(-1), -1)
})
