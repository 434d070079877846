/**
 * A long outage is over: a backlog goes into PostgreSQL while 10,000 points a second of live data stay fresh.
 *
 * The backlog is made by the agent itself with no region there; then the region comes. Points a second count from the
 * first commit to the moment the backlog is drained, live points included: that is what the database took. The age of
 * live data is what a reader of the database sees: now minus the time of the newest live point there, asked twice a second.
 */
import { Agent, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { createCertificates } from '../support/certificates.ts'
import { freePort } from '../support/processes.ts'
import type { Postgres } from '../support/servers.ts'
import {
  countFrom,
  createRig,
  lookUsage,
  percentile,
  postgresSettings,
  type Rig,
  spentBetween,
  startDatabase,
  until,
} from './rig.ts'
import type { Figures } from './run.ts'

const backlogPoints = countFrom('HOLDFAST_BENCH_BACKLOG', 50_000_000)
const liveSeries = 1_000
const livePointsPerSecond = 10_000
const liveEveryMs = 100

/** Line protocol into the agent's HTTP door, a batch ten times a second, each answered once it is durable. */
const runLive = async (port: number, signal: AbortSignal): Promise<number> => {
  const agent = new Agent({ keepAlive: true })
  const count = (livePointsPerSecond * liveEveryMs) / 1000
  const post = (body: string) =>
    new Promise<void>((resolve, reject) => {
      const url = `http://127.0.0.1:${port}/api/v2/write?precision=ms`
      const asked = request(url, { method: 'POST', agent }, (answer) => {
        answer.resume()
        answer.once('end', () =>
          answer.statusCode === 204 ? resolve() : reject(new Error(`live: ${answer.statusCode}`)),
        )
      })
      asked.once('error', reject)
      asked.end(body)
    })
  let posted = 0
  for (let nextMs = Date.now(); !signal.aborted; nextMs += liveEveryMs) {
    await sleep(Math.max(0, nextMs - Date.now()))
    const nowMs = Date.now()
    const lines = Array.from({ length: count }, (_, at) => {
      const value = (20 + ((posted + at) % 977) / 100).toFixed(2)
      return `live,id=${(posted + at) % liveSeries} value=${value} ${nowMs}`
    })
    await post(lines.join('\n'))
    posted += count
  }
  agent.destroy()
  return posted
}

const ageSql = `select extract(epoch from clock_timestamp() - max(p.time))::float8 as age from points p
  where p.series_id = (select series_id from series where name = 'live.value' and tags->>'id' = '7')`

/** Ages of the newest live point in the database, in seconds, until the signal fires. */
const watchAge = async (postgres: Postgres, signal: AbortSignal): Promise<readonly number[]> => {
  const client = new pg.Client({
    host: postgres.folder,
    port: postgres.port,
    user: 'postgres',
    database: postgres.database,
  })
  await client.connect()
  const ages: number[] = []
  while (!signal.aborted) {
    const { rows } = await client.query<{ age: number | null }>(ageSql)
    if (rows[0]?.age != null) ages.push(rows[0].age)
    await sleep(500)
  }
  await client.end()
  return ages
}

const backlogOf = async (rig: Rig) => {
  const lane = (await rig.status()).lanes[0]
  const reader = lane?.readers[0]
  const done = reader?.cursor.live === null ? (lane?.head ?? 0) : 0
  return { pending: reader?.pending ?? 0, accepted: lane?.accepted ?? 0, done, reader, lane }
}

const drain = async (
  rig: Rig,
  postgres: Postgres,
  livePort: number,
): Promise<Record<string, number>> => {
  const stop = new AbortController()
  const agent = await rig.startAgent()
  const fillStartMs = performance.now()
  await until(async () => (await backlogOf(rig)).accepted >= backlogPoints, agent, 500)
  const fillSeconds = (performance.now() - fillStartMs) / 1000
  const live = runLive(livePort, stop.signal)
  live.catch(() => stop.abort())
  await sleep(2_000)
  const regional = await rig.startRegional()
  await until(async () => (await rig.region()).points > 0, regional, 50)
  const first = await rig.region()
  const before = lookUsage({ agent, regional, postgres })
  const ages = watchAge(postgres, stop.signal)
  // Drained: one cursor again, and no more waiting than live points make in two seconds.
  await until(
    async () => {
      const { reader, pending } = await backlogOf(rig)
      return reader?.cursor.live === null && pending <= 2 * livePointsPerSecond
    },
    agent,
    250,
  )
  const after = lookUsage({ agent, regional, postgres })
  const points = (await rig.region()).points - first.points
  const seconds = (after.atMs - before.atMs) / 1000
  // A short drain has few samples: the same, caught up.
  await sleep(1_000)
  stop.abort()
  const [posted, samples] = await Promise.all([live, ages])
  await agent.stop()
  await regional.stop()
  return {
    points_per_s: Math.round(points / seconds),
    live_age_s_p50: percentile(samples, 0.5),
    live_age_s_p99: percentile(samples, 0.99),
    live_age_samples: samples.length,
    live_points: posted,
    backlog_points: backlogPoints,
    fill_points_per_s: Math.round(backlogPoints / fillSeconds),
    drain_seconds: seconds,
    ...spentBetween(before, after, points),
  }
}

export const bench = async (): Promise<Figures> => {
  const certificates = await createCertificates()
  const postgres = await startDatabase(certificates)
  try {
    const livePort = await freePort()
    const plant = { name: 'plant', type: 'simulate', series: 1_000, rate: 'max' }
    const rig = await createRig({
      sources: [
        { ...plant, points: backlogPoints },
        { name: 'live', type: 'http', listen: `127.0.0.1:${livePort}` },
      ],
      postgres,
      certificates,
    })
    return {
      ...(await drain(rig, postgres, livePort)),
      postgres_settings: postgresSettings.join(', '),
    }
  } finally {
    await postgres.stop()
  }
}
