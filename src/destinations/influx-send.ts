/**
 * One batch as write requests, one after another, and the search for lines that a server refuses.
 *
 * Invariants: `stored` means that every line was answered 204, or is counted as left out; a line is left out as
 * refused only alone in a request, and only when the server took others of the same batch; nothing is counted before
 * the batch is stored; a send holds one opened segment and one request's lines at a time.
 */
import { isFailure, textOf } from '../errors.ts'
import type { Host } from '../host.ts'
import type { Outcome, Rejection, Segment, SendBatch } from '../model.ts'
import type { DestinationDeps } from './destination.ts'
import {
  createSeriesLines,
  type LeftOuts,
  leaveOut,
  linesOf,
  openForLines,
  type Unholdable,
} from './influx-lines.ts'
import { type InfluxReading, influxCodes } from './influx-outcome.ts'
import { blocked, later } from './relay-outcome.ts'

type Setback = Extract<Outcome, { kind: 'later' | 'blocked' | 'smaller' }>
export interface SenderParts {
  readonly deps: Pick<DestinationDeps, 'name' | 'spool'> & { readonly host: Host }
  readonly unholdable: Unholdable
  /** Lines of one request, uncompressed. */
  readonly bytesMax: number
  /** One write; never rejects for trouble on the way. */
  readonly post: (lines: readonly string[], signal: AbortSignal) => Promise<InfluxReading>
}

const linesMax = 10_000
/** Each costs about 2·log2(lines) requests to find. */
const refusedMax = 100
/** A server that took nothing yet and refused so many is itself what is wrong. */
const refusedAtFirstMax = 10
const requestsBetweenTries = 256
const logEveryMs = 60_000

interface Sending {
  readonly lane: string
  readonly segments: number
  readonly leftOut: LeftOuts
  taken: number
  refused: number
}

export const createInfluxSender = (parts: SenderParts) => {
  const { deps, post } = parts
  const { host, name: destination } = deps
  const series = createSeriesLines(deps.spool)
  let bytesMax = parts.bytesMax
  let requests = 0
  let loggedMs = Number.NEGATIVE_INFINITY

  /** A limit may have been somebody's in between who is gone. */
  const widen = () => {
    if (bytesMax >= parts.bytesMax || ++requests < requestsBetweenTries) return
    bytesMax = Math.min(parts.bytesMax, bytesMax * 2)
    requests = 0
  }
  const refusesAll = (text: string): Setback =>
    blocked(
      influxCodes.refusesAll,
      `the server refuses every point: ${text}`,
      'Types of fields, names or limits of the server: mend it there, nothing was dropped.',
    )
  const refuse = (sending: Sending, line: string, text: string): Setback | undefined => {
    leaveOut(sending.leftOut, 'refused', `${text} (${line.slice(0, 200)})`)
    sending.refused++
    const most = sending.taken === 0 ? refusedAtFirstMax : refusedMax
    return sending.refused > most ? refusesAll(text) : undefined
  }
  const halves = async (
    sending: Sending,
    lines: readonly string[],
    signal: AbortSignal,
  ): Promise<Setback | undefined> => {
    const middle = lines.length >> 1
    return (
      (await write(sending, lines.slice(0, middle), signal)) ??
      (await write(sending, lines.slice(middle), signal))
    )
  }
  const write = async (
    sending: Sending,
    lines: readonly string[],
    signal: AbortSignal,
  ): Promise<Setback | undefined> => {
    const said = await post(lines, signal)
    switch (said.kind) {
      case 'taken':
        sending.taken += lines.length
        widen()
        return undefined
      case 'too-old':
        leaveOut(sending.leftOut, 'retention', said.text, lines.length)
        return undefined
      case 'setback':
        return said.setback
      case 'suspect':
      case 'too-big': {
        const [line] = lines
        if (line !== undefined && lines.length === 1) return refuse(sending, line, said.text)
        if (said.kind === 'suspect') return halves(sending, lines, signal)
        const bytes = lines.reduce((sum, one) => sum + one.length + 1, 0)
        bytesMax = Math.max(1, Math.min(bytesMax, bytes >> 1))
        requests = 0
        host.log.info('request_limit_learned', { destination, bytesMax })
        // Never "smaller" for a single segment, which would be given up: its lines can be cut.
        if (sending.segments > 1) return { kind: 'smaller', text: said.text }
        return halves(sending, lines, signal)
      }
    }
  }
  /** Sends what is full; the rest waits for the next segment's lines. */
  const sendSegment = async (
    sending: Sending,
    waiting: Waiting,
    segment: Segment,
    signal: AbortSignal,
  ): Promise<Setback | undefined> => {
    const { epoch, dictionaryLength, points } = openForLines(segment)
    const names = await series.of(epoch, dictionaryLength)
    if (names === undefined) return later(`the spool does not hold the series of epoch ${epoch}`)
    for (const line of linesOf(points, names, parts.unholdable, sending.leftOut)) {
      const full = waiting.lines.length >= linesMax || waiting.bytes + line.length >= bytesMax
      if (full && waiting.lines.length > 0) {
        const setback = await write(sending, waiting.take(), signal)
        if (setback !== undefined) return setback
      }
      waiting.add(line)
    }
    return undefined
  }
  const tell = ({ leftOut, lane }: Sending) => {
    for (const [reason, { count }] of leftOut) {
      const labels = { destination, reason }
      host.meter.count('holdfast_destination_points_left_out_total', count, labels)
    }
    const nowMs = host.clock.monotonicMs()
    if (leftOut.size === 0 || nowMs - loggedMs < logEveryMs) return
    loggedMs = nowMs
    for (const [reason, { count, text }] of leftOut)
      host.log.error('points_left_out', { destination, lane, reason, count, text })
  }

  return async (batch: SendBatch, signal: AbortSignal): Promise<Outcome> => {
    // A loss has no place in these systems; it is told by the agent, and by a region.
    const segments = batch.items.filter((item) => item.type === 'segment')
    const { lane } = batch
    const leftOut: LeftOuts = new Map()
    const sending: Sending = { lane, segments: segments.length, leftOut, taken: 0, refused: 0 }
    const rejected: Rejection[] = []
    const waiting = createWaiting()
    for (const segment of segments) {
      try {
        const setback = await sendSegment(sending, waiting, segment, signal)
        if (setback !== undefined) return setback
      } catch (error) {
        if (!isFailure(error) || !error.code.startsWith('HF-K')) throw error
        rejected.push({ seq: segment.seq, text: textOf(error) })
      }
    }
    if (waiting.lines.length > 0) {
      const setback = await write(sending, waiting.take(), signal)
      if (setback !== undefined) return setback
    }
    if (sending.taken === 0 && sending.refused > 0)
      return refusesAll(leftOut.get('refused')?.text ?? '')
    if (rejected.length === 0) tell(sending)
    return { kind: 'stored', rejected }
  }
}

interface Waiting {
  readonly lines: readonly string[]
  readonly bytes: number
  readonly add: (line: string) => void
  readonly take: () => readonly string[]
}
const createWaiting = (): Waiting => {
  let lines: string[] = []
  let bytes = 0
  return {
    get lines() {
      return lines
    },
    get bytes() {
      return bytes
    },
    add: (line) => {
      lines.push(line)
      bytes += line.length + 1
    },
    take: () => {
      const taken = lines
      lines = []
      bytes = 0
      return taken
    },
  }
}
