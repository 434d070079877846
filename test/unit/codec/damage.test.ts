import assert from 'node:assert/strict'
import { test } from 'node:test'
import { zstdCompressSync } from 'node:zlib'
import fc from 'fast-check'
import { emptyBatch } from '../../../src/batch.ts'
import { crc32c } from '../../../src/codec/crc32c.ts'
import { decodeJournal, encodeJournal } from '../../../src/codec/journal.ts'
import { openSegment, readHeader, sealSegment } from '../../../src/codec/segment.ts'
import { isFailure } from '../../../src/errors.ts'
import { compressors, header, tameBatch, wildBatch } from './random-points.ts'

const MiB = 1024 * 1024
const sampleSegments = (): Uint8Array[] =>
  compressors.flatMap((compressor) =>
    [
      ...fc.sample(tameBatch, { numRuns: 4, seed: 11 }),
      ...fc.sample(wildBatch, { numRuns: 4, seed: 12 }),
    ].map((batch) => sealSegment(header, batch, compressor)),
  )
const createRandom = (seed: number) => {
  let state = seed
  return (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}
/** The checksum made right again: what a hostile or mistaken writer sends, not what a bad disk does. */
const recheck = (bytes: Uint8Array): Uint8Array => {
  const end = bytes.length - 4
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  view.setUint32(end, crc32c(bytes.subarray(0, end)), true)
  return bytes
}
const isCodecFailure = (error: unknown): boolean =>
  isFailure(error) && error.code.startsWith('HF-K')

test('a segment cut short anywhere, or with anything behind it, is refused', () => {
  for (const bytes of sampleSegments()) {
    for (let length = 0; length < bytes.length; length += length < 200 ? 1 : 97) {
      assert.throws(() => openSegment(bytes.subarray(0, length)), isCodecFailure)
      assert.throws(() => readHeader(bytes.subarray(0, length)), isCodecFailure)
    }
    const longer = new Uint8Array(bytes.length + 1)
    longer.set(bytes)
    assert.throws(() => openSegment(longer), isCodecFailure)
  }
})
test('no flipped bits, anywhere, are ever decoded', () => {
  const random = createRandom(2026)
  for (const bytes of sampleSegments()) {
    for (let round = 0; round < 150; round++) {
      const damaged = bytes.slice()
      for (let flips = 1 + random(3); flips > 0; flips--) {
        const at = random(damaged.length)
        damaged[at] = (damaged[at] as number) ^ (1 << random(8))
      }
      if (Buffer.compare(damaged, bytes) === 0) continue
      assert.throws(() => openSegment(damaged), isCodecFailure)
    }
  }
})
test('whatever a body with a right checksum says, the outcome is points or a failure, in bounded memory', () => {
  const random = createRandom(7)
  const before = process.memoryUsage().rss
  let refused = 0
  let read = 0
  for (const bytes of sampleSegments()) {
    for (let round = 0; round < 300; round++) {
      const damaged = bytes.slice()
      for (let flips = 1 + random(4); flips > 0; flips--) {
        // Anything but magic, version, kind and length, which have tests of their own.
        damaged[12 + random(damaged.length - 16)] = random(256)
      }
      try {
        const { points, header: read_ } = openSegment(recheck(damaged))
        assert.equal(points.count, read_.pointCount)
        assert.equal(points.bits.length, points.count)
        read++
      } catch (error) {
        assert.ok(isCodecFailure(error), String(error))
        refused++
      }
    }
  }
  assert.ok(refused > 1000 && read > 100, `${refused} refused, ${read} read`)
  assert.ok(process.memoryUsage().rss - before < 150 * MiB)
})
test('journal rows: cut, flipped or mistaken, the outcome is a failure or points', () => {
  const random = createRandom(99)
  for (const batch of fc.sample(wildBatch, { numRuns: 10, seed: 3 })) {
    const bytes = encodeJournal(batch)
    for (let length = 0; length < bytes.length; length += 7) {
      assert.throws(() => decodeJournal(bytes.subarray(0, length)), isCodecFailure)
    }
    for (let round = 0; round < 100; round++) {
      const damaged = bytes.slice()
      const at = random(damaged.length)
      damaged[at] = (damaged[at] as number) ^ (1 << random(8))
      assert.throws(
        () => decodeJournal(damaged),
        (error) => isFailure(error, 'HF-K010'),
      )
      new DataView(damaged.buffer).setUint32(0, crc32c(damaged.subarray(4)), true)
      try {
        decodeJournal(damaged)
      } catch (error) {
        assert.ok(isCodecFailure(error), String(error))
      }
    }
  }
})

// ── bombs ───────────────────────────────────────────────────────────────────────────────────────

const varint = (number: number): number[] =>
  number < 128 ? [number] : [(number % 128) | 128, ...varint(Math.floor(number / 128))]
/** A segment with a body of one's own, the header's sizes to match (or to lie). */
const forge = (
  compressor: number,
  body: Uint8Array,
  rawBytes: number,
  pointCount: number,
): Uint8Array => {
  const model = sealSegment({ ...header, bootId: '' }, { ...emptyBatch }, 'none')
  const bytes = new Uint8Array(129 + body.length + 4)
  bytes.set(model.subarray(0, 129))
  bytes.set(body, 129)
  const view = new DataView(bytes.buffer)
  bytes[6] = compressor
  view.setUint32(8, bytes.length, true)
  view.setUint32(12, rawBytes, true)
  view.setUint32(16, pointCount, true)
  return recheck(bytes)
}
/** Stream `at` has this raw size and these stored bytes, the others are empty. */
const table = (at: number, raw: number, stored: Uint8Array): Uint8Array =>
  Uint8Array.from([
    ...Array.from({ length: 7 }, (_, i) =>
      i === at ? [...varint(raw), ...varint(stored.length)] : [0],
    ).flat(),
    ...stored,
  ])

test('a body that would grow beyond its points is refused before it is decompressed', () => {
  const zeros = new Uint8Array(31 * MiB)
  const zstd = zstdCompressSync(zeros)
  const tiny = Uint8Array.of(0x1f, 0x00, 0x01, 0x00, 0xff, 0xff, 0xff, 0xff)
  const bombs: [string, Uint8Array][] = [
    ['zstd, honest size', forge(2, table(4, zeros.length, zstd), zeros.length, 10)],
    ['zstd, small size told', forge(2, table(4, 600, zstd.subarray(0, 590)), 600, 10)],
    ['zstd, larger than told', forge(2, table(6, 5000, zstd), 5000, 10)],
    ['lz4, 4 GiB told', forge(1, table(6, 0xffff_ffff, tiny), 0xffff_ffff, 10)],
    ['lz4, 16 MiB told', forge(1, table(6, 16 * MiB, tiny), 16 * MiB, 10)],
    ['sizes beyond 2^53', forge(2, Uint8Array.from(new Array<number>(40).fill(255)), 100, 10)],
    ['none, two sizes', forge(0, table(4, 100, tiny), 100, 10)],
    ['points beyond the limit', forge(0, table(4, 8, tiny), 8, 0xffff_ffff)],
  ]
  for (const [name, bytes] of bombs) {
    const before = process.memoryUsage().arrayBuffers
    assert.throws(() => openSegment(bytes), isCodecFailure, name)
    const grown = process.memoryUsage().arrayBuffers - before
    assert.ok(grown < 20 * MiB, `${name} took ${grown} bytes`)
  }
})
test('a zstd frame that asks for a large window is refused', () => {
  // Magic, then a frame header without content size and with a window of 2^(10 + 17) bytes, then one raw block.
  const frame = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 0x09, 0x00, 0x00, 0x61)
  assert.throws(
    () => openSegment(forge(2, table(4, 500, frame), 500, 10)),
    (error) => isFailure(error, 'HF-K006'),
  )
})
test('another version, frame kind or magic is named as such', () => {
  const bytes = sealSegment(header, emptyBatch, 'none')
  const changed = (at: number, value: number): Uint8Array => {
    const copy = bytes.slice()
    copy[at] = value
    return recheck(copy)
  }
  assert.throws(
    () => readHeader(changed(0, 0)),
    (error) => isFailure(error, 'HF-K001'),
  )
  assert.throws(
    () => readHeader(changed(4, 3)),
    (error) => isFailure(error, 'HF-K002'),
  )
  assert.throws(
    () => readHeader(changed(5, 2)),
    (error) => isFailure(error, 'HF-K002'),
  )
  assert.throws(
    () => readHeader(changed(6, 3)),
    (error) => isFailure(error, 'HF-K003'),
  )
})

/** Streams by hand, none compressed: modes, shapes, params, firsts, tokens, bits, texts. */
const byHand = (
  pointCount: number,
  seriesCount: number,
  streams: readonly number[][],
): Uint8Array => {
  const sizes = streams.flatMap(({ length }) => (length === 0 ? [0] : [length, length]))
  const rawBytes = streams.flat().length
  const bytes = forge(0, Uint8Array.from([...sizes, ...streams.flat()]), rawBytes, pointCount)
  new DataView(bytes.buffer).setUint32(20, seriesCount, true)
  return recheck(bytes)
}
const withTimes = (bytes: Uint8Array, timeUsMin: number, timeUsMax: number): Uint8Array => {
  const view = new DataView(bytes.buffer)
  view.setBigInt64(56, BigInt(timeUsMin), true)
  view.setBigInt64(64, BigInt(timeUsMax), true)
  return recheck(bytes)
}
test('a body that contradicts itself or its header is refused', () => {
  const refused = (bytes: Uint8Array) =>
    assert.throws(
      () => openSegment(bytes),
      (error) => isFailure(error, 'HF-K006'),
    )
  // One series, one point at time 0: firsts are its index, count 1, a new vector, its time, its value.
  const firsts = [0, 2, 2, 0, 0]
  const good = [[42], [], [1, 0, 0], firsts, [], [], [0]]
  const change = (at: number, stream: number[]) => good.map((old, i) => (i === at ? stream : old))
  const { points } = openSegment(byHand(1, 1, good))
  assert.deepEqual([points.count, points.kinds[0], points.texts], [1, 3, ['']])

  for (const at of [0, 1, 2, 3, 4, 5]) refused(byHand(1, 1, change(at, [...(good[at] ?? []), 0])))
  refused(byHand(1, 1, change(6, [0, 0])))
  refused(byHand(1, 1, change(6, [])))
  refused(byHand(1, 1, change(3, [0, 2, 2, 0, 2])))
  refused(byHand(1, 1, [[40], [], [1, 0, 0], [0, 2, 2, 0, 255], [], [], []]))
  refused(byHand(1, 1, [[40], [], [1, 0, 0], [0, 2, 2, 0, 255], [], [255, 255, 255, 255], []]))
  refused(byHand(1, 1, change(0, [63])))
  refused(byHand(1, 1, change(3, [0, 4, 2, 0, 0])))
  refused(byHand(1, 1, change(3, [0, 2, 0, 0, 0])))
  const later = byHand(1, 1, good)
  later[56] = 1
  refused(recheck(later))

  // Two series with a point each at time 0: indexes and references are straight lines (36), counts constant (4).
  const two = (first: number, drift: number) => [
    [41, 41],
    [36, 4, 36],
    [2, 0, drift, 1, 0],
    [first, 2, 2, 0, 0, 0],
    [],
    [],
    [],
  ]
  assert.deepEqual([...openSegment(byHand(2, 2, two(0, 2))).points.series], [0, 1])
  refused(byHand(2, 2, two(2, 1)))
  refused(byHand(2, 2, two(2, 0)))
  refused(byHand(2, 1, two(0, 2)))
  refused(byHand(2, 2, two(1, 2)))

  // One series, two points: times a straight line, values of two tokens with 8 raw bits each.
  const raw = (bits: number[]) =>
    byHand(2, 1, [[40], [36, 0, 8], [1, 0, 2, 0], [0, 4, 2, 0, 0, 0], [1, 0], bits, []])
  const ints = withTimes(raw([7, 9]), 0, 1)
  assert.deepEqual([...openSegment(ints).points.bits], [263n, 9n])
  refused(withTimes(raw([7]), 0, 1))
  refused(withTimes(raw([]), 0, 1))
})
