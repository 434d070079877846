/** Chance with a seed: the same seed gives the same numbers, and each part of the world has a stream of its own. */
export interface Chance {
  /** In [0, 1). */
  readonly next: () => number
  /** A whole number, both ends included. */
  readonly int: (from: number, to: number) => number
  readonly between: (from: number, to: number) => number
  readonly hit: (probability: number) => boolean
  readonly pick: <T>(list: readonly T[]) => T
  readonly bytes: (length: number) => Uint8Array
}

/** sfc32 (public domain, Chris Doty-Humphrey): small, fast, and good enough to pass PractRand. */
export const createChance = (seed: number, stream: string): Chance => {
  let [a, b, c, d] = [seed | 0, 0x9e3779b9, 0x243f6a88, 1]
  for (let at = 0; at < stream.length; at++) b = Math.imul(b ^ stream.charCodeAt(at), 0x01000193)
  const step = (): number => {
    const t = (((a + b) | 0) + d) | 0
    d = (d + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = ((c << 21) | (c >>> 11)) + t
    c |= 0
    return t >>> 0
  }
  for (let at = 0; at < 16; at++) step()
  const next = () => step() / 4294967296
  const self: Chance = {
    next,
    int: (from, to) => from + Math.floor(next() * (to - from + 1)),
    between: (from, to) => from + next() * (to - from),
    hit: (probability) => next() < probability,
    pick: (list) => list[Math.floor(next() * list.length)] as (typeof list)[number],
    bytes: (length) => {
      const bytes = new Uint8Array(length)
      for (let at = 0; at < length; at++) bytes[at] = step() & 255
      return bytes
    },
  }
  return self
}
