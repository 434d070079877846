/**
 * The production stages (rules, windows) as an agent composes them, with a record of all that ever happened to their
 * state: it is saved and loaded with it, so that it tells what the state must be, whatever a crash took away.
 *
 * Their points go out under names of their own: the raw lane travels too, and a reduced point is the raw one.
 */
import { stagesOf } from '../../src/agent-stages.ts'
import type {
  Derived,
  Pieces,
  PointBatch,
  SeriesEntry,
  Stage,
  StageInput,
} from '../../src/model.ts'
import type { SeriesClass } from '../../src/pipeline/classes.ts'
import { atOnce } from '../../src/pipeline/pieces.ts'
import type { StageReader } from '../../src/spool/spool.ts'
import type { StageRow } from '../../src/spool/stage-rows.ts'

export interface Stepped {
  readonly points: PointBatch
  readonly entry: (series: number) => SeriesEntry
}
export type StageEvent =
  /** A process begins with this state, or with none because it was damaged, by the classes of this number. */
  | { readonly kind: 'open'; readonly config: number; readonly anew: boolean }
  | ({ readonly kind: 'step'; readonly seq: number } & Stepped)
  | { readonly kind: 'tick'; readonly nowUs: number }
  | { readonly kind: 'letGo'; readonly beforeUs: number }
interface Node {
  readonly event: StageEvent
  readonly before: Node | null
}
interface Damaged {
  readonly last: Node | null
  readonly through: number
  /** What it has stepped again of that. */
  readonly again: Set<number>
}
/** Histories of saved states, by the number saved with them. No part of any disk: only the world's memory. */
export interface Archive {
  readonly states: (Node | null)[]
  /** By stage: how far had been given out when the second classes first took over. */
  readonly changedAfter: Map<string, number>
  /** Segments as stages read them, by seq. */
  readonly steps: Map<number, Stepped>
  /** By stage whose state was damaged: what that state, and what was given out since, had been through. */
  readonly damaged: Map<string, Damaged>
  /** By stage: series whose newest point was gone when it began anew. */
  readonly unknown: Map<string, Set<string>>
  /** Classes whose rule said, before its state was lost, that a bound of its may not hold. */
  readonly unmended: Set<string>
  /** Histories, by stage, that ended where the disk had lost them. */
  readonly abandoned: (readonly (readonly StageEvent[])[])[]
}
export const emptyArchive = (): Archive => ({
  states: [],
  changedAfter: new Map(),
  steps: new Map(),
  damaged: new Map(),
  unknown: new Map(),
  unmended: new Set(),
  abandoned: [],
})

export interface RecordedStage extends Stage {
  readonly history: () => readonly StageEvent[]
}
export interface RecordedReader extends StageReader {
  readonly stage: RecordedStage
}

const numberBytes = 8
/** More than a turn takes: each piece ends one. */
const muchPoints = 1_000_000

function* slowly<T>(pieces: Pieces<T>): Pieces<T> {
  for (let next = pieces.next(); ; next = pieces.next()) {
    if (next.done === true) return next.value
    yield muchPoints
  }
}
function* done<T>(value: T): Pieces<T> {
  yield 0
  return value
}

const numberOf = (state: Uint8Array): number =>
  Buffer.from(state.subarray(0, numberBytes)).readDoubleBE()

/** Before this row, or its log, is damaged: what they stand for is remembered. */
export const rememberDamaged = (
  archive: Archive,
  { reader, state, log, checkpoint }: StageRow,
  cursor: number,
): void => {
  // One that is damaged already stands for what it stood for then.
  if (state === null) return
  const decided = log.findLast(({ bytes }) => bytes.length >= numberBytes)
  let last = archive.states[numberOf(decided?.bytes ?? state)] ?? null
  const from = decided?.seq ?? checkpoint
  const through = Math.max(from, cursor)
  for (let seq = from + 1; seq <= through; seq++) {
    const step = archive.steps.get(seq)
    if (step !== undefined) last = { event: { kind: 'step', seq, ...step }, before: last }
  }
  archive.damaged.set(reader.slice(1), { last, through, again: new Set() })
}
/** All is stepped again that is left: what was newest of a series, and is not among it, nobody can know. */
const noteUnknown = (archive: Archive, stage: string, { last, again }: Damaged): void => {
  const unknown = archive.unknown.get(stage) ?? new Set()
  archive.unknown.set(stage, unknown)
  const newestUs = new Map<string, { knownUs: number; goneUs: number }>()
  const met = new Set<string>()
  for (let node = last; node !== null; node = node.before) {
    const { event } = node
    if (event.kind !== 'step') continue
    const known = again.has(event.seq)
    event.points.series.forEach((series, at) => {
      const { name } = event.entry(series)
      if (!met.has(name) && !known) unknown.add(name)
      met.add(name)
      const newest = newestUs.get(name) ?? { knownUs: -Infinity, goneUs: -Infinity }
      newestUs.set(name, newest)
      const us = event.points.timeUs[at] as number
      if (known) newest.knownUs = Math.max(newest.knownUs, us)
      else newest.goneUs = Math.max(newest.goneUs, us)
    })
  }
  for (const [name, { knownUs, goneUs }] of newestUs) if (goneUs > knownUs) unknown.add(name)
}

const recorded = (
  inner: Stage,
  prefix: string,
  archive: Archive,
  config: number,
): RecordedStage => {
  let last: Node | null = null
  let damaged: Damaged | null = null
  const note = (event: StageEvent) => {
    last = { event, before: last }
  }
  const renamed = (derived: readonly Derived[]): readonly Derived[] =>
    derived.map(({ lane, points, entry }) => ({
      lane,
      points,
      entry: (series) => {
        const own = entry(series)
        return { ...own, name: prefix + own.name }
      },
    }))
  function* stepping(input: StageInput): Pieces<readonly Derived[]> {
    const { points, entry, seq } = input
    if (points.count > 0) archive.steps.set(seq, { points, entry })
    // Begun anew, it steps what the state before had been through.
    if (points.count > 0 && seq <= (damaged?.through ?? 0)) damaged?.again.add(seq)
    else note({ kind: 'step', seq, points, entry })
    if (points.count === 0 && damaged !== null) noteUnknown(archive, inner.name, damaged)
    const changes = points.count === 0 && config > 0 && !archive.changedAfter.has(inner.name)
    if (changes) archive.changedAfter.set(inner.name, seq)
    // In many pieces, however small: commits, kills and pressure come in between.
    return renamed(yield* slowly(inner.stepping?.(input) ?? done(inner.step(input))))
  }
  function* ticking(nowUs: number, raw: StageInput['raw']): Pieces<readonly Derived[]> {
    note({ kind: 'tick', nowUs })
    return renamed(yield* slowly(inner.ticking?.(nowUs, raw) ?? done(inner.tick(nowUs, raw))))
  }
  return {
    ...inner,
    stepping,
    ticking,
    step: (input) => atOnce(stepping(input)),
    tick: (nowUs, raw) => atOnce(ticking(nowUs, raw)),
    letGo: (beforeUs, raw) => {
      note({ kind: 'letGo', beforeUs })
      return renamed(inner.letGo(beforeUs, raw))
    },
    save: () => {
      const state = inner.save()
      const bytes = new Uint8Array(numberBytes + state.length)
      new DataView(bytes.buffer).setFloat64(0, archive.states.push(last) - 1)
      bytes.set(state, numberBytes)
      return bytes
    },
    // What was decided brings its history along, as a state does; what is left of the new life begins behind it.
    decided: () => {
      const decided = inner.decided?.() ?? new Uint8Array(0)
      const bytes = new Uint8Array(numberBytes + decided.length)
      new DataView(bytes.buffer).setFloat64(0, archive.states.push(last) - 1)
      bytes.set(decided, numberBytes)
      return bytes
    },
    redo: (decided, input) => {
      inner.redo?.(decided.subarray(numberBytes), input)
      last = archive.states[numberOf(decided)] ?? null
      note({ kind: 'open', config, anew: false })
    },
    load: (state) => {
      inner.load(state === null ? null : state.subarray(numberBytes))
      damaged = state === null ? (archive.damaged.get(inner.name) ?? null) : null
      damaged?.again.clear()
      const number = state === null ? -1 : numberOf(state)
      last = damaged === null ? (archive.states[number] ?? null) : damaged.last
      note({ kind: 'open', config, anew: damaged !== null })
    },
    history: () => {
      const events: StageEvent[] = []
      for (let node = last; node !== null; node = node.before) events.push(node.event)
      return events.reverse()
    },
  }
}

export interface RealStages {
  readonly lane: string
  readonly agent: string
  readonly prefix: string
  /** Before a change of the configuration, and after it. */
  readonly configs: readonly (readonly SeriesClass[])[]
}
export const recordedStages = (
  { lane, agent, prefix, configs }: RealStages,
  archive: Archive,
  config: number,
): readonly RecordedReader[] =>
  stagesOf([{ lane, classes: configs[config] ?? [], timeZone: 'UTC', agent }]).map((reader) => ({
    ...reader,
    stage: recorded(reader.stage, prefix, archive, config),
  }))
