import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  createStateWriter,
  openState,
  putEntry,
  takeEntry,
} from '../../../src/pipeline/state-bytes.ts'

test('what was put is taken, bit for bit', () => {
  const field = fc.record({
    float: fc.double(),
    uint: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    byte: fc.integer({ min: 0, max: 255 }),
    id: fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }),
    text: fc.string({ unit: 'binary' }),
  })
  fc.assert(
    fc.property(fc.array(field), (fields) => {
      const to = createStateWriter(3, 1)
      for (const { float, uint, byte, id, text } of fields) {
        to.float(float)
        to.uint(uint)
        to.byte(byte)
        putEntry(to, { id, name: text, unit: '\ud800', tags: [['a', text]] })
      }
      const from = openState(to.finish(), 3, 1)
      for (const { float, uint, byte, id, text } of fields) {
        assert.ok(Object.is(from.float(), float))
        assert.equal(from.uint(), uint)
        assert.equal(from.byte(), byte)
        assert.deepEqual(takeEntry(from), { id, name: text, unit: '\ud800', tags: [['a', text]] })
      }
      assert.throws(() => from.byte(), RangeError)
    }),
  )
})

test('another kind, another version, a flipped bit and a cut are no state', () => {
  const to = createStateWriter(1, 1)
  to.text('held')
  const bytes = to.finish()
  assert.equal(openState(bytes, 1, 1).text(), 'held')
  assert.throws(() => openState(bytes, 2, 1), RangeError)
  assert.throws(() => openState(bytes, 1, 2), RangeError)
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const wrong = bytes.slice()
    wrong[bit >> 3] = (wrong[bit >> 3] as number) ^ (1 << (bit & 7))
    assert.throws(() => openState(wrong, 1, 1), RangeError, `bit ${bit}`)
  }
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => openState(bytes.subarray(0, length), 1, 1), RangeError)
  }
})
