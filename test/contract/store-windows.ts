/** The views of windows over any store: whatever order their statistics came in, the last accepted of each stands. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { quality, type Value } from '../../src/model.ts'
import type { StoreWorld } from './store.ts'
import { createTestAgent, type TestPoint } from './store-agent.ts'

const minuteUs = 60_000_000
const startUs = 1_700_000_040_000_000
const names = [
  ...['rev', 'count', 'good_count', 'sum', 'min', 'first', 'last', 'partial'],
  ...['min_at', 'good_pct', 'time_in_state'],
] as const
type Name = (typeof names)[number]

const number = fc.oneof(
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.constantFrom(5e-324, -5e-324, 1.7e308, -0),
)
const text = fc
  .string({ unit: 'grapheme-composite', maxLength: 8 })
  .filter((one) => !one.includes('\0'))
/** A number, a text, or that nothing is left of it. */
const edge = fc.oneof(number, text, fc.constant(Number.NaN))
/** One issue of one window: what of its statistics came with it. */
const issue = fc.record({
  window: fc.integer({ min: 0, max: 3 }),
  values: fc.record(
    {
      count: fc.bigInt(0n, 100n),
      good_count: fc.bigInt(0n, 100n),
      // Whole where the series is one of ints.
      sum: fc.oneof(number, fc.bigInt(-(1n << 40n), 1n << 40n)),
      min: fc.oneof(number, fc.constant(Number.NaN)),
      first: edge,
      last: edge,
      partial: fc.boolean(),
      min_at: fc.bigInt(BigInt(startUs), BigInt(startUs + minuteUs)),
      good_pct: fc.double({ min: 0, max: 100, noNaN: true }),
      time_in_state: fc.constantFrom('{"on":1.5}', '{"off":60}'),
    },
    { requiredKeys: [] },
  ),
})

/** What the rows must say: of each window and statistic the last that was accepted. */
const standingOf = (
  issues: readonly { window: number; values: Partial<Record<Name, Value>> }[],
) => {
  const rows = new Map<number, Map<Name, Value>>()
  issues.forEach(({ window, values }, at) => {
    const row = rows.get(window) ?? new Map<Name, Value>()
    rows.set(window, row)
    row.set('rev', BigInt(at + 1))
    for (const [name, value] of Object.entries(values)) row.set(name as Name, value)
  })
  return rows
}
const numberOf = (value: Value | undefined): number | null =>
  value === undefined || typeof value === 'string' || Number.isNaN(value) ? null : Number(value)
/** So small a sum is nothing to its mean: a database that refuses to divide it must not refuse the query. */
const divisible = (sum: number) => (Math.abs(sum) < 1e-300 ? 0 : sum)
const textOf = (value: Value | undefined): string | null =>
  typeof value === 'string' ? value : null
const shown = (row: ReadonlyMap<Name, Value>) => {
  const [sum, good] = [numberOf(row.get('sum')), numberOf(row.get('good_count'))]
  return {
    rev: Number(row.get('rev')),
    partial: row.get('partial') === true,
    count: numberOf(row.get('count')),
    sum,
    mean: sum === null || good === null || good === 0 ? null : divisible(sum) / good,
    min: numberOf(row.get('min')),
    first: numberOf(row.get('first')),
    last: numberOf(row.get('last')),
    firstText: textOf(row.get('first')),
    lastText: textOf(row.get('last')),
  }
}

export const testWindowViews = (world: () => StoreWorld): void => {
  let agents = 0
  test('windows in any order of arrival: the last accepted of each statistic stands, partial and texts too', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(issue, { minLength: 1, maxLength: 8 }),
        fc.array(fc.nat(), { minLength: 8, maxLength: 8 }),
        async (issues, places) => {
          const { store, readBack, query } = world()
          const name = `windows-${++agents}`
          const keys = names.map((statistic) => ({
            name: 'oven',
            tags: [
              ['@every', String(minuteUs)],
              ['@statistic', statistic],
              ['line', '2'],
            ] as const,
          }))
          const agent = createTestAgent(name, 0, [...keys, { name: 'oven', tags: [['line', '2']] }])
          const epoch = agent.epoch('first')
          await agent.introduce(store, epoch)
          const frames = issues.map(({ window, values }, at) => {
            const timeUs = startUs + window * minuteUs
            const points = Object.entries({ rev: BigInt(at + 1), ...values }).map(
              ([statistic, value]): TestPoint => ({
                series: names.indexOf(statistic as Name),
                timeUs,
                value,
                quality: Number.isNaN(value) ? quality.bad : quality.good,
              }),
            )
            return epoch.segment(at + 1, [...points, { series: names.length, timeUs, value: at }])
          })
          const order = frames
            .map((frame, at) => ({ frame, place: places[at] as number }))
            .sort((a, b) => a.place - b.place)
          for (const { frame } of order) {
            const answer = await store.commit(
              name,
              epoch.epoch,
              [frame],
              new AbortController().signal,
            )
            assert.equal(answer.kind, 'ok')
          }
          const expected = standingOf(issues)
          const found = await readBack.windowsOf(name)
          assert.equal(found.length, expected.size)
          for (const row of found) {
            const { rev, partial, numbers, firstText, lastText } = row
            const { count, sum, mean, min, first, last } = numbers
            assert.deepEqual(
              { rev, partial, count, sum, mean, min, first, last, firstText, lastText },
              shown(expected.get((row.startUs - startUs) / minuteUs) ?? new Map()),
            )
            assert.deepEqual([row.series, row.everyUs], ['oven', minuteUs])
          }
          const newest = Math.max(...expected.keys())
          const latest = await query(`select rev from windows_latest where agent = '${name}'`)
          assert.deepEqual(
            latest.map(({ rev }) => Number(rev)),
            [Number(expected.get(newest)?.get('rev'))],
          )
          const readings = await query(`select value from readings_latest where agent = '${name}'`)
          assert.deepEqual(
            readings.map(({ value }) => Number(value)),
            [issues.findLastIndex(({ window }) => window === newest)],
          )
        },
      ),
      { numRuns: 25 },
    )
  })
}
