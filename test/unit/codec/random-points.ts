/** Points for the codec's tests: every kind, every bit pattern, wild times. Deterministic by fast-check's seed. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { createBatchBuilder } from '../../../src/batch.ts'
import type { Compressor, SealHeader } from '../../../src/codec/segment.ts'
import { kinds, type PointBatch } from '../../../src/model.ts'

export const header: SealHeader = {
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
/** Of copies: the only difference of format version 2. */
export const copyHeader: SealHeader = {
  ...header,
  copyOf: { epoch: 'fedcba9876543210fedcba9876543210', sealNumber: 2 ** 39 + 5 },
}
export const compressors: readonly Compressor[] = ['none', 'lz4', 'zstd']

/** What must come back: (series, time, kind, quality, bits or text) a point. */
export const listOf = (batch: PointBatch): unknown[][] =>
  Array.from({ length: batch.count }, (_, at) => [
    batch.series[at],
    batch.timeUs[at] === 0 ? 0 : batch.timeUs[at],
    batch.kinds[at],
    batch.qualities[at],
    batch.kinds[at] === kinds.string ? batch.texts[Number(batch.bits[at])] : batch.bits[at],
  ])
/** As deepEqual, but quick to say where lists differ: shrinking asks thousands of times. */
export const assertSame = (
  actual: readonly unknown[][],
  expected: readonly unknown[][],
  name = '',
): void => {
  assert.equal(actual.length, expected.length, name)
  for (let at = 0; at < expected.length; at++) {
    const [a, e] = [actual[at] as unknown[], expected[at] as unknown[]]
    const field = e.findIndex((value, n) => !Object.is(value, a[n]))
    if (field >= 0) assert.fail(`${name} point ${at}: ${a.map(String)} instead of ${e.map(String)}`)
  }
}
export const grouped = (batch: PointBatch): unknown[][] =>
  listOf(batch)
    .map((point, at) => ({ point, at }))
    .sort((a, b) => Number(a.point[0]) - Number(b.point[0]) || a.at - b.at)
    .map(({ point }) => point)

const nasty = [
  0x8000_0000_0000_0000n, // -0, and int64 min
  0x7ff8_0000_0000_0001n, // NaN with a payload
  0xfff0_dead_beef_0001n, // signalling NaN, negative
  0x7ff0_0000_0000_0000n, // Infinity
  0xfff0_0000_0000_0000n,
  0x0000_0000_0000_0001n, // least subnormal
  0x000f_ffff_ffff_ffffn,
  0x0020_0000_0000_0001n, // 2^53 + 1 as an int
  0x7fff_ffff_ffff_ffffn, // int64 max
  0xffff_ffff_ffff_ffffn,
  0n,
]
const floatBits = new Float64Array(1)
const floatWord = new BigUint64Array(floatBits.buffer)
const bitsOf = (value: number): bigint => {
  floatBits[0] = value
  return floatWord[0] as bigint
}

const pattern = fc.oneof(
  { weight: 2, arbitrary: fc.constantFrom(...nasty) },
  { weight: 2, arbitrary: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }) },
  { weight: 3, arbitrary: fc.integer({ min: -5000, max: 5000 }).map((n) => bitsOf(n / 10)) },
  {
    weight: 2,
    arbitrary: fc.integer({ min: -5000, max: 5000 }).map((n) => bitsOf(Math.fround(n / 100))),
  },
  { weight: 1, arbitrary: fc.float().map((n) => bitsOf(n)) },
  {
    weight: 1,
    arbitrary: fc.integer({ min: -300, max: 300 }).map((n) => BigInt.asUintN(64, BigInt(n) * 60n)),
  },
)
const time = fc.oneof(
  fc.integer({ min: 0, max: 100_000 }).map((n) => 1_760_000_000_000_000 + n * 1000),
  fc.maxSafeInteger(),
  fc.constantFrom(0, -1, -(2 ** 53), 2 ** 53, 9_007_199_254_740_991, 8_993_980_800_000_000),
)
const text = fc.oneof(
  fc.string({ unit: 'grapheme' }),
  fc.constantFrom('', '\ud800', 'x\udc00y', '\0', 'ä'),
)

export interface RawPoint {
  readonly series: number
  readonly timeUs: number
  readonly kind: number
  readonly quality: number
  readonly bits: bigint
  readonly text: string
}
const point = (seriesMax: number): fc.Arbitrary<RawPoint> =>
  fc.record({
    series: fc.integer({ min: 0, max: seriesMax }),
    timeUs: time,
    kind: fc.constantFrom(0, 0, 0, 1, 1, 2, 3),
    quality: fc.constantFrom(0, 0, 0, 1, 2, 24, 255),
    bits: pattern,
    text,
  })

export const batchOf = (points: readonly RawPoint[]): PointBatch => {
  const texts: string[] = []
  const bits = new BigUint64Array(points.length)
  points.forEach((each, at) => {
    if (each.kind === kinds.string) {
      bits[at] = BigInt(texts.length)
      texts.push(each.text)
    } else bits[at] = each.kind === kinds.bool ? each.bits & 1n : each.bits
  })
  return {
    count: points.length,
    series: Uint32Array.from(points, (each) => each.series),
    timeUs: Float64Array.from(points, (each) => each.timeUs),
    kinds: Uint8Array.from(points, (each) => each.kind),
    qualities: Uint8Array.from(points, (each) => each.quality),
    bits,
    texts,
  }
}

/** Wild points: anything beside anything. */
export const wildBatch: fc.Arbitrary<PointBatch> = fc
  .constantFrom(0, 3, 40, 0xffff_ffff)
  .chain((seriesMax) => fc.array(point(seriesMax), { maxLength: 120, size: 'max' }))
  .map(batchOf)

/** Long runs as sensors make them: a law a series, some noise, some odd values. */
export const tameBatch: fc.Arbitrary<PointBatch> = fc
  .record({
    seriesCount: fc.integer({ min: 1, max: 5 }),
    rounds: fc.integer({ min: 1, max: 400 }),
    places: fc.integer({ min: 0, max: 12 }),
    law: fc.constantFrom(
      'noise',
      'ramp',
      'walk',
      'wave',
      'steps',
      'ints',
      'huge',
      'saw',
      'single',
      'means',
      'printed',
    ),
    jitterUs: fc.constantFrom(0, 1, 1000, 50_000),
    odd: fc.integer({ min: 0, max: 20 }),
    seed: fc.integer(),
  })
  .map(({ seriesCount, rounds, places, law, jitterUs, odd, seed }) => {
    const builder = createBatchBuilder()
    let state = seed | 1
    const random = () => {
      state ^= state << 13
      state ^= state >>> 17
      state ^= state << 5
      return (state >>> 0) / 2 ** 32
    }
    let walk = 1000
    const scale = 10 ** places
    for (let round = 0; round < rounds; round++) {
      for (let series = 0; series < seriesCount; series++) {
        const at = 1_760_000_000_000_000 + round * 1_000_000 + Math.floor(random() * (jitterUs + 1))
        walk += Math.round(random() * 10 - 5)
        if (random() * 200 < odd) builder.add(series, at, odd % 3 === 0 ? Number.NaN : -0, 0)
        else if (law === 'ints') builder.add(series, at, BigInt(walk * series) * 60n, 0)
        else if (law === 'saw') builder.add(series, at, BigInt((round % 3) * 2 ** 46 + walk), 0)
        else if (law === 'huge')
          builder.add(series, at, BigInt(Math.floor(random() * 2 ** 53)) << 10n, 0)
        else {
          const laws = {
            noise: Math.round(random() * 1e6) / scale,
            ramp: round * 60,
            walk: walk / scale,
            wave: Math.sin(round / 50 + series),
            steps: Math.floor(round / 17) / 4,
            single: Math.fround(walk / 100),
            means: (walk / 10 + (walk + round) / 10 + 0.1) / 3,
            printed: Number(Math.fround(walk + random()).toPrecision(15)),
          }
          builder.add(series, at, laws[law], 0)
        }
      }
    }
    return builder.take()
  })
