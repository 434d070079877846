/**
 * The demo's plant: pumps that publish over MQTT (QoS 1, TLS) and keep a journal of their own of every message the
 * broker acknowledged. The verdict rests on that journal, so it knows nothing of the agent.
 *
 * A message is one pump's scan: `{"time": µs, "temperature": …, "pressure": …, …}` on `plant/pump-007`.
 */
import { createWriteStream, readFileSync } from 'node:fs'
import { connectAsync, type MqttClient } from 'mqtt'
import { type Clock, systemClock } from '../../host.ts'

export interface SensorOptions {
  readonly port: number
  readonly ca: string
  readonly cert: string
  readonly key: string
  readonly journal: string
  readonly pumps: number
  /** Scans of every pump a second. */
  readonly hertz: number
  /** Digits that the instruments say beyond the usual. */
  readonly moreDigits?: number
  /** One pump goes wrong for a while; in seconds since the first scan. */
  readonly incident?: Incident
}
export interface Incident {
  readonly pump: number
  readonly fromS: number
  readonly toS: number
}

/** Fields of one scan in order; the mapping of the demo's configuration names the same types. */
export const fieldTypes = {
  temperature: 'float',
  pressure: 'float',
  flow: 'float',
  power: 'float',
  vibration: 'float',
  starts: 'int',
  running: 'bool',
  state: 'string',
} as const

const states = ['starting', 'running', 'coasting', 'stopped'] as const
/** A step of a small generator (mulberry32): the same plant every time, chance without the machine's. */
const createChance = (seed: number) => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let word = Math.imul(state ^ (state >>> 15), 1 | state)
    word = (word + Math.imul(word ^ (word >>> 7), 61 | word)) ^ word
    return ((word ^ (word >>> 14)) >>> 0) / 2 ** 32
  }
}
const createPump = (index: number, moreDigits: number) => {
  const chance = createChance(index + 1)
  const level = {
    temperature: 40 + 30 * chance(),
    pressure: 2 + 4 * chance(),
    flow: 100 * chance(),
  }
  let starts = Math.floor(chance() * 1000)
  const round = (value: number, digits: number) => Number(value.toFixed(digits + moreDigits))
  return (timeUs: number, shaking: boolean) => {
    level.temperature += (chance() - (shaking ? 0.2 : 0.5)) * 0.2
    level.pressure += (chance() - 0.5) * 0.02
    level.flow = Math.max(0, level.flow + (chance() - 0.5) * 2)
    if (chance() < 0.001) starts++
    return {
      time: timeUs,
      temperature: round(level.temperature, 1),
      pressure: round(level.pressure, 3),
      flow: round(level.flow, 2),
      power: round(level.flow * level.pressure * 0.03, 2),
      vibration: round(chance() * (shaking ? 9 : 0.4), 4),
      starts,
      running: level.flow > 1,
      state: states[level.flow > 1 ? 1 : 3] as string,
    }
  }
}

export const pumpName = (index: number): string => `pump-${String(index).padStart(3, '0')}`

/** Messages handed to the broker and not yet acknowledged; beyond it the plant waits. */
const unackedMax = 2_000

const publishScans = async (
  client: MqttClient,
  options: SensorOptions,
  clock: Clock,
  write: (line: string) => void,
  stopping: AbortSignal,
) => {
  const pumps = Array.from({ length: options.pumps }, (_, index) =>
    createPump(index, options.moreDigits ?? 0),
  )
  const { incident } = options
  let unacked = 0
  let acked = 0
  let release = () => {}
  const settle = (line: string) => (error: unknown) => {
    unacked--
    release()
    if (error) return
    acked++
    write(line)
  }
  const startedMs = clock.monotonicMs()
  const startedUs = clock.nowUs()
  for (let scan = 0; !stopping.aborted; scan++) {
    await clock.sleep(startedMs + (scan * 1000) / options.hertz - clock.monotonicMs(), stopping)
    // Each scan has a time of its own, whatever the wall clock does: one point a series and time.
    const timeUs = startedUs + Math.round((scan * 1e6) / options.hertz)
    const atS = scan / options.hertz
    const wrong = incident !== undefined && atS >= incident.fromS && atS < incident.toS
    for (const [index, pump] of pumps.entries()) {
      while (unacked >= unackedMax) await new Promise<void>((resolve) => (release = resolve))
      const topic = `plant/${pumpName(index)}`
      const body = JSON.stringify(pump(timeUs, wrong && index === incident.pump))
      unacked++
      client.publish(topic, body, { qos: 1 }, settle(`{"topic":"${topic}","scan":${body}}\n`))
    }
  }
  while (unacked > 0) await new Promise<void>((resolve) => (release = resolve))
  return acked
}

/** Publishes until SIGTERM, waits for the last acknowledgement, closes the journal, says how many as a JSON line. */
export const runSensors = async (options: SensorOptions): Promise<void> => {
  const client = await connectAsync(`mqtts://localhost:${options.port}`, {
    ca: readFileSync(options.ca),
    cert: readFileSync(options.cert),
    key: readFileSync(options.key),
    clientId: 'plant',
    protocolVersion: 4,
  })
  const stop = new AbortController()
  process.once('SIGTERM', () => stop.abort())
  const journal = createWriteStream(options.journal, { flags: 'a' })
  const acked = await publishScans(
    client,
    options,
    systemClock,
    (line) => journal.write(line),
    stop.signal,
  )
  await new Promise<void>((resolve) => journal.end(() => resolve()))
  await client.endAsync()
  process.stdout.write(`${JSON.stringify({ acked })}\n`)
}
