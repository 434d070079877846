/**
 * Recordings played into an agent as plants would: over MQTT in messages of many points and of one, and over the HTTP
 * door by InfluxDB's own client. Each way gives its series names of its own, so each carries every recording.
 *
 * Invariant: a recording's points are sent in the order of its file; `play` resolves when every one was acknowledged.
 */

import { readFileSync } from 'node:fs'
import { InfluxDB, Point } from '@influxdata/influxdb-client'
import { connectAsync, type MqttClient } from 'mqtt'
import type { Recording, RecordingSet } from '../bench/recordings.ts'
import type { KeyFiles } from './certificates.ts'

export interface Track {
  /** Name of the series in the region. */
  readonly series: string
  readonly recording: Recording
}
export interface Player {
  /** What a `mqtt` source must subscribe to, with its mapping; none for the HTTP door. */
  readonly subscribe: readonly object[]
  readonly tracks: readonly Track[]
  readonly play: () => Promise<void>
}
interface Placed {
  readonly set: string
  readonly recording: Recording
}
const placedIn = (sets: readonly RecordingSet[]): readonly Placed[] =>
  sets.flatMap(({ name, series }) => series.map((recording) => ({ set: name, recording })))

/** Stretches of up to `size` points, all recordings side by side, as plants send them. */
function* stretchesOf(
  placed: readonly Placed[],
  size: number,
): Generator<Placed & { readonly from: number; readonly to: number }> {
  const longest = Math.max(...placed.map(({ recording }) => recording.values.length))
  for (let from = 0; from < longest; from += size)
    for (const one of placed) {
      const to = Math.min(from + size, one.recording.values.length)
      if (from < to) yield { ...one, from, to }
    }
}
const valueIn = ({ values }: Recording, at: number): number => values[at] as number
const usOf = ({ timesUs }: Recording, at: number): number => timesUs[at] as number

/** Unanswered messages at once; far more than an agent commits in a window. */
const unansweredMax = 4_000
const mqttPlayer = (
  way: string,
  mapping: object,
  sets: readonly RecordingSet[],
  messages: (placed: readonly Placed[]) => Iterable<readonly [topic: string, text: string]>,
  connect: () => Promise<MqttClient>,
): Player => {
  const placed = placedIn(sets)
  return {
    subscribe: [{ topic: `${way}/#`, fields: { value: 'float' }, time: 'at', ...mapping }],
    tracks: placed.map(({ set, recording }) => ({
      series: [way, set, recording.name, 'value'].join('.'),
      recording,
    })),
    play: async () => {
      const client = await connect()
      let answers: Promise<unknown>[] = []
      for (const [topic, text] of messages(placed)) {
        answers.push(client.publishAsync(`${way}/${topic}`, text, { qos: 1 }))
        if (answers.length < unansweredMax) continue
        await Promise.all(answers)
        answers = []
      }
      await Promise.all(answers)
      await client.endAsync()
    },
  }
}

/** As a publisher writes a double: the shortest text that names it, with the sign of zero. */
const textOf = (value: number): string => (Object.is(value, -0) ? '-0.0' : String(value))

export const createPlayers = (
  sets: readonly RecordingSet[],
  where: {
    readonly broker: string
    readonly ca: string
    readonly key: KeyFiles
    readonly door: () => string
  },
): readonly Player[] => {
  const connect = () =>
    connectAsync(where.broker, {
      ca: readFileSync(where.ca),
      cert: readFileSync(where.key.cert),
      key: readFileSync(where.key.key),
      protocolVersion: 5,
      reconnectPeriod: 0,
    })
  const many = mqttPlayer(
    'many',
    { time_unit: 'rfc3339' },
    sets,
    function* (placed) {
      for (const { set, recording, from, to } of stretchesOf(placed, 100)) {
        const items: string[] = []
        for (let at = from; at < to; at++) {
          const time = new Date(usOf(recording, at) / 1000).toISOString()
          items.push(`{"at":"${time}","value":${textOf(valueIn(recording, at))}}`)
        }
        yield [`${set}/${recording.name}`, `[${items.join()}]`]
      }
    },
    connect,
  )
  const one = mqttPlayer(
    'one',
    { time_unit: 'ms' },
    sets,
    function* (placed) {
      for (const { set, recording, from } of stretchesOf(placed, 1)) {
        const text = `{"at":${usOf(recording, from) / 1000},"value":${textOf(valueIn(recording, from))}}`
        yield [`${set}/${recording.name}`, text]
      }
    },
    connect,
  )
  return [many, one, httpPlayer(sets, where.door)]
}

const httpPlayer = (sets: readonly RecordingSet[], door: () => string): Player => {
  const placed = placedIn(sets)
  return {
    subscribe: [],
    tracks: placed.map(({ set, recording }) => ({ series: `${set}.${recording.name}`, recording })),
    play: async () => {
      const api = new InfluxDB({ url: door(), token: 'none' }).getWriteApi('org', 'bucket', 'us', {
        batchSize: 6_000,
        flushInterval: 0,
        maxRetries: 0,
      })
      let waiting = 0
      for (const { set, recording, from, to } of stretchesOf(placed, 50)) {
        for (let at = from; at < to; at++)
          api.writePoint(
            new Point(set)
              .floatField(recording.name, valueIn(recording, at))
              .timestamp(String(usOf(recording, at))),
          )
        // One request after another: two at once may be taken in either order.
        waiting += to - from
        if (waiting < 5_000) continue
        await api.flush()
        waiting = 0
      }
      await api.close()
    },
  }
}
