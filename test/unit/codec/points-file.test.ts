import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createBatchBuilder } from '../../../src/batch.ts'
import {
  type Block,
  type BlockHeader,
  encodeBlock,
  ndjsonLine,
  ndjsonPrefix,
  readBlock,
  readNdjson,
} from '../../../src/codec/points-file.ts'
import { createSeqRanges } from '../../../src/codec/seq-ranges.ts'
import { isFailure } from '../../../src/errors.ts'
import { kinds, type PointBatch } from '../../../src/model.ts'

const header: BlockHeader = {
  format: 'ndjson',
  agent: 'gw-1',
  lane: 'raw',
  laneId: 1,
  epoch: '0'.repeat(32),
  seq: 7,
  seqLast: 7,
  part: 0,
  last: true,
  points: 1,
  leftOut: 0,
  timeUsMin: 1,
  timeUsMax: 1,
  gap: null,
  replay: false,
}
const refused = (error: unknown) => isFailure(error, 'HF-K020')

/** Floats by their pattern, so that payloads of NaN are among them. */
const patterns = fc.oneof(
  fc.constantFrom(
    ...[0n, 1n << 63n, 0x7ff8000000000000n, 0xfff8000000000001n, 0x7ff0000000000001n],
    ...[0x7ff0000000000000n, 0xfff0000000000000n, 1n],
  ),
  fc.bigInt(0n, (1n << 64n) - 1n),
)
const texts = fc.string({ unit: 'binary', maxLength: 20 })
const value = fc.oneof(
  patterns.map((bits) => ({ kind: kinds.float, bits, text: '' })),
  patterns.map((bits) => ({ kind: kinds.int, bits, text: '' })),
  fc.boolean().map((on) => ({ kind: kinds.bool, bits: on ? 1n : 0n, text: '' })),
  texts.map((text) => ({ kind: kinds.string, bits: 0n, text })),
)
const batchOf = (points: readonly { kind: number; bits: bigint; text: string }[]): PointBatch => {
  const builder = createBatchBuilder()
  points.forEach(({ kind, bits, text }, at) => {
    if (kind === kinds.string) builder.addText(0, at - 3, text, at % 256)
    else builder.addInt(0, at - 3, BigInt.asIntN(64, bits), at % 256)
  })
  const batch = builder.take()
  points.forEach(({ kind }, at) => {
    batch.kinds[at] = kind
  })
  return batch
}

test('every value, quality and name comes back from NDJSON as it went, bit for bit', () => {
  const tags = fc.dictionary(texts.filter(Boolean), texts.filter(Boolean), { maxKeys: 3 })
  fc.assert(
    fc.property(
      fc.array(value, { maxLength: 20 }),
      texts,
      tags,
      texts,
      (points, name, all, unit) => {
        const batch = batchOf(points)
        const prefix = ndjsonPrefix({ name, tags: Object.entries(all), unit })
        const lines = points.map((_, at) => `${ndjsonLine(prefix, batch, at)}\n`)
        for (const line of lines) assert.equal(line.indexOf('\n'), line.length - 1)
        const seen: unknown[] = []
        const ref = (...given: unknown[]) => {
          seen.push(given)
          return 0
        }
        const back = readNdjson(Buffer.from(lines.join('')), { ref }, [['origin', 'gw-1']])
        assert.deepEqual({ ...back, texts: [...back.texts] }, { ...batch, texts: [...batch.texts] })
        for (const one of seen)
          assert.deepEqual(one, [name, [...Object.entries(all), ['origin', 'gw-1']], unit])
      },
    ),
  )
})

test('a block is read as it was written, or not at all', () => {
  const body = Buffer.from('{"series":"a","time":1,"type":"bool","value":true}\n')
  for (const format of ['ndjson', 'lines'] as const) {
    const block: Block = { header: { ...header, format }, body }
    const bytes = encodeBlock(block)
    assert.deepEqual(readBlock(bytes, 0), { block, end: bytes.length })
    for (let length = 0; length < bytes.length; length++)
      assert.equal(readBlock(bytes.subarray(0, length), 0), undefined, `cut at ${length}`)
    for (let at = bytes.length - body.length; at < bytes.length; at++) {
      const flipped = Uint8Array.from(bytes)
      flipped[at] = (flipped[at] as number) ^ 4
      assert.throws(() => readBlock(flipped, 0), refused)
    }
  }
  const gap = { reason: 'quota', count: 3, source: '', timeUsMin: 0, timeUsMax: 0 } as const
  const lost: Block = { header: { ...header, points: 0, gap }, body: Buffer.alloc(0) }
  assert.deepEqual(readBlock(encodeBlock(lost), 0)?.block, lost)
})

test('what is no block, and no point, is refused', () => {
  const text = (line: string) => Buffer.from(`${line}\n`)
  const whole = Buffer.from(encodeBlock({ header, body: Buffer.alloc(0) })).toString()
  for (const other of [
    'nonsense',
    '{}',
    whole.replace('"holdfast":1', '"holdfast":2').trim(),
    whole.replace('"seq":7', '"seq":"7"').trim(),
    whole.replace('"bytes":0', '"bytes":999999999').trim(),
    whole.replace('"gap":null', '"gap":{}').trim(),
  ])
    assert.throws(() => readBlock(text(other), 0), refused, other)
  assert.throws(() => readBlock(Buffer.alloc(20_000, 65), 0), refused)
  const series = { ref: () => 0 }
  for (const line of [
    'nonsense',
    '{"series":1,"time":1,"type":"int","value":"1"}',
    '{"series":"a","time":1.5,"type":"int","value":"1"}',
    '{"series":"a","time":1,"type":"int","value":1}',
    '{"series":"a","time":1,"type":"int","value":"9223372036854775808"}',
    '{"series":"a","time":1,"type":"float","value":"NaN","bits":"7"}',
    '{"series":"a","time":1,"type":"float"}',
    '{"series":"a","time":1,"type":"bool","value":true,"quality":300}',
    '{"series":"a","tags":{"x":1},"time":1,"type":"bool","value":true}',
  ])
    assert.throws(() => readNdjson(text(line), series, []), refused, line)
})

test('ranges of seqs hold what was added, and join', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(40), fc.nat(5)), { maxLength: 30 }), (all) => {
      const ranges = createSeqRanges()
      const twin = new Set<number>()
      for (const [first, more] of all) {
        ranges.add(first, first + more)
        for (let at = first; at <= first + more; at++) twin.add(at)
      }
      for (let at = 0; at < 50; at++) assert.equal(ranges.has(at), twin.has(at))
      const list = ranges.list()
      list.forEach(([first, last], at) => {
        assert.ok(first <= last && first > (list[at - 1]?.[1] ?? -2) + 1)
      })
      assert.deepEqual(createSeqRanges(list).list(), list)
    }),
  )
})
