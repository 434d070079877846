/**
 * A ledger's side (`ledger-side.ts`) that is the database itself: what a regional node does between its door and its
 * store, done in the agent, by the same writer into the same tables.
 *
 * Invariants: no table is made or altered here; at most `connections` calls are at work, so that no more segments than
 * they hold are open at once; bytes that do not open are named as a bad frame before anything of them is written.
 */
import { formatVersions, openSegment, readHeader } from '../codec/segment.ts'
import { commitOrFindPoison, decodedBytesOf, segmentFrameOf } from '../database/frames.ts'
import type { CommitFrame, RegionStore, StoreTrouble } from '../database/store.ts'
import { isFailure, textOf } from '../errors.ts'
import { postgresDecodedBytesMax } from '../limits.ts'
import type { DestinationDeps } from './destination.ts'
import type { Parcel } from './ledger-batch.ts'
import type { LedgerSide, Said } from './ledger-side.ts'
import { later, setbackOf } from './relay-outcome.ts'

type Trouble = Exclude<Said<never>, { kind: 'answer' }>

const saidOf = (trouble: StoreTrouble): Trouble => {
  switch (trouble.kind) {
    case 'need-series': {
      const { kind: code, epoch, first } = trouble
      const text = `series of epoch ${epoch} are known below ${first} only`
      return { kind: 'demand', code, error: { code, text, epoch, first } }
    }
    case 'need-hello': {
      const { kind: code } = trouble
      return { kind: 'demand', code, error: { code, text: 'this epoch was never introduced here' } }
    }
    case 'fenced':
    case 'fork':
      return {
        kind: 'setback',
        setback: setbackOf({ code: trouble.kind, text: trouble.text }, undefined),
      }
    case 'later':
      return {
        kind: 'setback',
        setback: later(trouble.text, trouble.afterMs),
        stalled: trouble.stalled === true,
      }
    case 'blocked':
      return { kind: 'setback', setback: trouble }
  }
}
const badFrame = (frame: number, { seq }: Parcel, text: string): Trouble => {
  const code = 'bad-frame'
  return { kind: 'demand', code, error: { code, text, frame, seq } }
}

/** Everything as the store takes it, or why not. */
const openParcels = (parcels: readonly Parcel[]): readonly CommitFrame[] | Trouble => {
  let decodedBytes = 0
  let bytes = 0
  for (const { frame } of parcels) {
    if (frame.type === 'tombstone') continue
    decodedBytes += decodedBytesOf(readHeader(frame.bytes))
    bytes += frame.bytes.length
  }
  if (decodedBytes > postgresDecodedBytesMax && parcels.length > 1) {
    const bytesMax = Math.max(1, Math.floor((bytes * postgresDecodedBytesMax) / decodedBytes))
    const text = `the points would take ${decodedBytes} bytes`
    return { kind: 'setback', setback: { kind: 'smaller', text, bytesMax } }
  }
  const frames: CommitFrame[] = []
  for (const [at, parcel] of parcels.entries()) {
    const { frame, digest } = parcel
    try {
      if (frame.type === 'tombstone') frames.push(frame)
      else frames.push(segmentFrameOf(openSegment(frame.bytes), digest, frame.replay))
    } catch (error) {
      if (!isFailure(error)) throw error
      return badFrame(at, parcel, textOf(error))
    }
  }
  return frames
}

/** Lets `count` work at once, in the order they came; who gives up while waiting is not let in. */
const createGate = (count: number) => {
  let free = count
  const waiting: (() => void)[] = []
  const leave = () => {
    const next = waiting.shift()
    if (next === undefined) free++
    else next()
  }
  return async <T>(work: () => Promise<Said<T>>, signal: AbortSignal): Promise<Said<T>> => {
    if (free > 0) free--
    else {
      const turn = Promise.withResolvers<void>()
      const onAbort = () => {
        const at = waiting.indexOf(turn.resolve)
        if (at >= 0) waiting.splice(at, 1)
        turn.reject(signal.reason)
      }
      waiting.push(turn.resolve)
      signal.addEventListener('abort', onAbort, { once: true })
      try {
        await turn.promise
      } catch {
        return { kind: 'setback', setback: later('given up') }
      } finally {
        signal.removeEventListener('abort', onAbort)
      }
    }
    try {
      return signal.aborted ? { kind: 'setback', setback: later('given up') } : await work()
    } finally {
      leave()
    }
  }
}

export interface PostgresSideOptions {
  readonly store: RegionStore
  readonly connections: number
  /** A person must help: what stands in files may have been mended. */
  readonly onBlocked: () => void
}

export const createPostgresSide = (
  { agent, spool, farTime }: DestinationDeps,
  { store, connections, onBlocked }: PostgresSideOptions,
): LedgerSide => {
  const gate = createGate(connections)
  let prepared = false
  const refused = (trouble: StoreTrouble): Trouble => {
    if (trouble.kind === 'blocked') {
      prepared = false
      onBlocked()
    }
    return saidOf(trouble)
  }
  return {
    hello: (hello, signal) =>
      gate(async () => {
        if (!prepared) {
          const answer = await store.prepare({ check: true, signal })
          if (answer.kind !== 'ok') return refused(answer)
          prepared = true
        }
        const taken = await store.hello({ agent, ...hello }, signal)
        if (taken.kind !== 'ok') return refused(taken)
        const { region, timeline, lanes, nowUs } = taken
        farTime(nowUs)
        return { kind: 'answer', answer: { region, timeline, lanes, formats: formatVersions } }
      }, signal),
    series: ({ epoch, first, entries }, signal) =>
      gate(async () => {
        const added = await store.addSeries(agent, epoch, first, entries, signal)
        if (added.kind !== 'ok') return refused(added)
        return { kind: 'answer', answer: { epoch, known: added.known } }
      }, signal),
    segments: (parcels, signal) =>
      gate(async () => {
        const frames = openParcels(parcels)
        if ('kind' in frames) return frames
        const done = await commitOrFindPoison(store, [agent, spool.epoch, frames], signal)
        if (done.kind === 'poison') return badFrame(done.at, parcels[done.at] as Parcel, done.text)
        if (done.kind !== 'ok') return refused(done)
        const { region, timeline, results, lanes } = done
        return { kind: 'answer', answer: { region, timeline, results, lanes } }
      }, signal),
  }
}
