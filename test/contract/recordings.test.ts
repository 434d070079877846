/**
 * Recordings through each destination into a real server, read back from it: every value bit for bit. A series of a
 * recording is written near now, a millisecond a point, so that each of them can hold its times. VictoriaMetrics keeps
 * decimals and promises no bits; `relay` and `postgres` have theirs in test/promises/2-then-it-arrives.test.ts.
 */
import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { zstdDecompressSync } from 'node:zlib'
import { influxPlan } from '../../src/destinations/influx-plan.ts'
import { destinationTypes } from '../../src/destinations/table.ts'
import { createSystemHost } from '../../src/host.ts'
import type { Destination } from '../../src/model.ts'
import { loadRecordings } from '../bench/recordings.ts'
import { influxUser, startInflux } from '../support/influx-servers.ts'
import { influxd2, startInflux2 } from '../support/influxdb2.ts'
import { killAll } from '../support/processes.ts'
import { startPrometheus } from '../support/prometheus-server.ts'
import { questdbMissing, startQuestdb, statementsOf } from '../support/questdb.ts'
import { temporaryFolder } from '../support/temp.ts'
import { createTestLog } from './destination-log.ts'

after(killAll)
const pointsMax = 512
const { made, sets } = loadRecordings()
const startMs = Date.now() - 1_200_000
/** `track-N.value` to its values, in order. */
const tracks = new Map(
  sets
    .flatMap(({ series }) => series)
    .filter(({ values }) => values.length > 0)
    .map(({ values }, nth) => [`track-${nth}`, [...values.subarray(0, pointsMax)]] as const),
)
const signal = new AbortController().signal
const bits = (values: readonly number[]) => [
  ...new BigUint64Array(Float64Array.from(values).buffer),
]

const write = async (config: { readonly type: string } & Record<string, unknown>) => {
  const of = destinationTypes.find(({ type }) => type === config.type)
  assert.ok(of !== undefined)
  const log = createTestLog('gw-1')
  const deps = { host: createSystemHost(), name: 'far', agent: 'gw-1', spool: log.spool }
  const create = of.create as (deps: object, config: unknown) => Destination
  await using destination = create({ ...deps, farTime: () => {} }, of.config.parse(config))
  for (const [name, values] of tracks) {
    const points = values.map((value, at) => ({
      ...{ name: `${name}.value`, timeUs: (startMs + at) * 1_000, value },
    }))
    const said = await destination.send(log.batch([log.add(points)]), signal)
    assert.deepEqual(said, { kind: 'stored', rejected: [] }, name)
  }
}
/** Rows of (series, microseconds, value) in any order. */
const judge = (rows: Iterable<readonly [string, number, number]>) => {
  const found = new Map<string, number[]>()
  let count = 0
  for (const [name, timeUs, value] of rows) {
    const values = found.get(name) ?? []
    values[Math.round(timeUs / 1_000 - startMs)] = value
    found.set(name, values)
    count++
  }
  let points = 0
  for (const [name, values] of tracks) {
    assert.deepEqual(bits(found.get(name) ?? []), bits(values), name)
    points += values.length
  }
  assert.deepEqual([count, found.size], [points, tracks.size])
  assert.ok(points > 1_000)
}
const source = made ? 'made input' : 'recordings'

test(`InfluxDB 1: ${source}, bit for bit`, async () => {
  const influx = await startInflux()
  await influx.query('CREATE DATABASE plant')
  const { url } = influx
  await write({ type: 'influx', dialect: 'influxdb1', url, database: 'plant', ...influxUser })
  const rows = await influx.points('plant')
  judge(rows.map(([name, timeUs, value]) => [name, timeUs, Number(value)]))
  await influx.stop()
})
if (influxd2 !== undefined)
  test(`InfluxDB 2, and by its interface of InfluxDB 1: ${source}, bit for bit`, async () => {
    const influx = await startInflux2()
    const { url, org } = influx
    for (const dialect of ['influxdb2', 'influxdb1']) {
      const { token } = await influx.tokenFor(await influx.bucket('plant'), 'write')
      const login = { database: 'plant', username: 'any', password: token }
      const way = dialect === 'influxdb2' ? { org, bucket: 'plant', token } : login
      await write({ type: 'influx', dialect, url, ...way })
      const rows = await influx.rows('plant')
      judge(
        rows.map(({ table, timeNs, value }) => [
          ...([table, Number(timeNs / 1_000n), Number(value.value)] as const),
        ]),
      )
    }
    await influx.stop()
  })
test(`QuestDB: ${source}, bit for bit`, { skip: questdbMissing }, async () => {
  const questdb = await startQuestdb()
  for (const statement of statementsOf(influxPlan('questdb', {}))) await questdb.query(statement)
  await write({ type: 'influx', dialect: 'questdb', url: questdb.url, ...questdb.user })
  const rows = await questdb.query('SELECT series, cast(timestamp AS long), value FROM points')
  judge(
    rows.map(([name, timeUs, value]) => [
      String(name).replace(/\.value$/, ''),
      Number(timeUs),
      Number(value),
    ]),
  )
  await questdb.stop()
})
test(`Prometheus: ${source}, bit for bit`, async () => {
  const prometheus = await startPrometheus()
  await write({ type: 'prometheus', url: prometheus.url })
  const samples = await prometheus.samples('{agent="gw-1"}')
  judge(
    samples.map(({ labels, ms, value }) => [
      String(labels.holdfast_series).replace(/\.value$/, ''),
      ms * 1_000,
      Number(value),
    ]),
  )
  await prometheus.stop()
})
test(`files: ${source}, bit for bit`, async () => {
  const folder = join(temporaryFolder('recordings'), 'out')
  mkdirSync(folder)
  await write({ type: 'file', output_dir: folder, disk_free_min: '1KiB' })
  const files = readdirSync(folder).filter((name) => name.endsWith('.ndjson.zst'))
  const lines = files.flatMap((name) =>
    zstdDecompressSync(readFileSync(join(folder, name)))
      .toString('utf8')
      .split('\n'),
  )
  const rows: [string, number, number][] = []
  for (const line of lines.filter((one) => one.startsWith('{"s'))) {
    const point = JSON.parse(line)
    rows.push([
      String(point.series).replace(/\.value$/, ''),
      Number(point.time),
      Number(point.value),
    ])
  }
  judge(rows)
})
