/**
 * The codec's figures: bytes a point on recordings, points per CPU-second, and line protocol + gzip beside it.
 * `bytes_per_point`: geometric mean over the sets, segments of up to 16 series with 1,024 points each,
 * header included.
 * `bytes_per_point_1s`: segments of 1,000 series with one point each, as a gateway of 10 devices seals
 * them every second.
 */
import { gzipSync } from 'node:zlib'
import { createBatchBuilder } from '../../src/batch.ts'
import {
  type Compressor,
  openSegment,
  type SealHeader,
  sealSegment,
} from '../../src/codec/segment.ts'
import type { PointBatch } from '../../src/model.ts'
import { createRandom, loadRecordings, type Recording, type RecordingSet } from './recordings.ts'

const pointsASeries = 1024
const seriesASegment = 16
const gatewaySeries = 1000
const gatewayDevices = 10
const gatewaySeconds = 20

export const header: SealHeader = {
  epoch: '00112233445566778899aabbccddeeff',
  lane: 1,
  seq: 1,
  sealNumber: 1,
  previousHash: '5f'.repeat(16),
  configRevision: 1,
  dictionaryLength: gatewaySeries,
  dictionaryHash: 'a7'.repeat(16),
  bootId: '00112233445566778899aabbccddee00',
  monotonicUs: 1e9,
  clockState: 'trusted',
}

/** A set as segments: blocks of 1,024 points, 16 series side by side, in accept order of a scan. */
export const segmentsOf = (set: RecordingSet): PointBatch[] => {
  const blocks = set.series.flatMap((each) =>
    Array.from({ length: Math.floor(each.values.length / pointsASeries) }, (_, block) => ({
      each,
      from: block * pointsASeries,
      block,
    })),
  )
  blocks.sort((a, b) => a.block - b.block)
  const batches: PointBatch[] = []
  for (let first = 0; first < blocks.length; first += seriesASegment) {
    const beside = blocks.slice(first, first + seriesASegment)
    const builder = createBatchBuilder(pointsASeries * seriesASegment)
    for (let row = 0; row < pointsASeries; row++) {
      beside.forEach(({ each, from }, series) => {
        builder.addFloat(
          series,
          each.timesUs[from + row] as number,
          each.values[from + row] as number,
          0,
        )
      })
    }
    batches.push(builder.take())
  }
  return batches
}

/**
 * One second of a gateway: every series once, the times of a device's tags alike, milliseconds apart
 * between devices.
 */
export const gatewaySegments = (sets: readonly RecordingSet[]): PointBatch[] => {
  const all: Recording[] = sets.flatMap((set) => set.series)
  const random = createRandom(17)
  return Array.from({ length: gatewaySeconds }, (_, second) => {
    const builder = createBatchBuilder(gatewaySeries)
    const jitterUs = Array.from({ length: gatewayDevices }, () => Math.floor(random() * 300) * 1000)
    for (let series = 0; series < gatewaySeries; series++) {
      const { values } = all[series % all.length] as Recording
      const at = (Math.floor(series / all.length) * 331 + second) % values.length
      const device = Math.floor((series * gatewayDevices) / gatewaySeries)
      const timeUs = 1_760_000_000_000_000 + second * 1_000_000 + (jitterUs[device] as number)
      builder.addFloat(series, timeUs, values[at] as number, 0)
    }
    return builder.take()
  })
}

const lineProtocol = (batch: PointBatch): Buffer => {
  const values = new Float64Array(batch.bits.buffer, batch.bits.byteOffset, batch.count)
  let text = ''
  for (let at = 0; at < batch.count; at++) {
    text += `sensor,plant=north,id=${batch.series[at]} value=${values[at]} ${batch.timeUs[at]}000\n`
  }
  return Buffer.from(text)
}

const bytesPerPoint = (
  batches: readonly PointBatch[],
  encode: (batch: PointBatch) => Uint8Array,
) => {
  let bytes = 0
  let points = 0
  for (const batch of batches) {
    bytes += encode(batch).length
    points += batch.count
  }
  return bytes / points
}
const geometricMean = (numbers: readonly number[]): number =>
  Math.exp(numbers.reduce((sum, each) => sum + Math.log(each), 0) / numbers.length)

/** Millions of points per second of CPU time (user + system), best of three rounds of at least 0.4 CPU-seconds. */
const speed = <T>(items: readonly T[], pointsOf: (item: T) => number, work: (item: T) => void) => {
  let best = 0
  for (const item of items) work(item)
  for (let round = 0; round < 3; round++) {
    const start = process.cpuUsage()
    let points = 0
    let spentUs = 0
    for (let pass = 0; pass < 1000 && spentUs < 400_000; pass++) {
      for (const item of items) {
        work(item)
        points += pointsOf(item)
      }
      const { user, system } = process.cpuUsage(start)
      spentUs = user + system
    }
    best = Math.max(best, points / spentUs)
  }
  return best
}

const seal = (compressor: Compressor) => (batch: PointBatch) =>
  sealSegment(header, batch, compressor)
const lineGzip = (batch: PointBatch) => gzipSync(lineProtocol(batch), { level: 6 })

const round = (figures: Record<string, number | string>): Record<string, number | string> =>
  Object.fromEntries(
    Object.entries(figures).map(([name, value]) => [
      name,
      typeof value === 'number' ? Number(value.toPrecision(4)) : value,
    ]),
  )

export const bench = async (): Promise<Record<string, number | string>> => {
  const { made, sets } = loadRecordings()
  const bySet = sets.map((set) => ({ name: set.name, batches: segmentsOf(set) }))
  const gateway = gatewaySegments(sets)
  const mean = (encode: (batch: PointBatch) => Uint8Array) =>
    geometricMean(bySet.map(({ batches }) => bytesPerPoint(batches, encode)))
  const figures: Record<string, number | string> = {
    bytes_per_point: mean(seal('zstd')),
    lz4_bytes_per_point: mean(seal('lz4')),
    line_gzip_bytes_per_point: mean(lineGzip),
    bytes_per_point_1s: bytesPerPoint(gateway, seal('zstd')),
    lz4_bytes_per_point_1s: bytesPerPoint(gateway, seal('lz4')),
    line_gzip_bytes_per_point_1s: bytesPerPoint(gateway, lineGzip),
  }
  // A slice of every set, so that one large set does not stand for all.
  const mix = bySet.flatMap(({ batches }) => batches.slice(0, 3))
  for (const compressor of ['zstd', 'lz4'] as const) {
    const prefix = compressor === 'zstd' ? '' : 'lz4_'
    const sealed = mix.map((batch) => ({ count: batch.count, bytes: seal(compressor)(batch) }))
    figures[`${prefix}encode_mpts_per_cpu_s`] = speed(mix, ({ count }) => count, seal(compressor))
    figures[`${prefix}decode_mpts_per_cpu_s`] = speed(
      sealed,
      ({ count }) => count,
      ({ bytes }) => openSegment(bytes),
    )
  }
  figures.encode_1s_mpts_per_cpu_s = speed(gateway, ({ count }) => count, seal('zstd'))
  figures.line_gzip_mpts_per_cpu_s = speed(mix.slice(0, 4), ({ count }) => count, lineGzip)
  for (const { name, batches } of bySet) {
    figures[`bytes_per_point_${name}`] = bytesPerPoint(batches, seal('zstd'))
  }
  figures.codec_input = made ? 'made' : 'recordings'
  return round(figures)
}
