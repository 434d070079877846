import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { SeriesEntry } from '../../../src/model.ts'
import {
  compileClasses,
  contractOf,
  dayUs,
  deviationOf,
  problemsOf,
  type SeriesClass,
} from '../../../src/pipeline/classes.ts'

const entry = (
  name: string,
  unit = '',
  tags: readonly (readonly [string, string])[] = [],
): SeriesEntry => ({ id: 1n, name, unit, tags })
const all: SeriesClass = {
  name: 'all',
  match: {},
  reduce: { method: 'on_change', lane: 'process' },
  windows: [],
}
const paths = (one: SeriesClass) => problemsOf(one).map(({ path }) => path.join('.'))

test('the first class whose name, unit and tags all match takes the series', () => {
  const { classOf } = compileClasses([
    { ...all, name: 'hot', match: { names: ['*.temp', 'heat*'], units: ['°C', 'K'] } },
    { ...all, name: 'plc', match: { tags: { source: 'plc-?' } } },
    { ...all, name: 'state', match: { names: ['*running*'] } },
  ])
  assert.equal(classOf(entry('oven.temp', '°C')), 0)
  assert.equal(classOf(entry('oven.temp', '%')), -1)
  assert.equal(classOf(entry('oven.temp', '%', [['source', 'plc-1']])), 1)
  assert.equal(classOf(entry('is running', '', [['source', 'plc-10']])), 2)
})

test('what a class promises', () => {
  const band = { method: 'deadband', lane: 'p', deviation: { percentOfRange: 0.5 } } as const
  const one: SeriesClass = { ...all, range: { low: -50, high: 150 }, reduce: band }
  assert.equal(deviationOf(one), 1)
  const contract = { method: 'deadband', deviation: 1, interpolation: 'step', heartbeatUs: null }
  assert.deepEqual(contractOf(one), contract)
  assert.equal(contractOf({ ...one, reduce: { ...band, minGapUs: 5 } })?.deviation, Infinity)
  const door = { ...band, method: 'swinging_door', heartbeatUs: 9 } as const
  assert.deepEqual(contractOf({ ...one, reduce: door }), {
    ...contract,
    method: 'swinging_door',
    interpolation: 'linear',
    heartbeatUs: 9,
  })
  assert.equal(contractOf({ ...all, reduce: { method: 'none' } }), undefined)
  assert.equal(contractOf({ ...all, reduce: { method: 'every', lane: 'p' } }), undefined)
})

test('a class that cannot be kept is refused, with its place', () => {
  assert.deepEqual(paths(all), [])
  const percent = { method: 'deadband', lane: 'p', deviation: { percentOfRange: 1 } } as const
  assert.deepEqual(paths({ ...all, reduce: percent }), ['reduce.deviation'])
  assert.deepEqual(paths({ ...all, range: { low: 2, high: 2 } }), ['range'])
  for (const deviation of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
    const reduce = { method: 'swinging_door', lane: 'p', deviation } as const
    assert.deepEqual(paths({ ...all, reduce }), ['reduce.deviation'], String(deviation))
  }
  const window = { everyUs: 60e6, statistics: ['max'], latenessUs: 0, lane: 'p' } as const
  const withWindow = (change: object) =>
    paths({ ...all, windows: [{ ...window, ...change } as typeof window] })
  assert.deepEqual(withWindow({}), [])
  assert.deepEqual(withWindow({ everyUs: 7e6 }), ['windows.0.everyUs'])
  assert.deepEqual(withWindow({ everyUs: 2 * dayUs }), ['windows.0.everyUs'])
  assert.deepEqual(withWindow({ statistics: ['mode'] }), ['windows.0.statistics'])
  assert.deepEqual(withWindow({ everyUs: dayUs }), [])
  assert.deepEqual(withWindow({ everyUs: dayUs, statistics: ['p95'] }), ['windows.0.statistics'])
  assert.deepEqual(withWindow({ latenessUs: -1 }), ['windows.0.latenessUs'])
  assert.deepEqual(paths({ ...all, windows: [window, window] }), ['windows.1.everyUs'])
  assert.throws(() => compileClasses([{ ...all, reduce: percent }]), /range/)
})
