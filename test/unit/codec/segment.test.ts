import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'

import { decodeJournal, encodeJournal } from '../../../src/codec/journal.ts'
import {
  type Compressor,
  openSegment,
  type SealHeader,
  sealSegment,
} from '../../../src/codec/segment.ts'

import { kinds, type PointBatch } from '../../../src/model.ts'
import { tameBatch, wildBatch } from './random-points.ts'

const header: SealHeader = {
  epoch: '0123456789abcdef0123456789abcdef',
  lane: 7,
  seq: 2 ** 43,
  sealNumber: 12,
  previousHash: 'ff'.repeat(16),
  configRevision: 3,
  dictionaryLength: 100,
  dictionaryHash: 'a5'.repeat(16),
  bootId: '00112233445566778899aabbccddeeff',
  monotonicUs: 1234.5,
  clockState: 'trusted',
}
const compressors: readonly Compressor[] = ['none', 'lz4', 'zstd']

/** What must come back: (series, time, kind, quality, bits or text) a point. */
const listOf = (batch: PointBatch): unknown[][] =>
  Array.from({ length: batch.count }, (_, at) => [
    batch.series[at],
    batch.timeUs[at] === 0 ? 0 : batch.timeUs[at],
    batch.kinds[at],
    batch.qualities[at],
    batch.kinds[at] === kinds.string ? batch.texts[Number(batch.bits[at])] : batch.bits[at],
  ])
const grouped = (batch: PointBatch): unknown[][] =>
  listOf(batch)
    .map((point, at) => ({ point, at }))
    .sort((a, b) => Number(a.point[0]) - Number(b.point[0]) || a.at - b.at)
    .map(({ point }) => point)

const checkRoundTrip = (batch: PointBatch, compressor: Compressor): void => {
  const { header: read, points } = openSegment(sealSegment(header, batch, compressor))
  assert.deepEqual(listOf(points), grouped(batch))
  assert.equal(read.pointCount, batch.count)
  assert.equal(read.seriesCount, new Set(batch.series).size)
  assert.equal(read.compressor, compressor)
}

test('any points come back bit for bit, grouped by series, in accept order', () => {
  fc.assert(fc.property(wildBatch, fc.constantFrom(...compressors), checkRoundTrip), {
    numRuns: 400,
  })
})
test('runs as sensors make them come back bit for bit', () => {
  fc.assert(fc.property(tameBatch, fc.constantFrom(...compressors), checkRoundTrip), {
    numRuns: 300,
  })
})
test('the journal keeps any points bit for bit and in accept order', () => {
  const check = (batch: PointBatch) =>
    assert.deepEqual(listOf(decodeJournal(encodeJournal(batch))), listOf(batch))
  fc.assert(fc.property(wildBatch, check), { numRuns: 300 })
  fc.assert(fc.property(tameBatch, check), { numRuns: 100 })
})
