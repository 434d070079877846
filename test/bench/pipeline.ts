/**
 * The whole way on this machine's cores: simulate → spool → mTLS → regional → PostgreSQL, as fast as it goes; and, at
 * 100,000 points a second, how long a publisher's message waits for its ack (`pipeline-ack.ts`).
 * Baseline in the same run: binary COPY of the same points from memory into the same table with the same key, over TLS,
 * by as many connections as is best.
 *
 * Points a second count from the start of the agent to the last commit. The CPU of the agent includes making the points.
 */
import { readFileSync } from 'node:fs'
import pg from 'pg'
import { openSegment, sealSegment } from '../../src/codec/segment.ts'
import { seriesIdOf } from '../../src/codec/series-id.ts'
import { copyPoints } from '../../src/database/postgres-points.ts'
import { rowsOf } from '../../src/database/rows.ts'
import { segmentPointsMax } from '../../src/limits.ts'
import type { PointBatch } from '../../src/model.ts'
import { createSeriesTable } from '../../src/pipeline/series.ts'
import { createPlant } from '../../src/sources/simulate-plant.ts'
import { createCertificates } from '../support/certificates.ts'
import type { Postgres } from '../support/servers.ts'
import { measureAcks } from './pipeline-ack.ts'
import { countFrom, createRig, lookUsage, spentBetween, startDatabase, until } from './rig.ts'
import type { Figures } from './run.ts'

export const seriesCount = 1_000
export const pointCount = countFrom('HOLDFAST_BENCH_POINTS', 12_000_000)

const segmentHeader = {
  epoch: '0'.repeat(32),
  lane: 1,
  seq: 1,
  sealNumber: 1,
  previousHash: '0'.repeat(32),
  configRevision: 0,
  dictionaryLength: seriesCount,
  dictionaryHash: '0'.repeat(32),
  bootId: '0'.repeat(32),
  monotonicUs: 0,
  clockState: 'trusted',
} as const

/** The same plant's points as the region has them after decoding: full segments, grouped by series. */
export const decodedPoints = (): { segments: readonly PointBatch[]; ids: readonly bigint[] } => {
  const series = createSeriesTable({ agent: 'bench', seriesIdOf })
  const plant = createPlant({ series, seriesCount, seed: 1, periodUs: 100 })
  plant.setTimeUs(1_800_000_000_000_000)
  const segments: PointBatch[] = []
  for (let left = pointCount; left > 0; left -= segmentPointsMax) {
    const points = plant.next(Math.min(left, segmentPointsMax))
    segments.push(openSegment(sealSegment(segmentHeader, points, 'zstd')).points)
  }
  return { segments, ids: Array.from({ length: seriesCount }, (_, ref) => series.entry(ref).id) }
}

/** Transactions of as many points as the relay's requests hold, about. */
const segmentsPerCopy = 4

export const directCopy = async (
  postgres: Postgres,
  { segments, ids }: ReturnType<typeof decodedPoints>,
  connections: number,
): Promise<number> => {
  postgres.sql('truncate points')
  postgres.sql('checkpoint', 'postgres')
  const ssl = { ca: readFileSync(postgres.ca, 'utf8') }
  const clients = await Promise.all(
    Array.from({ length: connections }, async () => {
      const client = new pg.Client({ connectionString: postgres.url, ssl })
      await client.connect()
      return client
    }),
  )
  let next = 0
  const startMs = performance.now()
  await Promise.all(
    clients.map(async (client) => {
      while (next < segments.length) {
        const taken = segments.slice(next, next + segmentsPerCopy)
        next += segmentsPerCopy
        await client.query('begin')
        await copyPoints(
          client,
          taken.map((points) => rowsOf(points, ids, 1n)),
        )
        await client.query('commit')
      }
    }),
  )
  const seconds = (performance.now() - startMs) / 1000
  await Promise.all(clients.map((client) => client.end()))
  return pointCount / seconds
}

const throughput = async (
  postgres: Postgres,
  certificates: Awaited<ReturnType<typeof createCertificates>>,
) => {
  const plant = { name: 'plant', type: 'simulate', series: seriesCount, rate: 'max' }
  const rig = await createRig({
    sources: [{ ...plant, points: pointCount }],
    postgres,
    certificates,
  })
  const regional = await rig.startRegional()
  const startMs = performance.now()
  const agent = await rig.startAgent()
  const before = lookUsage({ agent, regional, postgres })
  await until(async () => (await rig.region()).points >= pointCount, agent, 100)
  const seconds = (performance.now() - startMs) / 1000
  const after = lookUsage({ agent, regional, postgres })
  const { points, bytes } = await rig.region()
  await agent.stop()
  await regional.stop()
  const stored = Number(postgres.sql('select count(*) from points'))
  if (stored !== pointCount) throw new Error(`${stored} rows of ${pointCount} points`)
  return {
    points_per_s: Math.round(points / seconds),
    // The start of the agent counts too: with many points it is little.
    ...spentBetween({ ...before, agent: 0 }, after, points),
    wire_bytes_per_point: bytes / points,
  }
}

export const bench = async (): Promise<Figures> => {
  const certificates = await createCertificates()
  const postgres = await startDatabase(certificates)
  try {
    const whole = await throughput(postgres, certificates)
    const decoded = decodedPoints()
    const direct = [
      await directCopy(postgres, decoded, 1),
      await directCopy(postgres, decoded, 2),
    ].map(Math.round)
    const best = Math.max(...direct)
    postgres.sql('truncate points')
    const acks = await measureAcks(postgres, certificates)
    return {
      ...whole,
      ...acks,
      points: pointCount,
      direct_copy_points_per_s: best,
      direct_copy_points_per_s_1_connection: direct[0] as number,
      ratio_to_direct_copy: whole.points_per_s / best,
    }
  } finally {
    await postgres.stop()
  }
}
