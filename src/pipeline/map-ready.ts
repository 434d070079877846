/**
 * A mapping made ready: paths and templates parsed, and what is remembered of topics and of the forms of their
 * messages.
 *
 * Invariants: everything remembered is bounded; a shape says no more than the full parse would.
 */
import { seriesMax } from '../limits.ts'
import type { SeriesRef, SeriesTable } from '../model.ts'
import type { FlatKeys } from './flat.ts'
import type { Mapping } from './map.ts'
import { compileTemplate, type Json, type Path, parsePath, type Template } from './template.ts'
import type { TypeName } from './values.ts'

export interface Field {
  readonly name: string
  readonly path: Path
  readonly type: TypeName | 'auto'
  readonly unit: string
}
/** Messages of one topic tend to be flat objects with the same keys: how to take them without a full parse. */
export interface Shape {
  readonly keys: FlatKeys
  /** Fields in the order in which they are placed, and where their values stand. */
  readonly fields: readonly (readonly [Field, number])[]
  /** -1 without a time. */
  readonly timeAt: number
}
/** What is known of a topic: its levels, and refs by field where names depend on nothing else. */
export interface TopicPlan {
  readonly levels: readonly string[]
  readonly refs: Map<string, SeriesRef>
  shape: Shape | undefined
  shapesTried: number
}
/** A mapping made ready. */
export interface Ready {
  readonly mapping: Mapping
  readonly series: SeriesTable
  readonly items: Path
  readonly fields: readonly Field[] | undefined
  readonly name: Template | undefined
  readonly tags: readonly (readonly [string, Template])[]
  /** Names depend on topic and field alone. */
  readonly steady: boolean
  readonly time: Path | undefined
  readonly quality: Path | undefined
  /** Paths that are something else already. */
  readonly notFields: ReadonlySet<string>
  /** Integers beyond 2^53 make a difference. */
  readonly exact: boolean
  readonly flat: boolean
  readonly plans: Map<string, TopicPlan>
  readonly shapes: Map<string, Shape>
}
const plansMax = 2 * seriesMax
const shapesMax = 1_000
const shapeKeysMax = 256
/** A topic whose messages keep changing is not worth another look. */
const shapesTriedMax = 4

export const makeReady = (mapping: Mapping, series: SeriesTable): Ready => {
  const name = mapping.series === undefined ? undefined : templateOf(mapping.series)
  const tags = Object.entries(mapping.tags).map(([tag, text]) => [tag, templateOf(text)] as const)
  const steady = (name?.steady ?? true) && tags.every(([, template]) => template.steady)
  const fields = fieldsOf(mapping)
  const time = mapping.time === undefined ? undefined : pathOf(mapping.time)
  const fineTime = time !== undefined && !['s', 'ms', 'rfc3339'].includes(mapping.time_unit)
  const others = [mapping.time, mapping.quality, ...itemPaths(mapping)]
  return {
    mapping,
    series,
    items: pathOf(mapping.items ?? ''),
    fields,
    name,
    tags,
    steady,
    time,
    quality: mapping.quality === undefined ? undefined : pathOf(mapping.quality),
    notFields: new Set(others.filter((one) => one !== undefined)),
    exact: !steady || fineTime || (fields?.some(({ type }) => type === 'int') ?? false),
    flat:
      mapping.payload === 'json' &&
      mapping.items === undefined &&
      mapping.quality === undefined &&
      steady &&
      isKey(time) &&
      (fields?.every(({ path }) => isKey(path)) ?? true),
    plans: new Map(),
    shapes: new Map(),
  }
}
const isKey = (path: Path | undefined): boolean =>
  path === undefined || (path.length === 1 && typeof path[0] === 'string')

export const planOf = ({ plans }: Ready, topic: string): TopicPlan => {
  const known = plans.get(topic)
  if (known) return known
  if (plans.size >= plansMax) plans.clear()
  const levels = topic === '' ? [] : topic.split('/')
  const plan: TopicPlan = { levels, refs: new Map(), shape: undefined, shapesTried: 0 }
  plans.set(topic, plan)
  return plan
}

export const learn = (ready: Ready, plan: TopicPlan, value: Json): void => {
  if (plan.shapesTried >= shapesTriedMax || value === null || typeof value !== 'object') return
  plan.shapesTried++
  plan.shape = undefined
  const keys = Array.isArray(value) ? [] : Object.keys(value)
  if (keys.length === 0 || keys.length > shapeKeysMax) return
  const text = JSON.stringify(keys)
  const known = ready.shapes.get(text)
  const shape = known ?? shapeOf(ready, keys)
  if (shape === undefined || (!known && ready.shapes.size >= shapesMax)) return
  ready.shapes.set(text, shape)
  plan.shape = shape
}
const shapeOf = (ready: Ready, keys: readonly string[]): Shape | undefined => {
  const timeAt = ready.time === undefined ? -1 : keys.indexOf(ready.time[0] as string)
  if (ready.time !== undefined && timeAt < 0) return undefined
  const auto = (name: string): Field => ({ name, path: [name], type: 'auto', unit: '' })
  const fields = ready.fields ?? keys.filter((key) => !ready.notFields.has(key)).map(auto)
  const placed = fields
    .map((field) => [field, keys.indexOf(field.path[0] as string)] as const)
    .filter(([, at]) => at >= 0)
  // Without a field the full parse says what is wrong.
  if (placed.length === 0) return undefined
  return { keys: keys.map((key) => Buffer.from(JSON.stringify(key))), fields: placed, timeAt }
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
