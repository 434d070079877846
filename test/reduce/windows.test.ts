import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { seriesIdOf } from '../../src/codec/series-id.ts'
import { compileClasses, type SeriesClass, type WindowSpec } from '../../src/pipeline/classes.ts'
import { createWindowsStage } from '../../src/pipeline/windows.ts'
import { drive, entryOf, type Given, type Sample, type Turn } from './harness.ts'
import { allStatistics, type NaiveWindow, naiveWindows } from './naive-windows.ts'
import { cut, signal, startUs } from './signals.ts'

const runs = 1_000
const lane = 'rollup'
const window = (
  everyUs: number,
  latenessUs: number,
  more: Partial<WindowSpec> = {},
): WindowSpec => ({
  everyUs,
  latenessUs,
  statistics: allStatistics,
  lane,
  ...more,
})
const classOf = (...windows: WindowSpec[]): SeriesClass => ({
  name: 'c',
  match: {},
  reduce: { method: 'none' },
  windows,
})
const creator =
  (one: SeriesClass, timeZone = 'UTC') =>
  () =>
    createWindowsStage({
      classes: compileClasses([one]),
      timeZone,
      idOf: (key) => seriesIdOf('a', key),
    })

const tagOf = (given: Given, name: string) => given.entry.tags.find(([tag]) => tag === name)?.[1]
/** What the region has in the end: by length, series name and start, the last value of each statistic. */
const windowsOf = (given: readonly Given[]) => {
  const found = new Map<string, Map<string, Given>>()
  for (const one of given) {
    const key = `${tagOf(one, '@every')} ${one.entry.name} ${one.timeUs}`
    const row = found.get(key) ?? new Map<string, Given>()
    found.set(key, row.set(tagOf(one, '@statistic') as string, one))
  }
  return found
}
const near = (a: number, b: number, scale: number): boolean =>
  Math.abs(a - b) <= 1e-9 * Math.max(Math.abs(a), Math.abs(b), scale) || Object.is(a, b)

const compare = (row: ReadonlyMap<string, Given>, naive: NaiveWindow, text: string): void => {
  const states = row.has('rev') && [...row.keys()].some((name) => name.startsWith('time_in'))
  const statistics = new Map(
    [...naive.statistics].filter(([name]) => states || !name.startsWith('time_in')),
  )
  const scale = Math.max(
    ...['min', 'max'].map((name) => Math.abs(Number(statistics.get(name) ?? 0))),
  )
  for (const [name, wanted] of statistics) {
    const value = row.get(name)?.value
    const loose = ['twa', 'stddev', 'median', 'p95'].includes(name) || name.startsWith('time_in')
    const exact = typeof wanted === 'number' ? Number(value) === wanted : value === wanted
    // Squares leave the range of doubles long before values do.
    const overflown =
      (typeof wanted === 'number' && !Number.isFinite(wanted)) ||
      (name === 'stddev' && (scale > 1e100 || Number(wanted) < 1e-100))
    const same = loose ? near(Number(value), Number(wanted), name === 'stddev' ? scale : 0) : exact
    assert.ok(same || overflown, `${text} ${name}: ${String(value)}, naive ${String(wanted)}`)
  }
  for (const [name, { value }] of row) {
    const known = statistics.has(name) || name === 'rev' || name === 'partial' || name === 'changes'
    const nothing = Number.isNaN(value) || value === 0
    assert.ok(known || nothing, `${text} ${name}: ${String(value)}, naive has none`)
  }
}
const checkAll = (
  given: readonly Given[],
  turns: readonly Turn[],
  specs: readonly WindowSpec[],
) => {
  const rows = windowsOf(given)
  let expected = 0
  for (const series of entries.keys()) {
    const points = turns.flatMap((turn) =>
      turn.kind === 'step' ? [turn.points.filter((point) => point.series === series)] : [],
    )
    for (const spec of specs) {
      const modulus = spec.counter?.modulus
      const naive = naiveWindows(points, {
        everyUs: spec.everyUs,
        latenessUs: spec.latenessUs,
        ...(spec.counter === undefined ? {} : { modulus: modulus ?? null }),
      })
      for (const one of naive.windows) {
        expected++
        const key = `${spec.everyUs} s${one.series} ${one.startUs}`
        const row = rows.get(key)
        assert.ok(row !== undefined, `no window ${key}`)
        compare(row, one, key)
      }
    }
  }
  assert.equal(rows.size, expected, 'windows nobody asked for')
}
const flush: Turn[] = [
  { kind: 'tick', nowUs: startUs },
  { kind: 'tick', nowUs: startUs * 2 },
]
const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 })
const entries = [entryOf('s0', 'K'), entryOf('s1')]
/** Two series of one lane, taken in turns. */
const mixed = (a: readonly Sample[], b: readonly Sample[]) =>
  Array.from({ length: Math.max(a.length, b.length) }, (_, at) =>
    [a[at], b[at]].filter((one) => one !== undefined),
  ).flat()
const timeless = allStatistics.filter((one) => one !== 'time_in_state')
const specs = [
  window(10e6, 5e6, { statistics: timeless }),
  window(60e6, 0, { statistics: timeless }),
  window(3600e6, 120e6, { statistics: timeless, counter: { modulus: 1000 } }),
]

test('windows equal a naive recomputation, in any order, restarted anywhere', () => {
  fc.assert(
    fc.property(signal(0), signal(1), sizes, fc.nat(4), (a, b, cuts, often) => {
      const between = (at: number): Turn[] =>
        at % 5 < often ? [{ kind: 'restart' }, { kind: 'tick', nowUs: startUs }] : []
      const turns = cut(mixed(a, b), cuts, between)
      const { given } = drive(creator(classOf(...specs)), entries, [...turns, ...flush])
      checkAll(given, turns, specs)
    }),
    { numRuns: runs, endOnFailure: true },
  )
})
