/**
 * The spool as the agent's thread sees it: the same port, its calls carried to a worker thread.
 *
 * Invariants: calls are answered in order; the worker is never respawned: its exit, HF-S074 or a minute of silence is
 * told once through `onFatal` (the process must end with 74); two seconds of silence make `blocked()` true.
 */
import { Worker } from 'node:worker_threads'
import { Failure, isFailure } from '../errors.ts'
import type { Host } from '../host.ts'
import type { SeriesEntry, SeriesTable } from '../model.ts'
import type { IngestOptions } from './ingest.ts'
import { type AgentSpoolPort, createSpoolIngest, createSpoolPort, type SpoolCalls } from './port.ts'
import type { Handed, LaneHead } from './spool.ts'
import type { SpoolOptions } from './state.ts'
import {
  buffersOf,
  type FailureText,
  type FromWorker,
  packWindow,
  type WorkerData,
} from './wire.ts'

export interface SpoolWorkerOptions {
  readonly path: string
  readonly spool: SpoolOptions
  readonly ingest: IngestOptions
  readonly host: Pick<Host, 'clock' | 'log'>
  readonly series: Pick<SeriesTable, 'entry' | 'count'>
  /** The spool is suspected of crashes: it is set aside unopened, a new one begun (`lives.ts`). */
  readonly suspect?: boolean
  /** Called at most once; the process must then end with exit code 74. */
  readonly onFatal: (failure: Failure) => void
  /** The thread's program: `src/spool-worker.ts`, or what became of it in a bundle. */
  readonly workerUrl: URL
  /** What that program makes stages of: plain data. */
  readonly stages?: unknown
}

const slowMs = 2_000
const silentMs = 60_000
/** A process that was stopped and goes on sees its timers before its messages. */
const graceMs = 1_000

const failureFrom = ({ code, message, hint }: FailureText) => new Failure(code, message, hint)
/** With a cause it is not the disk's fault alone: `lives.ts` asks. */
const diskGone = (text: string, cause?: unknown) =>
  new Failure(
    'HF-S074',
    text,
    'What was acknowledged is safe. The process must end (exit 74) and start again.',
    cause === undefined ? {} : { cause },
  )

type Ready = Extract<FromWorker, { kind: 'ready' }>
interface Pending {
  readonly sinceMs: number
  readonly resolve: (result: unknown) => void
  readonly reject: (error: unknown) => void
}

const createCalls = (
  worker: Worker,
  options: SpoolWorkerOptions,
  ready: Ready,
  fatal: (failure: Failure) => void,
) => {
  const { clock } = options.host
  const pending = new Map<number, Pending>()
  let heads: readonly LaneHead[] = ready.heads
  let nextId = 1
  let seriesSent = 0
  let gone: Failure | null = null
  let cancelWatch: (() => void) | null = null

  const silenceMs = (): number => {
    const oldest = pending.values().next().value
    return oldest === undefined ? 0 : clock.monotonicMs() - oldest.sinceMs
  }
  const watch = (ms: number, last: boolean) => {
    cancelWatch?.()
    cancelWatch = null
    if (pending.size === 0) return
    cancelWatch = clock.after(ms, () => {
      cancelWatch = null
      const silence = silenceMs()
      if (silence < silentMs) watch(silentMs - silence, false)
      else if (!last) watch(graceMs, true)
      else end(diskGone(`the spool gave no answer for ${silentMs / 1000} s`))
    })
  }
  const end = (failure: Failure) => {
    if (gone !== null) return
    gone = failure
    cancelWatch?.()
    for (const call of pending.values()) call.reject(failure)
    pending.clear()
    if (isFailure(failure, 'HF-S074')) fatal(failure)
  }
  const post = (message: object, transfer: ArrayBuffer[]): Promise<unknown> => {
    if (gone !== null) return Promise.reject(gone)
    const id = nextId++
    return new Promise((resolve, reject) => {
      pending.set(id, { sinceMs: clock.monotonicMs(), resolve, reject })
      worker.postMessage({ id, ...message }, transfer)
      if (cancelWatch === null) watch(silentMs, false)
    })
  }
  const receive = (message: FromWorker) => {
    if (message.kind !== 'answer' && message.kind !== 'failed') return
    const call = pending.get(message.id)
    pending.delete(message.id)
    if (pending.size === 0) watch(0, false)
    if (message.kind === 'answer') {
      heads = message.heads
      call?.resolve(message.result)
      return
    }
    const failure = failureFrom(message.failure)
    call?.reject(failure)
    if (endsTheProcess(failure)) end(asFatal(failure))
  }
  const call =
    <A extends readonly unknown[], R>(method: string) =>
    (...args: A): Promise<R> =>
      post({ method, args }, []) as Promise<R>
  const commit = (handed: readonly Handed[]) => {
    const windows = handed.map(packWindow)
    const entries: SeriesEntry[] = []
    for (const count = options.series.count(); seriesSent < count; seriesSent++) {
      entries.push(options.series.entry(seriesSent))
    }
    return post({ method: 'commit', windows, series: entries }, buffersOf(windows))
  }
  const calls = {
    epoch: ready.epoch,
    spoolId: ready.spoolId,
    lastWallUs: () => ready.lastWallUs,
    heads: () => heads,
    commit,
    ...Object.fromEntries(remoteMethods.map((method) => [method, call(method)])),
  } as unknown as SpoolCalls
  return { calls, receive, end, slow: () => silenceMs() > slowMs }
}

const remoteMethods = [
  'seal',
  'flush',
  'derive',
  'tick',
  'openReader',
  'closeReader',
  'read',
  'startLive',
  'ack',
  'rewind',
  'quarantine',
  'lanes',
  'epochs',
  'dictionary',
  'kept',
  'keep',
  'allowFormat',
  'stats',
  'gaps',
  'quarantined',
  'refused',
  'resendable',
  'resent',
  'discardQuarantined',
  'sealsBeside',
  'newest',
  'estimate',
  'setClock',
  'configure',
  'close',
] as const satisfies readonly (keyof SpoolCalls)[]

/** A disk that cannot be written or a file that is damaged while running: only a restart mends it. */
const endsTheProcess = (failure: Failure): boolean =>
  ['HF-S074', 'HF-S004', 'HF-S005', 'HF-S099'].includes(failure.code)
const asFatal = (failure: Failure): Failure =>
  failure.code === 'HF-S074' ? failure : diskGone(failure.message, failure)

const waitReady = (worker: Worker, log: Host['log']): Promise<Ready> =>
  new Promise((resolve, reject) => {
    const done = () => {
      worker.off('message', heard)
      worker.off('error', broke)
      worker.off('exit', left)
    }
    const heard = (message: FromWorker) => {
      if (message.kind === 'log') log[message.level](message.event, message.fields)
      else if (message.kind === 'ready') {
        done()
        resolve(message)
      } else if (message.kind === 'refused') {
        done()
        reject(failureFrom(message.failure))
      }
    }
    const broke = (error: unknown) => {
      done()
      reject(error)
    }
    const left = () =>
      broke(diskGone('the spool thread ended before it was ready', new Error('no word of why')))
    worker.on('message', heard)
    worker.on('error', broke)
    worker.on('exit', left)
  })

/** Throws what `openSpool` throws. */
export const openSpoolWorker = async (options: SpoolWorkerOptions): Promise<AgentSpoolPort> => {
  const { path, spool, stages, suspect = false } = options
  const workerData: WorkerData = { path, options: spool, stages, suspect }
  const worker = new Worker(options.workerUrl, { workerData, name: 'spool' })
  const { log, clock } = options.host
  const ready = await waitReady(worker, log)
  let closing = false
  const fatal = (failure: Failure) => {
    if (closing) return
    closing = true
    ingest.fail(failure)
    options.onFatal(failure)
  }
  const { calls, receive, end, slow } = createCalls(worker, options, ready, fatal)
  const ingest = createSpoolIngest(calls, clock, options.ingest)
  worker.on('message', (message: FromWorker) => {
    if (message.kind === 'log') log[message.level](message.event, message.fields)
    else receive(message)
  })
  worker.on('error', (error) => end(diskGone(`the spool thread failed: ${String(error)}`, error)))
  const exited = new Promise<void>((resolve) => {
    worker.on('exit', () => {
      end(diskGone('the spool thread ended', new Error('no word of why')))
      resolve()
    })
  })
  const port = createSpoolPort(calls, ingest, options.series)
  return {
    ...port,
    blocked: () => ingest.blocked() || slow(),
    [Symbol.asyncDispose]: async () => {
      if (!closing) {
        await ingest.close()
        closing = true
        await calls.close()
      }
      await Promise.race([exited, clock.sleep(graceMs)])
      await worker.terminate()
    },
  }
}
