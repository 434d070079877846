/**
 * The process under measurement of `intake.ts`: the MQTT source over the real spool as the agent has them (`holdfast`;
 * `latency` also notes times), or mqtt.js with JSON.parse and no storage (`plain`). Answers `look` with its CPU time so far (all threads) and the
 * points it has stored (plain: seen); ends when its parent goes.
 */
import mqtt from 'mqtt'
import { seriesIdOf } from '../../src/codec/series-id.ts'
import { createSystemHost, silentLog, silentMeter } from '../../src/host.ts'
import { commitWindowMsDefault, maxDelayMsDefault, segmentPointsMax } from '../../src/limits.ts'
import { createIntake } from '../../src/pipeline/intake.ts'
import { createSeriesTable } from '../../src/pipeline/series.ts'
import { mqttSource } from '../../src/sources/mqtt.ts'
import { openSpoolWorker } from '../../src/spool/client.ts'
import { spoolWorkerUrl } from '../support/spool-worker.ts'
import { temporaryFolder } from '../support/temp.ts'

const [mode, url = '', topic = '', version = '5'] = process.argv.slice(2)
const points = { stored: 0 }
/** From a message's own time (when it was published) to its durable commit, after which its ack is written at once. */
const latenciesMs: number[] = []
process.on('message', () => {
  const { user, system } = process.cpuUsage()
  process.send?.({ cpuUs: user + system, points: points.stored, latenciesMs })
})

const plain = async () => {
  const client = await mqtt.connectAsync(url, {
    protocolVersion: version === '5' ? 5 : 4,
    properties: { receiveMaximum: 8_192 },
  })
  let sum = 0
  client.on('message', (_topic, payload) => {
    const values = Object.values(JSON.parse(payload.toString()) as Record<string, number>)
    for (const value of values) sum += value
    points.stored += values.length - 1
  })
  await client.subscribeAsync(topic, { qos: 1 })
  process.send?.('ready')
  process.on('disconnect', () => process.exit(Number.isNaN(sum) ? 1 : 0))
}

const holdfast = async () => {
  const log = {
    ...silentLog,
    info: () => process.send?.('ready'),
    warn: (text: string, fields?: object) => console.error(text, fields),
    child: () => log,
  }
  const count = (name: string, value = 1) => {
    if (name === 'holdfast_points_received_total') points.stored += value
  }
  const host = createSystemHost({ log, meter: { ...silentMeter, count } })
  const clock = () => ({
    nowUs: host.clock.nowUs(),
    bootId: host.bootId,
    monotonicUs: host.clock.monotonicMs() * 1000,
    trusted: true,
  })
  const series = createSeriesTable({ agent: 'bench', seriesIdOf })
  const lanes = [
    { name: 'raw', policy: 'block', maxDelayMs: maxDelayMsDefault, segmentPointsMax },
  ] as const
  const spool = await openSpoolWorker({
    workerUrl: spoolWorkerUrl,
    path: `${temporaryFolder('bench')}/spool.db`,
    spool: {
      agent: 'bench',
      bytesMax: 4 * 1024 ** 3,
      diskFreeBytesMin: 0,
      keepSentMs: 0,
      compressor: 'zstd',
      configRevision: 0,
      clockFloorUs: 0,
      lanes,
    },
    ingest: { commitWindowMs: commitWindowMsDefault, lanes },
    host,
    series,
    onFatal: (failure) => {
      throw failure
    },
  })
  const stop = new AbortController()
  const source = mqttSource.create(
    { host, name: 'mqtt', agent: 'bench', series, clock, kept: spool.kept, blocked: spool.blocked },
    mqttSource.config.parse({
      type: 'mqtt',
      url,
      version: version === '5' ? 5 : '3.1.1',
      subscribe: [{ topic, time: 'ts', time_unit: 'ms' }],
    }),
  )
  process.on('disconnect', () => stop.abort())
  const intake = createIntake({ spool, lane: 'raw', source: 'mqtt', meter: host.meter, clock })
  await source.run(async (taken) => {
    const { timeUs, count } = taken.points
    // The columns may move to another thread.
    const sentMs =
      mode === 'latency' ? Array.from(timeUs.subarray(0, count), (us) => us / 1000) : []
    await intake(taken)
    const nowMs = performance.timeOrigin + performance.now()
    for (const ms of sentMs) latenciesMs.push(nowMs - ms)
  }, stop.signal)
  await spool[Symbol.asyncDispose]()
}
await (mode === 'plain' ? plain() : holdfast())
