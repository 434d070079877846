/**
 * The stages of an agent (rules, windows), made from plain data: they run in the spool's thread, which is handed what
 * its configuration says of them.
 */
import { compileClasses, type SeriesClass } from './pipeline/classes.ts'
import { createRulesStage } from './pipeline/rules.ts'
import type { StageReader } from './spool/spool.ts'

/** One lane that stages read. */
export interface StagesConfig {
  readonly lane: string
  readonly classes: readonly SeriesClass[]
}

/** Readers of these names stand in the lane's books: no destination can have them. */
export const stageReaders = { rules: '@rules' } as const

export const stagesOf = (config: readonly StagesConfig[]): readonly StageReader[] =>
  config.flatMap(({ lane, classes: list }) => {
    const classes = compileClasses(list)
    const rules = list.some(({ reduce }) => reduce.method !== 'none')
    return rules ? [{ reader: stageReaders.rules, lane, stage: createRulesStage({ classes }) }] : []
  })
