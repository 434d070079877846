/**
 * The stages of an agent (rules, windows), made from plain data: they run in the spool's thread, which is handed what
 * its configuration says of them, and keeps that as their definition.
 *
 * Invariant: a definition holds all that a stage's output depends on, its routes included, and nothing else.
 */
import { seriesIdOf } from './codec/series-id.ts'
import type { SeriesEntry, SeriesKey, Stage } from './model.ts'
import {
  type CompiledClasses,
  compileClasses,
  dayUs,
  type SeriesClass,
  type WindowSpec,
} from './pipeline/classes.ts'
import { createRulesStage } from './pipeline/rules.ts'
import { createWindowsStage } from './pipeline/windows.ts'
import type { StageReader } from './spool/spool.ts'

/** One lane that stages read. */
export interface StagesConfig {
  readonly lane: string
  readonly classes: readonly SeriesClass[]
  /** Of the site: where days of windows begin. */
  readonly timeZone: string
  readonly agent: string
  /** By lane that the classes write: the destinations that take it. */
  readonly takers?: Readonly<Record<string, readonly string[]>>
}

/** Readers of these names stand in the lane's books: no destination can have them. */
export const stageReaders = { rules: '@rules', windows: '@windows' } as const

interface Definition extends StagesConfig {
  readonly reader: string
}
interface Defined {
  readonly of: Definition
  readonly compiled: CompiledClasses
}
const defined = (text: string): Defined => {
  const of = JSON.parse(text) as Definition
  return { of, compiled: compileClasses(of.classes) }
}
/** What the other stage alone asks of a class is no part of this one's. */
const ownPart = (reader: string, one: SeriesClass): SeriesClass =>
  reader === stageReaders.rules
    ? { ...one, windows: [] }
    : { name: one.name, match: one.match, reduce: { method: 'none' }, windows: one.windows }

const lanesOf = ({ reduce, windows }: SeriesClass): readonly string[] => [
  ...(reduce.method === 'none' ? [] : [reduce.lane]),
  ...windows.map(({ lane }) => lane),
]
/** Of its own lanes, in an order of their own. */
const ownTakers = (classes: readonly SeriesClass[], takers: StagesConfig['takers'] = {}) =>
  Object.fromEntries(
    [...new Set(classes.flatMap(lanesOf))]
      .sort()
      .map((lane) => [lane, [...(takers[lane] ?? [])].sort()]),
  )
/** Every destination that took the one lane takes the other in its place. */
const sameTakers = (old: Definition, lane: string, next: Definition, nextLane: string): boolean =>
  (old.takers?.[lane] ?? []).every((one) => (next.takers?.[nextLane] ?? []).includes(one))

const ruleGoesOn =
  (old: Defined, next: Defined) =>
  (entry: SeriesEntry): boolean => {
    const [was, is] = [old, next].map(
      ({ compiled }) => compiled.classes[compiled.classOf(entry)]?.reduce,
    )
    if (was === undefined || was.method === 'none') return true
    if (is === undefined || is.method === 'none') return false
    return sameTakers(old.of, was.lane, next.of, is.lane)
  }
const windowGoesOn =
  (old: Defined, next: Defined) =>
  (entry: SeriesEntry, { everyUs, lane }: WindowSpec): boolean => {
    const { classes, classOf } = next.compiled
    const is = classes[classOf(entry)]?.windows.find((one) => one.everyUs === everyUs)
    const sameSpans = everyUs !== dayUs || old.of.timeZone === next.of.timeZone
    return is !== undefined && sameSpans && sameTakers(old.of, lane, next.of, is.lane)
  }

/** `next` is what takes its place where that is known: what it goes on with need not end. */
const stageOf = ({ of, compiled }: Defined, next: Defined | null): Stage => {
  const { reader, timeZone, agent } = of
  const self = { of, compiled }
  const idOf = (key: SeriesKey) => seriesIdOf(agent, key)
  if (reader === stageReaders.rules)
    return createRulesStage({
      classes: compiled,
      ...(next === null ? {} : { goesOn: ruleGoesOn(self, next) }),
    })
  return createWindowsStage({
    classes: compiled,
    timeZone,
    idOf,
    ...(next === null ? {} : { goesOn: windowGoesOn(self, next) }),
  })
}

/** A new stage begins with what comes now: what was accepted before went its way by the routes of then. */
export const stagesOf = (config: readonly StagesConfig[]): readonly StageReader[] =>
  config.flatMap((one): StageReader[] => {
    const readers: StageReader[] = []
    const add = (reader: string) => {
      const classes = one.classes.map((each) => ownPart(reader, each))
      const takers = ownTakers(classes, one.takers)
      const of: Definition = { ...one, reader, classes, takers }
      const stage = stageOf({ of, compiled: compileClasses(classes) }, null)
      const definition = JSON.stringify(of)
      readers.push({ reader, lane: one.lane, stage, from: 'now', definition })
    }
    if (one.classes.some(({ reduce }) => reduce.method !== 'none')) add(stageReaders.rules)
    if (one.classes.some(({ windows }) => windows.length > 0)) add(stageReaders.windows)
    return readers
  })

/** A stage of an earlier configuration, told what takes its place; throws where the text is no definition. */
export const remake = (definition: string, next: string | null): Stage =>
  stageOf(defined(definition), next === null ? null : defined(next))
