/** A set of seqs as closed ranges, sorted and never touching: small however many seqs were taken. */
import type { Seq } from '../model.ts'

export interface SeqRanges {
  /** Whether every seq of first..last is in. */
  readonly has: (first: Seq, last?: Seq) => boolean
  readonly add: (first: Seq, last?: Seq) => void
  readonly list: () => readonly (readonly [Seq, Seq])[]
}
export const createSeqRanges = (given: readonly (readonly [Seq, Seq])[] = []): SeqRanges => {
  let ranges: [Seq, Seq][] = []
  const add = (first: Seq, last: Seq = first): void => {
    const top = ranges.at(-1)
    // In order, as nearly always.
    if (top !== undefined && first === top[1] + 1) top[1] = last
    else if (top === undefined || first > top[1]) ranges.push([first, last])
    else {
      const apart = ranges.filter(([from, to]) => to + 1 < first || from > last + 1)
      const near = ranges.filter(([from, to]) => to + 1 >= first && from <= last + 1)
      const merged: [Seq, Seq] = [
        Math.min(first, ...near.map(([from]) => from)),
        Math.max(last, ...near.map(([, to]) => to)),
      ]
      ranges = [...apart, merged].sort((one, other) => one[0] - other[0])
    }
  }
  for (const [first, last] of given) add(first, last)
  return {
    has: (first, last = first) => ranges.some(([from, to]) => from <= first && last <= to),
    add,
    list: () => ranges.map(([first, last]) => [first, last]),
  }
}
