/**
 * Columns that encoding works in, kept and used again: a collector would come for each of them seconds later.
 *
 * Invariants: encoding is synchronous and never inside itself, so a column has one user at a time; what is handed out
 * holds whatever it held before, until the same place asks again; no more is kept than a full segment needs.
 */
import { segmentPointsMax } from '../limits.ts'

/** Asks for a column of `length`. One of these a place in the code. */
type Scratch<T> = (length: number) => T

const scratchOf = <
  T extends { readonly length: number; subarray: (from: number, to: number) => T },
>(
  make: (length: number) => T,
): Scratch<T> => {
  let kept = make(0)
  return (length) => {
    if (length > segmentPointsMax) return make(length)
    // A quarter more: segments of one lane differ by little.
    if (length > kept.length) kept = make(Math.min(segmentPointsMax, length + (length >> 2)))
    return kept.subarray(0, length)
  }
}
export const scratchFloats = (): Scratch<Float64Array<ArrayBuffer>> =>
  scratchOf((length) => new Float64Array(length))
export const scratchWords = (): Scratch<Uint32Array<ArrayBuffer>> =>
  scratchOf((length) => new Uint32Array(length))
export const scratchBytes = (): Scratch<Uint8Array<ArrayBuffer>> =>
  scratchOf((length) => new Uint8Array(length))
