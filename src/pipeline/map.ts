/**
 * A message -> points: JSON (one or many points) and plain numbers, bools and texts, by a mapping from the
 * configuration.
 *
 * Invariants: what a mapping cannot take is said through `sink.lose`, never thrown and never left out silently
 * (only a JSON null is no value); an int field holds the very integer of the text; no text with NUL or
 * ill-formed Unicode gets through; points of one message keep its order; a message that is no JSON gives no
 * point at all.
 */
import { z } from 'zod'
import type { BatchBuilder } from '../batch.ts'
import { textOf } from '../errors.ts'
import { jsonDepthMax, messagePointsMax } from '../limits.ts'
import { type Loss, type Quality, quality, type SeriesRef, type SeriesTable } from '../model.ts'
import { createFlatReader } from './flat.ts'
import { parseJson } from './json.ts'
import {
  type Field,
  learn,
  makeReady,
  planOf,
  type Ready,
  type Shape,
  type TopicPlan,
} from './map-ready.ts'
import {
  type Json,
  type JsonObject,
  type NameParts,
  type Path,
  pathSchema,
  templateSchema,
  valueAtPath,
} from './template.ts'
import { parseTime, timeUnits } from './timestamp.ts'
import { qualityCodes, readPlain, readQuality, takeValue, typeNames } from './values.ts'

const typeSchema = z.enum(typeNames)

/** The keys of a mapping, to be spread into a source's strict object. */
export const mappingShape = {
  payload: z
    .enum(['json', 'number', 'bool', 'string'])
    .default('json')
    .describe('What a message is: JSON, or one plain value'),
  items: pathSchema()
    .optional()
    .describe(
      'Where in the JSON the point or the array of points stands; the whole message without',
    ),
  fields: z
    .record(
      z.string().min(1),
      z.union([
        typeSchema,
        z.strictObject({
          path: pathSchema().optional().describe('Where it stands in the item'),
          type: typeSchema.default('float').describe('Kind of value'),
          unit: z.string().optional().describe('Unit of its series'),
        }),
      ]),
    )
    .optional()
    .describe(
      'Fields to take, by name; without, every number, bool and text of an item is one, named by its path',
    ),
  time: pathSchema()
    .optional()
    .describe("The item's (else the message's) own time; points are stamped on arrival without"),
  time_unit: z
    .enum(timeUnits)
    .default('auto')
    .describe('Of a number; told from its size unless given'),
  quality: pathSchema()
    .optional()
    .describe(
      "The item's (else the message's) quality: a word, a bool, or 0, 1, 2; OPC's codes where `quality_as` says so",
    ),
  quality_as: z.enum(qualityCodes).default('word').describe('How a quality is to be read'),
  series: templateSchema()
    .optional()
    .describe('Name of the series; topic levels and field, joined by dots, without'),
  tags: z
    .record(z.string().min(1), templateSchema())
    .default({})
    .describe('Of each series, as templates'),
}
export type Mapping = z.output<z.ZodObject<typeof mappingShape>>

export interface PointSink {
  /** For points with a time of their own. */
  readonly timed: BatchBuilder
  /** For points stamped on arrival; the same builder while the clock is trusted. */
  readonly stamped: BatchBuilder
  /** Arrival time of the series' next point: strictly increasing. */
  readonly stampUs: (series: SeriesRef) => number
  readonly lose: (reason: Loss['reason'], text: string, count: number) => void
}
export interface Mapper {
  /** `topic` is '' where there is none. */
  readonly map: (topic: string, payload: Uint8Array, sink: PointSink) => void
}

/** One item on its way. */
interface Item {
  readonly sink: PointSink
  readonly plan: TopicPlan
  readonly topic: string
  readonly payload: Json | undefined
  readonly item: Json | undefined
  readonly timeUs: number | undefined
  readonly quality: Quality
  readonly budget: { points: number }
}

const flatReader = createFlatReader()

export const createMapper = (mapping: Mapping, series: SeriesTable): Mapper => {
  const ready = makeReady(mapping, series)
  return {
    map: (topic, bytes, sink) => {
      const plan = planOf(ready, topic)
      if (plan.shape && flatReader.read(bytes, plan.shape.keys)) {
        mapFlat(ready, plan, plan.shape, topic, sink)
        return
      }
      const read =
        mapping.payload === 'json'
          ? parseJson(bytes, ready.exact)
          : readPlain(bytes, mapping.payload)
      if ('why' in read) {
        sink.lose('malformed', read.why, 1)
        return
      }
      const items = valueAtPath(read.value, ready.items)
      if (items === undefined) {
        sink.lose('malformed', `nothing at ${mapping.items}`, 1)
        return
      }
      if (ready.flat) learn(ready, plan, items)
      const budget = { points: messagePointsMax }
      const message = { sink, plan, topic, payload: read.value, budget }
      if (Array.isArray(items)) for (const item of items) mapItem(ready, { ...message, item })
      else mapItem(ready, { ...message, item: items })
    },
  }
}

const mapFlat = (ready: Ready, plan: TopicPlan, shape: Shape, topic: string, sink: PointSink) => {
  const { values } = flatReader
  let timeUs: number | undefined
  if (shape.timeAt >= 0) {
    const time = parseTime(values[shape.timeAt], ready.mapping.time_unit)
    if (typeof time === 'string') {
      sink.lose('refused', time, 1)
      return
    }
    timeUs = time
  }
  const at: Item = {
    sink,
    plan,
    topic,
    payload: undefined,
    item: undefined,
    timeUs,
    quality: quality.good,
    budget: { points: messagePointsMax },
  }
  for (const [field, index] of shape.fields) place(ready, at, field, values[index] as Json)
}

// ── items of any form ──

const mapItem = (ready: Ready, message: Omit<Item, 'timeUs' | 'quality'>): void => {
  const { mapping } = ready
  const { item, payload, sink } = message
  const find = (path: Path) => valueAtPath(item, path) ?? valueAtPath(payload, path)
  let timeUs: number | undefined
  if (ready.time !== undefined) {
    const time = parseTime(find(ready.time), mapping.time_unit)
    if (typeof time === 'string') {
      sink.lose('refused', time, 1)
      return
    }
    timeUs = time
  }
  const rated =
    ready.quality === undefined
      ? quality.good
      : readQuality(find(ready.quality), mapping.quality_as)
  const at: Item = { ...message, timeUs, quality: rated }
  const leaves =
    ready.fields === undefined
      ? placeAll(ready, at, '', item as Json, 0)
      : placeFields(ready, at, ready.fields)
  if (leaves === 0) refuse(at, 'no field of the mapping is in the message')
}
const placeFields = (ready: Ready, at: Item, fields: readonly Field[]): number => {
  let leaves = 0
  for (const field of fields) {
    const value = valueAtPath(at.item, field.path)
    if (value === undefined) continue
    leaves++
    place(ready, at, field, value)
  }
  return leaves
}
/** Every scalar at or below `value`, which stands at `path`; answers how many leaves there were. */
const placeAll = (ready: Ready, at: Item, path: string, value: Json, depth: number): number => {
  if (ready.notFields.has(path)) return 0
  if (value === null || typeof value !== 'object') {
    place(ready, at, { name: path, path: [], type: 'auto', unit: '' }, value)
    return 1
  }
  if (depth >= jsonDepthMax) {
    refuse(at, `nested deeper than ${jsonDepthMax}`)
    return 1
  }
  let leaves = 0
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index++)
      leaves += placeAll(ready, at, `${path}[${index}]`, value[index] as Json, depth + 1)
    return leaves
  }
  for (const [key, inner] of Object.entries(value as JsonObject))
    leaves += placeAll(ready, at, path === '' ? key : `${path}.${key}`, inner, depth + 1)
  return leaves
}

// ── one value ──

const place = (ready: Ready, at: Item, field: Field, value: Json): void => {
  if (value === null) return
  const { name } = field
  const taken = takeValue(value, field.type)
  if (typeof taken === 'object') {
    refuse(at, name === '' ? taken.why : `field "${name}": ${taken.why}`)
    return
  }
  if (at.budget.points-- <= 0) {
    refuse(at, `more than ${messagePointsMax} points in one message`)
    return
  }
  const ref = refOf(ready, at, name, field.unit)
  if (ref === undefined) return
  if (at.timeUs === undefined) at.sink.stamped.add(ref, at.sink.stampUs(ref), taken, at.quality)
  else at.sink.timed.add(ref, at.timeUs, taken, at.quality)
}
/** A ref, or undefined after the loss was said. */
const refOf = (ready: Ready, at: Item, field: string, unit: string): SeriesRef | undefined => {
  const known = ready.steady ? at.plan.refs.get(field) : undefined
  if (known !== undefined) return known
  const { levels, refs } = at.plan
  const parts: NameParts = { ...at, levels, field }
  const named = ready.name
    ? ready.name.render(parts)
    : { name: [...levels, field].filter((one) => one !== '').join('.') }
  if ('missing' in named) return refuse(at, `the series has no name: ${named.missing} is missing`)
  const pairs: [string, string][] = []
  for (const [tag, template] of ready.tags) {
    const value = template.render(parts)
    if ('missing' in value) return refuse(at, `tag "${tag}": ${value.missing} is missing`)
    pairs.push([tag, value.name])
  }
  try {
    const ref = ready.series.ref(named.name, pairs, unit)
    // Few fields a topic; a message whose keys are always new must not grow this without end.
    if (ready.steady && refs.size < messagePointsMax) refs.set(field, ref)
    return ref
  } catch (error) {
    return refuse(at, textOf(error))
  }
}
const refuse = (at: Item, text: string): undefined => {
  at.sink.lose('refused', text, 1)
  return undefined
}
