import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createBatchBuilder, valueAt } from '../../../src/batch.ts'
import { encodeRows } from '../../../src/database/postgres-copy.ts'
import { ordOf, rowsOf } from '../../../src/database/rows.ts'
import { kinds, type Value } from '../../../src/model.ts'

const ids = [5n, (1n << 62n) + 3n, 7n]
const value = fc.oneof(
  fc.double(),
  fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }),
  fc.boolean(),
  fc.string({ unit: 'grapheme' }),
)
const point = fc.record({
  series: fc.nat(2),
  timeUs: fc.oneof(fc.nat(3), fc.integer({ min: -1e12, max: 1e12 })),
  value,
  quality: fc.nat(255),
})
type Given = { series: number; timeUs: number; value: Value; quality: number }
const batchOf = (points: readonly Given[]) => {
  const builder = createBatchBuilder(1)
  for (const { series, timeUs, value: each, quality } of points)
    builder.add(series, timeUs, each, quality)
  return builder.take()
}

test('the last point of a (series, time) stands, and rows come in (series, time) order', () => {
  fc.assert(
    fc.property(fc.array(point, { maxLength: 40 }), (points) => {
      const batch = batchOf([...points].sort((a, b) => a.series - b.series))
      const expected = new Map<string, Value>()
      for (let at = 0; at < batch.count; at++)
        expected.set(`${batch.series[at]}/${batch.timeUs[at]}`, valueAt(batch, at))
      const { order, count } = rowsOf(batch, ids, 1n)
      const places = order ?? Uint32Array.from({ length: count }, (_, n) => n)
      assert.equal(places.length, expected.size)
      let before = [-1, 0] as [number, number]
      for (const at of places) {
        const here: [number, number] = [batch.series[at] as number, batch.timeUs[at] as number]
        assert.ok(here[0] > before[0] || (here[0] === before[0] && here[1] > before[1]))
        before = here
        assert.ok(Object.is(expected.get(here.join('/')), valueAt(batch, at)))
      }
    }),
  )
})

test('ord orders first by epoch, then by seal number', () => {
  assert.equal(ordOf(1, 0), 1n << 40n)
  assert.ok(ordOf(2, 1) > ordOf(1, 2 ** 40 - 1))
})

test('binary COPY holds the columns as they are', () => {
  fc.assert(
    fc.property(fc.array(point, { minLength: 1, maxLength: 20 }), (points) => {
      const batch = batchOf([...points].sort((a, b) => a.series - b.series))
      const rows = rowsOf(batch, ids, 0x123_4567_89ab_cdefn)
      const bytes = encodeRows(rows)
      let at = 0
      const field = (): Buffer | null => {
        const length = bytes.readInt32BE(at)
        at += 4 + Math.max(0, length)
        return length < 0 ? null : bytes.subarray(at - length, at)
      }
      for (let row = 0; row < rows.count; row++) {
        const from = rows.order?.[row] ?? row
        assert.equal(bytes.readInt16BE(at), 8)
        at += 2
        const [series, time, kind, float, int, text, quality, ord] = Array.from(
          { length: 8 },
          field,
        )
        assert.equal(series?.readBigInt64BE(), ids[batch.series[from] as number])
        assert.equal(
          Number(time?.readBigInt64BE()),
          (batch.timeUs[from] as number) - 946_684_800_000_000,
        )
        const wanted = batch.kinds[from]
        assert.equal(kind?.readInt16BE(), wanted)
        assert.deepEqual(
          [float !== null, int !== null, text !== null],
          [
            wanted === kinds.float,
            wanted === kinds.int || wanted === kinds.bool,
            wanted === kinds.string,
          ],
        )
        if (wanted === kinds.string) assert.equal(text?.toString(), valueAt(batch, from))
        else assert.equal((float ?? int)?.readBigUInt64BE(), batch.bits[from])
        assert.equal(quality?.readInt16BE(), batch.qualities[from])
        assert.equal(ord?.readBigInt64BE(), 0x123_4567_89ab_cdefn)
      }
      assert.equal(at, bytes.length)
    }),
  )
})

test('one text shared by many points is written for each', () => {
  const batch = batchOf([
    { series: 0, timeUs: 1, value: 'x'.repeat(300), quality: 0 },
    { series: 0, timeUs: 2, value: '', quality: 0 },
  ])
  batch.bits[1] = 0n
  const bytes = encodeRows(rowsOf(batch, ids, 1n))
  assert.equal(bytes.length, 2 * (62 + 300))
})
