/**
 * Raw on demand: points of chosen series and times, copied from what a lane still holds into the lane `replay`, which
 * goes to destinations like any other.
 *
 * Invariants: copies keep the order of what they were copied from, so none stands over a newer value in a region
 * (decision 0001); how far a copy has come is kept in the transaction that takes its points, under a key of its own, so
 * a restart goes on without a hole and without a second copy, whatever is asked for or cancelled meanwhile, and what
 * was no longer held is said; a copy runs at most `aheadSegmentsMax` ahead of the slowest destination, so it never
 * fills the spool; one copy runs at a time, in the order asked for.
 */
import { type BatchBuilder, createBatchBuilder } from '../batch.ts'
import { openSegment, orderOf, readHeader } from '../codec/segment.ts'
import { Failure, textOf } from '../errors.ts'
import { aborted, type Host } from '../host.ts'
import { segmentPointsMax } from '../limits.ts'
import {
  type EpochId,
  kinds,
  type LaneItem,
  type PointBatch,
  type SealOrder,
  type Segment,
  type Seq,
  type SeriesTable,
  type Service,
  windowTags,
} from '../model.ts'
import type { RangeEstimate, SpoolPort } from '../spool-port.ts'
import { meansSeries } from './globs.ts'

/** The lane copies go to; a configuration that wants them names it among its lanes. */
export const replayLane = 'replay'

type Range = readonly [first: Seq, last: Seq]
export interface SelectionRequest {
  /** Lane it reads. */
  readonly lane: string
  /** Globs over names of series, or over `name,tag=value`; one is enough. */
  readonly series: readonly string[]
  readonly fromUs: number
  /** Not included. */
  readonly toUs: number
}
export interface SelectionStatus extends SelectionRequest {
  readonly id: number
  readonly state: 'waiting' | 'running' | 'done' | 'cancelled' | 'failed'
  readonly seqFirst: Seq
  readonly seqLast: Seq
  /** Everything <= this is copied. */
  readonly seqDone: Seq
  readonly pointsCopied: number
  /** Segments of the range that were no longer held when it came to them: from, to. */
  readonly gone: readonly Range[]
  /** Why it failed, or what was no longer held; '' else. */
  readonly text: string
}
export interface Selections extends Service {
  readonly start: (request: SelectionRequest) => Promise<SelectionStatus>
  readonly list: () => readonly SelectionStatus[]
  /** False when it is over, or there is none. */
  readonly cancel: (id: number) => Promise<boolean>
  /** About how much it would copy, from a sample of the segments in the range. */
  readonly estimate: (request: SelectionRequest) => Promise<RangeEstimate>
}
export interface SelectionsParts {
  readonly spool: Pick<
    SpoolPort,
    'append' | 'kept' | 'keep' | 'read' | 'estimate' | 'dictionary' | 'lanes' | 'sealsBeside'
  >
  readonly series: Pick<SeriesTable, 'ref'>
  readonly host: Pick<Host, 'clock' | 'log'>
}

const key = 'selections'
/** Of the copy in work alone, in the transactions of its points: before the next one begins the list has it. */
const progressKey = 'selections/progress'
const jobsMax = 32
const readBytesMax = 512 * 1024
const aheadSegmentsMax = 16
const lookMs = 1_000
const sampleReads = 16
const entriesPerCall = 5_000
const goneMax = 16
/** Of a source's segment that follows there may be as much again: together they fit a segment. */
const runTextMax = 128 * 1024

const isOpen = ({ state }: SelectionStatus) => state === 'waiting' || state === 'running'
const encode = (state: unknown) => new TextEncoder().encode(JSON.stringify(state))
const decode = <T>(kept: Uint8Array | null): T | null =>
  kept === null ? null : JSON.parse(new TextDecoder().decode(kept))
type Progress = Pick<SelectionStatus, 'id' | 'state' | 'seqDone' | 'pointsCopied' | 'gone' | 'text'>

/** Numbers of the chosen series, by epoch: -1 for one that was not chosen. */
const createChosen = (parts: SelectionsParts, globs: readonly string[]) => {
  const byEpoch = new Map<EpochId, number[]>()
  return async (epoch: EpochId, length: number): Promise<readonly number[]> => {
    const numbers = byEpoch.get(epoch) ?? []
    byEpoch.set(epoch, numbers)
    while (numbers.length < length) {
      const entries = await parts.spool.dictionary(epoch, numbers.length, entriesPerCall)
      if (entries.length === 0) break
      for (const { name, tags, unit } of entries) {
        // Statistic series have the name of their own series, and a lane of their own.
        const made = tags.some(([tag]) => tag === windowTags.statistic)
        const chosen = !made && globs.some((glob) => meansSeries(glob, { name, tags }))
        numbers.push(chosen ? parts.series.ref(name, tags, unit) : -1)
      }
    }
    return numbers
  }
}
type Chosen = ReturnType<typeof createChosen>

/** The chosen points of one segment, into `out`. Returns the length of their texts. */
const copyInto = async (
  out: BatchBuilder,
  { header, points }: ReturnType<typeof openSegment>,
  chosen: Chosen,
  { fromUs, toUs }: SelectionRequest,
): Promise<number> => {
  const numbers = await chosen(header.epoch, header.dictionaryLength)
  const words = new Uint32Array(points.bits.buffer, points.bits.byteOffset, points.count * 2)
  let length = 0
  for (let at = 0; at < points.count; at++) {
    const series = numbers[points.series[at] as number] ?? -1
    const timeUs = points.timeUs[at] as number
    if (series < 0 || timeUs < fromUs || timeUs >= toUs) continue
    const kind = points.kinds[at] as 0 | 1 | 2 | 3
    const quality = points.qualities[at] as number
    const [low, high] = [words[at * 2] as number, words[at * 2 + 1] as number]
    if (kind === kinds.string) {
      const text = points.texts[low] as string
      length += text.length
      out.addText(series, timeUs, text, quality)
    } else out.addWords(series, timeUs, kind, quality, low, high)
  }
  return length
}
/**
 * What becomes one segment of copies: it has the order of the last it was copied from. All that its lane said of a
 * point in between is in it, and no other lane of sources said anything: no value comes to stand over a newer one.
 */
interface Run {
  order: SealOrder | undefined
  textLength: number
  seqDone: Seq
  gone: readonly Range[]
}
const runAfter = (seqDone: Seq): Run => ({ order: undefined, textLength: 0, seqDone, gone: [] })
const continues = (
  { order, textLength }: Run,
  next: SealOrder,
  item: LaneItem,
  points: number,
  beside: readonly number[],
): boolean =>
  order === undefined ||
  (order.epoch === next.epoch &&
    order.sealNumber <= next.sealNumber &&
    textLength <= runTextMax &&
    points + (item.type === 'segment' ? item.pointCount : 0) <= segmentPointsMax &&
    !beside.some((seal) => seal > order.sealNumber && seal < next.sealNumber))

/** Ranges that touch are one; of too many the last reaches on. */
const withGone = (ranges: readonly Range[], more: readonly Range[]): readonly Range[] => {
  const all = [...ranges]
  for (const [first, last] of more) {
    const before = all.at(-1)
    if (before !== undefined && (before[1] + 1 >= first || all.length >= goneMax))
      all[all.length - 1] = [before[0], Math.max(before[1], last)]
    else all.push([first, last])
  }
  return all
}
/** What is missing up to here; losses that never were points of a segment are none. */
const goneBefore = (
  seqDone: Seq,
  item: LaneItem,
  { fromUs, toUs }: SelectionRequest,
): Range | null => {
  if (item.type === 'segment') return item.seq > seqDone + 1 ? [seqDone + 1, item.seq - 1] : null
  const { reason, timeUsMin, timeUsMax } = item.gap
  const elsewhere = timeUsMax !== 0 && (timeUsMax < fromUs || timeUsMin >= toUs)
  return reason === 'malformed' || reason === 'refused' || elsewhere
    ? null
    : [seqDone + 1, item.seqLast]
}
const goneText = ({ lane }: SelectionRequest, gone: readonly Range[]): string => {
  if (gone.length === 0) return ''
  const ranges = gone.map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`))
  return `no longer held when it came to them: segments ${ranges.join(', ')} of lane ${lane}`
}
const overlaps = (one: Segment, { fromUs, toUs }: SelectionRequest) =>
  one.timeUsMax >= fromUs && one.timeUsMin < toUs

export const createSelections = (parts: SelectionsParts): Selections => {
  const { spool, host } = parts
  let jobs: readonly SelectionStatus[] = []
  let idNext = 1
  let loaded: Promise<void> | undefined
  let changed = new AbortController()
  const save = () => spool.keep([{ key, value: encode({ idNext, jobs }) }])
  const change = (id: number, next: Partial<SelectionStatus>) => {
    jobs = jobs.map((one) => (one.id === id ? { ...one, ...next } : one))
  }
  const read = async () => {
    const kept = decode<{ idNext: number; jobs: typeof jobs }>(await spool.kept(key))
    const progress = decode<Progress>(await spool.kept(progressKey))
    if (kept === null) return
    idNext = kept.idNext
    jobs = kept.jobs
    if (progress !== null) advance(progress)
  }
  const load = () => {
    loaded ??= read()
    return loaded
  }
  /** What was cancelled meanwhile stays so. */
  const advance = ({ id, state, ...more }: Progress) => {
    const open = jobs.some((one) => one.id === id && isOpen(one))
    change(id, open ? { ...more, state } : more)
  }
  const wake = () => {
    changed.abort()
    changed = new AbortController()
  }

  /** How far the slowest destination is behind what was copied. */
  const ahead = async (): Promise<number> => {
    const lane = (await spool.lanes()).find((one) => one.lane === replayLane)
    const behind = (lane?.readers ?? []).map(({ cursor }) => (lane?.head ?? 0) - cursor.backlog)
    return Math.max(0, ...behind)
  }
  /** Takes the points of a run, and how far it reaches, in one transaction. False when the job is over. */
  const store = async (job: SelectionStatus, run: Run, points: PointBatch): Promise<boolean> => {
    const now = jobs.find((one) => one.id === job.id)
    if (now === undefined || !isOpen(now)) return false
    const gone = withGone(now.gone, run.gone)
    const copied = now.pointsCopied + points.count
    const ended = run.seqDone >= job.seqLast
    const nothing = ended && copied === 0 ? `lane ${job.lane} holds none of these series then` : ''
    const text = goneText(job, gone) || nothing
    const next: Progress = {
      ...{ id: job.id, state: ended ? 'done' : 'running' },
      ...{ seqDone: run.seqDone, pointsCopied: copied, gone, text },
    }
    const order = run.order === undefined || points.count === 0 ? {} : { copyOf: run.order }
    const kept = [{ key: progressKey, value: encode(next) }]
    await spool.append(replayLane, { points, ...order, kept })
    // Only now: a list that is saved in between must not say more than is stored.
    advance(next)
    if (ended) {
      const facts = { id: job.id, lane: job.lane, points: copied }
      if (gone.length === 0) host.log.info('selection_done', facts)
      else host.log.warn('selection_done', { ...facts, text: next.text })
    }
    return true
  }
  const copySome = async (job: SelectionStatus, chosen: Chosen): Promise<void> => {
    const items = await spool.read(job.lane, job.seqDone, readBytesMax, job.seqLast)
    const beside = await sealsBeside(job, items)
    const out = createBatchBuilder()
    let run = runAfter(job.seqDone)
    for (const item of items) {
      const last = item.type === 'segment' ? item.seq : item.seqLast
      const gone = goneBefore(run.seqDone, item, job)
      const opened =
        item.type === 'segment' && overlaps(item, job) ? openSegment(item.bytes) : undefined
      const order = opened === undefined ? undefined : orderOf(opened.header)
      const whole =
        item.type === 'segment' &&
        gone === null &&
        (order === undefined || continues(run, order, item, out.count(), beside))
      if (!whole && out.count() > 0) {
        if (!(await store(job, run, out.take()))) return
        run = runAfter(run.seqDone)
      }
      if (gone !== null) run.gone = withGone(run.gone, [gone])
      const before = out.count()
      if (opened !== undefined) run.textLength += await copyInto(out, opened, chosen, job)
      if (out.count() > before) run.order = order
      run.seqDone = last
    }
    if (items.length === 0) {
      run.gone = [[run.seqDone + 1, job.seqLast]]
      run.seqDone = job.seqLast
    }
    await store(job, run, out.take())
  }
  /** Seals of other lanes among those of these segments: a copy must not reach over them. */
  const sealsBeside = async (job: SelectionStatus, items: readonly LaneItem[]) => {
    const segments = items.flatMap((item) => (item.type === 'segment' ? [item] : []))
    const [first, last] = [segments[0], segments.at(-1)]
    if (first === undefined || last === undefined || first === last) return []
    const seal = ({ bytes }: Segment) => orderOf(readHeader(bytes)).sealNumber
    return await spool.sealsBeside(job.lane, job, [seal(first), seal(last)])
  }
  const runJob = async (id: number, signal: AbortSignal): Promise<void> => {
    const now = () => jobs.find((one) => one.id === id && isOpen(one))
    await save()
    const chosen = createChosen(parts, now()?.series ?? [])
    for (let job = now(); job !== undefined && !signal.aborted; job = now()) {
      if ((await ahead()) > aheadSegmentsMax) await host.clock.sleep(lookMs, signal)
      else await copySome(job, chosen)
    }
  }
  const sample = async (request: SelectionRequest, range: RangeEstimate): Promise<number> => {
    const chosen = createChosen(parts, request.series)
    const step = Math.max(1, Math.floor((range.seqLast - range.seqFirst + 1) / sampleReads))
    let [seen, taken] = [0, 0]
    for (let seq = range.seqFirst; seq <= range.seqLast; seq += step) {
      const [item] = await spool.read(request.lane, seq - 1, 1, range.seqLast)
      if (item?.type !== 'segment' || !overlaps(item, request)) continue
      const out = createBatchBuilder()
      await copyInto(out, openSegment(item.bytes), chosen, request)
      seen += item.pointCount
      taken += out.count()
    }
    return seen === 0 ? 0 : taken / seen
  }

  return {
    name: 'selections',
    list: () => jobs,
    estimate: async (request) => {
      const range = await spool.estimate(request.lane, request.fromUs, request.toUs)
      if (range.segments === 0) return range
      const share = await sample(request, range)
      const { points, bytes } = range
      return { ...range, points: Math.round(points * share), bytes: Math.round(bytes * share) }
    },
    start: async (request) => {
      await load()
      if (jobs.filter(isOpen).length >= jobsMax)
        throw new Failure('HF-F004', `${jobsMax} replays are waiting already`, 'Cancel some first.')
      const range = await spool.estimate(request.lane, request.fromUs, request.toUs)
      const job: SelectionStatus = {
        ...request,
        id: idNext++,
        state: range.segments === 0 ? 'done' : 'waiting',
        seqFirst: range.seqFirst,
        seqLast: range.seqLast,
        seqDone: Math.max(0, range.seqFirst - 1),
        pointsCopied: 0,
        gone: [],
        text: range.segments === 0 ? `lane ${request.lane} holds nothing of that time` : '',
      }
      jobs = [
        ...jobs.filter(isOpen),
        ...jobs.filter((one) => !isOpen(one)).slice(-jobsMax / 2),
        job,
      ]
      await save()
      wake()
      return job
    },
    cancel: async (id) => {
      await load()
      const job = jobs.find((one) => one.id === id)
      if (job === undefined || !isOpen(job)) return false
      change(id, { state: 'cancelled' })
      await save()
      wake()
      return true
    },
    run: async (signal) => {
      await load()
      while (!signal.aborted) {
        const job = jobs.find(isOpen)
        if (job === undefined) {
          await aborted(signal, changed.signal)
          continue
        }
        try {
          await runJob(job.id, signal)
        } catch (error) {
          const text = textOf(error)
          host.log.error('selection_failed', { id: job.id, lane: job.lane, text })
          change(job.id, { state: 'failed', text })
          await save()
        }
      }
    },
  }
}
