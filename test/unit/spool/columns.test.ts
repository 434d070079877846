import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createBatchBuilder, valueAt } from '../../../src/batch.ts'
import { kinds, type PointBatch, type Value } from '../../../src/model.ts'
import { asTheyAre, createOpenColumns } from '../../../src/spool/columns.ts'

const batchOf = (values: readonly Value[]): PointBatch => {
  const builder = createBatchBuilder()
  for (const [at, value] of values.entries()) builder.add(0, at, value, 0)
  return builder.take()
}
const valuesOf = (batch: PointBatch): readonly Value[] =>
  Array.from({ length: batch.count }, (_, at) => valueAt(batch, at))

test('strings keep their texts through appends, slices and truncations', () => {
  const columns = createOpenColumns()
  const first: Value[] = ['a', 1.5, 'b', 2n ** 62n, 'c']
  const second: Value[] = [true, 'd', -0, 'e']
  columns.append(batchOf(first), asTheyAre)
  columns.append(batchOf(second), asTheyAre)
  assert.deepEqual(valuesOf(columns.slice(0, 9)), [...first, ...second])
  assert.deepEqual(valuesOf(columns.slice(2, 8)), [...first.slice(2), ...second.slice(0, 3)])
  assert.equal(columns.fit(0, 9, 3 * 7), 6, 'the fourth text does not fit')
  columns.truncate(4)
  columns.append(batchOf(second), asTheyAre)
  assert.deepEqual(valuesOf(columns.slice(0, 8)), [...first.slice(0, 4), ...second])
})

test('nothing of a batch is kept: its buffer may be given back, and then cannot be read', () => {
  const columns = createOpenColumns()
  const values: Value[] = ['a', 1.5, true, 'b', 2n ** 62n, 'a']
  for (let time = 0; time < 3; time++) {
    const batch = batchOf(values)
    columns.append(batch, asTheyAre)
    // As the spool's thread does after a commit.
    ;(batch.bits.buffer as ArrayBuffer).transfer(0)
    assert.throws(() => columns.append(batch, asTheyAre), 'a batch that is gone')
  }
  assert.deepEqual(valuesOf(columns.slice(0, 18)), [...values, ...values, ...values])
  assert.deepEqual([...columns.slice(6, 12).timeUs], [0, 1, 2, 3, 4, 5])
})

test('a string whose text is not there is refused, before anything changes', () => {
  const wrong = [1n, 2n ** 32n, 2n ** 63n]
  for (const bits of wrong) {
    const columns = createOpenColumns()
    const batch = batchOf(['a'])
    batch.bits[0] = bits
    assert.throws(() => columns.append(batch, asTheyAre), { code: 'HF-S016' }, String(bits))
    assert.equal(columns.count(), 0)
  }
  const batch = batchOf([1])
  batch.kinds[0] = kinds.string + 1
  assert.throws(() => createOpenColumns().append(batch, asTheyAre), { code: 'HF-S016' })
})
