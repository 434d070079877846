/**
 * One batch as remote writes, one after another, and the search for samples that a server refuses.
 *
 * A refused request leaves nothing behind, and says neither why nor which: it may be there already (an answer was
 * lost), or hold a sample that is late. So the server is asked what it holds.
 *
 * Invariants: a segment is cut the same way each time, so that a request sent again is wholly there or not at all;
 * `stored` means that every point was answered 204, was found there, or is named as lost; a sample is lost as
 * refused only alone in a request, and only when the server took others of the same batch; nothing is counted before
 * the batch is stored.
 */
import { openSegment } from '../codec/segment.ts'
import { isFailure, textOf } from '../errors.ts'
import type { Host } from '../host.ts'
import type { Outcome, Rejection, Segment, SendBatch, Seq } from '../model.ts'
import { labelsOf, type Sample, selectorOf } from '../protocol/remote-write.ts'
import type { DestinationDeps } from './destination.ts'
import { createLosses, createLossTeller, type Losses } from './influx-losses.ts'
import {
  lateHint,
  type PrometheusReading,
  type PrometheusSetback,
  prometheusCodes,
} from './prometheus-outcome.ts'
import { type PlacedSample, type SampledSeries, samplesOf } from './prometheus-samples.ts'
import { blocked, later } from './relay-outcome.ts'
import { createSeriesCache } from './series-cache.ts'

type Setback = Extract<Outcome, { kind: 'later' | 'blocked' | 'smaller' }>
export interface PrometheusParts {
  readonly deps: Pick<DestinationDeps, 'name' | 'agent' | 'spool'> & { readonly host: Host }
  /** One write; never rejects for trouble on the way. */
  readonly post: (samples: readonly Sample[], signal: AbortSignal) => Promise<PrometheusReading>
  /** The value the server holds at a sample's series and time. */
  readonly held: (
    sample: Sample,
    signal: AbortSignal,
  ) => Promise<number | undefined | PrometheusSetback>
}

const samplesMax = 5_000
/** Each costs about 8·log2(samples) requests to find. */
const refusedMax = 100
/** A server that took nothing yet and refused so many is itself what is wrong. */
const refusedAtFirstMax = 10

interface Sending {
  readonly segments: number
  readonly losses: Losses
  taken: number
  refused: number
}

export const createPrometheusSender = (parts: PrometheusParts) => {
  const { deps, post, held } = parts
  const { host, name: destination, agent } = deps
  const series = createSeriesCache<SampledSeries>(deps.spool, (entry) => ({
    name: entry.name,
    labels: labelsOf(agent, entry),
  }))
  const tell = createLossTeller(host, destination)

  const refusesAll = (text: string): Setback =>
    blocked(prometheusCodes.refusesAll, `the server refuses the samples: ${text}`, lateHint)
  const refuse = (
    sending: Sending,
    { labels, ms, at }: PlacedSample,
    seq: Seq,
    text: string,
  ): Setback | undefined => {
    const series = labels.find(([label]) => label === 'holdfast_series')?.[1] ?? selectorOf(labels)
    sending.losses.add({ why: 'refused', text, seq, at, series, timeUs: ms * 1_000 })
    sending.refused++
    const most = sending.taken === 0 ? refusedAtFirstMax : refusedMax
    return sending.refused > most ? refusesAll(text) : undefined
  }
  /** Whether a refused request stands there already: its first, its middle and its last sample do. */
  const isThere = async (
    samples: readonly PlacedSample[],
    signal: AbortSignal,
  ): Promise<boolean | Setback> => {
    const looked = new Set([0, samples.length >> 1, samples.length - 1])
    for (const at of looked) {
      const sample = samples[at] as Sample
      const found = await held(sample, signal)
      if (typeof found === 'object') return found
      if (!Object.is(found, sample.value)) return false
    }
    return true
  }
  const halves = async (
    sending: Sending,
    samples: readonly PlacedSample[],
    seq: Seq,
    signal: AbortSignal,
  ): Promise<Setback | undefined> => {
    const middle = samples.length >> 1
    return (
      (await write(sending, samples.slice(0, middle), seq, signal)) ??
      (await write(sending, samples.slice(middle), seq, signal))
    )
  }
  const write = async (
    sending: Sending,
    samples: readonly PlacedSample[],
    seq: Seq,
    signal: AbortSignal,
  ): Promise<Setback | undefined> => {
    const said = await post(samples, signal)
    const [only] = samples
    switch (said.kind) {
      case 'taken':
        sending.taken += samples.length
        return undefined
      case 'setback':
        return said.setback
      case 'too-big':
        if (sending.segments > 1) return { kind: 'smaller', text: said.text }
        if (only !== undefined && samples.length === 1) return refuse(sending, only, seq, said.text)
        return halves(sending, samples, seq, signal)
      case 'suspect': {
        const there = await isThere(samples, signal)
        if (typeof there === 'object') return there
        if (there) sending.taken += samples.length
        else if (only !== undefined && samples.length === 1)
          return refuse(sending, only, seq, said.text)
        else return halves(sending, samples, seq, signal)
        return undefined
      }
    }
  }
  const sendSegment = async (
    sending: Sending,
    segment: Segment,
    signal: AbortSignal,
  ): Promise<Setback | undefined> => {
    const { header, points } = openSegment(segment.bytes)
    const names = await series.of(header.epoch, header.dictionaryLength)
    if (names === undefined)
      return later(`the spool does not hold the series of epoch ${header.epoch}`)
    const { seq } = segment
    const samples = samplesOf(points, names, (why, at, name, text) => {
      const timeUs = points.timeUs[at] as number
      sending.losses.add({ why, text, seq, at, series: name, timeUs })
    })
    for (let at = 0; at < samples.length; at += samplesMax) {
      const setback = await write(sending, samples.slice(at, at + samplesMax), seq, signal)
      if (setback !== undefined) return setback
    }
    return undefined
  }
  return async (batch: SendBatch, signal: AbortSignal): Promise<Outcome> => {
    // A loss has no place there; it is told by the agent, and by a region.
    const segments = batch.items.filter((item) => item.type === 'segment')
    const losses = createLosses()
    const sending: Sending = { segments: segments.length, losses, taken: 0, refused: 0 }
    const rejected: Rejection[] = []
    for (const segment of segments) {
      try {
        const setback = await sendSegment(sending, segment, signal)
        if (setback !== undefined) return setback
      } catch (error) {
        if (!isFailure(error) || !error.code.startsWith('HF-K')) throw error
        rejected.push({ seq: segment.seq, text: textOf(error) })
      }
    }
    if (sending.taken === 0 && sending.refused > 0)
      return refusesAll(losses.byReason().get('refused')?.text ?? '')
    if (rejected.length > 0) return { kind: 'stored', rejected }
    tell(batch.lane, losses)
    const lost = losses.lost()
    return { kind: 'stored', rejected, ...(lost.length === 0 ? {} : { lost }) }
  }
}
