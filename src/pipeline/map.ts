/**
 * A message -> points: JSON (one or many points) and plain numbers, bools and texts, by a mapping from the configuration.
 *
 * Invariants: what a mapping cannot take is said through `sink.lose`, never thrown and never left out silently (only
 * a JSON null is no value); an int field holds the very integer of the text; no text with NUL or ill-formed Unicode
 * gets through; points of one message keep its order; a message that is no JSON gives no point at all.
 */
import { z } from 'zod'
import type { BatchBuilder } from '../batch.ts'
import { textOf } from '../errors.ts'
import { jsonDepthMax, messagePointsMax, seriesMax } from '../limits.ts'
import { type Loss, type Quality, quality, type SeriesRef, type SeriesTable } from '../model.ts'
import { parseJson } from './json.ts'
import {
  compileTemplate,
  type Json,
  type JsonObject,
  type NameParts,
  type Path,
  parsePath,
  pathSchema,
  type Template,
  templateSchema,
  valueAtPath,
} from './template.ts'
import { parseTime, timeUnits } from './timestamp.ts'
import {
  qualityCodes,
  readPlain,
  readQuality,
  type TypeName,
  takeValue,
  typeNames,
} from './values.ts'

const typeSchema = z.enum(typeNames)

/** The keys of a mapping, to be spread into a source's strict object. */
export const mappingShape = {
  /** What a message is: JSON, or one plain value. */
  payload: z.enum(['json', 'number', 'bool', 'string']).default('json'),
  /** Where in the JSON the point or the array of points stands; the whole message without. */
  items: pathSchema().optional(),
  /** Fields to take, by name; without, every number, bool and text of an item is one, named by its path. */
  fields: z
    .record(
      z.string().min(1),
      z.union([
        typeSchema,
        z.strictObject({
          path: pathSchema().optional(),
          type: typeSchema.default('float'),
          unit: z.string().optional(),
        }),
      ]),
    )
    .optional(),
  /** The item's (else the message's) own time; points are stamped on arrival without. */
  time: pathSchema().optional(),
  time_unit: z.enum(timeUnits).default('auto'),
  /** The item's (else the message's) quality: a word, a bool, or 0, 1, 2; OPC's codes where `quality_as` says so. */
  quality: pathSchema().optional(),
  quality_as: z.enum(qualityCodes).default('word'),
  /** Name of the series; topic levels and field, joined by dots, without. */
  series: templateSchema().optional(),
  tags: z.record(z.string().min(1), templateSchema()).default({}),
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

interface Field {
  readonly name: string
  readonly path: Path
  readonly type: TypeName
  readonly unit: string
}
/** What is known of a topic: its levels, and refs by field where names depend on nothing else. */
interface TopicPlan {
  readonly levels: readonly string[]
  readonly refs: Map<string, SeriesRef>
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

const plansMax = 2 * seriesMax

export const createMapper = (mapping: Mapping, series: SeriesTable): Mapper => {
  const itemsPath = pathOf(mapping.items ?? '')
  const fields = fieldsOf(mapping)
  const name = mapping.series === undefined ? undefined : templateOf(mapping.series)
  const tags = Object.entries(mapping.tags).map(([tag, text]) => [tag, templateOf(text)] as const)
  const steady = (name?.steady ?? true) && tags.every(([, template]) => template.steady)
  const timePath = mapping.time === undefined ? undefined : pathOf(mapping.time)
  const qualityPath = mapping.quality === undefined ? undefined : pathOf(mapping.quality)
  const notFields = new Set([mapping.time, mapping.quality, ...itemPaths(mapping)])
  const plans = new Map<string, TopicPlan>()

  const planOf = (topic: string): TopicPlan => {
    const known = plans.get(topic)
    if (known) return known
    if (plans.size >= plansMax) plans.clear()
    const plan = { levels: topic === '' ? [] : topic.split('/'), refs: new Map() }
    plans.set(topic, plan)
    return plan
  }
  /** A ref, or undefined after the loss was said. */
  const refOf = (at: Item, field: string, unit: string): SeriesRef | undefined => {
    const known = steady ? at.plan.refs.get(field) : undefined
    if (known !== undefined) return known
    const parts: NameParts = { ...at, levels: at.plan.levels, field }
    const named = name
      ? name.render(parts)
      : { name: [...at.plan.levels, field].filter((one) => one !== '').join('.') }
    if ('missing' in named) return refuse(at, `the series has no name: ${named.missing} is missing`)
    const pairs: [string, string][] = []
    for (const [tag, template] of tags) {
      const value = template.render(parts)
      if ('missing' in value) return refuse(at, `tag "${tag}": ${value.missing} is missing`)
      pairs.push([tag, value.name])
    }
    try {
      const ref = series.ref(named.name, pairs, unit)
      if (steady) at.plan.refs.set(field, ref)
      return ref
    } catch (error) {
      return refuse(at, textOf(error))
    }
  }
  const place = (at: Item, field: string, unit: string, type: TypeName | 'auto', value: Json) => {
    if (value === null) return
    const taken = takeValue(value, type)
    if (typeof taken === 'object') {
      refuse(at, field === '' ? taken.why : `field "${field}": ${taken.why}`)
      return
    }
    if (at.budget.points-- <= 0) {
      refuse(at, `more than ${messagePointsMax} points in one message`)
      return
    }
    const ref = refOf(at, field, unit)
    if (ref === undefined) return
    if (at.timeUs === undefined) at.sink.stamped.add(ref, at.sink.stampUs(ref), taken, at.quality)
    else at.sink.timed.add(ref, at.timeUs, taken, at.quality)
  }
  /** Every scalar below `value`; answers how many leaves there were. */
  const placeAll = (at: Item, field: string, value: Json, depth: number): number => {
    if (notFields.has(field)) return 0
    if (value === null || typeof value !== 'object') {
      place(at, field, '', 'auto', value)
      return 1
    }
    if (depth >= jsonDepthMax) {
      refuse(at, `nested deeper than ${jsonDepthMax}`)
      return 1
    }
    let leaves = 0
    if (Array.isArray(value)) {
      for (let index = 0; index < value.length; index++)
        leaves += placeAll(at, `${field}[${index}]`, value[index] as Json, depth + 1)
      return leaves
    }
    for (const [key, inner] of Object.entries(value as JsonObject))
      leaves += placeAll(at, field === '' ? key : `${field}.${key}`, inner, depth + 1)
    return leaves
  }
  const placeItem = (at: Item): void => {
    let leaves = 0
    if (fields === undefined) leaves = placeAll(at, '', at.item as Json, 0)
    else {
      for (const field of fields) {
        const value = valueAtPath(at.item, field.path)
        if (value === undefined) continue
        leaves++
        place(at, field.name, field.unit, field.type, value)
      }
    }
    if (leaves === 0) refuse(at, 'no field of the mapping is in the message')
  }
  const mapItem = (
    item: Json,
    payload: Json,
    topic: string,
    sink: PointSink,
    budget: Item['budget'],
  ) => {
    let timeUs: number | undefined
    if (timePath !== undefined) {
      const time = parseTime(
        valueAtPath(item, timePath) ?? valueAtPath(payload, timePath),
        mapping.time_unit,
      )
      if (typeof time === 'string') {
        sink.lose('refused', time, 1)
        return
      }
      timeUs = time
    }
    const rated =
      qualityPath === undefined
        ? quality.good
        : readQuality(
            valueAtPath(item, qualityPath) ?? valueAtPath(payload, qualityPath),
            mapping.quality_as,
          )
    placeItem({ sink, plan: planOf(topic), topic, payload, item, timeUs, quality: rated, budget })
  }
  return {
    map: (topic, bytes, sink) => {
      const read = mapping.payload === 'json' ? parseJson(bytes) : readPlain(bytes, mapping.payload)
      if ('why' in read) {
        sink.lose('malformed', read.why, 1)
        return
      }
      const items = valueAtPath(read.value, itemsPath)
      if (items === undefined) {
        sink.lose('malformed', `nothing at ${mapping.items}`, 1)
        return
      }
      const budget = { points: messagePointsMax }
      if (Array.isArray(items)) {
        for (const item of items) mapItem(item, read.value, topic, sink, budget)
      } else mapItem(items, read.value, topic, sink, budget)
    },
  }
}

const refuse = (at: Item, text: string): undefined => {
  at.sink.lose('refused', text, 1)
  return undefined
}
/** The schema has checked paths and templates: one that does not parse here is a bug. */
const pathOf = (text: string): Path => {
  const path = parsePath(text)
  if (path === undefined) throw new Error(`path ${text}`)
  return path
}
const templateOf = (text: string): Template => {
  const template = compileTemplate(text)
  if (template === undefined) throw new Error(`template ${text}`)
  return template
}
const fieldsOf = (mapping: Mapping): readonly Field[] | undefined =>
  mapping.fields === undefined
    ? undefined
    : Object.entries(mapping.fields).map(([name, field]) =>
        typeof field === 'string'
          ? { name, path: pathOf(name), type: field, unit: '' }
          : { name, path: pathOf(field.path ?? name), type: field.type, unit: field.unit ?? '' },
      )
/** Paths that templates use up: they name series, they are none. */
const itemPaths = (mapping: Mapping): readonly string[] =>
  [mapping.series ?? '', ...Object.values(mapping.tags)].flatMap((text) =>
    [...text.matchAll(/\{(?:item|payload)\.([^{}]+)\}/g)].map(([, path]) => path as string),
  )
