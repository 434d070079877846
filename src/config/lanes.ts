/** Lanes as other parts of a configuration name them. */
import { didYouMean } from './problems.ts'
import type { Path, Trouble } from './source-text.ts'

export const unknownLane = (name: unknown, lanes: readonly string[], path: Path): Trouble[] => {
  if (typeof name !== 'string' || lanes.includes(name)) return []
  const meant = didYouMean(name, lanes)
  return [
    {
      code: 'HF-C010',
      text: `there is no lane "${name}"`,
      ...(meant ? { remark: `did you mean "${meant}"?` } : {}),
      hint: `lanes: ${lanes.join(', ')}; add one under the top-level key "lanes"`,
      path,
      on: 'value',
    },
  ]
}

type Raw = Readonly<Record<string, unknown>>
const isMap = (value: unknown): value is Raw =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
/**
 * Lanes that classes read or write, as far as can be told where something else in them is wrong: a mistake in a class
 * is no reason to say that nobody takes its lanes.
 */
export const lanesOfClasses = (given: unknown): readonly string[] => {
  if (given === undefined || given === null) return []
  const byDefault = ['raw', 'reduced', 'windows']
  if (!isMap(given)) return byDefault
  const lane = (one: unknown, key: string) =>
    isMap(one) && typeof one[key] === 'string' ? [one[key] as string] : []
  return [
    ...byDefault,
    ...Object.values(given).flatMap((one) => {
      if (!isMap(one)) return []
      const windows = Array.isArray(one.windows) ? one.windows : []
      return [
        ...lane(one, 'from'),
        ...lane(one.reduce, 'lane'),
        ...windows.flatMap((each) => lane(each, 'lane')),
      ]
    }),
  ]
}
