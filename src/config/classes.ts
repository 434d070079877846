/**
 * The top-level key `classes`: which points of which series leave, and which windows are made of them, as people write
 * it; and what of it cannot be.
 *
 * Invariants: what `classTroubles` passes, every stage takes; a lane that a class writes is written by nobody else, and
 * no point can reach a destination twice.
 */
import { z } from 'zod'
import {
  type ClassProblem,
  problemsOf,
  type Reduce,
  type SeriesClass,
  statistics,
  type WindowSpec,
} from '../pipeline/classes.ts'
import { replayLane } from '../pipeline/selections.ts'
import { duration } from '../units.ts'
import { unknownLane } from './lanes.ts'
import type { DestinationConfig, SourceConfig } from './schema.ts'
import type { Path, Trouble } from './source-text.ts'

const texts = z.array(z.string().min(1)).min(1)
const deviation = z
  .union([z.number(), z.string()])
  .describe('In the unit of the series, or percent of its range such as "0.5%"')
  .transform((given, context) => {
    if (typeof given === 'number') return given
    const share = /^(\d{1,3}(?:\.\d{1,9})?)\s*%$/.exec(given.trim())?.[1]
    if (share !== undefined) return { percentOfRange: Number(share) }
    context.addIssue({
      code: 'custom',
      message: 'must be a number in the unit of the series, or percent of the range such as "0.5%"',
    })
    return z.NEVER
  })
const laneName = z.string().min(1)
const common = {
  lane: laneName.default('reduced').describe('Lane its points go to, made by rules alone'),
  min_gap: duration().optional().describe('Points closer than this to the last one sent wait'),
  heartbeat: duration().optional().describe('While points come in, one is sent this often'),
  gap_after: duration().optional().describe('A silence longer than this is a gap'),
  gap_times: z.number().optional().describe('Or longer than so many times the usual distance'),
}
const reduceSchema = z.discriminatedUnion('method', [
  z.strictObject({ method: z.literal('none').describe('Which points leave') }),
  z.strictObject({
    method: z.literal('every'),
    interval: duration().optional().describe('At most one point in this time; all unless given'),
    ...common,
  }),
  z.strictObject({
    method: z.literal('sample'),
    interval: duration().describe('One point in this time'),
    ...common,
  }),
  z.strictObject({ method: z.literal('on_change'), ...common }),
  z.strictObject({ method: z.literal('deadband'), deviation, ...common }),
  z.strictObject({
    method: z.literal('swinging_door'),
    deviation,
    max_hold: duration()
      .optional()
      .describe(
        'How long the newest point may wait for the next one; else the heartbeat, without one 1m',
      ),
    ...common,
  }),
])
const windowSchema = z.strictObject({
  every: duration().describe('Divides a day; 1d is a day of agent.time_zone'),
  statistics: z.array(z.enum(statistics)).min(1).describe('What each window says'),
  lateness: duration()
    .prefault('30s')
    .describe('How long after its end a window takes points; at most 7d, and 10,080 times every'),
  lane: laneName.default('windows').describe('Lane its points go to'),
  counter: z
    .strictObject({
      bits: z.int().min(1).max(64).optional().describe('Width of the counter'),
      modulus: z.number().optional().describe('Or where it begins again'),
    })
    .optional()
    .describe('The series counts up and begins again at 0'),
})
export const classSchema = z.strictObject({
  match: z
    .strictObject({
      names: texts.optional().describe('Globs over the name of a series'),
      units: texts.optional().describe('Units of series'),
      tags: z.record(z.string(), z.string()).optional().describe('Tag to a glob over its value'),
      sources: texts.optional().describe('Sources, which then have the lane to themselves'),
    })
    .prefault({}),
  from: laneName.default('raw').describe('The lane it reads'),
  range: z
    .strictObject({
      low: z.number().describe('Least value'),
      high: z.number().describe('Largest value'),
    })
    .optional(),
  reduce: reduceSchema.prefault({ method: 'none' }),
  windows: z.array(windowSchema).default([]),
})
export const classesSchema = z.record(
  z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'must be a name'),
  classSchema,
)
type Given = z.output<typeof classSchema>

/** Classes of the series in one lane, in the order of the file: the first that matches is a series' own. */
export interface LaneClasses {
  readonly lane: string
  readonly classes: readonly SeriesClass[]
}

const us = (ms: number): number => Math.round(ms * 1_000)
const reduceOf = (given: Given['reduce']): Reduce => {
  if (given.method === 'none') return given
  const { lane, min_gap, heartbeat, gap_after, gap_times } = given
  const shared = {
    lane,
    ...(min_gap === undefined ? {} : { minGapUs: us(min_gap) }),
    ...(heartbeat === undefined ? {} : { heartbeatUs: us(heartbeat) }),
    ...(gap_after === undefined ? {} : { gap: { afterUs: us(gap_after) } }),
    ...(gap_times === undefined ? {} : { gap: { times: gap_times } }),
  }
  switch (given.method) {
    case 'every':
      return {
        ...shared,
        method: given.method,
        ...(given.interval === undefined ? {} : { intervalUs: us(given.interval) }),
      }
    case 'sample':
      return { ...shared, method: given.method, intervalUs: us(given.interval) }
    case 'on_change':
      return { ...shared, method: given.method }
    case 'deadband':
      return { ...shared, method: given.method, deviation: given.deviation }
    case 'swinging_door':
      return {
        ...shared,
        method: given.method,
        deviation: given.deviation,
        ...(given.max_hold === undefined ? {} : { maxHoldUs: us(given.max_hold) }),
      }
  }
}
const windowOf = ({
  every,
  statistics: asked,
  lateness,
  lane,
  counter,
}: Given['windows'][number]) => {
  const { bits, modulus = bits === undefined ? null : 2 ** bits } = counter ?? {}
  const spec: WindowSpec = { everyUs: us(every), statistics: asked, latenessUs: us(lateness), lane }
  return counter === undefined ? spec : { ...spec, counter: { modulus } }
}
const classOf = (name: string, given: Given): SeriesClass => {
  const { names, units, tags } = given.match
  return {
    name,
    match: {
      ...(names === undefined ? {} : { names }),
      ...(units === undefined ? {} : { units }),
      ...(tags === undefined ? {} : { tags }),
    },
    ...(given.range === undefined ? {} : { range: given.range }),
    reduce: reduceOf(given.reduce),
    windows: given.windows.map(windowOf),
  }
}

export const laneClassesOf = (given: Readonly<Record<string, Given>>): readonly LaneClasses[] => {
  const byLane = new Map<string, SeriesClass[]>()
  for (const [name, one] of Object.entries(given))
    byLane.set(one.from, [...(byLane.get(one.from) ?? []), classOf(name, one)])
  return [...byLane].map(([lane, classes]) => ({ lane, classes }))
}
const writtenBy = ({ reduce, windows }: SeriesClass): readonly string[] => [
  ...(reduce.method === 'none' ? [] : [reduce.lane]),
  ...windows.map(({ lane }) => lane),
]
/** Lanes that classes write. */
export const derivedLanes = (all: readonly LaneClasses[]): ReadonlySet<string> =>
  new Set(all.flatMap(({ classes }) => classes.flatMap(writtenBy)))
/** What a destination that names no lanes takes: all but those that rules thin. */
export const lanesByDefault = (
  lanes: readonly { readonly name: string }[],
  all: readonly LaneClasses[],
): readonly string[] => {
  const thinned = new Set(
    all
      .filter(({ classes }) => classes.some((one) => writtenBy(one).length > 0))
      .map(({ lane }) => lane),
  )
  return lanes.map(({ name }) => name).filter((name) => !thinned.has(name))
}

const keyOf: Readonly<Record<string, string>> = {
  everyUs: 'every',
  latenessUs: 'lateness',
  intervalUs: 'interval',
  minGapUs: 'min_gap',
  heartbeatUs: 'heartbeat',
  maxHoldUs: 'max_hold',
  gapAfterUs: 'gap_after',
  gapTimes: 'gap_times',
}
const pathOf = (name: string, problem: ClassProblem): Path => [
  'classes',
  name,
  ...problem.path.map((step) => keyOf[String(step)] ?? step),
]

/** A text that needs one begins with the key's name. */
const textOf = ({ path, text }: ClassProblem): string => {
  const key = String(path.at(-1))
  return text.startsWith('must ') ? `${keyOf[key] ?? key} ${text}` : text
}

interface Around {
  readonly lanes: readonly string[]
  readonly sources: readonly SourceConfig[]
  readonly destinations: readonly Pick<DestinationConfig, 'lanes'>[]
}
const routeTroubles = (
  all: readonly LaneClasses[],
  { sources, destinations }: Around,
): Trouble[] => {
  const derived = derivedLanes(all)
  const found: Trouble[] = []
  sources.forEach(({ name, lane }, at) => {
    if (!derived.has(lane) && lane !== replayLane) return
    const writer = lane === replayLane ? 'copies on request' : 'classes'
    const text = `source "${name}" may not write lane "${lane}": ${writer} write it`
    const hint = 'let the source write "raw", or the class another lane'
    found.push({ code: 'HF-C026', text, hint, path: ['sources', at, 'lane'], on: 'value' })
  })
  destinations.forEach(({ lanes }, at) => {
    for (const { lane, classes } of all) {
      const twice = classes.find(
        ({ reduce }) =>
          reduce.method !== 'none' && lanes.includes(lane) && lanes.includes(reduce.lane),
      )
      if (twice === undefined || twice.reduce.method === 'none') continue
      const text = `routes overlap: points of class "${twice.name}" come by "${lane}" and "${twice.reduce.lane}"`
      const hint = `take one of the two; a range of "${lane}" can be sent on request with: holdfast replay`
      found.push({ code: 'HF-C027', text, hint, path: ['destinations', at, 'lanes'], on: 'value' })
    }
  })
  return found
}
const classTroublesOf = (
  name: string,
  given: Given,
  all: readonly LaneClasses[],
  around: Around,
) => {
  const found: Trouble[] = []
  const add = (code: string, text: string, hint: string, ...path: readonly (string | number)[]) =>
    found.push({ code, text, hint, path: ['classes', name, ...path], on: 'value' })
  const known = (lane: string, ...path: readonly (string | number)[]) => {
    found.push(...unknownLane(lane, around.lanes, ['classes', name, ...path]))
    if (lane !== replayLane) return
    const text = `lane "${lane}" is for copies on request, of points that classes have read already`
    add('HF-C026', text, 'name another lane', ...path)
  }
  known(given.from, 'from')
  if (given.reduce.method !== 'none') known(given.reduce.lane, 'reduce', 'lane')
  for (const [at, { lane }] of given.windows.entries()) known(lane, 'windows', at, 'lane')
  if (derivedLanes(all).has(given.from))
    add(
      'HF-C026',
      `lane "${given.from}" is written by classes`,
      'read the lane of a source',
      'from',
    )
  for (const [at, source] of (given.match.sources ?? []).entries()) {
    const path = ['match', 'sources', at]
    const found = around.sources.find((one) => one.name === source)
    const others = around.sources.filter(
      (one) => one.lane === given.from && !given.match.sources?.includes(one.name),
    )
    if (found === undefined)
      add(
        'HF-C028',
        `there is no source "${source}"`,
        `sources: ${around.sources.map((one) => one.name).join(', ')}`,
        ...path,
      )
    else if (found.lane !== given.from || others[0] !== undefined) {
      const text = `source "${source}" has no lane of its own that this class reads`
      add('HF-C028', text, `give it one: lane: ${source}, and here from: ${source}`, ...path)
    }
  }
  const twice = (
    given: object,
    one: string,
    other: string,
    ...path: readonly (string | number)[]
  ) => {
    const values = new Map(Object.entries(given))
    if (values.get(one) === undefined || values.get(other) === undefined) return
    add(
      'HF-C025',
      `"${one}" and "${other}" are two ways to say one thing`,
      'keep one',
      ...path,
      other,
    )
  }
  twice(given.reduce, 'gap_after', 'gap_times', 'reduce')
  for (const [at, { counter }] of given.windows.entries())
    twice(counter ?? {}, 'bits', 'modulus', 'windows', at, 'counter')
  for (const problem of problemsOf(classOf(name, given)))
    found.push({
      code: 'HF-C025',
      text: textOf(problem),
      hint: problem.hint,
      path: pathOf(name, problem),
      on: 'value',
    })
  return found
}
export const classTroubles = (
  given: Readonly<Record<string, Given>>,
  around: Around,
): readonly Trouble[] => {
  const all = laneClassesOf(given)
  return [
    ...Object.entries(given).flatMap(([name, one]) => classTroublesOf(name, one, all, around)),
    ...routeTroubles(all, around),
  ]
}
