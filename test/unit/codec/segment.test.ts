import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { emptyBatch } from '../../../src/batch.ts'

import { decodeJournal, encodeJournal } from '../../../src/codec/journal.ts'
import {
  type Compressor,
  openSegment,
  readHeader,
  sealSegment,
  segmentDigest,
} from '../../../src/codec/segment.ts'
import { isFailure } from '../../../src/errors.ts'
import { segmentPointsMax } from '../../../src/limits.ts'
import type { PointBatch } from '../../../src/model.ts'
import {
  assertSame,
  compressors,
  grouped,
  header,
  listOf,
  tameBatch,
  wildBatch,
} from './random-points.ts'
import { readSegment } from './second-reader.ts'

const checkRoundTrip = (batch: PointBatch, compressor: Compressor): void => {
  const { header: read, points } = openSegment(sealSegment(header, batch, compressor))
  assertSame(listOf(points), grouped(batch))
  assert.equal(read.pointCount, batch.count)
  assert.equal(read.seriesCount, new Set(batch.series).size)
  assert.equal(read.compressor, compressor)
}

test('any points come back bit for bit, grouped by series, in accept order', () => {
  fc.assert(fc.property(wildBatch, fc.constantFrom(...compressors), checkRoundTrip), {
    numRuns: 250,
  })
})
test('runs as sensors make them come back bit for bit', () => {
  fc.assert(fc.property(tameBatch, fc.constantFrom(...compressors), checkRoundTrip), {
    numRuns: 300,
  })
})
test('the journal keeps any points bit for bit and in accept order', () => {
  const check = (batch: PointBatch) =>
    assertSame(listOf(decodeJournal(encodeJournal(batch))), listOf(batch))
  fc.assert(fc.property(wildBatch, check), { numRuns: 200 })
  fc.assert(fc.property(tameBatch, check), { numRuns: 100 })
})

test('bytes once made stay, and depend on nothing that was encoded or broken off before', () => {
  const encode = (batch: PointBatch, compressor: Compressor) => [
    sealSegment(header, batch, compressor),
    encodeJournal(batch, compressor),
  ]
  const check = (one: PointBatch, other: PointBatch, compressor: Compressor) => {
    const made = encode(one, compressor)
    const kept = made.map((bytes) => Buffer.from(bytes))
    encode(other, compressor)
    // The last point breaks it off, with everything before it written.
    const kindsOf = Uint8Array.from(other.kinds).fill(9, -1)
    if (other.count > 0)
      assert.throws(() => sealSegment(header, { ...other, kinds: kindsOf }, compressor))
    assert.deepEqual(made.map(Buffer.from), kept)
    assert.deepEqual(encode(one, compressor).map(Buffer.from), kept)
  }
  const batch = fc.oneof(wildBatch, tameBatch)
  fc.assert(fc.property(batch, batch, fc.constantFrom(...compressors), check), { numRuns: 200 })
})

test('a reader made from the document alone reads the same', () => {
  const check = (batch: PointBatch, compressor: Compressor) => {
    const bytes = sealSegment(header, batch, compressor)
    const { points, header: second } = readSegment(bytes)
    const seen = points.map((each) => [
      each.series,
      each.timeUs,
      each.kind,
      each.quality,
      each.text ?? each.bits,
    ])
    assertSame(seen, grouped(batch))
    const { formatVersion: _, frameKind: __, ...first } = openSegment(bytes).header
    assert.deepEqual(second, first)
  }
  fc.assert(fc.property(wildBatch, fc.constantFrom(...compressors), check), { numRuns: 100 })
  fc.assert(fc.property(tameBatch, fc.constantFrom(...compressors), check), { numRuns: 40 })
})
test('the header says what was sealed, whatever the boot id looks like', () => {
  for (const bootId of ['', 'abc', 'ABCDEF', 'deadbeef', 'ä-boot', 'f'.repeat(64)]) {
    const sealed = sealSegment({ ...header, bootId }, emptyBatch, 'zstd')
    assert.deepEqual(readHeader(sealed), {
      ...header,
      bootId,
      formatVersion: 1,
      frameKind: 1,
      compressor: 'zstd',
      pointCount: 0,
      seriesCount: 0,
      timeUsMin: 0,
      timeUsMax: 0,
      rawBytes: readHeader(sealed).rawBytes,
      bodyBytes: readHeader(sealed).bodyBytes,
    })
    assert.equal(openSegment(sealed).points.count, 0)
  }
})
test('the same points sealed twice are the same bytes, and a header field changes the digest', () => {
  const [batch] = fc.sample(tameBatch, { numRuns: 1, seed: 4 }) as [PointBatch]
  const digest = segmentDigest(sealSegment(header, batch, 'zstd'))
  assert.match(digest, /^[0-9a-f]{32}$/)
  assert.equal(segmentDigest(sealSegment(header, batch, 'zstd')), digest)
  assert.notEqual(segmentDigest(sealSegment({ ...header, seq: 1 }, batch, 'zstd')), digest)
})
test('what could not come back is refused before it is stored', () => {
  const one = (parts: Partial<PointBatch>): PointBatch => ({
    count: 1,
    series: new Uint32Array(1),
    timeUs: new Float64Array(1),
    kinds: new Uint8Array(1),
    qualities: new Uint8Array(1),
    bits: new BigUint64Array(1),
    texts: [],
    ...parts,
  })
  const refused: [string, PointBatch][] = [
    ['HF-K007', one({ timeUs: Float64Array.of(0.5) })],
    ['HF-K007', one({ timeUs: Float64Array.of(Number.NaN) })],
    ['HF-K007', one({ timeUs: Float64Array.of(2 ** 53 + 2) })],
    ['HF-K007', one({ kinds: Uint8Array.of(4) })],
    ['HF-K007', one({ kinds: Uint8Array.of(3) })],
    ['HF-K005', { ...one({}), count: segmentPointsMax + 1 }],
    ['HF-K005', one({ kinds: Uint8Array.of(3), texts: ['ab'.repeat(9 * 1024 * 1024)] })],
  ]
  for (const [code, batch] of refused) {
    assert.throws(
      () => sealSegment(header, batch, 'none'),
      (error) => isFailure(error, code),
    )
  }
  assert.throws(
    () => sealSegment({ ...header, epoch: 'short' }, emptyBatch, 'none'),
    (error) => isFailure(error, 'HF-K007'),
  )
})
test('a copy says whose order its points have, to both readers; nothing else changes its format', () => {
  const copyOf = { epoch: 'fe'.repeat(16), sealNumber: 2 ** 40 - 1 }
  const [batch] = fc.sample(tameBatch, { numRuns: 1, seed: 5 }) as [PointBatch]
  for (const bootId of ['', 'ä-boot', 'f'.repeat(64)]) {
    const bytes = sealSegment({ ...header, bootId, copyOf }, batch, 'zstd')
    const { header: read, points } = openSegment(bytes)
    assert.deepEqual([read.formatVersion, read.copyOf, read.bootId], [2, copyOf, bootId])
    assertSame(listOf(points), grouped(batch))
    assert.equal(readSegment(bytes).points.length, batch.count)
    assert.equal(readSegment(bytes).header.bootId, bootId)
    assert.equal(readHeader(sealSegment({ ...header, bootId }, batch, 'zstd')).formatVersion, 1)
    assert.throws(() => readHeader(bytes.with(4, 3)), { code: 'HF-K002' })
    assert.throws(() => readHeader(bytes.with(4, 1)), { code: 'HF-K003' })
  }
  const wrong = { ...header, copyOf: { epoch: 'x', sealNumber: 1 } }
  assert.throws(() => sealSegment(wrong, batch, 'none'), { code: 'HF-K007' })
})
