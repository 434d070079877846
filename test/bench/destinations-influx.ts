/**
 * The `influx` destination: segments into lines by themselves (codec's decoding included, compression apart and with it),
 * and the whole way: simulate → spool → line protocol → a real InfluxDB 1.6, all on this machine's cores.
 */
import { gzipSync } from 'node:zlib'
import { influxDialects } from '../../src/destinations/influx-dialects.ts'
import { createInfluxSender } from '../../src/destinations/influx-send.ts'
import { createSystemHost } from '../../src/host.ts'
import { createTestLog } from '../contract/destination-log.ts'
import { influxUser, startInflux } from '../support/influx-servers.ts'
import { countFrom, cpuSecondsOf, createRig, until } from './rig.ts'
import type { Figures } from './run.ts'

const pointCount = countFrom('HOLDFAST_BENCH_INFLUX_POINTS', 2_000_000)
const seriesCount = 1_000
const encodePoints = 60_000
const rounds = 40

const encode = async (compress: boolean) => {
  const log = createTestLog('bench')
  const points = Array.from({ length: encodePoints }, (_, at) => ({
    name: `line-${at % 40}.signal-${at % seriesCount}`,
    timeUs: 1_700_000_000_000_000 + Math.floor(at / seriesCount) * 1_000_000,
    value: Math.round(Math.sin(at / 50) * 10_000) / 100,
  }))
  const batch = log.batch([log.add(points)])
  let bytes = 0
  const send = createInfluxSender({
    deps: { name: 'influx', agent: 'bench', spool: log.spool, host: createSystemHost({}) },
    dialect: influxDialects.influxdb1,
    place: { table: 'points', agentTag: 'agent' },
    bytesMax: 1024 * 1024,
    endpoint: 'x',
    post: async (lines) => {
      const body = Buffer.from(`${lines.join('\n')}\n`)
      bytes += compress ? gzipSync(body, { level: 3 }).length : body.length
      return { kind: 'taken' }
    },
  })
  const { signal } = new AbortController()
  for (let warm = 0; warm < 5; warm++) await send(batch, signal)
  bytes = 0
  const before = process.cpuUsage()
  for (let round = 0; round < rounds; round++) await send(batch, signal)
  const { user, system } = process.cpuUsage(before)
  const sent = rounds * encodePoints
  return { mptsPerCpuS: sent / (user + system), bytesPerPoint: bytes / sent }
}

export const bench = async (): Promise<Figures> => {
  const [plain, packed] = [await encode(false), await encode(true)]
  const influx = await startInflux()
  await influx.query('CREATE DATABASE bench')
  const plant = { name: 'plant', type: 'simulate', series: seriesCount, rate: 'max' }
  const { username, password } = influxUser
  const place = { url: influx.url, database: 'bench', username, password }
  const rig = await createRig({
    sources: [{ ...plant, points: pointCount }],
    destination: { name: 'historian', type: 'influx', dialect: 'influxdb1', ...place },
  })
  try {
    const startMs = performance.now()
    const agent = await rig.startAgent()
    let lost = 0
    const drained = async () => {
      const { lanes } = await rig.status()
      lost = lanes[0]?.readers[0]?.declaredLost ?? 0
      return lanes.every(
        ({ accepted, readers }) =>
          accepted >= pointCount && readers.every(({ pending }) => pending === 0),
      )
    }
    await until(drained, agent, 250)
    const seconds = (performance.now() - startMs) / 1000
    const cpuSeconds = cpuSecondsOf(agent.pid)
    await agent.stop()
    const held = await influx.count('bench')
    // The plant has gaps of its own (NaN), which this server cannot hold.
    if (held + lost !== pointCount)
      throw new Error(`${held} of ${pointCount} points are there, ${lost} declared lost`)
    return {
      influx_encode_mpts_per_cpu_s: plain.mptsPerCpuS,
      influx_encode_gzip_mpts_per_cpu_s: packed.mptsPerCpuS,
      influx_wire_bytes_per_point: packed.bytesPerPoint,
      influx_points_per_s: Math.round(pointCount / seconds),
      influx_agent_cpu_s_per_mpts: cpuSeconds / (pointCount / 1e6),
    }
  } finally {
    await influx.stop()
  }
}
