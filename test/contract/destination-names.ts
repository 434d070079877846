/** Names, tags and keys that some reader of line protocol takes for something else: one point of each, µs apart. */
import type { LogPoint } from './destination-log.ts'

/** What a plant calls things: stored under exactly this name, or declared lost; never under another, never in the way. */
const names = [
  'plain.v',
  'a b.c d',
  'a,b.c=d',
  'grün.wärme',
  '1st.value',
  'pump.time',
  'time.v',
  '_m._f',
  'x"y.z"w',
  'a\\b.c\\d',
  'a\\\\b.c\\\\d',
  'end\\.v',
  'v.end\\',
  'a\\,b.c',
  'a\\ b.c',
  'a\\=b.c',
  'a\\"b.c',
  'v.a\\,b',
  'v.a\\ b',
  'v.a\\=b',
  'v.a\\"b',
  'tab\tin.v',
  '\ttab.v',
  'v.\ttab',
  'v.tab\tin',
  '#note.v',
  'v.#f',
  'v.greptime_timestamp',
  'v.plant',
  'v.__chunk_order',
  'v._ts',
  '.dot',
  'no-dot',
  'a/b:c.d@e#f',
  'v.true',
  'v.1',
  '{json}.[v]',
  "q'uote.v",
] // prettier-ignore
const tagValues = [
  'plain',
  'a b',
  'a,b',
  'a=b',
  'grün',
  'x"y',
  '\\\\server\\share',
  'C:\\dir\\file',
  'end\\',
  'a\\,b',
  'a\\ b',
  'a\\=b',
  'a\\"b',
  'tab\tin',
  '',
  '#x',
  'x'.repeat(300),
  "'",
  'a\\\\,b',
  'x\\ y"z',
] // prettier-ignore

export const hostilePoints: readonly LogPoint[] = [
  ...names.map((one, at) => ({ name: one, timeUs: at, value: at })),
  ...tagValues.map((tag, at) => ({
    name: 'tagged.v',
    timeUs: 1_000 + at,
    value: at,
    tags: [['t', tag]] as const,
  })),
  ...['time', '_field', '_measurement', '__name__', 'a b', 'a\\b', 'a\\\\b', 'k"', 'v'].map(
    (key, at) => ({
      name: 'keyed.v',
      timeUs: 2_000 + at,
      value: at,
      tags: [[key, 'x']] as const,
    }),
  ),
]

/** Measurement and field of such a name. */
export const saidOf = (name: string): readonly [string, string] => {
  const dot = name.lastIndexOf('.')
  const whole = dot <= 0 || dot === name.length - 1
  return whole ? [name, 'value'] : [name.slice(0, dot), name.slice(dot + 1)]
}
