/**
 * Group commit: appends of a short window become one transaction; open segments are sealed when full or due.
 *
 * Invariants: an append resolves only after its commit; a commit in flight lets the next window gather (so
 * a slow disk
 * makes larger windows, not a longer queue); while the spool is full nothing is acked and nothing is lost, and the
 * waiting appends go on by themselves when room returns; after HF-S074 everything rejects.
 */
import { Failure, isFailure, textOf } from '../errors.ts'
import type { Host } from '../host.ts'
import { intakeBytesWaitingMax } from '../limits.ts'
import type { Intake, Seq } from '../model.ts'
import { createDeriver, type DerivePort } from './deriver.ts'
import type { CommitResult, Handed, LaneOptions } from './spool.ts'

/** What group commit needs of a spool, here or across a thread. */
export interface CommitPort extends DerivePort {
  readonly commit: (windows: readonly Handed[]) => Promise<CommitResult> | CommitResult
  readonly seal: (lanes: readonly string[]) => Promise<void> | void
  readonly flush: () => Promise<boolean> | boolean
}
export interface IngestOptions {
  readonly commitWindowMs: number
  readonly lanes: readonly LaneOptions[]
  readonly bytesWaitingMax?: number
}
export interface Ingest {
  readonly append: (lane: string, intake: Intake) => Promise<void>
  readonly seal: (lane: string) => Promise<void>
  readonly blocked: () => boolean
  readonly blockedReason: () => string | null
  readonly bytesWaiting: () => number
  /** Acks were taken: they become durable with the next commit, or on their own within a second. */
  readonly acked: () => void
  /** Resolves with the head once it is > after, or with the head as it is when the signal fires. */
  readonly whenPast: (lane: string, after: Seq, signal: AbortSignal) => Promise<Seq>
  readonly configure: (options: IngestOptions) => void
  /** Resolves when stages have read what is sealed, or do not get there soon. */
  readonly derived: () => Promise<void>
  /** Heads may have moved. */
  readonly moved: () => void
  /** Everything rejects with this from now on. */
  readonly fail: (failure: Failure) => void
  /** Commits what waits, stops all timers. */
  readonly close: () => Promise<void>
}

interface Waiting {
  readonly lane: string
  readonly intake: Intake
  readonly bytes: number
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
  settled: boolean
}

const retryMs = 250
const flushMs = 1_000
/** Far above any source's own bound; beyond it a source ignores backpressure and is refused. */
const bytesRefusedFactor = 12

export const intakeBytes = (intake: Intake): number => {
  let bytes = 64 + intake.points.count * 22
  for (const text of intake.points.texts) bytes += text.length * 2
  for (const { value } of intake.kept ?? []) bytes += value?.length ?? 0
  return bytes
}

export const createIngest = (
  spool: CommitPort,
  clock: Host['clock'],
  initial: IngestOptions,
): Ingest => {
  let options = initial
  let waiting: Waiting[] = []
  let bytesWaiting = 0
  let inFlight: Promise<void> | null = null
  let again = false
  let blockedReason: string | null = null
  let fullReason: string | null = null
  let dead: Failure | null = null
  let cancelWindow: (() => void) | null = null
  let cancelFlush: (() => void) | null = null
  /** Per lane, so that an append costs the same however many wait: points in the open segment, points waiting. */
  const openPoints = new Map<string, number>()
  const waitingPoints = new Map<string, number>()
  const dueMs = new Map<string, number>()
  const cancelSeal = new Map<string, () => void>()
  const pastWaiters = new Set<() => void>()

  const optionsOf = (lane: string) => options.lanes.find((one) => one.name === lane)
  const headOf = (lane: string) => spool.heads().find((one) => one.lane === lane)

  const fail = (failure: Failure) => {
    dead ??= failure
    cancelWindow?.()
    cancelFlush?.()
    for (const cancel of cancelSeal.values()) cancel()
    cancelSeal.clear()
    const lost = waiting
    waiting = []
    bytesWaiting = 0
    for (const one of lost) one.reject(dead)
    for (const wake of [...pastWaiters]) wake()
  }
  const failWith = (error: unknown) =>
    fail(
      error instanceof Failure
        ? error
        : new Failure('HF-S074', textOf(error), '', { cause: error }),
    )

  /** After anything that may have opened or sealed a segment. */
  const moved = () => {
    for (const { lane, openCount } of spool.heads()) {
      openPoints.set(lane, openCount)
      if (openCount === 0) {
        cancelSeal.get(lane)?.()
        cancelSeal.delete(lane)
        dueMs.delete(lane)
      } else if (!dueMs.has(lane) && dead === null) {
        const delayMs = optionsOf(lane)?.maxDelayMs ?? 0
        dueMs.set(lane, clock.monotonicMs() + delayMs)
        cancelSeal.set(
          lane,
          clock.after(delayMs, () => void seal(lane).catch(() => {})),
        )
      }
    }
    for (const wake of [...pastWaiters]) wake()
    if (dead === null) deriver.look()
  }

  /** A lane whose segment is due before the next window could end is sealed with this commit. */
  const isDue = (lane: string): boolean => {
    const due = dueMs.get(lane) ?? clock.monotonicMs() + (optionsOf(lane)?.maxDelayMs ?? 0)
    return due <= clock.monotonicMs() + options.commitWindowMs
  }
  const windowsOf = (taken: readonly Waiting[]): readonly Handed[] => {
    const byLane = new Map<string, Intake[]>()
    for (const { lane, intake } of taken) {
      const list = byLane.get(lane)
      if (list === undefined) byLane.set(lane, [intake])
      else list.push(intake)
    }
    return [...byLane].map(([lane, intakes]) => ({ lane, intakes, seal: isDue(lane) }))
  }

  const settle = (taken: readonly Waiting[], error?: unknown) => {
    for (const one of taken) {
      bytesWaiting -= one.bytes
      one.settled = true
      if (error === undefined) one.resolve()
      else one.reject(error)
    }
  }
  const commitOnce = async (taken: readonly Waiting[]): Promise<readonly Waiting[]> => {
    const windows = windowsOf(taken)
    const result = await spool.commit(windows)
    if (result.kind === 'stored') {
      settle(taken)
      return []
    }
    if (windows.length === 1) {
      if (taken.length === 1) {
        fullReason = result.reason
        return taken
      }
      // What gathered while there was no room may be more than there ever is.
      const half = Math.ceil(taken.length / 2)
      const first = await commitOnce(taken.slice(0, half))
      const second = taken.slice(half)
      return first.length > 0 ? [...first, ...second] : await commitOnce(second)
    }
    // Each lane by its own policy: one that blocks must not hold up one that drops.
    const left: Waiting[] = []
    for (const { lane } of windows) {
      left.push(...(await commitOnce(taken.filter((one) => one.lane === lane))))
    }
    return left
  }

  const commitAll = async () => {
    const taken = waiting
    waiting = []
    waitingPoints.clear()
    fullReason = null
    try {
      const left = await commitTaken(taken)
      // Read after the wait: appends came in meanwhile.
      waiting = [...left, ...waiting]
    } catch (error) {
      waiting = [...taken.filter((one) => !one.settled), ...waiting]
      failWith(error)
      return
    }
    blockedReason = fullReason
    moved()
  }
  /** What found no room, in order. */
  const commitTaken = async (taken: readonly Waiting[]): Promise<readonly Waiting[]> => {
    try {
      return taken.length === 0 ? [] : await commitOnce(taken)
    } catch (error) {
      if (!isFailure(error) || !isRefusal(error)) throw error
      // Lanes that were committed before the refusal are durable: not again.
      return await refuseOneByOne(taken.filter((one) => !one.settled))
    }
  }
  /** One intake of the window cannot be stored by anyone: only its own append is refused. */
  const refuseOneByOne = async (taken: readonly Waiting[]): Promise<readonly Waiting[]> => {
    const left: Waiting[] = []
    for (const one of taken) {
      // Behind one that waits for room, whatever follows in its lane waits too.
      if (left.some(({ lane }) => lane === one.lane)) {
        left.push(one)
        continue
      }
      try {
        const result = await spool.commit(windowsOf([one]))
        if (result.kind === 'stored') settle([one])
        else {
          fullReason = result.reason
          left.push(one)
        }
      } catch (error) {
        if (!isFailure(error) || !isRefusal(error)) throw error
        settle([one], error)
      }
    }
    return left
  }

  const commitNow = () => {
    cancelWindow?.()
    cancelWindow = null
    if (dead !== null) return
    if (inFlight !== null) {
      again = true
      return
    }
    inFlight = commitAll()
      .catch(failWith)
      .finally(() => {
        inFlight = null
        if (blockedReason !== null) arm(retryMs)
        else if (again) commitNow()
        else if (waiting.length > 0) arm(options.commitWindowMs)
      })
    again = false
  }
  const arm = (ms: number) => {
    if (cancelWindow === null && dead === null) cancelWindow = clock.after(ms, commitNow)
  }

  const deriver = createDeriver(spool, clock, {
    moved: () => moved(),
    failed: (error) => failWith(error),
  })

  const isFull = (lane: string): boolean =>
    (openPoints.get(lane) ?? 0) + (waitingPoints.get(lane) ?? 0) >=
    (optionsOf(lane)?.segmentPointsMax ?? Infinity)
  const bytesMax = () => options.bytesWaitingMax ?? intakeBytesWaitingMax

  const seal = async (lane: string) => {
    if (dead !== null) throw dead
    if (waiting.some((one) => one.lane === lane)) commitNow()
    while (inFlight !== null) await inFlight
    if (dead !== null) throw dead
    try {
      await spool.seal([lane])
    } catch (error) {
      if (isFailure(error, 'HF-S020')) blockedReason = 'disk'
      else failWith(error)
      throw error
    } finally {
      cancelSeal.delete(lane)
      dueMs.delete(lane)
      moved()
    }
  }

  return {
    append: (lane, intake) => {
      if (dead !== null) return Promise.reject(dead)
      if (optionsOf(lane) === undefined) {
        return Promise.reject(new Failure('HF-S010', `the spool has no lane "${lane}"`))
      }
      const bytes = intakeBytes(intake)
      if (bytesWaiting + bytes > bytesMax() * bytesRefusedFactor) {
        return Promise.reject(
          new Failure('HF-S021', 'too many points wait for the spool', 'Send again later.'),
        )
      }
      return new Promise((resolve, reject) => {
        waiting.push({ lane, intake, bytes, resolve, reject, settled: false })
        waitingPoints.set(lane, (waitingPoints.get(lane) ?? 0) + intake.points.count)
        bytesWaiting += bytes
        if (blockedReason !== null) arm(retryMs)
        else if (intake.urgent === true || bytesWaiting >= bytesMax() / 2 || isFull(lane))
          commitNow()
        else if (inFlight === null) arm(options.commitWindowMs)
      })
    },
    seal,
    blocked: () => dead !== null || blockedReason !== null || bytesWaiting > bytesMax(),
    blockedReason: () => (dead !== null ? dead.code : blockedReason),
    bytesWaiting: () => bytesWaiting,
    acked: () => {
      // Room may have come: a blocked append should not wait for its timer.
      if (blockedReason !== null) commitNow()
      if (cancelFlush !== null || dead !== null) return
      cancelFlush = clock.after(flushMs, () => {
        cancelFlush = null
        void Promise.resolve()
          .then(() => spool.flush())
          .catch((error: unknown) => {
            if (!isFailure(error, 'HF-S020')) failWith(error)
          })
      })
    },
    whenPast: (lane, after, signal) =>
      new Promise((resolve, reject) => {
        const check = () => {
          const head = headOf(lane)?.head ?? 0
          if (dead === null && head <= after && !signal.aborted) return
          pastWaiters.delete(check)
          signal.removeEventListener('abort', check)
          if (dead !== null) reject(dead)
          else resolve(head)
        }
        pastWaiters.add(check)
        signal.addEventListener('abort', check, { once: true })
        check()
      }),
    derived: deriver.idle,
    configure: (next) => {
      options = next
    },
    moved,
    fail,
    close: async () => {
      if (dead !== null) return
      if (waiting.length > 0) commitNow()
      while (inFlight !== null) await inFlight
      await deriver.stop()
      fail(new Failure('HF-S015', 'the spool is closed'))
    },
  }
}

/** The intake itself is at fault; nothing of it was stored. */
const isRefusal = (failure: Failure): boolean =>
  ['HF-S010', 'HF-S013', 'HF-S016', 'HF-S017'].includes(failure.code) ||
  failure.code.startsWith('HF-K')
