/**
 * The time column: runs sampled at the same instants share one vector of times.
 * Invariant: a run refers to the vector of the run before (0), to the next new one (1) or to vector k
 * (k + 2), and a
 * vector referred to has as many times as the run has points.
 */
import { type IntCursors, type IntSinks, numbersOf, putInts, type Run, takeInts } from './ints.ts'
import { scratchFloats } from './scratch.ts'
import { malformed } from './streams.ts'

/** Where the vectors seen so far lie among the times. */
interface Vectors {
  readonly times: Float64Array
  readonly starts: number[]
  readonly counts: number[]
}

const refsOfRuns = scratchFloats()
const firstsOfVectors = scratchFloats()

const isVector = (vectors: Vectors, vector: number, at: number, count: number): boolean => {
  if (vectors.counts[vector] !== count) return false
  const { times } = vectors
  const start = vectors.starts[vector] as number
  for (let i = 0; i < count; i++) if (times[start + i] !== times[at + i]) return false
  return true
}

/** `times` in run order; `counts` points a run. */
export const putTimes = (
  out: IntSinks,
  times: Float64Array,
  counts: Float64Array,
  runCount: number,
): void => {
  const vectors: Vectors = { times, starts: [], counts: [] }
  const byEnds = new Map<number, number>()
  const refs = refsOfRuns(runCount)
  let before = -1
  for (let run = 0, at = 0; run < runCount; run++) {
    const count = counts[run] as number
    if (before >= 0 && isVector(vectors, before, at, count)) refs[run] = 0
    else {
      const key = (times[at] as number) + 3 * (times[at + count - 1] as number) + count * 1_000_003
      const known = byEnds.get(key)
      if (known !== undefined && isVector(vectors, known, at, count)) {
        refs[run] = known + 2
        before = known
      } else {
        refs[run] = 1
        before = vectors.starts.length
        byEnds.set(key, before)
        vectors.starts.push(at)
        vectors.counts.push(count)
      }
    }
    at += count
  }
  putInts(out, refs, runCount)
  putVectors(out, vectors)
}

const putVectors = (out: IntSinks, vectors: Vectors): void => {
  const { starts, counts } = vectors
  const firsts = firstsOfVectors(starts.length)
  for (let v = 0; v < starts.length; v++) firsts[v] = vectors.times[starts[v] as number] as number
  putInts(out, firsts, firsts.length)
  for (let v = 0; v < starts.length; v++) {
    if ((counts[v] as number) === 1) continue
    const start = starts[v] as number
    putInts(out, vectors.times.subarray(start, start + (counts[v] as number)), counts[v] as number)
  }
}

/** Fills `times` for runs of `counts` points. */
export const takeTimes = (
  from: IntCursors,
  run: Run,
  times: Float64Array,
  counts: Float64Array,
  runCount: number,
): void => {
  takeInts(from, run, runCount)
  const refs = numbersOf(run, runCount).slice(0, runCount)
  const owners: number[] = []
  for (let r = 0; r < runCount; r++) if (refs[r] === 1) owners.push(r)
  takeInts(from, run, owners.length)
  const firsts = numbersOf(run, owners.length).slice(0, owners.length)
  const starts: number[] = []
  let vector = -1
  let next = 0
  for (let r = 0, at = 0; r < runCount; r++) {
    const count = counts[r] as number
    const ref = refs[r] as number
    if (ref === 1) {
      vector = next++
      starts.push(at)
      if (count === 1) times[at] = firsts[vector] as number
      else {
        takeInts(from, run, count)
        times.set(numbersOf(run, count).subarray(0, count), at)
      }
    } else {
      if (ref !== 0) vector = ref - 2
      const start = starts[vector]
      if (start === undefined || counts[owners[vector] as number] !== count) {
        throw malformed('a run refers to times that are not its own')
      }
      times.copyWithin(at, start, start + count)
    }
    at += count
  }
}
