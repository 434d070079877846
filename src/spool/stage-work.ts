/**
 * A stage at work: what it is asked is done in pieces, so that commits and acks come in between; and what it warns of.
 *
 * Invariants: while `work` is there its state is of no place in the lane: nothing of it is saved, its cursor stays, and
 * nothing else is asked of it; a crash in between leaves it where it began.
 */
import { emptyBatch } from '../batch.ts'
import type { Derived, Pieces, PointBatch, Seq, Stage, StageInput } from '../model.ts'
import type { StageWarning } from '../stage-facts.ts'
import { asked, outsideOf, rawFor, withPoints } from './stage-calls.ts'
import { catchesUp, cursorOf, type StageState } from './stages.ts'
import { type LaneState, type SpoolState, uptimeMs } from './state.ts'

/** What is left of a turn, in points. */
export interface Share {
  points: number
}
/** To look a segment up and open it takes as long as about so many points. */
const pieceCost = 1_000

export const stagesOf = (state: SpoolState, lane: LaneState): readonly StageState[] =>
  state.stages.filter((one) => one.lane === lane && !one.failed)

function* stepping(stage: Stage, input: StageInput): Pieces<readonly Derived[]> {
  return stage.stepping === undefined ? stage.step(input) : yield* stage.stepping(input)
}
function* ticking(stage: Stage, nowUs: number, raw: StageInput['raw']): Pieces<readonly Derived[]> {
  return stage.ticking === undefined ? stage.tick(nowUs, raw) : yield* stage.ticking(nowUs, raw)
}
/** `finish` hears what it gave out once it is all there. */
const begin = (
  one: StageState,
  pieces: Pieces<readonly Derived[]>,
  finish: (derived: readonly Derived[]) => void,
) => {
  one.work = { pieces, finish }
}
/** Goes on with what was begun, and what follows from it, until that ends or the share is used up. */
export const goOn = (state: SpoolState, one: StageState, share: Share) => {
  while (one.work !== null && share.points > 0) {
    const { pieces, finish } = one.work
    const next = asked(state, one, () => pieces.next())
    if (next === undefined) return
    if (next.done === true) {
      one.work = null
      finish(next.value)
    } else share.points -= next.value + pieceCost
  }
}
/** To its end: something must be known of it, or asked of it, now. */
export const settle = (state: SpoolState, one: StageState) =>
  goOn(state, one, { points: Number.POSITIVE_INFINITY })

const warnings = {
  late_unmended: { event: 'late_points_unmended', of: 'points' },
  too_late: { event: 'points_too_late', of: 'points' },
  no_room: { event: 'windows_closed_early', of: 'windows' },
} as const
/** Logged at most this often, of each kind. */
const warnMs = 60_000
const warn = (state: SpoolState, one: StageState) => {
  const { stage, warned } = one
  const unsaid: readonly StageWarning[] = stage.warnings?.() ?? []
  for (const { kind, class: ofClass, points, series, timeUs } of unsaid) {
    const key = `${kind} ${ofClass}`
    const before = warned.get(key)
    const count = points + (before?.unsaid ?? 0)
    const nowMs = uptimeMs(state)
    if (before !== undefined && nowMs - before.atMs < warnMs) {
      warned.set(key, { ...before, unsaid: count })
      continue
    }
    warned.set(key, { atMs: nowMs, unsaid: 0 })
    const { event, of } = warnings[kind]
    const facts = { stage: one.reader, class: ofClass, [of]: count, series: series.name, timeUs }
    state.host.log.warn(event, facts)
  }
}

/** One segment into the stage; `passed` once it is through. */
export const step = (
  state: SpoolState,
  one: StageState,
  seq: Seq,
  points: PointBatch,
  passed: () => void,
) => {
  const { feed, stage } = one
  const input = { points, entry: feed.entry, seq, raw: rawFor(one, seq) }
  begin(one, stepping(stage, input), (derived) => {
    const again = seq <= cursorOf(one)
    one.now = {
      ...one.now,
      ready: again ? one.now.ready : [...one.now.ready, ...withPoints(derived)],
      segments: one.now.segments + 1,
      points: one.now.points + points.count,
      outside: one.now.outside + (again ? 0 : outsideOf(one, points)),
    }
    // What a restart steps again was warned of before.
    if (again) stage.warnings?.()
    else warn(state, one)
    passed()
  })
}
export const tickOne = (
  state: SpoolState,
  one: StageState,
  nowUs: number,
  finish: (derived: readonly Derived[]) => void,
) => {
  const { stage } = one
  const raw = rawFor(one, one.position)
  begin(one, ticking(stage, nowUs, raw), (derived) => {
    finish(derived)
    warn(state, one)
  })
}

/** What ticks had decided here, before a restart, is decided again; what it gives out is in its lanes already. */
export const redo = (state: SpoolState, one: StageState) => {
  const { feed, position: seq } = one
  for (;;) {
    const [next] = one.again
    if (next === undefined || next.seq > seq || one.failed) return
    one.again = one.again.slice(1)
    const input = { entry: feed.entry, seq, raw: rawFor(one, seq) }
    asked(state, one, () => one.stage.redo?.(next.bytes, input))
  }
}

/**
 * A state from before a restart may owe what must be read again from the lane: it is asked once, as soon as all is
 * stepped again that was given out before.
 */
export const wake = (state: SpoolState, one: StageState) => {
  if (!one.fresh || one.failed || catchesUp(one)) return
  one.fresh = false
  const { feed, position: seq, stage } = one
  const input = { points: emptyBatch, entry: feed.entry, seq, raw: rawFor(one, seq) }
  begin(one, stepping(stage, input), (derived) => {
    if (withPoints(derived).length > 0)
      one.now = { ...one.now, ready: [...one.now.ready, ...withPoints(derived)], due: true }
    warn(state, one)
  })
}
