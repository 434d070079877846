/** A running mqtt source over a pretended spool whose commits the test steers, and a publisher. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import mqtt, { type MqttClient } from 'mqtt'
import type { z } from 'zod'
import { valueAt } from '../../../src/batch.ts'
import { seriesIdOf } from '../../../src/codec/series-id.ts'
import { createSystemHost, type Log } from '../../../src/host.ts'
import type { GapReason, Intake, Loss, Value } from '../../../src/model.ts'
import { createSeriesTable } from '../../../src/pipeline/series.ts'
import { type MqttConfig, mqttSource } from '../../../src/sources/mqtt.ts'

export type MqttInput = Omit<z.input<typeof mqttSource.config>, 'type'>
/** What survives the death of a source: a spool in memory. Each intake is stored whole or not at all. */
export interface Memory {
  readonly kept: Map<string, Uint8Array>
  readonly points: (readonly [string, Value, number])[]
  readonly losses: Loss<GapReason>[]
  commits: number
  urgent: number
}
export const createMemory = (): Memory => ({
  kept: new Map(),
  points: [],
  losses: [],
  commits: 0,
  urgent: 0,
})

export interface RunningSource {
  readonly logged: readonly string[]
  /** Every later commit waits for this; undefined for no wait. */
  readonly gate: {
    commit: ((intake: Intake) => Promise<void>) | undefined
    after: (() => Promise<void>) | undefined
  }
  readonly stop: () => Promise<void>
  readonly connects: () => number
}
const running = new Set<() => Promise<unknown>>()
/** Ends sources and publishers at a test's end, however it ended. */
export const stopSources = async (): Promise<void> => {
  await Promise.all([...running].map((stop) => stop()))
}
export const startSource = (
  input: MqttInput,
  memory: Memory,
  parts: { random?: () => number } = {},
): RunningSource => {
  const config: MqttConfig = mqttSource.config.parse({ type: 'mqtt', ...input })
  const logged: string[] = []
  const line =
    (level: string) =>
    (event: string, fields: object = {}) => {
      logged.push(`${level} ${event} ${JSON.stringify(fields)}`)
    }
  const log: Log = {
    debug: line('debug'),
    info: line('info'),
    warn: line('warn'),
    error: line('error'),
    child: () => log,
  }
  const host = { ...createSystemHost({ log }), ...parts }
  const series = createSeriesTable({ agent: 'edge', seriesIdOf })
  const gate: RunningSource['gate'] = { commit: undefined, after: undefined }
  const store = (intake: Intake) => {
    memory.commits++
    if (intake.urgent) memory.urgent++
    for (let at = 0; at < intake.points.count; at++) {
      const { name } = series.entry(intake.points.series[at] as number)
      memory.points.push([name, valueAt(intake.points, at), intake.points.timeUs[at] as number])
    }
    for (const { key, value } of intake.kept ?? []) {
      if (value) memory.kept.set(key, value)
      else memory.kept.delete(key)
    }
    memory.losses.push(...(intake.losses ?? []))
  }
  const source = mqttSource.create(
    {
      host,
      name: 'plant',
      agent: 'edge',
      series,
      clock: () => ({
        nowUs: Date.now() * 1000,
        bootId: host.bootId,
        monotonicUs: Math.floor(performance.now() * 1000),
        trusted: true,
      }),
      kept: (key) => Promise.resolve(memory.kept.get(key) ?? null),
      blocked: () => false,
    },
    config,
  )
  const ending = new AbortController()
  const done = source.run(async (intake) => {
    await gate.commit?.(intake)
    store(intake)
    await gate.after?.()
  }, ending.signal)
  const stop = async () => {
    ending.abort()
    running.delete(stop)
    await done
  }
  running.add(stop)
  return {
    logged,
    gate,
    connects: () => logged.filter((one) => one.startsWith('info connected')).length,
    stop,
  }
}

export const until = async (what: string, reached: () => boolean, ms = 20_000): Promise<void> => {
  const end = performance.now() + ms
  while (!reached()) {
    if (performance.now() > end) throw new Error(`not reached: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
export const connectPublisher = async (
  url: string,
  options: mqtt.IClientOptions = {},
): Promise<MqttClient> => {
  const client = await mqtt.connectAsync(url, { reconnectPeriod: 0, ...options })
  running.add(() => client.endAsync(true))
  return client
}

/** A TCP way to a port that can be cut. */
export const startWay = async (to: number) => {
  const pairs = new Set<Socket>()
  const server = createServer((near) => {
    const far = connect(to, '127.0.0.1')
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      pairs.add(one)
      one.pipe(other)
      one.on('error', () => {})
      one.on('close', () => other.destroy())
    }
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const close = () => {
    for (const one of pairs) one.destroy()
    server.close()
  }
  running.add(async () => close())
  return {
    url: `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cut: () => {
      for (const one of pairs) one.destroy()
    },
    close,
  }
}
