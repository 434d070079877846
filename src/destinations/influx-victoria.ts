/**
 * What VictoriaMetrics holds of time: it answers 204 to points outside of that, and drops them without a word.
 *
 * Invariants: judged by the server's clock where it has told the time, and with a minute to spare: a point is declared
 * lost rather than dropped there.
 */
import type { Host } from '../host.ts'
import type { Ready } from './influx-plan.ts'
import type { TimeLimits } from './influx-times.ts'
import type { RelayReply } from './relay-transport.ts'

const dayMs = 86_400_000
const aheadMs = 2 * dayMs
const spareMs = 60_000
/** A number alone counts months there. */
const unitsMs: Readonly<Record<string, number>> = {
  '': 31 * dayMs,
  h: 3_600_000,
  d: dayMs,
  w: 7 * dayMs,
  y: 365 * dayMs,
}

export interface VictoriaClock {
  /** The time of an answer. */
  readonly heard: (reply: RelayReply) => void
  /** What the server says that it keeps. */
  readonly keeps: (ms: number) => void
  readonly limits: () => TimeLimits
}
/** `retentionMs` of the configuration goes before what the server says. */
export const createVictoriaClock = (
  clock: Pick<Host['clock'], 'nowUs'>,
  retentionMs?: number,
): VictoriaClock => {
  let aheadOfUsMs = 0
  let keepsMs = retentionMs ?? Number.POSITIVE_INFINITY
  const nowMs = () => clock.nowUs() / 1_000
  return {
    heard: ({ status, headers }) => {
      const ms = Date.parse(headers.date ?? '')
      if ((status === 200 || status === 204) && !Number.isNaN(ms)) aheadOfUsMs = ms - nowMs()
    },
    keeps: (ms) => {
      if (retentionMs === undefined) keepsMs = ms
    },
    limits: () => {
      const thereMs = nowMs() + aheadOfUsMs
      return {
        fromUs: Math.max(0, thereMs - keepsMs + spareMs) * 1_000,
        toUs: (thereMs + aheadMs - spareMs) * 1_000,
      }
    },
  }
}

/** Its flags, where it shows them: nothing hangs on the answer. */
export const victoriaReady = (keeps: (ms: number) => void): Ready => ({
  method: 'GET',
  path: '/flags',
  body: '',
  read: ({ status, body }) => {
    const flags = status === 200 ? Buffer.from(body).toString('utf8') : ''
    const [, count = '', unit = ''] = /^-retentionPeriod="([\d.]+)([hdwy]?)"$/m.exec(flags) ?? []
    const ms = Number(count) * (unitsMs[unit] as number)
    if (ms > 0) keeps(ms)
    return { kind: 'unknown' }
  },
})
