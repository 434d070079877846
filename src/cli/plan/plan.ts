/** `holdfast plan`: what classes would send of a recording, and how long the spool would last; now and changed. */
import { join } from 'node:path'

import { seriesIdOf } from '../../codec/series-id.ts'
import { catalog } from '../../config/catalog.ts'
import { loadConfig } from '../../config/load.ts'
import type { Config } from '../../config/schema.ts'
import type { ControlClient } from '../../control/client.ts'
import { exitCodes, Failure, isFailure } from '../../errors.ts'
import { systemClock } from '../../host.ts'
import type { PointBatch, SeriesTable } from '../../model.ts'
import { createSeriesTable } from '../../pipeline/series.ts'
import { type LinePrecision, linePrecisions } from '../../protocol/line.ts'
import { lookInto } from '../../spool/look.ts'
import { type CliContext, showProblems } from '../context.ts'
import { countText } from '../format.ts'
import { createProgress } from '../spool/progress.ts'
import { createArrivalClock } from './clock.ts'
import { printPlan } from './print.ts'
import {
  emptyTroubles,
  isSpoolFile,
  readAgent,
  readFile,
  readLane,
  type Troubles,
} from './recording.ts'
import { createRehearsal } from './rehearse.ts'
import { type Plan, reportOf, warningsOf } from './report.ts'

export interface PlanOptions {
  readonly against?: string
  readonly from?: readonly string[]
  /** Milliseconds. */
  readonly since?: number
  readonly lane: string
  readonly precision: string
}

const configAt = async (context: CliContext, path: string): Promise<Config> => {
  const { environment } = context
  const result = loadConfig(path, { environment, catalog, surroundings: false })
  // What a rehearsal cannot show: series that reach no class have no line in its tables.
  const unseen = (code: string) => code === 'HF-C045' || code === 'HF-C046'
  const problems = result.ok ? result.warnings.filter(({ code }) => unseen(code)) : result.problems
  await showProblems(context, problems)
  if (result.ok) return result.config
  throw new Failure('HF-C020', `${path} is no valid configuration`, 'See all of it: holdfast check')
}
/** Both know the lane; a class of one of them reads it: without, the other says what is sent today. */
const checkLane = (configs: readonly Config[], lane: string) => {
  const without = configs.find(({ lanes }) => !lanes.some(({ name }) => name === lane))
  if (without !== undefined)
    throw new Failure(
      'HF-X032',
      `${without.file} has no lane "${lane}"`,
      'Name one of its own with --lane.',
    )
  if (!configs.some(({ classes }) => classes.some((one) => one.lane === lane)))
    throw new Failure(
      'HF-X032',
      `${configs.map(({ file }) => file).join(' and ')}: no class reads lane "${lane}"`,
      'Add classes, or name the lane they read with --lane.',
    )
}

const sinceOfFile = (path: string) =>
  new Failure('HF-X002', `${path} is no spool: --since looks back from now`, 'Cut the file.')
const sinceUs = ({ since }: PlanOptions): number =>
  since === undefined ? 0 : Math.max(0, systemClock.nowUs() - since * 1000)
/** Undefined where none answers: its spool can be looked into then. */
const runningAgent = async (context: CliContext): Promise<ControlClient | undefined> => {
  const client = await context.client()
  try {
    await client.get('/v1/lanes')
    return client
  } catch (error) {
    if (isFailure(error, 'HF-X005')) return undefined
    throw error
  }
}

async function* pointsOf(
  context: CliContext,
  options: PlanOptions,
  series: SeriesTable,
  stateDir: string,
  troubles: Troubles,
): AsyncGenerator<PointBatch> {
  const { signal } = context
  const { lane, precision: unit, since } = options
  const precision: LinePrecision | undefined = linePrecisions[unit]
  if (precision === undefined) throw new Failure('HF-X002', `no precision "${unit}"`, 'ns us ms s')
  const fromUs = sinceUs(options)
  const client = options.from === undefined ? await runningAgent(context) : undefined
  if (client !== undefined) {
    yield* readAgent(client, lane, fromUs, series, troubles)
    return
  }
  for (const path of options.from ?? [join(stateDir, 'spool.db')]) {
    if (await isSpoolFile(path)) {
      using look = lookInto(path)
      yield* readLane(look, lane, fromUs, series, troubles)
    } else if (since !== undefined) throw sinceOfFile(path)
    else yield* readFile(path, { series, lane, precision, troubles, signal })
  }
}

const rehearse = async (
  context: CliContext,
  options: PlanOptions,
  configs: readonly Config[],
): Promise<Plan> => {
  const { lane } = options
  const { name: agent, state_dir: stateDir } = (configs[0] as Config).agent
  const progress = createProgress(context)
  const series = createSeriesTable({ agent, seriesIdOf })
  const troubles = emptyTroubles()
  const arrival = createArrivalClock()
  const rehearsals = configs.map((config) => createRehearsal({ config, series, lane }))
  try {
    let points = 0
    for await (const batch of pointsOf(context, options, series, stateDir, troubles)) {
      const arrivalUs = batch.timeUs.map(arrival.arrival)
      for (const one of rehearsals) one.take(batch, arrivalUs)
      points += batch.count
      progress(`${countText(points)} points rehearsed`)
      if (context.signal.aborted) throw new Failure('HF-X033', 'the plan was broken off')
    }
    if (points === 0)
      throw new Failure('HF-X031', 'there are no points in it', troubles.first || 'Name another.')
    const [now, changed] = rehearsals.map((one, at) =>
      reportOf(one.finish(), configs[at] as Config),
    )
    const recording = { points, series: series.count(), behind: arrival.behind(), ...troubles }
    const plan = { recording, lane, now: now as Plan['now'], changed: changed ?? null }
    return { ...plan, warnings: warningsOf(plan) }
  } finally {
    for (const one of rehearsals) one[Symbol.dispose]()
  }
}

export const plan = async (context: CliContext, options: PlanOptions): Promise<number> => {
  const paths = [context.configPath(), ...(options.against === undefined ? [] : [options.against])]
  const configs: Config[] = []
  for (const path of paths) configs.push(await configAt(context, path))
  checkLane(configs, options.lane)
  const answer = await rehearse(context, options, configs)
  if (context.flags.json) context.json(answer)
  else printPlan(context, answer)
  return exitCodes.good
}
