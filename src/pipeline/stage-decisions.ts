/**
 * What a tick decided by the clock, as bytes and back: which series, and two numbers that say what of them.
 *
 * Invariants: series are named by their id, which other classes and another order of series leave as it is; what is
 * read is what was put since `begin`; bytes that are none throw RangeError.
 */
import type { SeriesId } from '../model.ts'
import { createStateWriter, openState } from './state-bytes.ts'

const version = 1

export interface Decisions {
  readonly begin: () => void
  readonly add: (a: number, b: number, series: SeriesId) => void
  readonly bytes: (kind: number) => Uint8Array
}
interface Group {
  readonly a: number
  readonly b: number
  readonly ids: SeriesId[]
}

export const createDecisions = (): Decisions => {
  const groups = new Map<string, Group>()
  let last: Group | undefined
  return {
    begin: () => {
      groups.clear()
      last = undefined
    },
    add: (a, b, series) => {
      // Most of a tick's are alike.
      if (last === undefined || last.a !== a || last.b !== b) {
        const key = `${a} ${b}`
        last = groups.get(key) ?? { a, b, ids: [] }
        groups.set(key, last)
      }
      last.ids.push(series)
    },
    bytes: (kind) => {
      const to = createStateWriter(kind, version)
      to.uint(groups.size)
      for (const { a, b, ids } of groups.values()) {
        to.float(a)
        to.float(b)
        to.uint(ids.length)
        for (const id of ids) to.id(id)
      }
      return to.finish()
    },
  }
}

export const eachDecision = (
  bytes: Uint8Array,
  kind: number,
  visit: (a: number, b: number, series: SeriesId) => void,
): void => {
  const from = openState(bytes, kind, version)
  for (let left = from.uint(); left > 0; left--) {
    const [a, b] = [from.float(), from.float()]
    for (let ids = from.uint(); ids > 0; ids--) visit(a, b, from.id())
  }
}
