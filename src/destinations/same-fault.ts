/**
 * A server that answers a write with the same 5xx each time: is it down, or does something in the write bring that
 * about? Asked of writes that are otherwise "later".
 *
 * Invariants: nothing is blamed of a server that takes nothing; a search begins only after `sameMax` answers alike to
 * one write, or where that answer was proven to be about what was written; what is blamed was answered so alone,
 * `aloneMax` times, and each time something that it had taken before was taken right behind it.
 */
import type { Host } from '../host.ts'

const sameMax = 5
const aloneMax = 6
const provenMs = 3_600_000
/** Writes that are tried at once: lanes, their live and backlog ends. */
const placesMax = 256

/** Request ids and times make two answers differ that say the same. */
const alike = (text: string) => text.replace(/[0-9a-f]{8,}|\d+/gi, '#')

/** What came of one write on trial. */
export type Trial =
  | { readonly kind: 'taken' | 'other' }
  | { readonly kind: 'fault'; readonly text: string }
export interface SameFault {
  /** The write that begins at this place was answered so; true: search it. */
  readonly again: (place: string, text: string) => boolean
  readonly taken: (place: string) => void
  /** Whether what was answered so, alone, is to blame; `taken`: it was not so the next time. */
  readonly judge: (
    text: string,
    alone: () => Promise<Trial>,
    control: () => Promise<Trial>,
  ) => Promise<'blamed' | 'taken' | 'unsure'>
}

export const createSameFault = (clock: Pick<Host['clock'], 'monotonicMs'>): SameFault => {
  const places = new Map<string, { readonly text: string; times: number }>()
  const proven = new Map<string, number>()
  const isProven = (text: string) =>
    clock.monotonicMs() - (proven.get(text) ?? Number.NEGATIVE_INFINITY) < provenMs
  return {
    again: (place, given) => {
      const text = alike(given)
      const before = places.get(place)
      const now = before?.text === text ? before : { text, times: 0 }
      now.times++
      places.delete(place)
      places.set(place, now)
      if (places.size > placesMax) places.delete(places.keys().next().value as string)
      return now.times >= sameMax || isProven(text)
    },
    taken: (place) => {
      places.delete(place)
    },
    judge: async (text, alone, control) => {
      for (let times = 1; ; times++) {
        if ((await control()).kind !== 'taken') return 'unsure'
        if (times === aloneMax) break
        const said = await alone()
        if (said.kind === 'taken') return 'taken'
        if (said.kind !== 'fault' || alike(said.text) !== alike(text)) return 'unsure'
      }
      if (proven.size >= placesMax) proven.clear()
      proven.set(alike(text), clock.monotonicMs())
      return 'blamed'
    },
  }
}
