import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createBatchBuilder, valueAt } from '../../src/batch.ts'

test('a builder that grows keeps every value of every kind', () => {
  for (const of of [
    (at: number) => at + 0.5,
    (at: number) => BigInt(at),
    (at: number) => at % 2 === 0,
    String,
  ]) {
    const builder = createBatchBuilder(1)
    for (let at = 1; at <= 40; at++) builder.add(at, at * 10, of(at), 0)
    const batch = builder.take()
    assert.deepEqual(
      Array.from({ length: batch.count }, (_, at) => valueAt(batch, at)),
      Array.from({ length: 40 }, (_, at) => of(at + 1)),
    )
  }
})
