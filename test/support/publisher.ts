/**
 * A publisher with a journal of its own: what the door acknowledged, what it did not, in the order it was sent. The
 * checker's `accepted` is this journal and nothing else.
 */
import { after } from 'node:test'
import { kinds } from '../../src/model.ts'
import type { JournalPoint } from '../../src/verify/checker.ts'

/** A flood whose test has failed would keep the file from ending. */
let over = false
after(() => {
  over = true
})

export interface HttpPublisher {
  /** Sends `count` points of `seriesCount` series as line protocol; true when the door acknowledged them. */
  readonly send: (count: number) => Promise<boolean>
  /** Sends these values for one series and time each, in order: a correction when the time was used before. */
  readonly correct: (series: string, timeUs: number, value: number) => Promise<boolean>
  /** Sends until `signal` fires, one request after another, `count` points each; waits a little after a refusal. */
  readonly flood: (count: number, signal: AbortSignal) => Promise<void>
  readonly journal: () => readonly JournalPoint[]
  readonly acked: () => number
  /** Resolves once so many points more are acknowledged than now: what strikes next strikes under load. */
  readonly ackedMore: (points: number) => Promise<void>
  /** Status of the last answer and its Retry-After; 0 when none came. */
  readonly lastAnswer: () => { readonly status: number; readonly retryAfter: string | null }
}

/** Posts until the door answers anything but "later": its spool may be waiting for a slow disk. */
export const postPatiently = async (url: string, body: string): Promise<number> => {
  for (let tries = 0; ; tries++) {
    const { status } = await fetch(url, {
      method: 'POST',
      body,
      signal: AbortSignal.timeout(20_000),
    })
    if (status !== 503 || tries === 10) return status
    await new Promise((resolve) => setTimeout(resolve, 1_000))
  }
}

const bitsOf = (value: number): bigint =>
  new BigUint64Array(new Float64Array([value]).buffer)[0] as bigint

/** Text has no -0 unless it says so: the journal holds what the text says. */
const curve = (nth: number) => Number(`${Math.round(Math.sin(nth / 50) * 1000 + (nth % 7)) / 10}`)

export const createHttpPublisher = (
  door: () => string,
  options: {
    readonly seriesCount?: number
    readonly name?: string
    readonly startUs?: number
    /** What the door asks for. */
    readonly token?: string
    /** Value of the nth point instead of the plant's own curve; a text without quotes or backslashes is a string. */
    readonly valueAt?: (nth: number) => number | string
  } = {},
): HttpPublisher => {
  const { seriesCount = 20, name = 'plant', startUs = 1_800_000_000_000_000 } = options
  const journal: JournalPoint[] = []
  let made = 0
  let acked = 0
  let lastAnswer: { status: number; retryAfter: string | null } = { status: 0, retryAfter: null }

  const post = async (points: Omit<JournalPoint, 'acked'>[], body: string): Promise<boolean> => {
    let good = false
    try {
      const answer = await fetch(`${door()}/write?precision=us`, {
        method: 'POST',
        body,
        headers: options.token === undefined ? {} : { authorization: `Token ${options.token}` },
        signal: AbortSignal.timeout(20_000),
      })
      await answer.arrayBuffer()
      good = answer.status === 204
      lastAnswer = { status: answer.status, retryAfter: answer.headers.get('retry-after') }
    } catch {
      lastAnswer = { status: 0, retryAfter: null }
      // Killed, or not up yet: nobody knows whether it was taken.
    }
    for (const point of points) journal.push({ ...point, acked: good })
    if (good) acked += points.length
    return good
  }
  const pointOf = (series: string, timeUs: number, value: number | string) => ({
    series: `${series}.value`,
    timeUs,
    ...(typeof value === 'string'
      ? { kind: kinds.string, bits: 0n, text: value }
      : { kind: kinds.float, bits: bitsOf(value), text: null }),
    quality: 0,
  })
  const send = async (count: number): Promise<boolean> => {
    const points: Omit<JournalPoint, 'acked'>[] = []
    let body = ''
    for (let index = 0; index < count; index++, made++) {
      const series = `${name}-${made % seriesCount}`
      const timeUs = startUs + made * 1000
      const value = options.valueAt?.(made) ?? curve(made)
      points.push(pointOf(series, timeUs, value))
      body += `${series} value=${typeof value === 'string' ? `"${value}"` : value} ${timeUs}\n`
    }
    return await post(points, body)
  }
  return {
    send,
    correct: (series, timeUs, value) =>
      post([pointOf(series, timeUs, value)], `${series} value=${value} ${timeUs}\n`),
    flood: async (count, signal) => {
      while (!signal.aborted && !over) {
        if (!(await send(count))) await new Promise((resolve) => setTimeout(resolve, 50))
      }
    },
    journal: () => journal,
    acked: () => acked,
    ackedMore: async (points) => {
      const wanted = acked + points
      for (const end = Date.now() + 60_000; acked < wanted; ) {
        if (Date.now() > end) throw new Error(`no ${points} points were acknowledged in a minute`)
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
    },
    lastAnswer: () => lastAnswer,
  }
}
