import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { openSegment } from '../../../src/codec/segment.ts'
import { assertSame, compressors, copyHeader, header, listOf } from './random-points.ts'
import { readSegment } from './second-reader.ts'

const golden = join(import.meta.dirname, '../../golden')

type Row = [number, number, number, number, string | { text: string }]
const expectedOf = (file: string): unknown[][] =>
  (JSON.parse(readFileSync(file, 'utf8')) as Row[]).map(
    ([series, timeUs, kind, quality, value]) => [
      series,
      timeUs,
      kind,
      quality,
      typeof value === 'string' ? BigInt(`0x${value}`) : value.text,
    ],
  )

for (const [version, sealed, least] of [
  [1, header, 20],
  [2, copyHeader, 1],
] as const) {
  test(`every golden segment of format version ${version} still reads, by both readers`, () => {
    const folder = join(golden, `segment-v${version}`)
    const names = readdirSync(folder)
      .filter((file) => file.endsWith('.none.segment'))
      .map((file) => file.slice(0, -'.none.segment'.length))
    assert.ok(names.length >= least, `only ${names.length} goldens`)
    for (const name of names) {
      const expected = expectedOf(join(golden, 'segment-v1', `${name}.json`))
      for (const compressor of compressors) {
        const bytes = readFileSync(join(folder, `${name}.${compressor}.segment`))
        const { header: read, points } = openSegment(bytes)
        assertSame(listOf(points), expected, `${name}.${compressor}`)
        assert.equal(read.formatVersion, version)
        assert.equal(read.epoch, sealed.epoch)
        assert.equal(read.seq, sealed.seq)
        assert.equal(read.previousHash, sealed.previousHash)
        assert.deepEqual(read.copyOf, sealed.copyOf)
        const second = readSegment(bytes)
        assertSame(
          second.points.map((each) => [
            each.series,
            each.timeUs,
            each.kind,
            each.quality,
            each.text ?? each.bits,
          ]),
          expected,
          `${name}.${compressor}, second reader`,
        )
      }
    }
  })
}
