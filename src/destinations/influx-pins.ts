/**
 * Which kinds of value a server is known to refuse for a series, because the field is of another type there: one type a
 * field, pinned by whoever wrote first.
 *
 * Invariants: believed only after `strikesMax` points of that series and kind were refused alone, by words about a
 * type, while the server took others; asked again after `pinnedMs`; at most `pinsMax` series are remembered.
 */
import type { Host } from '../host.ts'
import type { Kind } from '../model.ts'
import type { SeriesLine } from './influx-lines.ts'

const strikesMax = 3
const pinnedMs = 300_000
const pinsMax = 10_000
const aboutType = /\b(?:data)?type\b|\[0x3004\]/i

interface Pin {
  strikes: number
  readonly sinceMs: number
}
export const createTypePins = (clock: Host['clock']) => {
  const pins = new Map<SeriesLine, Partial<Record<Kind, Pin>>>()
  const holds = (pin: Pin | undefined): pin is Pin =>
    pin !== undefined && clock.monotonicMs() - pin.sinceMs < pinnedMs
  return {
    /** Cheap, for the way most points go. */
    none: (): boolean => pins.size === 0,
    has: (series: SeriesLine, kind: Kind): boolean => {
      const pin = pins.get(series)?.[kind]
      return holds(pin) && pin.strikes >= strikesMax
    },
    refused: (series: SeriesLine, kind: Kind, text: string): void => {
      if (!aboutType.test(text)) return
      const kinds = pins.get(series) ?? {}
      const before = kinds[kind]
      const pin = holds(before) ? before : { strikes: 0, sinceMs: clock.monotonicMs() }
      pin.strikes++
      kinds[kind] = pin
      pins.delete(series)
      pins.set(series, kinds)
      if (pins.size > pinsMax) pins.delete(pins.keys().next().value as SeriesLine)
    },
  }
}
