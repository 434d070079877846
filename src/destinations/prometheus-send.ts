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
import { createSameFault, type Trial } from './same-fault.ts'
import { createSeriesCache } from './series-cache.ts'
import { createStallLimit } from './stall-limit.ts'

type Setback = Extract<Outcome, { kind: 'later' | 'blocked' | 'smaller' }>
export interface PrometheusParts {
  readonly deps: Pick<DestinationDeps, 'name' | 'agent' | 'spool'> & { readonly host: Host }
  /** One write; never rejects for trouble on the way. */
  readonly post: (samples: readonly Sample[], signal: AbortSignal) => Promise<PrometheusReading>
  readonly held: AskHeld
}

const samplesMax = 5_000
/** On a link that lets no more through in time. */
const stalledSamplesMin = 100
const arrivalsBetweenTries = 8
/** Samples tried alone, to learn whether the server takes any. */
const probesMax = 8
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
  readonly laneId: number
  readonly segments: number
  readonly losses: Losses
  taken: number
  refused: number
  /** The sample that was taken last: nothing changes when it comes once more. */
  control: PlacedSample | undefined
  /** The same 5xx too often: what of the batch brings it about is searched for. */
  searching: boolean
}

export const createPrometheusSender = (parts: PrometheusParts) => {
  const { deps, post, held } = parts
  const { host, name: destination, agent } = deps
  const series = createSeriesCache<SampledSeries>(deps.spool, () => (entry) => ({
    name: entry.name,
    labels: labelsOf(agent, entry),
  }))
  const tell = createLossTeller(host, destination)
  const stalls = createStallLimit({
    ...{ most: samplesMax, least: stalledSamplesMin, arrivalsBetweenTries },
  })
  const faults = createSameFault(host.clock)
  const placeOf = ({ laneId }: Sending, { samples: [first], seq }: Request) =>
    `${laneId}/${seq}/${first?.at}`

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
  const trial = async (sample: Sample, signal: AbortSignal): Promise<Trial> => {
    const said = await post([sample], signal)
    if (said.kind === 'taken') return { kind: 'taken' }
    if (said.kind !== 'setback' || said.fault === undefined) return { kind: 'other' }
    return { kind: 'fault', text: said.fault }
  }
  /** The first samples of some series, alone, until one is taken: none of a series may come before an earlier one. */
  const takesAny = async (sending: Sending, { samples }: Request, signal: AbortSignal) => {
    const firsts = samples.filter(({ labels }, at) => samples[at - 1]?.labels !== labels)
    if (samples.length === 1) return sending.control !== undefined
    for (let at = 0; at < probesMax && sending.control === undefined; at++) {
      const sample = firsts[Math.floor((at * firsts.length) / probesMax)] as PlacedSample
      const said = await trial(sample, signal)
      if (said.kind === 'taken') sending.control = sample
      else if (said.kind === 'other') return false
    }
    return sending.control !== undefined
  }
  /** A 5xx: later, unless it comes again and again while the server takes other samples of the write. */
  const faulty = async (
    sending: Sending,
    request: Request,
    { setback, fault }: Extract<PrometheusReading, { kind: 'setback' }>,
    signal: AbortSignal,
  ): Promise<Setback | undefined> => {
    if (fault === undefined) return setback
    if (!sending.searching) {
      if (!faults.again(placeOf(sending, request), fault)) return setback
      if (!(await takesAny(sending, request, signal))) return setback
      sending.searching = true
    }
    const { samples, seq } = request
    const [only] = samples
    if (only === undefined || samples.length > 1) return await halves(sending, request, signal)
    const { control } = sending
    if (control === undefined) return setback
    const alone = () => trial(only, signal)
    const verdict = await faults.judge(fault, alone, () => trial(control, signal))
    if (verdict === 'blamed') return refuse(sending, only, seq, fault)
    if (verdict === 'taken') sending.taken++
    return verdict === 'taken' ? undefined : setback
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
        sending.control = samples.at(-1)
        faults.taken(placeOf(sending, request))
        stalls.arrived(samples.length)
        return undefined
      case 'setback':
        if (said.stalled) stalls.stalled(samples.length)
        return await faulty(sending, request, said, signal)
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
    for (let at = 0; at < samples.length; ) {
      const request = { samples: samples.slice(at, at + stalls.max()), seq, absent: false }
      at += request.samples.length
      const setback = await write(sending, request, signal)
      if (setback !== undefined) return setback
    }
    return undefined
  }
  return async (batch: SendBatch, signal: AbortSignal): Promise<Outcome> => {
    // A loss has no place there; it is told by the agent, and by a region.
    const segments = batch.items.filter((item) => item.type === 'segment')
    const losses = createLosses()
    const sending: Sending = {
      ...{ laneId: batch.laneId, segments: segments.length, losses, taken: 0, refused: 0 },
      ...{ control: undefined, searching: false },
    }
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
