/**
 * Numbers for byte strings seen before, so that the hot path makes no JavaScript string. Each entry hangs under a
 * parent (a field under its line head) and remembers which entry came after it last time: plant data repeats its
 * order, so one comparison with that guess usually replaces scanning, hashing and look-up.
 *
 * Invariants: an entry is found only if all its bytes and its parent are equal; entries and bytes are bounded, and
 * when either is used up everything is forgotten at once, which costs time and never truth: an entry number held
 * from before is only ever a guess, checked by `follow` against the entry that has that number now.
 */
export interface ByteIndexLimits {
  readonly entriesMax: number
  readonly bytesMax: number
}
export interface ByteIndex {
  /** Whether `bytes` at `at` begin with the entry's bytes: then the offset behind them, else -1. */
  readonly follow: (entry: number, parent: number, bytes: Uint8Array, at: number) => number
  /** The entry of `bytes[from, to)` under `parent`, or -1. */
  readonly find: (parent: number, bytes: Uint8Array, from: number, to: number) => number
  readonly add: (
    parent: number,
    bytes: Uint8Array,
    from: number,
    to: number,
    value: number,
  ) => number
  readonly value: (entry: number) => number
  /** The entry that came after this one last time, or -1. */
  readonly after: (entry: number) => number
  readonly setAfter: (entry: number, next: number) => void
}

const grown = (old: Int32Array): Int32Array<ArrayBuffer> => {
  const next = new Int32Array(old.length * 2)
  next.set(old)
  return next
}
const hashOf = (parent: number, bytes: Uint8Array, from: number, to: number): number => {
  let hash = Math.imul(parent + 2, 0x9e3779b1) ^ (to - from)
  for (let at = from; at < to; at++) hash = Math.imul(hash ^ (bytes[at] as number), 0x01000193)
  return hash ^ (hash >>> 15)
}

export const createByteIndex = ({ entriesMax, bytesMax }: ByteIndexLimits): ByteIndex => {
  let count = 0
  let used = 0
  let store = new Uint8Array(4096)
  let starts = new Int32Array(256)
  let parents = new Int32Array(256)
  let values = new Int32Array(256)
  let hashes = new Int32Array(256)
  let nexts = new Int32Array(256)
  /** Open addressing, at most half full: entry + 1, or 0. */
  let slots = new Int32Array(1024)

  const forget = (): void => {
    count = 0
    used = 0
    slots.fill(0)
  }
  const place = (entry: number): void => {
    const mask = slots.length - 1
    let slot = (hashes[entry] as number) & mask
    while (slots[slot] !== 0) slot = (slot + 1) & mask
    slots[slot] = entry + 1
  }
  const makeRoom = (length: number): void => {
    if (count === entriesMax || used + length > bytesMax) forget()
    if (count + 1 >= starts.length) {
      starts = grown(starts)
      parents = grown(parents)
      values = grown(values)
      hashes = grown(hashes)
      nexts = grown(nexts)
    }
    if (count * 2 + 2 > slots.length) {
      slots = new Int32Array(slots.length * 2)
      for (let entry = 0; entry < count; entry++) place(entry)
    }
    if (used + length <= store.length) return
    const larger = new Uint8Array(Math.max(store.length * 2, used + length))
    larger.set(store)
    store = larger
  }
  const endOf = (entry: number) => (entry + 1 === count ? used : (starts[entry + 1] as number))
  const follow: ByteIndex['follow'] = (entry, parent, bytes, at) => {
    if (entry < 0 || entry >= count || parents[entry] !== parent) return -1
    const start = starts[entry] as number
    const length = endOf(entry) - start
    if (at + length > bytes.length) return -1
    for (let i = 0; i < length; i++) if (store[start + i] !== bytes[at + i]) return -1
    return at + length
  }
  return {
    follow,
    find: (parent, bytes, from, to) => {
      const hash = hashOf(parent, bytes, from, to)
      const mask = slots.length - 1
      for (let slot = hash & mask; slots[slot] !== 0; slot = (slot + 1) & mask) {
        const entry = (slots[slot] as number) - 1
        if (hashes[entry] === hash && follow(entry, parent, bytes, from) === to) return entry
      }
      return -1
    },
    add: (parent, bytes, from, to, value) => {
      makeRoom(to - from)
      const entry = count++
      starts[entry] = used
      parents[entry] = parent
      values[entry] = value
      hashes[entry] = hashOf(parent, bytes, from, to)
      nexts[entry] = -1
      store.set(bytes.subarray(from, to), used)
      used += to - from
      place(entry)
      return entry
    },
    value: (entry) => values[entry] as number,
    after: (entry) => (entry >= 0 && entry < count ? (nexts[entry] as number) : -1),
    setAfter: (entry, next) => {
      if (entry >= 0 && entry < count) nexts[entry] = next
    },
  }
}
