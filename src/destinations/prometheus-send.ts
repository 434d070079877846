/**
 * One batch as remote writes, one after another, and the search for samples that a server refuses.
 *
 * A refused request leaves nothing behind, and says neither why nor which: it may be there already (an answer was
 * lost), or hold a sample that is late. So the server is asked what it holds.
 *
 * Invariants: `stored` means that every point was answered 204, was found there by itself, or is named as lost; a
 * sample is lost as refused only alone in a request, after it was looked for, and only when the server took others of
 * the same batch or holds them; nothing is counted before the batch is stored.
 */
import { openSegment } from '../codec/segment.ts'
import { isFailure, textOf } from '../errors.ts'
import type { Host } from '../host.ts'
import type { Outcome, Rejection, Segment, SendBatch, Seq } from '../model.ts'
import { labelsOf, type Sample, selectorOf } from '../protocol/remote-write.ts'
import type { DestinationDeps } from './destination.ts'
import { createLosses, createLossTeller, type Losses } from './influx-losses.ts'
import { type AskHeld, missingOf } from './prometheus-held.ts'
import { lateHint, type PrometheusReading, prometheusCodes } from './prometheus-outcome.ts'
import { type PlacedSample, type SampledSeries, samplesOf } from './prometheus-samples.ts'
import { blocked, later } from './relay-outcome.ts'
import { createSeriesCache } from './series-cache.ts'

type Setback = Extract<Outcome, { kind: 'later' | 'blocked' | 'smaller' }>
export interface PrometheusParts {
  readonly deps: Pick<DestinationDeps, 'name' | 'agent' | 'spool'> & { readonly host: Host }
  /** One write; never rejects for trouble on the way. */
  readonly post: (samples: readonly Sample[], signal: AbortSignal) => Promise<PrometheusReading>
  readonly held: AskHeld
}

const samplesMax = 5_000
/** Each costs about 2·log2(samples) requests to find. */
const refusedMax = 100
/** A server that took nothing yet and refused so many is itself what is wrong. */
const refusedAtFirstMax = 10

/** Of one segment; `absent`: known not to be there. */
interface Request {
  readonly samples: readonly PlacedSample[]
  readonly seq: Seq
  readonly absent: boolean
}
interface Sending {
  readonly segments: number
  readonly losses: Losses
  taken: number
  refused: number
}

export const createPrometheusSender = (parts: PrometheusParts) => {
  const { deps, post, held } = parts
  const { host, name: destination, agent } = deps
  const series = createSeriesCache<SampledSeries>(deps.spool, () => (entry) => ({
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
  const halves = async (
    sending: Sending,
    { samples, seq, absent }: Request,
    signal: AbortSignal,
  ): Promise<Setback | undefined> => {
    const middle = samples.length >> 1
    return (
      (await write(sending, { samples: samples.slice(0, middle), seq, absent }, signal)) ??
      (await write(sending, { samples: samples.slice(middle), seq, absent }, signal))
    )
  }
  /** A refused request: what of it is there is looked up once, the rest goes by halves until the refused is alone. */
  const search = async (
    sending: Sending,
    { samples, seq, absent }: Request,
    text: string,
    signal: AbortSignal,
  ): Promise<Setback | undefined> => {
    if (!absent) {
      const missing = await missingOf(samples, held, signal)
      if ('kind' in missing) return missing
      sending.taken += samples.length - missing.length
      if (missing.length === 0) return undefined
      if (missing.length < samples.length)
        return write(sending, { samples: missing, seq, absent: true }, signal)
    }
    const [only] = samples
    return only !== undefined && samples.length === 1
      ? refuse(sending, only, seq, text)
      : halves(sending, { samples, seq, absent: true }, signal)
  }
  const write = async (
    sending: Sending,
    request: Request,
    signal: AbortSignal,
  ): Promise<Setback | undefined> => {
    const { samples, seq } = request
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
        return halves(sending, request, signal)
      case 'suspect':
        return search(sending, request, said.text, signal)
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
      const request = { samples: samples.slice(at, at + samplesMax), seq, absent: false }
      const setback = await write(sending, request, signal)
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
