/**
 * One batch as write requests, one after another, and the search for lines that a server refuses.
 *
 * Invariants: `stored` means that every point was answered 204, or is named as lost; a line is lost as refused only
 * alone in a request, and only when the server took others of the same batch (`influx-pins.ts`: or by what it said of
 * its series' type before); nothing is counted before the batch is
 * stored; a send holds one request's lines and the segments they are of.
 */
import { isFailure, textOf } from '../errors.ts'
import type { Host } from '../host.ts'
import { createLearnedLimit } from '../learned-limit.ts'
import type { Kind, Outcome, PointBatch, Rejection, Segment, SendBatch, Seq } from '../model.ts'
import type { DestinationDeps } from './destination.ts'
import type { InfluxDialect } from './influx-dialects.ts'
import {
  type LineSink,
  openForLines,
  type SeriesLine,
  textOfPoint,
  writeLines,
} from './influx-lines.ts'
import { createLosses, createLossTeller, type Losses } from './influx-losses.ts'
import type { LinePlace } from './influx-names.ts'
import { type InfluxReading, influxCodes } from './influx-outcome.ts'
import { createTypePins } from './influx-pins.ts'
import { createLineSeries } from './influx-series.ts'
import { createGapTeller } from './influx-tell.ts'
import { createTimeKeeper, type TimeLimits } from './influx-times.ts'
import { blocked, later } from './relay-outcome.ts'
import { createSameFault, type Trial } from './same-fault.ts'
import { createStallLimit } from './stall-limit.ts'

type Setback = Extract<Outcome, { kind: 'later' | 'blocked' | 'smaller' }>
export interface SenderParts {
  readonly deps: Pick<DestinationDeps, 'name' | 'agent' | 'spool'> & { readonly host: Host }
  readonly dialect: InfluxDialect
  readonly place: Omit<LinePlace, 'agent'>
  /** Times that the server holds; undefined: it says no to others itself. */
  readonly limits?: () => TimeLimits | undefined
  /** Lines of one request, uncompressed. */
  readonly bytesMax: number
  /** Where they go: a learned limit holds for that place. */
  readonly endpoint: string
  /** One write; never rejects for trouble on the way. */
  readonly post: (lines: readonly string[], signal: AbortSignal) => Promise<InfluxReading>
}

const linesMax = 10_000
/** On a link that lets no more through in time. */
const stalledBytesMin = 16 * 1024
const arrivalsBetweenTries = 8
/** Each costs about 2·log2(lines) requests to find. */
const refusedMax = 100
/** A server that took nothing yet and refused so many is itself what is wrong. */
const refusedAtFirstMax = 10
/** Lines tried alone, to learn whether the server takes any: points come series by series, the first may be bad. */
const probesMax = 8
/** Answers of a batch that are followed in whom they blame; then it is halves again. */
const blamesMax = 16

interface Sending {
  readonly lane: string
  readonly laneId: number
  readonly replay: boolean
  readonly segments: number
  readonly losses: Losses
  taken: number
  refused: number
  probed: boolean
  blames: number
  /** The line that was taken last: nothing changes when it comes once more. */
  control: string | undefined
  /** The same 5xx too often: what of the batch brings it about is searched for. */
  searching: boolean
}
const noneYet = {
  ...{ taken: 0, refused: 0, probed: false, blames: 0 },
  ...{ control: undefined, searching: false },
}
/** Lines of one request, and where each comes from. */
interface Lines {
  readonly texts: string[]
  /** Of each line, its point in the segment of its run. */
  readonly at: number[]
  readonly runs: Run[]
  bytes: number
}
interface Run {
  /** Its first line. */
  readonly from: number
  readonly seq: Seq
  readonly points: PointBatch
  readonly names: readonly SeriesLine[]
}
const bytesOf = (texts: readonly string[]) => texts.reduce((sum, one) => sum + one.length + 1, 0)
const noLines = (): Lines => ({ texts: [], at: [], runs: [], bytes: 0 })

export const createInfluxSender = (parts: SenderParts) => {
  const { deps, post } = parts
  const { host, name: destination } = deps
  const { dialect, limits = () => undefined } = parts
  const place = { ...parts.place, agent: deps.agent }
  const series = createLineSeries({ deps, dialect, place })
  const times = createTimeKeeper(dialect.timeUnitUs, limits)
  const limit = createLearnedLimit({
    ...{ spool: deps.spool, key: `destinations/${destination}/limit`, endpoint: parts.endpoint },
    bytesMax: parts.bytesMax,
    onLearned: (bytesMax) => {
      host.log.info('request_limit_learned', { bytesMax })
    },
  })
  const stalls = createStallLimit({
    ...{ most: parts.bytesMax, least: stalledBytesMin, arrivalsBetweenTries },
  })
  const faults = createSameFault(host.clock)
  let loading: Promise<void> | undefined
  const tell = createLossTeller(host, destination)
  const tellThere = createGapTeller(parts)
  const pins = createTypePins(host.clock)

  const refusesAll = (text: string): Setback =>
    blocked(
      influxCodes.refusesAll,
      `the server refuses every point: ${text}`,
      'Types of fields, names or limits of the server: mend it there, nothing was dropped.',
    )
  const originOf = (lines: Lines, line: number) => {
    const { seq, points, names } = lines.runs.findLast(({ from }) => from <= line) as Run
    const at = lines.at[line] as number
    const series = names[points.series[at] as number] as SeriesLine
    return { seq, at, series, kind: points.kinds[at] as Kind, timeUs: points.timeUs[at] as number }
  }
  const placeOf = ({ laneId }: Sending, lines: Lines, [first = 0]: readonly number[]): string => {
    const { seq, at } = originOf(lines, first)
    return `${laneId}/${seq}/${at}`
  }
  /** Lines of one time stay in order: the last one of a series stands. */
  const oldestFirst = (lines: Lines, which: readonly number[]): readonly number[] =>
    which
      .map((line) => ({ line, timeUs: originOf(lines, line).timeUs }))
      .sort((a, b) => a.timeUs - b.timeUs)
      .map(({ line }) => line)
  const lose = (
    { losses }: Sending,
    lines: Lines,
    line: number,
    why: 'retention' | 'refused',
    text: string,
  ) => {
    const { series, ...place } = originOf(lines, line)
    losses.add({ ...place, why, text, series: series.name })
  }
  const refuse = (
    sending: Sending,
    lines: Lines,
    line: number,
    text: string,
  ): Setback | undefined => {
    lose(sending, lines, line, 'refused', text)
    const { series, kind } = originOf(lines, line)
    if (sending.taken > 0) pins.refused(series, kind, text)
    sending.refused++
    const most = sending.taken === 0 ? refusedAtFirstMax : refusedMax
    return sending.refused > most ? refusesAll(text) : undefined
  }
  /** Without what the server is known to refuse. */
  const unpinned = (sending: Sending, lines: Lines, which: readonly number[]) => {
    // Sent again on purpose: the server may have been mended.
    if (sending.replay || pins.none()) return which
    return which.filter((line) => {
      const { series, kind } = originOf(lines, line)
      if (!pins.has(series, kind)) return true
      lose(sending, lines, line, 'refused', 'the field is of another type there')
      return false
    })
  }
  /**
   * Whether the server no longer keeps even the newest of these lines: then it keeps none. Asked with that line alone,
   * which is sent again in its place if it was taken. A time to come says nothing of the others.
   */
  const allTooOld = async (
    lines: Lines,
    which: readonly number[],
    signal: AbortSignal,
  ): Promise<boolean | Setback> => {
    const timeOf = (line: number) => originOf(lines, line).timeUs
    const newest = which.reduce((best, line) => (timeOf(line) > timeOf(best) ? line : best))
    if (which.length === 1) return true
    if (timeOf(newest) > host.clock.nowUs()) return false
    const said = await post([lines.texts[newest] as string], signal)
    if (said.kind === 'setback') return said.setback
    return said.kind === 'out-of-keep'
  }
  /** One line each of series that lie apart, until one is taken; it is sent again in its place. */
  const probe = async (
    sending: Sending,
    lines: Lines,
    which: readonly number[],
    signal: AbortSignal,
  ): Promise<Setback | undefined> => {
    sending.probed = true
    const ends = [...new Map(which.map((line) => [originOf(lines, line).series, line])).values()]
    const step = Math.max(1, Math.floor(ends.length / probesMax))
    for (let at = ends.length - 1; at > 0 && sending.taken === 0; at -= step) {
      const said = await post([lines.texts[ends[at] as number] as string], signal)
      if (said.kind === 'setback') return said.setback
      if (said.kind === 'taken') sending.taken++
    }
    return undefined
  }
  /** Some lines alone, from all over the write, until one is taken; each is sent again in its place. */
  const takesAny = async (
    sending: Sending,
    lines: Lines,
    which: readonly number[],
    signal: AbortSignal,
  ): Promise<boolean> => {
    for (let at = 0; at < probesMax && sending.control === undefined; at++) {
      const line = which[Math.floor(((at + 0.5) * which.length) / probesMax)] as number
      const text = lines.texts[line] as string
      const said = which.length === 1 ? undefined : await post([text], signal)
      if (said?.kind === 'taken') sending.control = text
      else if (said?.kind !== 'setback' || said.fault === undefined) return false
    }
    return sending.control !== undefined
  }
  const trial = async (text: string, signal: AbortSignal): Promise<Trial> => {
    const said = await post([text], signal)
    if (said.kind === 'taken') return { kind: 'taken' }
    if (said.kind !== 'setback' || said.fault === undefined) return { kind: 'other' }
    return { kind: 'fault', text: said.fault }
  }
  /** A 5xx: later, unless it comes again and again while the server takes other lines of the write. */
  const faulty = async (
    sending: Sending,
    lines: Lines,
    which: readonly number[],
    { setback, fault }: Extract<InfluxReading, { kind: 'setback' }>,
    halves: () => Promise<Setback | undefined>,
    signal: AbortSignal,
  ): Promise<Setback | undefined> => {
    if (fault === undefined) return setback
    if (!sending.searching) {
      if (!faults.again(placeOf(sending, lines, which), fault)) return setback
      if (!(await takesAny(sending, lines, which, signal))) return setback
      sending.searching = true
    }
    const [first] = which
    if (first === undefined || which.length > 1) return await halves()
    const { control } = sending
    if (control === undefined) return setback
    const alone = () => trial(lines.texts[first] as string, signal)
    const verdict = await faults.judge(fault, alone, () => trial(control, signal))
    if (verdict === 'blamed') return refuse(sending, lines, first, fault)
    if (verdict === 'taken') sending.taken++
    return verdict === 'taken' ? undefined : setback
  }
  const write = async (
    sending: Sending,
    lines: Lines,
    given: readonly number[],
    signal: AbortSignal,
  ): Promise<Setback | undefined> => {
    const which = unpinned(sending, lines, given)
    const [first] = which
    if (first === undefined) return undefined
    const inParts = async (parts: readonly (readonly number[])[]) => {
      for (const part of parts) {
        const setback = await write(sending, lines, part, signal)
        if (setback !== undefined) return setback
      }
      return undefined
    }
    const middle = which.length >> 1
    const halves = () => inParts([which.slice(0, middle), which.slice(middle)])
    const texts = which.map((line) => lines.texts[line] as string)
    const said = await post(texts, signal)
    switch (said.kind) {
      case 'taken':
        sending.taken += which.length
        sending.control = texts.at(-1)
        faults.taken(placeOf(sending, lines, which))
        stalls.arrived(bytesOf(texts))
        await limit.taken()
        return undefined
      case 'too-old':
        for (const line of which) lose(sending, lines, line, 'retention', said.text)
        return undefined
      case 'out-of-keep': {
        const all = await allTooOld(lines, which, signal)
        if (typeof all === 'object') return all
        if (!all) return await halves()
        for (const line of which) lose(sending, lines, line, 'retention', said.text)
        return undefined
      }
      case 'setback':
        if (said.stalled) stalls.stalled(bytesOf(texts))
        return await faulty(sending, lines, which, said, halves, signal)
      case 'suspect': {
        if (which.length === 1) return refuse(sending, lines, first, said.text)
        if (said.tooOld !== undefined && said.tooOld < which.length && said.tooOld > 0) {
          // The others together: one that is a little too old is taken beside a younger one that shares its shard.
          const sorted = oldestFirst(lines, which)
          return await inParts([sorted.slice(said.tooOld), sorted.slice(0, said.tooOld)])
        }
        const listen = sending.blames++ < blamesMax
        const blamed = new Set(listen ? said.lines?.flatMap((at) => which[at] ?? []) : [])
        const others = which.filter((line) => !blamed.has(line))
        // Not believed, but looked at first: whoever is blamed wrongly is taken when it comes alone.
        if (blamed.size > 0 && others.length > 0)
          return await inParts([others, ...[...blamed].map((line) => [line])])
        const unprobed = sending.taken === 0 && !sending.probed
        const setback = unprobed ? await probe(sending, lines, which, signal) : undefined
        return setback ?? (await halves())
      }
      case 'too-big': {
        if (which.length === 1) return refuse(sending, lines, first, said.text)
        await limit.tooBig(bytesOf(texts))
        // Never "smaller" for a single segment, which would be given up: its lines can be cut.
        return sending.segments > 1 ? { kind: 'smaller', text: said.text } : await halves()
      }
    }
  }
  /** Sends what is full; what is left waits in the answer for the next segment's lines. */
  const sendSegment = async (
    sending: Sending,
    begun: Lines,
    { bytes, seq }: Segment,
    signal: AbortSignal,
  ): Promise<Lines | Setback> => {
    const { epoch, dictionaryLength, points } = openForLines(bytes)
    const names = await series.of(epoch, dictionaryLength)
    if (names === undefined) return later(`the spool does not hold the series of epoch ${epoch}`)
    let lines = begun
    const sink: LineSink = {
      line: (text, at) => {
        lines.texts.push(text)
        lines.at.push(at)
        lines.bytes += text.length + 1
      },
      leaveOut: (why, at, text) => {
        const { name: series } = names[points.series[at] as number] as SeriesLine
        sending.losses.add({ why, text, seq, at, series, timeUs: points.timeUs[at] as number })
      },
    }
    const full = () =>
      lines.texts.length >= linesMax || lines.bytes >= Math.min(limit.bytesMax(), stalls.max())
    const { leaveOut } = sink
    const holds = (at: number) =>
      names[points.series[at] as number]?.start !== undefined &&
      'text' in textOfPoint(points, at, dialect)
    const { laneId } = sending
    const passed = times.look({ epoch, laneId, seq, points, holds, leaveOut })
    for (let next = 0; next < points.count; ) {
      lines.runs.push({ from: lines.texts.length, seq, points, names })
      next = writeLines(points, names, dialect, passed, next, sink, full)
      if (!full()) break
      const setback = await write(sending, lines, [...lines.texts.keys()], signal)
      if (setback !== undefined) return setback
      lines = noLines()
    }
    return lines
  }
  return async (batch: SendBatch, signal: AbortSignal): Promise<Outcome> => {
    loading ??= limit.load()
    await loading
    const segments = batch.items.filter((item) => item.type === 'segment')
    const losses = createLosses()
    const { lane, laneId, replay } = batch
    const sending: Sending = { ...noneYet, lane, laneId, replay, segments: segments.length, losses }
    const rejected: Rejection[] = []
    let lines = noLines()
    for (const segment of segments) {
      try {
        const rest = await sendSegment(sending, lines, segment, signal)
        if ('kind' in rest) return rest
        lines = rest
      } catch (error) {
        if (!isFailure(error) || !error.code.startsWith('HF-K')) throw error
        rejected.push({ seq: segment.seq, text: textOf(error) })
      }
    }
    if (lines.texts.length > 0) {
      const setback = await write(sending, lines, [...lines.texts.keys()], signal)
      if (setback !== undefined) return setback
    }
    if (sending.taken === 0 && sending.refused > 0)
      return refusesAll(losses.byReason().get('refused')?.text ?? '')
    if (rejected.length > 0) return { kind: 'stored', rejected }
    const setback = await tellThere(batch, losses, signal)
    if (setback !== undefined) return setback
    tell(batch.lane, losses)
    const lost = losses.lost()
    return { kind: 'stored', rejected, ...(lost.length === 0 ? {} : { lost }) }
  }
}
