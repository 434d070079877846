/**
 * A range sent again on purpose: its own small reader, one request in flight, behind the lanes' own traffic.
 * Invariants: adds nothing to accepted or delivered and moves no cursor; only what the far side has
 * already acked is sent again (the rest is on its way anyway); a job that the far side will not have waits by itself
 * and holds nobody up; jobs and their progress are kept in the spool, so a restart goes on.
 */
import { Failure } from '../errors.ts'
import { aborted, type Host } from '../host.ts'
import { priorityLast } from '../limits.ts'
import type { Destination, LaneItem, Outcome, Seq } from '../model.ts'
import type { SpoolPort } from '../spool-port.ts'
import type { Setback } from './backoff.ts'
import type { Bandwidth } from './bandwidth.ts'
import type { ForwardLane } from './lane.ts'
import { pointsIn, runPump, seqLastOf, type Verdict } from './pump.ts'
import type { Turns } from './turns.ts'

export interface ReplayStatus {
  readonly id: number
  readonly lane: string
  readonly fromUs: number
  readonly toUs: number
  readonly state: 'waiting' | 'running' | 'done' | 'cancelled'
  readonly seqFirst: Seq
  readonly seqLast: Seq
  /** Everything <= this is sent. */
  readonly seqDone: Seq
  readonly segmentsSent: number
  readonly pointsSent: number
  /** Accepted once, refused now: passed over, still held, in the log by lane and seq. */
  readonly segmentsRefused: number
  /** What the range held when the replay was asked for. */
  readonly points: number
  readonly segments: number
  /** Why it waits, '' else. */
  readonly text: string
}
export interface Replays {
  readonly load: () => Promise<void>
  readonly list: () => readonly ReplayStatus[]
  readonly start: (lane: string, fromUs: number, toUs: number) => Promise<ReplayStatus>
  readonly cancel: (id: number) => Promise<boolean>
  /** Works through the waiting jobs until `stop`. */
  readonly run: (stop: AbortSignal, cut: AbortSignal) => Promise<Setback | undefined>
}
export interface ReplayParts {
  readonly spool: SpoolPort
  readonly destination: Destination
  readonly bandwidth: Bandwidth
  readonly turns: Turns
  readonly host: Pick<Host, 'clock' | 'log' | 'meter'>
  readonly lane: (name: string) => ForwardLane | undefined
  readonly bytesMax: () => number
  readonly share: number
}

const jobsMax = 32
/** What the far side would not have is tried again after this. */
const parkedMs = 60_000
/** A restart sends at most so many batches of a replay once more. */
const batchesBetweenSaves = 8

const open = (job: ReplayStatus) => job.state === 'waiting' || job.state === 'running'

/** The jobs as they are kept: a small JSON list under one key a destination. */
const createJobs = (spool: SpoolPort, key: string) => {
  let jobs: ReplayStatus[] = []
  let idNext = 1
  const save = () =>
    spool.keep([{ key, value: new TextEncoder().encode(JSON.stringify({ idNext, jobs })) }])
  return {
    list: () => jobs,
    load: async () => {
      const kept = await spool.kept(key)
      if (kept === null) return
      const state = JSON.parse(new TextDecoder().decode(kept)) as {
        idNext: number
        jobs: ReplayStatus[]
      }
      idNext = state.idNext
      jobs = state.jobs
    },
    add: async (job: Omit<ReplayStatus, 'id'>): Promise<ReplayStatus> => {
      const added = { id: idNext++, ...job }
      jobs = [...jobs.filter(open), ...jobs.filter((one) => !open(one)).slice(-jobsMax / 2), added]
      await save()
      return added
    },
    change: (id: number, change: Partial<ReplayStatus>) => {
      jobs = jobs.map((one) => (one.id === id ? { ...one, ...change } : one))
    },
    get: (id: number) => jobs.find((one) => one.id === id),
    save,
  }
}

export const createReplays = (parts: ReplayParts): Replays => {
  const { spool, destination } = parts
  const jobs = createJobs(spool, `forward/${destination.name}/replays`)
  /** Wakes the runner: a new job, or the one in work was cancelled. */
  let changed = new AbortController()
  /** Jobs the far side would not have, and until when they wait. */
  const parked = new Map<number, number>()
  const wake = () => {
    changed.abort()
    changed = new AbortController()
  }

  const inRange = (item: LaneItem, job: ReplayStatus) =>
    item.type === 'segment' && item.timeUsMax >= job.fromUs && item.timeUsMin < job.toUs

  const runJob = async (
    job: ReplayStatus,
    stop: AbortSignal,
    cut: AbortSignal,
  ): Promise<Setback | undefined> => {
    const lane = parts.lane(job.lane)
    const upTo = Math.min(job.seqLast, lane?.cursor().backlog ?? 0)
    jobs.change(job.id, { state: 'running', text: '' })
    let batches = 0
    const settle = async (
      batch: { readonly items: readonly LaneItem[]; readonly ackedThrough: Seq },
      after: Seq,
      outcome: Outcome,
    ): Promise<Verdict<Setback | 'cancelled' | 'waits'>> => {
      const now = jobs.get(job.id)
      if (now === undefined || !open(now)) return { kind: 'end', end: 'cancelled' }
      if (outcome.kind === 'rewind')
        return outcome.after < batch.ackedThrough
          ? { kind: 'end', end: { ...outcome, lane: job.lane } }
          : { kind: 'end', end: { kind: 'later', text: 'a rewind that nothing explains' } }
      if (outcome.kind === 'later') return { kind: 'end', end: outcome }
      if (outcome.kind === 'blocked') {
        // What stands against everything is met by the lanes' own traffic too, and ends the session there.
        parked.set(job.id, parts.host.clock.monotonicMs() + parkedMs)
        jobs.change(job.id, { state: 'waiting', text: `${outcome.code} ${outcome.text}` })
        return { kind: 'end', end: 'waits' }
      }
      // One item a request: too big or refused now is passed over; it was accepted once, and is still held.
      const given = outcome.kind === 'smaller' || outcome.rejected.length > 0
      if (given) {
        const text = outcome.kind === 'smaller' ? outcome.text : (outcome.rejected[0]?.text ?? '')
        const { lane, id } = job
        parts.host.log.warn('replay_refused', {
          destination: destination.name,
          lane,
          replay: id,
          after,
          text,
        })
      }
      const sent = given ? [] : batch.items
      jobs.change(job.id, {
        seqDone: Math.max(now.seqDone, ...batch.items.map(seqLastOf)),
        segmentsSent: now.segmentsSent + sent.length,
        pointsSent: now.pointsSent + pointsIn(sent),
        segmentsRefused: now.segmentsRefused + (given ? batch.items.length : 0),
      })
      if (++batches % batchesBetweenSaves === 0) await jobs.save()
      return { kind: 'taken' }
    }
    const end = await runPump<Setback | 'cancelled' | 'waits'>(
      parts,
      {
        lane: job.lane,
        pump: 'replay',
        after: job.seqDone,
        upTo,
        head: upTo,
        requestsMax: () => 1,
        share: () => parts.share,
        priority: priorityLast,
        bytesMax: () => 1,
        batchOf: (items) => ({
          lane: job.lane,
          laneId: lane?.laneId ?? 0,
          items: items.filter((item) => inRange(item, job)),
          ackedThrough: lane?.cursor().backlog ?? 0,
          replay: true,
        }),
        settle,
      },
      stop,
      cut,
    )
    if (end === undefined && !stop.aborted) {
      jobs.change(job.id, { state: 'done', seqDone: upTo })
      const done = jobs.get(job.id) ?? job
      const { id, lane, segmentsSent, pointsSent, segmentsRefused } = done
      const counts = { segments: segmentsSent, points: pointsSent, refused: segmentsRefused }
      parts.host.log.info('replay_done', { replay: id, lane, ...counts })
    }
    await jobs.save()
    return end === 'cancelled' || end === 'waits' ? undefined : end
  }

  return {
    load: jobs.load,
    list: jobs.list,
    start: async (lane, fromUs, toUs) => {
      if (parts.lane(lane) === undefined)
        throw new Failure('HF-F003', `${destination.name} does not send lane "${lane}"`)
      if (jobs.list().filter(open).length >= jobsMax)
        throw new Failure('HF-F004', `${jobsMax} replays are waiting already`, 'Cancel some first.')
      const range = await spool.estimate(lane, fromUs, toUs)
      const job = await jobs.add({
        lane,
        fromUs,
        toUs,
        state: range.segments === 0 ? 'done' : 'waiting',
        seqFirst: range.seqFirst,
        seqLast: range.seqLast,
        seqDone: Math.max(0, range.seqFirst - 1),
        segmentsSent: 0,
        pointsSent: 0,
        segmentsRefused: 0,
        points: range.points,
        segments: range.segments,
        text: '',
      })
      wake()
      return job
    },
    cancel: async (id) => {
      const job = jobs.get(id)
      if (job === undefined || !open(job)) return false
      jobs.change(id, { state: 'cancelled', text: '' })
      parked.delete(id)
      await jobs.save()
      wake()
      return true
    },
    run: async (stop, cut) => {
      while (!stop.aborted) {
        const nowMs = parts.host.clock.monotonicMs()
        const job = jobs.list().find((one) => open(one) && !((parked.get(one.id) ?? 0) > nowMs))
        if (job !== undefined) {
          parked.delete(job.id)
          const setback = await runJob(job, stop, cut)
          if (setback !== undefined) return setback
          continue
        }
        const untilMs = Math.min(...parked.values())
        const forget =
          untilMs === Number.POSITIVE_INFINITY
            ? () => {}
            : parts.host.clock.after(untilMs - nowMs, wake)
        await aborted(stop, changed.signal)
        forget()
      }
      return undefined
    },
  }
}
