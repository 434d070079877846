import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { openSegment } from '../../../src/codec/segment.ts'
import { assertSame, compressors, header, listOf } from './random-points.ts'
import { readSegment } from './second-reader.ts'

const folder = join(import.meta.dirname, '../../golden/segment-v1')
const names = readdirSync(folder)
  .filter((file) => file.endsWith('.json'))
  .map((file) => file.slice(0, -5))

type Row = [number, number, number, number, string | { text: string }]
const expectedOf = (name: string): unknown[][] =>
  (JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8')) as Row[]).map(
    ([series, timeUs, kind, quality, value]) => [
      series,
      timeUs,
      kind,
      quality,
      typeof value === 'string' ? BigInt(`0x${value}`) : value.text,
    ],
  )

test('every golden segment of format version 1 still reads, by both readers', () => {
  assert.ok(names.length >= 20, `only ${names.length} goldens`)
  for (const name of names) {
    const expected = expectedOf(name)
    for (const compressor of compressors) {
      const bytes = readFileSync(join(folder, `${name}.${compressor}.segment`))
      const { header: read, points } = openSegment(bytes)
      assertSame(listOf(points), expected, `${name}.${compressor}`)
      assert.equal(read.epoch, header.epoch)
      assert.equal(read.seq, header.seq)
      assert.equal(read.previousHash, header.previousHash)
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
