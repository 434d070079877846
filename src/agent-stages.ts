/**
 * The stages of an agent (rules, windows), made from plain data: they run in the spool's thread, which is handed what
 * its configuration says of them.
 */
import { seriesIdOf } from './codec/series-id.ts'
import type { SeriesKey, Stage } from './model.ts'
import { compileClasses, type SeriesClass } from './pipeline/classes.ts'
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
}

/** Readers of these names stand in the lane's books: no destination can have them. */
export const stageReaders = { rules: '@rules', windows: '@windows' } as const

/** A new stage begins with what comes now: what was accepted before went its way by the routes of then. */
export const stagesOf = (config: readonly StagesConfig[]): readonly StageReader[] =>
  config.flatMap(({ lane, classes: list, timeZone, agent }): StageReader[] => {
    const classes = compileClasses(list)
    const idOf = (key: SeriesKey) => seriesIdOf(agent, key)
    const readers: StageReader[] = []
    const add = (reader: string, stage: Stage) => readers.push({ reader, lane, stage, from: 'now' })
    if (list.some(({ reduce }) => reduce.method !== 'none'))
      add(stageReaders.rules, createRulesStage({ classes }))
    if (list.some(({ windows }) => windows.length > 0))
      add(stageReaders.windows, createWindowsStage({ classes, timeZone, idOf }))
    return readers
  })
