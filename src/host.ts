/**
 * The only door to clock, chance, timers and environment. Production code takes a `Host` (or a `Pick` of it) as an
 * argument, so the simulation can replace all of it; `test/unit/tidy.test.ts` keeps Date, Math.random and timers out
 * of every other file.
 */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { performance } from 'node:perf_hooks'

export interface Clock {
  /** Wall clock, whole microseconds since 1970; may jump. Never decides order, retention, retry or dedupe. */
  readonly nowUs: () => number
  /** Milliseconds since some fixed moment of this boot; never goes back. */
  readonly monotonicMs: () => number
  /** Resolves after `ms`, or at once when `signal` fires (check it afterwards); leaves no listener behind. */
  readonly sleep: (ms: number, signal?: AbortSignal) => Promise<void>
  /** Calls `work` once after `ms`; the returned function cancels. */
  readonly after: (ms: number, work: () => void) => () => void
}

export interface Log {
  readonly debug: (event: string, fields?: LogFields) => void
  readonly info: (event: string, fields?: LogFields) => void
  /** It recovers by itself. */
  readonly warn: (event: string, fields?: LogFields) => void
  /** It needs a person. */
  readonly error: (event: string, fields?: LogFields) => void
  readonly child: (fields: LogFields) => Log
}
export type LogFields = Readonly<Record<string, unknown>>

/** Counters and gauges by Prometheus name; labels are few and bounded, never one per series. */
export interface Meter {
  readonly count: (name: string, value?: number, labels?: Readonly<Record<string, string>>) => void
  readonly gauge: (name: string, value: number, labels?: Readonly<Record<string, string>>) => void
  readonly observe: (name: string, value: number, labels?: Readonly<Record<string, string>>) => void
}

export interface Host {
  readonly clock: Clock
  /** In [0, 1). */
  readonly random: () => number
  readonly randomBytes: (length: number) => Uint8Array
  readonly bootId: string
  readonly log: Log
  readonly meter: Meter
}

export const silentLog: Log = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silentLog,
}
export const silentMeter: Meter = { count: () => {}, gauge: () => {}, observe: () => {} }

/** `performance.now` begins with its process (or thread); points that wait for a clock outlive both, not the boot. */
const originMs = Number(process.hrtime.bigint()) / 1e6 - performance.now()

export const systemClock: Clock = {
  nowUs: () => Date.now() * 1000,
  monotonicMs: () => originMs + performance.now(),
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted) return resolve()
      const done = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      signal?.addEventListener('abort', done, { once: true })
    }),
  after: (ms, work) => {
    const timer = setTimeout(work, ms)
    return () => clearTimeout(timer)
  },
}

/** Resolves when one of the signals fires; leaves no listener behind. */
export const aborted = (...signals: readonly AbortSignal[]): Promise<void> =>
  new Promise((resolve) => {
    if (signals.some((one) => one.aborted)) return resolve()
    const done = () => {
      for (const one of signals) one.removeEventListener('abort', done)
      resolve()
    }
    for (const one of signals) one.addEventListener('abort', done, { once: true })
  })

const readBootId = (): string => {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim().replaceAll('-', '')
  } catch {
    // Not Linux: one process is then one boot, which only means that untrusted times cannot be rebased after a restart.
    return randomBytes(16).toString('hex')
  }
}

export const createSystemHost = (parts: Partial<Pick<Host, 'log' | 'meter'>> = {}): Host => ({
  clock: systemClock,
  random: Math.random,
  randomBytes: (length) => randomBytes(length),
  bootId: readBootId(),
  log: parts.log ?? silentLog,
  meter: parts.meter ?? silentMeter,
})
