/**
 * One configuration rehearsed: the production spool and stages in memory, fed with a recording at the recording's pace.
 *
 * Invariants: what is sealed, stepped and given out is the spool's and the stages' own doing; between two commits the
 * clock passes as in an agent; memory is bounded by `rehearsalBytesMax`, what a lane holds is let go once measured.
 */
import { spoolOptions, stagesConfig } from '../../agent-spool.ts'
import { stagesOf } from '../../agent-stages.ts'
import { copyPoint, createBatchBuilder, wordsOf } from '../../batch.ts'
import type { Config } from '../../config/schema.ts'
import { Failure } from '../../errors.ts'
import { type Log, silentLog } from '../../host.ts'
import { segmentPointsMax } from '../../limits.ts'
import type { Derived, PointBatch, SeriesTable, Stage } from '../../model.ts'
import { openSpool, type Spool, type StageReader } from '../../spool/spool.ts'
import { createSteppedClock, type SteppedClock } from './clock.ts'
import { createMeasures, type PlanClass, type PlanLane } from './measures.ts'

/** What the lanes of a rehearsal may take: raw points that open windows hold, above all. */
export const rehearsalBytesMax = 256 * 1024 * 1024
const secondUs = 1_000_000
/** The clock goes on so long after the last point: nothing waits longer. */
const closingUs = 400 * 86_400 * secondUs

export interface Rehearsed {
  readonly classes: readonly PlanClass[]
  readonly lanes: readonly PlanLane[]
  readonly firstUs: number
  readonly lastUs: number
  /** Series of statistics that windows made. */
  readonly statisticSeries: number
  /** Windows given out before their end for want of room. */
  readonly partial: boolean
}
export interface Rehearsal extends Disposable {
  /** Points arrive, each at its time of `arrivalUs`. */
  readonly take: (points: PointBatch, arrivalUs: Float64Array) => void
  readonly finish: () => Rehearsed
}
export interface RehearsalParts {
  readonly config: Config
  readonly series: SeriesTable
  /** The lane that gets the points. */
  readonly lane: string
}

/** A stage that throws would rest in an agent; a rehearsal of it is worth nothing. */
const createLog = (): Log & { readonly failed: () => string } => {
  let failed = ''
  const error: Log['error'] = (event, fields) => {
    failed ||= `${event} ${JSON.stringify(fields)}`
  }
  const log = { ...silentLog, error, child: () => log, failed: () => failed }
  return log
}
const overheard = (
  readers: readonly StageReader[],
  hear: (given: readonly Derived[], stage: Stage) => void,
  cut: () => void,
): readonly StageReader[] =>
  readers.map((reader) => {
    const { stage } = reader
    const heard = (given: readonly Derived[]) => {
      hear(given, stage)
      return given
    }
    return {
      ...reader,
      stage: {
        ...stage,
        stepping: function* (input) {
          return heard(stage.stepping ? yield* stage.stepping(input) : stage.step(input))
        },
        ticking: function* (nowUs, raw) {
          return heard(stage.ticking ? yield* stage.ticking(nowUs, raw) : stage.tick(nowUs, raw))
        },
        letGo: (beforeUs, raw) => {
          cut()
          return heard(stage.letGo(beforeUs, raw))
        },
      },
    }
  })

/** Drives the spool: what is due by a time happens at its time. */
const createDrive = (spool: Spool, clock: SteppedClock, config: Config, after: () => void) => {
  const delayUs = new Map(config.lanes.map(({ name, max_delay: ms }) => [name, ms * 1000]))
  const dueUs = new Map<string, number>()
  let [tickUs, tickGapUs, tickedUs] = [Number.POSITIVE_INFINITY, secondUs, Number.NaN]

  const derive = () => {
    let turn = spool.derive()
    while (turn === 'more') turn = spool.derive()
    if (turn === 'full') throw full()
    for (const { lane, openCount } of spool.heads()) {
      if (openCount === 0) dueUs.delete(lane)
      else if (!dueUs.has(lane)) dueUs.set(lane, clock.nowUs() + (delayUs.get(lane) ?? 0))
    }
    after()
  }
  const tick = () => {
    if (tickedUs === clock.nowUs()) return
    tickedUs = clock.nowUs()
    if (spool.tick(clock.nowUs()) === 'full') throw full()
    derive()
  }
  const advance = (toUs: number) => {
    for (;;) {
      const sealUs = Math.min(...dueUs.values(), Number.POSITIVE_INFINITY)
      const nextUs = Math.min(sealUs, tickUs)
      if (nextUs > toUs) break
      clock.set(nextUs)
      if (sealUs === nextUs) {
        spool.seal([...dueUs].filter(([, us]) => us <= nextUs).map(([lane]) => lane))
        derive()
      }
      if (tickUs === nextUs) {
        tickGapUs = tickGapUs * 2
        tickUs = nextUs + tickGapUs
        tick()
      }
    }
    clock.set(toUs)
  }
  return {
    advance,
    /** The clock's last word before points come. */
    beforePoints: (atUs: number) => {
      advance(atUs)
      tick()
    },
    afterPoints: (atUs: number) => {
      derive()
      tickGapUs = secondUs
      tickUs = atUs + secondUs
    },
  }
}
const full = () =>
  new Failure(
    'HF-X030',
    'the rehearsal has no room for what open windows hold',
    'Rehearse a shorter piece of the recording, or shorter windows.',
  )

export const createRehearsal = ({ config, series, lane }: RehearsalParts): Rehearsal => {
  const clock = createSteppedClock()
  const log = createLog()
  const measures = createMeasures(config, series, lane)
  let partial = false
  const stages = stagesOf(stagesConfig(config))
  const spool = openSpool({
    at: { image: null },
    host: {
      clock,
      log,
      bootId: 'rehearsal',
      randomBytes: (length) => new Uint8Array(length).fill(1),
    },
    series,
    options: {
      ...spoolOptions(config),
      bytesMax: rehearsalBytesMax,
      diskFreeBytesMin: 0,
      keepSentMs: 0,
    },
    stages: overheard(stages, measures.given, () => {
      partial = true
    }),
  })
  for (const { name } of config.lanes) spool.openReader(name, measures.reader, 'oldest')
  const drive = createDrive(spool, clock, config, () => measures.read(spool))
  const delayMs = config.lanes.find(({ name }) => name === lane)?.max_delay ?? 0
  // The lane's time begins with the commit of its first point, and the commit at its end is sealed with it.
  const delayUs = (delayMs + config.spool.commit_window) * 1000
  const open = createBatchBuilder(1024)
  let [openUs, firstUs, lastUs] = [Number.NaN, Number.NaN, Number.NaN]

  const commit = (atUs: number) => {
    if (open.count() === 0) return
    drive.beforePoints(atUs)
    const points = open.take()
    measures.raw(points)
    const result = spool.commit([{ lane, intakes: [{ points }], seal: true }])
    if (result.kind === 'full') throw full()
    drive.afterPoints(atUs)
    measures.settle()
    if (log.failed() !== '') throw new Error(`the rehearsal failed: ${log.failed()}`)
  }
  return {
    take: (points, arrivalUs) => {
      const words = wordsOf(points)
      for (let at = 0; at < points.count; at++) {
        const atUs = arrivalUs[at] as number
        if (open.count() > 0 && atUs >= openUs + delayUs) commit(openUs + delayUs)
        if (open.count() === 0) openUs = atUs
        if (Number.isNaN(firstUs)) {
          firstUs = atUs
          clock.set(atUs)
        }
        lastUs = atUs
        copyPoint(open, points, words, at)
        if (open.count() >= segmentPointsMax) commit(atUs)
      }
    },
    finish: () => {
      commit(openUs + delayUs)
      if (!Number.isNaN(lastUs)) drive.advance(lastUs + closingUs)
      spool.seal(config.lanes.map(({ name }) => name))
      measures.read(spool)
      const totals = stages.flatMap(({ lane: from, stage }) => (from === lane ? [stage] : []))
      return { ...measures.finish(totals), firstUs, lastUs, partial }
    },
    [Symbol.dispose]: () => spool.close(),
  }
}
