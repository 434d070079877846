/**
 * Makes the golden segments of format versions 1 and 2 in test/golden: `node test/unit/codec/goldens.ts`.
 * Both are frozen: files that exist are never written again, because released agents hold such bytes on disk.
 */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { createBatchBuilder } from '../../../src/batch.ts'
import { type SealHeader, sealSegment, segmentDigest } from '../../../src/codec/segment.ts'
import type { PointBatch } from '../../../src/model.ts'
import { compressors, copyHeader, grouped, header, tameBatch, wildBatch } from './random-points.ts'

const golden = join(import.meta.dirname, '../../golden')

const scan = (): PointBatch => {
  const builder = createBatchBuilder()
  for (let round = 0; round < 2; round++) {
    for (let series = 0; series < 150; series++) {
      const at = 1_760_000_000_000_000 + round * 1_000_000 + (series % 5) * 3000
      builder.add(
        series,
        at,
        Math.round(Math.sin(series + round / 9) * 10 ** (series % 6)) / 100,
        0,
      )
    }
  }
  return builder.take()
}
const plant = (): PointBatch => {
  const builder = createBatchBuilder()
  let level = 4000
  for (let row = 0; row < 260; row++) {
    const at = 1_500_000_000_000_000 + row * 60_000_000
    level += ((row * 7919) % 13) - 6
    builder.add(3, at, level / 100, 0)
    builder.add(1, at, (level / 10 + level / 10 + 0.1) / 3, 0)
    builder.add(4, at, Math.fround(level / 7), row === 100 ? 2 : 0)
    builder.add(0, at + (row % 3), BigInt(row) * 60n, 0)
    builder.add(7, at, Math.sin(row), 0)
    builder.add(9, at, Number(Math.fround(Math.cos(row)).toPrecision(15)), 0)
    builder.add(12, at, row % 40 === 7 ? Number.NaN : row / 8, 0)
    builder.add(5, at, row % 5 === 0, 0)
    builder.add(6, at, ['run', 'stop', 'ä \ud83d\ude00', '\udc00'][row % 4] as string, 0)
  }
  return builder.take()
}

const make = (): Record<string, PointBatch> => {
  const wild = fc.sample(wildBatch, { numRuns: 12, seed: 20_261_121 })
  const tame = fc.sample(tameBatch, { numRuns: 40, seed: 20_261_121 })
  return {
    scan: scan(),
    plant: plant(),
    ...Object.fromEntries(wild.map((batch, n) => [`wild-${n}`, batch])),
    ...Object.fromEntries(
      tame
        .filter(({ count }) => count < 400)
        .slice(0, 12)
        .map((batch, n) => [`tame-${n}`, batch]),
    ),
  }
}

const write = (folder: string, as: SealHeader, batches: Record<string, PointBatch>): void => {
  mkdirSync(folder, { recursive: true })
  for (const [name, batch] of Object.entries(batches)) {
    for (const compressor of compressors) {
      const file = join(folder, `${name}.${compressor}.segment`)
      if (existsSync(file)) continue
      const bytes = sealSegment(as, batch, compressor)
      writeFileSync(file, bytes)
      process.stdout.write(`${file} ${bytes.length} ${segmentDigest(bytes)}\n`)
    }
  }
}
const points = make()
write(join(golden, 'segment-v1'), header, points)
// The points are those of the same name in version 1.
write(join(golden, 'segment-v2'), copyHeader, { plant: plant() })
for (const [name, batch] of Object.entries(points)) {
  const expected = join(golden, 'segment-v1', `${name}.json`)
  if (existsSync(expected)) continue
  const rows = grouped(batch).map(([series, timeUs, kind, quality, value]) =>
    JSON.stringify([
      series,
      timeUs,
      kind,
      quality,
      typeof value === 'bigint' ? value.toString(16) : { text: value },
    ]),
  )
  writeFileSync(expected, `[\n${rows.join(',\n')}\n]\n`)
}
