/**
 * Bodies of the HTTP door -> points and troubles: line protocol, and JSON as
 * `[{series, value, time?, tags?, quality?, type?, unit?}, …]` or by the mapping of the configuration.
 *
 * Invariants: what cannot be taken is named (line or item, and why) and leaves a loss; what can be taken is taken.
 */
import { type BatchBuilder, createBatchBuilder } from '../batch.ts'
import { isFailure } from '../errors.ts'
import { messagePointsMax, quarantineSampleBytesMax } from '../limits.ts'
import type { Loss, PointBatch, SeriesTable } from '../model.ts'
import { parseJson } from '../pipeline/json.ts'
import type { Mapper } from '../pipeline/map.ts'
import type { Json, JsonObject } from '../pipeline/template.ts'
import { parseTime, type TimeUnit } from '../pipeline/timestamp.ts'
import { readQuality, type TypeName, takeValue, typeNames } from '../pipeline/values.ts'
import { type LineReading, troublesMax } from '../protocol/line.ts'

/** Something a body holds that cannot be taken. */
export interface Trouble {
  readonly where: string
  readonly reason: Loss['reason']
  readonly text: string
}
/** A body on its way: points in parts, then what was wrong with it. */
export interface Reading {
  readonly next: () => PointBatch
  readonly done: () => boolean
  readonly troubles: () => readonly Trouble[]
  readonly losses: (source: string) => readonly Loss[]
}

/** Points of one commit: large enough to be cheap, small enough that parsing them never stalls the process. */
const pointsAPart = 20_000

export const lineReading = (reading: LineReading): Reading => ({
  next: () => reading.next(pointsAPart),
  done: reading.done,
  troubles: () =>
    reading.troubles.map(({ line, column, reason, text }) => ({
      where: `line ${line}, column ${column}`,
      reason,
      text,
    })),
  losses: (source) =>
    lossesOf(source, reading.counts, (reason) => {
      const [first] = reading.troubles.filter((trouble) => trouble.reason === reason)
      return first && { text: first.text, sample: first.sample }
    }),
})

/** A body read in one go: JSON is parsed whole, its points are bounded. */
interface Collected {
  readonly builder: BatchBuilder
  readonly troubles: Trouble[]
  readonly counts: { malformed: number; refused: number }
}
const collected = (bytes: Uint8Array, read: (into: Collected) => void): Reading => {
  const into: Collected = {
    builder: createBatchBuilder(),
    troubles: [],
    counts: { malformed: 0, refused: 0 },
  }
  let done = false
  return {
    next: () => {
      if (!done) read(into)
      done = true
      return into.builder.take()
    },
    done: () => done,
    troubles: () => into.troubles,
    losses: (source) =>
      lossesOf(source, into.counts, (reason) => {
        const [first] = into.troubles.filter((trouble) => trouble.reason === reason)
        const sample = new Uint8Array(bytes.subarray(0, quarantineSampleBytesMax))
        return first && { text: `${first.where}: ${first.text}`, sample }
      }),
  }
}
const lose = (into: Collected, where: string, reason: Loss['reason'], text: string, count = 1) => {
  into.counts[reason] += count
  if (into.troubles.length < troublesMax) into.troubles.push({ where, reason, text })
}
const lossesOf = (
  source: string,
  counts: { readonly malformed: number; readonly refused: number },
  first: (reason: Loss['reason']) => Pick<Loss, 'text' | 'sample'> | undefined,
): readonly Loss[] =>
  (['malformed', 'refused'] as const)
    .filter((reason) => counts[reason] > 0)
    .map((reason) => ({ source, reason, count: counts[reason], text: reason, ...first(reason) }))

/** JSON by the mapping of the configuration, as MQTT messages are read. */
export const mappedReading = (bytes: Uint8Array, mapper: Mapper): Reading =>
  collected(bytes, (into) => {
    const { builder } = into
    mapper.map('', bytes, {
      timed: builder,
      stamped: builder,
      stampUs: () => Number.NaN,
      lose: (reason, text, count) => lose(into, 'body', reason, text, count),
    })
  })

export const jsonReading = (bytes: Uint8Array, series: SeriesTable, unit: TimeUnit): Reading =>
  collected(bytes, (into) => {
    const json = parseJson(bytes)
    if ('why' in json) return lose(into, 'body', 'malformed', json.why)
    const items = Array.isArray(json.value) ? (json.value as readonly Json[]) : [json.value]
    for (const [at, item] of items.entries()) {
      const trouble =
        at < messagePointsMax
          ? placeItem(into.builder, item, series, unit)
          : `more than ${messagePointsMax} points in one body`
      if (trouble !== undefined) lose(into, `item ${at}`, 'refused', trouble)
    }
  })

const itemKeys = new Set(['series', 'tags', 'time', 'value', 'quality', 'type', 'unit'])

/** Places one point, or says why not. */
const placeItem = (
  builder: BatchBuilder,
  item: Json,
  series: SeriesTable,
  timeUnit: TimeUnit,
): string | undefined => {
  if (item === null || typeof item !== 'object' || Array.isArray(item)) return 'not an object'
  const { series: name, tags, time, value, quality, type = 'auto', unit = '' } = item as JsonObject
  const unknown = Object.keys(item).find((key) => !itemKeys.has(key))
  if (unknown !== undefined) return `unknown key ${JSON.stringify(unknown.slice(0, 80))}`
  if (typeof name !== 'string') return '"series" is missing or not a text'
  if (typeof unit !== 'string') return '"unit" is not a text'
  if (type !== 'auto' && !typeNames.includes(type as TypeName)) {
    return `"type" is not one of ${typeNames.join(', ')}`
  }
  if (value === undefined || value === null) return '"value" is missing'
  const pairs = tagsOf(tags)
  if (pairs === undefined) return '"tags" is not an object of texts'
  const timeUs = time === undefined || time === null ? Number.NaN : parseTime(time, timeUnit)
  if (typeof timeUs === 'string') return timeUs
  const taken = spelledOut(value, type) ?? takeValue(value, type as TypeName | 'auto')
  if (typeof taken === 'object') return taken.why
  const rated = quality === undefined || quality === null ? 0 : readQuality(quality, 'word')
  try {
    builder.add(series.ref(name, pairs, unit), timeUs, taken, rated)
    return undefined
  } catch (error) {
    if (!isFailure(error)) throw error
    return error.message
  }
}

const notFinite = new Map([
  ['NaN', Number.NaN],
  ['Infinity', Number.POSITIVE_INFINITY],
  ['-Infinity', Number.NEGATIVE_INFINITY],
])
/** What JSON has no number for, as text beside a `type`: floats that are no number, ints beyond 2^53. */
const spelledOut = (value: Json, type: Json): number | bigint | undefined => {
  if (typeof value !== 'string') return undefined
  if (type === 'float') return notFinite.get(value)
  if (type !== 'int' || !/^-?\d{1,19}$/.test(value)) return undefined
  const int = BigInt(value)
  return BigInt.asIntN(64, int) === int ? int : undefined
}

const tagsOf = (tags: Json | undefined): [string, string][] | undefined => {
  if (tags === undefined || tags === null) return []
  if (typeof tags !== 'object' || Array.isArray(tags)) return undefined
  const pairs = Object.entries(tags as JsonObject)
  return pairs.every((pair): pair is [string, string] => typeof pair[1] === 'string')
    ? pairs
    : undefined
}
