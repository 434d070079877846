/** What the two sides of a body agree on; docs/formats/segment.md says the rest. */

/** Mode bytes of runs that are not float (those are in floats.ts). */
export const modes = { int: 40, bool: 41, string: 42 } as const
/** Second number of `params`. */
export const flags = { mixedKinds: 1, qualities: 2 } as const
/** Order of the streams in a body. */
export const streamNames = [
  'modes',
  'shapes',
  'params',
  'firsts',
  'tokens',
  'bits',
  'texts',
] as const
export const streamCount = streamNames.length
/** Raw bits are stored as they are. */
export const streamOfBits = 5
export const streamOfTexts = 6

/** Least and most of the times; 0 and 0 of none. */
export const timeRange = (timeUs: Float64Array): { timeUsMin: number; timeUsMax: number } => {
  if (timeUs.length === 0) return { timeUsMin: 0, timeUsMax: 0 }
  let timeUsMin = Number.POSITIVE_INFINITY
  let timeUsMax = Number.NEGATIVE_INFINITY
  for (let i = 0; i < timeUs.length; i++) {
    const time = timeUs[i] as number
    if (time < timeUsMin) timeUsMin = time
    if (time > timeUsMax) timeUsMax = time
  }
  // No negative zero leaves here.
  return { timeUsMin: timeUsMin + 0, timeUsMax: timeUsMax + 0 }
}
