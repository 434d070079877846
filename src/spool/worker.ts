/**
 * The spool's thread: the only connection to the file, answering calls in order. A thin shell around `openSpool`; the
 * thread's program is `src/spool-worker.ts`, which knows the stages.
 *
 * Invariants: it is never respawned; when the disk fails it says so once and every later call is refused
 * the same way.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { Failure, isFailure, textOf } from '../errors.ts'
import { createSystemHost, type Log } from '../host.ts'
import type { LaneItem, SeriesEntry } from '../model.ts'
import { openSpool, type Spool, type StageReader } from './spool.ts'
import type { Remake } from './stage-changes.ts'
import {
  buffersOf,
  type FailureText,
  type FromWorker,
  type ToWorker,
  unpackWindow,
  type WorkerData,
} from './wire.ts'

const port = parentPort
if (port === null) throw new Error('spool/worker.ts runs in a worker thread only')
const say = (message: FromWorker, transfer: ArrayBuffer[] = []) =>
  port.postMessage(message, transfer)

const log: Log = {
  debug: (event, fields) => say({ kind: 'log', level: 'debug', event, fields }),
  info: (event, fields) => say({ kind: 'log', level: 'info', event, fields }),
  warn: (event, fields) => say({ kind: 'log', level: 'warn', event, fields }),
  error: (event, fields) => say({ kind: 'log', level: 'error', event, fields }),
  child: () => log,
}
const failureOf = (error: unknown): FailureText =>
  isFailure(error)
    ? { code: error.code, message: error.message, hint: error.hint }
    : { code: 'HF-S099', message: textOf(error), hint: 'This is a defect of the program.' }

/** Series by ref, as the agent's table has them. */
const series: SeriesEntry[] = []
const entry = (ref: number): SeriesEntry => {
  const found = series[ref]
  if (found === undefined) throw new Failure('HF-S099', `series ${ref} was never introduced`)
  return found
}

const answer = (spool: Spool, message: ToWorker): { result: unknown; transfer: ArrayBuffer[] } => {
  if ('windows' in message) {
    series.push(...message.series)
    try {
      return { result: spool.commit(message.windows.map(unpackWindow)), transfer: [] }
    } finally {
      // The spool has copied what it keeps; a collector would come for the buffers seconds later.
      for (const buffer of buffersOf(message.windows)) buffer.transfer(0)
    }
  }
  const call = spool[message.method as keyof Spool] as (...args: readonly unknown[]) => unknown
  const result = call(...message.args)
  if (message.method !== 'read') return { result, transfer: [] }
  const transfer = (result as readonly LaneItem[]).flatMap((item) =>
    item.type === 'segment' && item.bytes.buffer.byteLength === item.bytes.byteLength
      ? [item.bytes.buffer as ArrayBuffer]
      : [],
  )
  return { result, transfer }
}

const serve = (spool: Spool) => {
  port.on('message', (message: ToWorker) => {
    try {
      const { result, transfer } = answer(spool, message)
      say({ kind: 'answer', id: message.id, result, heads: spool.heads() }, transfer)
    } catch (error) {
      say({ kind: 'failed', id: message.id, failure: failureOf(error) })
    }
    if (message.method === 'close') port.close()
  })
  say({
    kind: 'ready',
    epoch: spool.epoch,
    spoolId: spool.spoolId,
    lastWallUs: spool.lastWallUs(),
    heads: spool.heads(),
  })
}

/** Once a thread. `stagesOf` makes the stages of what the agent handed over for them. */
export const runSpoolWorker = (
  stagesOf: (config: unknown) => readonly StageReader[],
  remake: Remake,
): void => {
  const { path, options, stages, suspect } = workerData as WorkerData
  try {
    const host = createSystemHost({ log })
    const parts = { at: { path }, host, series: { entry }, options, suspect }
    serve(openSpool({ ...parts, stages: stagesOf(stages), remake }))
  } catch (error) {
    say({ kind: 'refused', failure: failureOf(error) })
    port.close()
  }
}
