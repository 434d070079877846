/**
 * Whether the wall clock may stamp points, decided without trusting the wall clock.
 *
 * Trusted: the wall clock stands at or above the release's date and the last wall time the spool saved, and, once the
 * far side's `Date` has agreed with it, it has not stepped away from that agreement. The agreement overrides what was
 * saved: a clock that ran ahead once must not make the right time look wrong for ever.
 * A far side that never agreed proves nothing: one of the two is wrong, and it need not be ours.
 */
import type { Host } from '../host.ts'
import type { ClockReading } from '../model.ts'

/** More than any sane drift or answer time, less than any wrong time zone. */
const agreementUs = 5 * 60 * 1_000_000

export interface ClockFloor {
  /** No clock is right below it: the release's date. */
  readonly floorUs: number
  /** The last trusted wall time that was saved. */
  readonly savedUs: number
}
export interface AgentClock {
  readonly reading: () => ClockReading
  /** The far side's idea of the time, heard just now. */
  readonly farTime: (wallUs: number) => void
  /** Far side minus our wall clock in microseconds, when it was last heard; undefined before. */
  readonly farOffsetUs: () => number | undefined
}

export const createAgentClock = (
  host: Pick<Host, 'clock' | 'bootId' | 'log'>,
  { floorUs, savedUs }: ClockFloor,
): AgentClock => {
  const monotonicUs = () => Math.floor(host.clock.monotonicMs() * 1000)
  /** Wall minus monotonic when the far side last agreed. */
  let agreedUs: number | undefined
  let farOffsetUs: number | undefined
  let trustedBefore: boolean | undefined
  const isTrusted = (nowUs: number, monoUs: number): boolean =>
    nowUs >= floorUs &&
    (agreedUs === undefined ? nowUs >= savedUs : Math.abs(nowUs - monoUs - agreedUs) <= agreementUs)
  return {
    reading: () => {
      const nowUs = host.clock.nowUs()
      const monoUs = monotonicUs()
      const trusted = isTrusted(nowUs, monoUs)
      if (trusted !== trustedBefore) {
        if (!trusted)
          host.log.warn('clock_not_trusted', { nowUs, floorUs: Math.max(floorUs, savedUs) })
        else if (trustedBefore === false) host.log.info('clock_trusted', { nowUs })
        trustedBefore = trusted
      }
      return { nowUs, bootId: host.bootId, monotonicUs: monoUs, trusted }
    },
    farTime: (wallUs) => {
      const nowUs = host.clock.nowUs()
      farOffsetUs = wallUs - nowUs
      if (nowUs >= floorUs && Math.abs(farOffsetUs) <= agreementUs) agreedUs = nowUs - monotonicUs()
    },
    farOffsetUs: () => farOffsetUs,
  }
}
