/**
 * The region's store on PostgreSQL, from decoded segments in memory: ledger and binary COPY in one transaction,
 * against the plain binary COPY of the same rows into the same keyed table, both over TLS, in the same run.
 */
import { readFileSync } from 'node:fs'
import pg from 'pg'
import { createBatchBuilder } from '../../src/batch.ts'
import { extendDictionaryHash } from '../../src/codec/series-id.ts'
import { createPostgresStore } from '../../src/database/postgres.ts'
import { copyPoints } from '../../src/database/postgres-points.ts'
import { rowsOf } from '../../src/database/rows.ts'
import type { RegionStore } from '../../src/database/store.ts'
import { createSystemHost } from '../../src/host.ts'
import {
  createTestAgent,
  type SegmentFrame,
  type TestAgent,
  type TestEpoch,
} from '../contract/store-agent.ts'
import { type Postgres, startPostgres } from '../support/servers.ts'
import type { Figures } from './run.ts'

const seriesCount = 1000
const pointsPerSeries = 60
const segmentCount = 40
const signal = new AbortController().signal

const segmentsOf = (epoch: TestEpoch): SegmentFrame[] =>
  Array.from({ length: segmentCount }, (_, at) => {
    const builder = createBatchBuilder(seriesCount * pointsPerSeries)
    for (let series = 0; series < seriesCount; series++)
      for (let n = 0; n < pointsPerSeries; n++)
        builder.addFloat(series, 1.7e15 + (at * pointsPerSeries + n) * 1e6, Math.sin(n * series), 0)
    return { ...epoch.segment(at + 1, []), points: builder.take() }
  })

/** Points per second of `lanes` loops that take segments from one list. */
const rate = async (
  segments: readonly SegmentFrame[],
  lanes: number,
  send: (frame: SegmentFrame, lane: number) => Promise<void>,
): Promise<number> => {
  let next = 0
  const startMs = performance.now()
  await Promise.all(
    Array.from({ length: lanes }, async (_, lane) => {
      for (let frame = segments[next++]; frame !== undefined; frame = segments[next++])
        await send(frame, lane)
    }),
  )
  const points = segments.length * seriesCount * pointsPerSeries
  return (points / (performance.now() - startMs)) * 1000
}

interface Bench {
  readonly server: Postgres
  readonly store: RegionStore
  readonly agent: TestAgent
  readonly epoch: TestEpoch
  readonly segments: readonly SegmentFrame[]
}

const plainCopy = async ({ server, agent, segments }: Bench, lanes: number): Promise<number> => {
  server.sql('truncate points; checkpoint')
  const ssl = { ca: readFileSync(server.ca, 'utf8') }
  const open = async () => {
    const client = new pg.Client({ connectionString: server.url, ssl })
    await client.connect()
    return client
  }
  const clients = await Promise.all(Array.from({ length: lanes }, open))
  const ids = agent.entries.map((entry) => entry.id)
  const found = await rate(segments, lanes, async ({ points }, lane) => {
    const client = clients[lane] as pg.Client
    await client.query('begin')
    await copyPoints(client, [rowsOf(points, ids, 1n)])
    await client.query('commit')
  })
  await Promise.all(clients.map((client) => client.end()))
  return found
}

const throughStore = async (given: Bench, lanes: number): Promise<number> => {
  const { server, store, agent, epoch, segments } = given
  server.sql(
    'truncate points, ledger, ledger_above, epochs, dictionary, agents, series; checkpoint',
  )
  await agent.introduce(store, epoch)
  return rate(segments, lanes, async (frame) => {
    const answer = await store.commit(agent.name, epoch.epoch, [frame], signal)
    if (answer.kind !== 'ok') throw new Error(JSON.stringify(answer))
  })
}

export const bench = async (): Promise<Figures> => {
  const server = await startPostgres({
    settings: ['max_wal_size = 16GB', 'shared_buffers = 1GB'],
  })
  const tls = { ca: readFileSync(server.ca, 'utf8') }
  const host = createSystemHost()
  const store = createPostgresStore({ urls: [server.url], tls, host, extendDictionaryHash })
  try {
    await store.prepare()
    const agent = createTestAgent('bench', seriesCount)
    const epoch = agent.epoch('first')
    const given: Bench = { server, store, agent, epoch, segments: segmentsOf(epoch) }
    const figures: Record<string, number> = {}
    for (const lanes of [1, 2]) {
      const plain = await plainCopy(given, lanes)
      const stored = await throughStore(given, lanes)
      figures[`store_points_per_s_${lanes}`] = Math.round(stored)
      figures[`store_plain_copy_points_per_s_${lanes}`] = Math.round(plain)
    }
    const replayed = given.segments.slice(0, 10).map((frame) => ({ ...frame, replay: true }))
    const replay = await rate(replayed, 1, async (frame) => {
      await store.commit(agent.name, epoch.epoch, [frame], signal)
    })
    return { ...figures, store_replay_points_per_s: Math.round(replay) }
  } finally {
    await store[Symbol.asyncDispose]()
    await server.stop()
  }
}
