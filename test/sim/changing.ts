/**
 * A life whose configuration changes while it lasts: classes and routes are edited, removed and put back, and one stage
 * takes another's place by the code that the agent uses (`remake`), killed in the midst of it.
 *
 * Their points go out under names of their own: the raw lane travels too, and a reduced point is the raw one.
 */
import { remake, stagesOf } from '../../src/agent-stages.ts'
import type { Derived, Pieces, SeriesEntry, Stage, StageInput } from '../../src/model.ts'
import type { Reduce, SeriesClass, WindowSpec } from '../../src/pipeline/classes.ts'
import { atOnce } from '../../src/pipeline/pieces.ts'
import type { StageReader } from '../../src/spool/spool.ts'
import type { Remake } from '../../src/spool/stage-changes.ts'
import type { Plan, PlannedEvent } from './plan.ts'
import { createChance } from './random.ts'

/** A configuration, as far as classes and routes go: what classes write somebody takes (HF-C047). */
export interface Setup {
  readonly classes: readonly SeriesClass[]
  /** Lanes of classes that the region takes. */
  readonly takes: readonly string[]
}

/** Longer than any silence of a life, shorter with a window than the quiet at its end. */
const latenessUs = 60_000_000
const classOf = (numbers: string, reduce: Reduce, ...windows: WindowSpec[]): SeriesClass => ({
  name: `class ${numbers}`,
  match: { names: [...numbers].map((number) => `raw/${number}`) },
  reduce,
  windows,
})
const windowOf = (seconds: number, lane = 'rollup'): WindowSpec => ({
  ...{ everyUs: seconds * 1_000_000, latenessUs, lane },
  statistics: ['count', 'last'],
})
const none = { method: 'none' } as const
const deadband = (lane: string) => ({ method: 'deadband', deviation: 2, lane }) as const
const maxHoldUs = 5_000_000
const door = (lane: string) => ({ method: 'swinging_door', deviation: 3, lane, maxHoldUs }) as const
const setups: readonly Setup[] = [
  { classes: [], takes: [] },
  { classes: [classOf('123', deadband('thin'))], takes: ['thin'] },
  { classes: [classOf('123', deadband('other'), windowOf(5))], takes: ['other', 'rollup'] },
  { classes: [classOf('123', door('thin'), windowOf(10))], takes: ['thin', 'rollup'] },
  {
    classes: [classOf('1', deadband('thin')), classOf('2', door('other'))],
    takes: ['thin', 'other'],
  },
  {
    classes: [classOf('2', door('thin'), windowOf(20)), classOf('13', door('other'))],
    takes: ['thin', 'other', 'rollup'],
  },
  { classes: [classOf('123', none, windowOf(5))], takes: ['rollup'] },
  { classes: [classOf('123', none, windowOf(5, 'totals'))], takes: ['totals'] },
  { classes: [classOf('123', none, windowOf(20), windowOf(5))], takes: ['rollup'] },
  { classes: [classOf('12', door('thin'), windowOf(5))], takes: ['thin'] },
  {
    classes: [classOf('123', deadband('thin'), windowOf(10, 'totals'))],
    takes: ['thin', 'totals'],
  },
]
export const laneNames = ['thin', 'other', 'rollup', 'totals']
export const writtenBy = ({ classes }: Setup): readonly string[] =>
  classes.flatMap(({ reduce, windows }) => [
    ...(reduce.method === 'none' ? [] : [reduce.lane]),
    ...windows.map(({ lane }) => lane),
  ])

/** Of seeds that have no stages, and room. */
const share = 0.25
const changesMax = 4
/** What the region forgot of a lane that it takes no more is sent by nobody; and a clock that jumps closes windows. */
const leftOut: readonly string[] = ['failover', 'restore-region', 'wall-jump']
/** Drawn apart: other seeds stay what they were. */
export const withChanges = (plan: Plan): Plan => {
  const chance = createChance(plan.seed, 'changing')
  if (!chance.hit(share)) return plan
  const changes = Array.from({ length: chance.int(1, changesMax) }, (): PlannedEvent => {
    const atMs = chance.between(500, plan.faultsMs)
    return { kind: 'change', atMs, forMs: chance.between(50, 2_000), draw: chance.next() }
  })
  return {
    ...plan,
    stages: 'changing',
    setups: Array.from({ length: changes.length + 1 }, () => chance.pick(setups)),
    stepPieces: chance.pick([1, 1, 3]),
    derivedLanes: laneNames.map((name) => ({
      name,
      maxDelayMs: chance.pick([50, 200, 1_000]),
      segmentPointsMax: chance.pick([4, 40]),
      policy: 'block',
      derived: true,
    })),
    ...{ historian: false, clockUnknownMs: 0, lateFailover: false },
    failpointOneIn: chance.hit(0.5) ? chance.int(50, 300) : 0,
    events: [...plan.events.filter(({ kind }) => !leftOut.includes(kind)), ...changes].sort(
      (a, b) => a.atMs - b.atMs,
    ),
  }
}
/** One opening after a change in so many is killed before it is done: at which of the calls for that. */
export const openingKill = (seed: number, opening: number): number => {
  const chance = createChance(seed, `opening-${opening}`)
  return chance.hit(0.4) ? chance.int(1, 30) : 0
}

/** More than a turn takes: each piece ends one. */
const muchPoints = 1_000_000
const named = (inner: Stage, prefix: string, stepPieces: number): Stage => {
  const renamed = (derived: readonly Derived[]): readonly Derived[] =>
    derived.map((one) => ({
      ...one,
      entry: (series) => {
        const own = one.entry(series)
        return { ...own, name: prefix + own.name }
      },
    }))
  function* slowly(pieces: Pieces<readonly Derived[]>): Pieces<readonly Derived[]> {
    for (let piece = 0; piece < stepPieces; piece++) yield muchPoints
    for (let next = pieces.next(); ; next = pieces.next()) {
      if (next.done === true) return renamed(next.value)
      yield muchPoints
    }
  }
  function* done(derived: readonly Derived[]): Pieces<readonly Derived[]> {
    yield 0
    return derived
  }
  const stepping = (input: StageInput) => slowly(inner.stepping?.(input) ?? done(inner.step(input)))
  const ticking = (nowUs: number, raw: StageInput['raw']) =>
    slowly(inner.ticking?.(nowUs, raw) ?? done(inner.tick(nowUs, raw)))
  const bare = (entry: SeriesEntry): SeriesEntry => ({
    ...entry,
    name: entry.name.slice(prefix.length),
  })
  return {
    ...inner,
    stepping,
    ticking,
    step: (input) => atOnce(stepping(input)),
    tick: (nowUs, raw) => atOnce(ticking(nowUs, raw)),
    letGo: (beforeUs, raw) => renamed(inner.letGo(beforeUs, raw)),
    thins: (entry) => entry.name.startsWith(prefix) && (inner.thins?.(bare(entry)) ?? false),
  }
}

export interface ChangingStages {
  readonly setup: Setup
  readonly agent: string
  /** Who takes what the setup says. */
  readonly region: string
  readonly prefix: string
  readonly stepPieces: number
}
export const changingStages = ({ setup, agent, region, prefix, stepPieces }: ChangingStages) => {
  const { classes, takes } = setup
  const takers = Object.fromEntries(takes.map((lane) => [lane, [region]]))
  const own = { lane: 'raw', classes, timeZone: 'UTC', agent, takers }
  const stages = stagesOf([own]).map(
    (one): StageReader => ({ ...one, stage: named(one.stage, prefix, stepPieces) }),
  )
  const again: Remake = (definition, next) => named(remake(definition, next), prefix, stepPieces)
  return { stages, remake: again }
}
