import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { seriesIdOf } from '../../src/codec/series-id.ts'
import { because, quality, type SeriesEntry, type Value } from '../../src/model.ts'
import {
  compileClasses,
  dayUs,
  type SeriesClass,
  type WindowSpec,
} from '../../src/pipeline/classes.ts'
import { jobsOfOneTurn, type MakeLimits, makeLimits } from '../../src/pipeline/window-make.ts'
import { gain } from '../../src/pipeline/window-slots.ts'
import { createSpans } from '../../src/pipeline/window-spans.ts'
import { quantile } from '../../src/pipeline/window-statistics.ts'
import { createWindowsStage } from '../../src/pipeline/windows.ts'
import { batchOf, drive, entryOf, type Given, givenOf, type Sample, type Turn } from './harness.ts'
import { allStatistics, type NaiveWindow, naiveWindows, windowDiffers } from './naive-windows.ts'
import { runsOf } from './runs.ts'
import { cut, signal, startUs } from './signals.ts'

const runs = runsOf(500)
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
  (one: SeriesClass, timeZone = 'UTC', limits: MakeLimits = makeLimits) =>
  () =>
    createWindowsStage({
      classes: compileClasses([one]),
      timeZone,
      idOf: (key) => seriesIdOf('a', key),
      limits,
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
const compare = (row: ReadonlyMap<string, Given>, naive: NaiveWindow, text: string): void => {
  const found = new Map([...row].map(([name, { value }]) => [name, value]))
  assert.equal(windowDiffers(found, naive), null, text)
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
const specs = [
  window(10e6, 5e6),
  window(60e6, 0),
  window(3600e6, 120e6, { counter: { modulus: 1000 } }),
]

test('a quantile of values further apart than doubles reach is what lies there', () => {
  assert.equal(quantile(Float64Array.of(-1.7e308, -1.6e308, 1.7e308), 0.5), -1.6e308)
  assert.equal(quantile(Float64Array.of(-1.7e308, 1.7e308), 0.5), 0)
})

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

test('and so they do where each is made a few points at a time', () => {
  const least = { ...makeLimits, part: 2 }
  fc.assert(
    fc.property(signal(0), signal(1), sizes, fc.nat(4), (a, b, cuts, often) => {
      const between = (at: number): Turn[] => (at % 5 < often ? [{ kind: 'restart' }] : [])
      const turns = cut(mixed(a, b), cuts, between)
      const create = creator(classOf(...specs), 'UTC', least)
      const { given } = drive(create, entries, [...turns, ...flush])
      checkAll(given, turns, specs)
    }),
    { numRuns: Math.min(runs, 100), endOnFailure: true },
  )
})

const at = (seconds: number, value: Value, given: number = quality.good): Sample => ({
  series: 0,
  timeUs: dayStartUs + seconds * 1e6,
  value,
  quality: given,
})
/** 2025-10-09 00:00 UTC. */
const dayStartUs = 1_759_968_000_000_000
const step = (...points: Sample[]): Turn => ({ kind: 'step', points })
const tick = (seconds: number): Turn => ({ kind: 'tick', nowUs: dayStartUs + seconds * 1e6 })
const count = (length: number, make: (i: number) => Sample) =>
  Array.from({ length }, (_, i) => make(i))
/** `SECOND statistic=value`, in order, but for counts and positions nobody asked of. */
const shown = (given: readonly Given[], ...names: string[]) =>
  given
    .filter((one) => names.includes(tagOf(one, '@statistic') as string))
    .map((one) => {
      const second = (one.timeUs - dayStartUs) / 1e6
      return `${second} ${tagOf(one, '@statistic')}=${String(one.value)}`
    })
const run = (one: SeriesClass, turns: readonly Turn[], zone = 'UTC') =>
  drive(creator(one, zone), entries, turns)

test('a restart anywhere changes nothing that is given out, nor what is counted', () => {
  fc.assert(
    fc.property(
      signal(0),
      signal(1),
      sizes,
      fc.infiniteStream(fc.boolean()),
      (a, b, cuts, often) => {
        const points = mixed(a, b)
        const one = classOf(...specs, window(20e6, 3e6))
        const broken = cut(points, cuts, () => (often.next().value ? [{ kind: 'restart' }] : []))
        const plain = run(one, [...cut(points, cuts), ...flush])
        const other = run(one, [...broken, ...flush])
        const sorted = (given: readonly Given[]) => given.map((row) => ({ ...row, series: 0 }))
        assert.deepEqual(sorted(other.given), sorted(plain.given))
        assert.deepEqual(other.stage.totals(), plain.stage.totals())
        assert.equal(
          plain.stage.holdFromUs(),
          Number.POSITIVE_INFINITY,
          'all is out, nothing is held',
        )
      },
    ),
    { numRuns: Math.min(runs, 200), endOnFailure: true },
  )
})

test('each window comes with rev 1, 2, 3 …; what is too late is counted as a naive count has it', () => {
  fc.assert(
    fc.property(signal(0), sizes, (points, cuts) => {
      const spec = window(10e6, 5e6, { statistics: ['count'] })
      const turns = cut(points, cuts)
      const { given, stage } = run(classOf(spec), [...turns, ...flush])
      const revs = new Map<number, number>()
      for (const row of given.filter((one) => tagOf(one, '@statistic') === 'rev')) {
        assert.equal(row.value, BigInt((revs.get(row.timeUs) ?? 0) + 1))
        revs.set(row.timeUs, Number(row.value))
      }
      const steps = turns.flatMap((turn) => (turn.kind === 'step' ? [turn.points] : []))
      assert.equal(stage.totals()[0]?.tooLate, naiveWindows(steps, spec).tooLate)
      assert.equal(stage.totals()[0]?.pointsIn, points.length)
      assert.equal(stage.totals()[0]?.pointsOut, given.length)
    }),
    { numRuns: runs, endOnFailure: true },
  )
})

test('a statistic series is the series with two tags, in its unit or in that of the statistic', () => {
  const entry = {
    ...entryOf('s0', 'K'),
    tags: [
      ['Zone', 'a'],
      ['line', '4'],
    ] as const,
  }
  const spec = window(60e6, 0, { statistics: ['mean', 'good_pct', 'max_at'] })
  const turns = [step(at(0, 5.5), at(60, 1))]
  const { given } = drive(creator(classOf(spec)), [entry], turns)
  const row = (name: string, value: Value, unit: string) => [name, value, unit]
  assert.deepEqual(
    given.map((one) => row(tagOf(one, '@statistic') as string, one.value, one.entry.unit)),
    [
      row('good_count', 1n, ''),
      row('good_pct', 100, '%'),
      row('max_at', BigInt(dayStartUs), 'us'),
      row('sum', 5.5, 'K'),
      row('rev', 1n, ''),
    ],
    'a mean travels as sum and good_count',
  )
  const tags = [
    ['@every', '60000000'],
    ['@statistic', 'good_count'],
    ['Zone', 'a'],
    ['line', '4'],
  ] as const
  assert.deepEqual(given[0]?.entry.tags, tags)
  assert.equal(given[0]?.entry.id, seriesIdOf('a', { name: 's0', tags }))
})

test('a silent series is closed once its own time, gone on with the clock, is beyond the lateness', () => {
  const spec = window(60e6, 10e6, { statistics: ['sum'] })
  const begin = [step(at(0, 1), at(20, 2)), tick(5000)]
  const sum = (...turns: Turn[]) =>
    shown(run(classOf(spec), [...begin, ...turns]).given, 'sum', 'rev')
  assert.deepEqual(sum(tick(5049)), [])
  const out = ['0 sum=3', '0 rev=1']
  assert.deepEqual(sum(tick(5050)), out)
  assert.deepEqual(
    sum(tick(5030), step(at(21, 4)), tick(5050), tick(5098)),
    [],
    'a point begins it anew',
  )
  const { given, stage } = run(classOf(spec), [
    ...begin,
    tick(5050),
    step(at(30, 9), at(61, 7)),
    tick(9e4),
    tick(9e5),
  ])
  assert.deepEqual(shown(given, 'sum'), ['0 sum=3', '60 sum=7'], 'closed is closed')
  assert.equal(stage.totals()[0]?.tooLate, 1)
})

test('a tick that closed what was out already says so: an empty batch asks for a checkpoint', () => {
  const spec = window(60e6, 10e6, { statistics: ['sum'] })
  const stage = creator(classOf(spec))()
  stage.load(null)
  const none = () => []
  const feed = (...points: Sample[]) =>
    stage.step({ points: batchOf(points), entry: () => entryOf('s0'), seq: 1, raw: none })
  feed(at(1, 1), at(61, 1))
  assert.deepEqual(stage.tick(0, none), [])
  const derived = stage.tick(9e6 + 1, none)
  assert.equal(derived.length, 1)
  assert.equal(derived[0]?.points.count, 0)
})

test('let go: given out partial, gone on with, given out whole, unless it would have needed the raw lane', () => {
  const spec = window(60e6, 30e6, { statistics: ['sum'] })
  const letGo: Turn = { kind: 'letGo', beforeUs: dayStartUs + 1e6 }
  const told = (one: WindowSpec, ...last: Sample[]) => {
    const turns = [step(at(0, 1), at(20, 2)), letGo, step(at(30, 4), ...last), step(at(65, 7))]
    return { turns, ...run(classOf(one), turns) }
  }
  const early = ['0 sum=3', '0 partial=true', '0 rev=1']
  const whole = shown(told(spec).given, 'sum', 'partial', 'rev')
  assert.deepEqual(whole, [...early, '0 sum=7', '0 partial=false', '0 rev=2'])
  const blind = told({ ...spec, statistics: ['sum', 'median'] }).given
  assert.deepEqual(shown(blind, 'partial'), ['0 partial=true', '0 partial=true'], 'values are gone')
  const { turns, given, stage } = told(spec, at(25, 100))
  const all = shown(given, 'sum', 'partial', 'rev')
  assert.deepEqual(all, [...early, '0 sum=7', '0 partial=true', '0 rev=2'], 'a point is refused')
  assert.equal(given[0]?.quality, quality.uncertain)
  assert.equal(stage.totals()[0]?.tooLate, 1)
  assert.equal(stage.holdFromUs(), dayStartUs + 60e6, 'it asks for nothing that was let go')
  const held = run(classOf(spec), turns.slice(0, 1)).stage
  assert.equal(held.holdFromUs(), dayStartUs)
  assert.deepEqual(
    held.letGo(dayStartUs, () => []),
    [],
    'nothing begins before',
  )
})

test('days are those of the zone, 23 and 25 hours long', () => {
  const us = (text: string) => Date.parse(text) * 1000
  const berlin = createSpans(dayUs, 'Europe/Berlin')
  const spring = us('2026-03-28T23:00:00Z')
  assert.equal(berlin.startOf(us('2026-03-29T12:00:00Z')), spring)
  assert.equal(berlin.endOf(spring) - spring, 23 * 3600e6)
  const autumn = us('2026-10-24T22:00:00Z')
  assert.equal(berlin.startOf(us('2026-10-25T22:59:59Z')), autumn)
  assert.equal(berlin.endOf(autumn) - autumn, 25 * 3600e6)
  // Clocks go from 0:00 to 1:00: the day begins at 1:00.
  const cairo = createSpans(dayUs, 'Africa/Cairo')
  const skipped = us('2024-04-25T22:00:00Z')
  assert.equal(cairo.startOf(us('2024-04-26T12:00:00Z')), skipped)
  assert.equal(cairo.endOf(skipped) - skipped, 23 * 3600e6)
  assert.equal(
    createSpans(3600e6, 'Asia/Kolkata').startOf(us('2026-01-01T00:59:00Z')),
    us('2026-01-01T00:00:00Z'),
  )
  assert.throws(() => createSpans(dayUs, 'Mars/Olympus'), RangeError)
  const zones = [
    'Europe/Berlin',
    'America/Sao_Paulo',
    'Africa/Cairo',
    'Asia/Kolkata',
    'Pacific/Apia',
    'UTC',
  ]
  fc.assert(
    fc.property(fc.constantFrom(...zones), fc.integer({ min: 0, max: 2 ** 41 }), (zone, ms) => {
      const spans = createSpans(dayUs, zone)
      const startOf = spans.startOf(ms * 1000)
      const endOf = spans.endOf(startOf)
      assert.ok(startOf <= ms * 1000 && ms * 1000 < endOf)
      assert.equal(spans.startOf(endOf), endOf)
      assert.equal(spans.startOf(endOf - 1), startOf)
      const date = (timeUs: number) =>
        new Date(timeUs / 1000).toLocaleDateString('en-CA', { timeZone: zone })
      assert.equal(date(startOf), date(ms * 1000))
      assert.equal(date(endOf - 1000), date(ms * 1000))
      assert.notEqual(date(endOf), date(ms * 1000))
    }),
    { numRuns: 500 },
  )
})

test('a window that counts otherwise than before is made again: states, a counter, its modulus, at any moment', () => {
  const states = { statistics: ['count', 'time_in_state'] } as const
  const counter = (modulus: number | null) =>
    ({ statistics: ['delta'], counter: { modulus } }) as const
  const changes: readonly [Partial<WindowSpec>, Partial<WindowSpec>, (nth: number) => Value][] = [
    [{ statistics: ['count'] }, states, (nth) => nth % 7 < 3],
    [{ statistics: ['count'] }, states, (nth) => BigInt(nth >> 2) - 5n],
    [{ statistics: ['count'] }, states, (nth) => (nth >> 1) / 3],
    [{ statistics: ['delta'] }, counter(65_536), (nth) => (nth * 100) % 1_300],
    [counter(256), counter(1_024), (nth) => (nth * 100) % 1_000],
    [counter(256), counter(null), (nth) => (nth * 100) % 1_000],
  ]
  for (const [before, after, value] of changes) {
    const [old, now] = [before, after].map((one) => classOf(window(60e6, 0, one)))
    assert.ok(old && now)
    const names = [...(after.statistics ?? [])]
    const points = Array.from({ length: 40 }, (_, nth) => step(at(nth * 7, value(nth))))
    for (let cut = 1; cut < points.length; cut++) {
      const turns: Turn[] = [...points.slice(0, cut), { kind: 'restart' }, ...points.slice(cut)]
      let lives = 0
      const { given } = drive(() => creator(lives++ === 0 ? old : now)(), entries, turns)
      const open = Math.floor(((cut - 1) * 7) / 60) * 60
      const since = (text: string) => Number.parseInt(text, 10) >= open
      const truth: string[] = shown(run(now, points).given, ...names).filter(since)
      assert.deepEqual(shown(given, ...names).filter(since), truth, `${names} cut at ${cut}`)
    }
  }
})

test('time in state: of texts, bools and numbers, from the point before on; the 32nd state is "other"', () => {
  const spec = window(60e6, 60e6, { statistics: ['time_in_state', 'changes'] })
  const states = (...turns: Turn[]) =>
    shown(run(classOf(spec), [...turns, ...flush]).given, 'time_in_state', 'changes').map((text) =>
      text.replace('time_in_state=', ''),
    )
  assert.deepEqual(states(step(at(50, 'run'), at(70, 'stop'), at(100, 'run'))), [
    '0 changes=0',
    '0 {"run":10}',
    '60 changes=2',
    '60 {"run":30,"stop":30}',
  ])
  const bools = states(step(at(0, true), at(15, false)))
  assert.deepEqual(bools, ['0 changes=1', '0 {"true":15,"false":45}'])
  assert.deepEqual(states(step(at(0, 3n), at(15, 'x', quality.bad))), ['0 changes=0', '0 {"3":15}'])
  const corrected = states(step(at(0, 'a'), at(30, 'b'), at(60, 'c')), step(at(30, 'a')))
  assert.deepEqual(corrected.slice(0, 4), [
    '0 changes=1',
    '0 {"a":30,"b":30}',
    '0 changes=0',
    '0 {"a":60}',
  ])
  const long = states(step(at(0, `${'x'.repeat(63)}😀 stopped`), at(61, 'b')))
  assert.equal(long[1], `0 {"${'x'.repeat(63)}":60}`, 'never half a character')
  const unused = [at(0, 'a'), at(10, 'a', quality.bad), at(20, 'b'), at(30, 'b', quality.bad)]
  assert.equal(states(step(...unused, at(40, 'b')))[0], '0 changes=1', 'as of numbers')
  const many = states(step(...count(50, (i) => at(i, `s${i}`))))[1]?.slice(2) ?? ''
  assert.equal(Object.keys(JSON.parse(many) as object).length, 32)
  assert.equal((JSON.parse(many) as { other: number }).other, 29)
})

test('a counter gains over its modulus, and from 0 when it was set back', () => {
  assert.equal(gain(5, 9, 100), 4)
  assert.equal(gain(95, 4, 100), 9)
  assert.equal(gain(60, 4, 100), 44)
  assert.equal(gain(40, 4, 100), 4, 'more than half the modulus at once is a reset')
  assert.equal(gain(95, 4, null), 4)
  assert.equal(gain(300, 4, 100), 4, 'beyond its modulus it was no such counter')
  const spec = window(60e6, 0, { statistics: ['delta'], counter: { modulus: 65_536 } })
  const { given } = run(classOf(spec), [
    step(at(0, 65_000), at(30, 65_500), at(61, 100), at(90, 200)),
    ...flush,
  ])
  assert.deepEqual(
    shown(given, 'delta'),
    ['0 delta=500', '60 delta=236'],
    'from window to window nothing is lost',
  )
})

test('a stage begun anew makes its first windows from the raw lane', () => {
  const spec = window(60e6, 0, { statistics: ['sum', 'p95'] })
  const earlier = batchOf([at(1, 1), at(2, 2)])
  const stage = creator(classOf(spec))()
  stage.load(null)
  const later = batchOf([at(3, 4), at(61, 8)])
  const raw = () => [earlier, later]
  const given = givenOf(stage.step({ points: later, entry: () => entryOf('s0'), seq: 2, raw }))
  assert.deepEqual(shown(given, 'sum', 'p95'), ['0 sum=7', '0 p95=3.8'])
})

test('a state that is none, and one of other windows', () => {
  const one = classOf(window(60e6, 5e6), window(10e6, 5e6))
  const fed = () => {
    const { stage } = run(one, [step(at(0, 1.5), at(20, 'x'), at(63, true)), step(at(3, 4))])
    return stage
  }
  const state = fed().save()
  const fresh = (bytes: Uint8Array | null, of = one) => {
    const stage = creator(of)()
    stage.load(bytes)
    return stage
  }
  assert.deepEqual(fresh(state).save(), state, 'saved, loaded and saved: the same bytes')
  for (let i = 0; i < state.length; i += 11) {
    const wrong = state.slice()
    wrong[i] = (wrong[i] as number) ^ 0x10
    assert.throws(() => fresh(wrong), RangeError, `byte ${i}`)
    assert.throws(() => fresh(state.subarray(0, i)), RangeError, `cut at ${i}`)
  }
  const other = fresh(state, classOf(window(900e6, 0), window(60e6, 5e6)))
  assert.equal(other.holdFromUs(), dayStartUs, 'the minute goes on, the ten seconds are dropped')
  const raw = () => [batchOf([at(0, 1.5), at(3, 4), at(63, 2)])]
  const later = batchOf([at(70, 5), at(901, 6)])
  const given = givenOf(
    other.step({ points: later, entry: () => entries[0] as SeriesEntry, seq: 9, raw }),
  )
  const quarter = given.filter((row) => tagOf(row, '@every') === '900000000')
  assert.deepEqual(shown(quarter, 'count'), ['0 count=3'], 'a new length is made from the raw lane')
})

test('jobs of one turn: as many as there is room for, and always one', () => {
  const job = (estimate: number, inOrder = false) => ({
    ...{ at: 0, own: 0, owner: 0, fromUs: 0, startUs: 0, toUs: 1 },
    ...{ estimate, inOrder },
  })
  const { points: max } = makeLimits
  assert.equal(jobsOfOneTurn([]), 0)
  assert.equal(jobsOfOneTurn([job(max * 9), job(1)]), 1)
  assert.equal(jobsOfOneTurn([job(1), job(2), job(3)]), 3)
  assert.equal(jobsOfOneTurn([job(max / 2), job(max / 2), job(1)]), 2)
  assert.equal(jobsOfOneTurn([job(max, true), job(max, true), job(1)]), 3)
})

test('a window that lacks raw points says so: partial, uncertain, in every later issue too', () => {
  const spec = window(60e6, 60e6, { statistics: ['sum'] })
  const stage = creator(classOf(spec))()
  stage.load(null)
  const all = batchOf([at(0, 1), at(20, 2), at(61, 7)])
  const gone = { lacks: false, missed: false }
  const raw = Object.assign(() => [all], { lacks: () => gone.lacks, missed: () => gone.missed })
  const feed = (...points: Sample[]) => {
    const input = { points: batchOf(points), entry: () => entryOf('s0'), seq: 1, raw }
    return shown(givenOf(stage.step(input)), 'sum', 'partial', 'rev')
  }
  feed(at(0, 1), at(20, 2))
  assert.deepEqual(feed(at(61, 7)), ['0 sum=3', '0 rev=1'])
  gone.lacks = true
  assert.deepEqual(feed(at(30, 5)), ['0 sum=3', '0 partial=true', '0 rev=2'], 'made again')
  gone.lacks = false
  assert.deepEqual(feed(at(31, 5)), ['0 sum=3', '0 partial=true', '0 rev=3'])
  gone.missed = true
  assert.deepEqual(feed(at(121, 7)), ['60 sum=7', '60 partial=true', '60 rev=1'], 'never read')
})

test('of equal times the last stands, though it says again what stood a step before', () => {
  const spec = window(60e6, 0, { statistics: ['last'] })
  const turns = [step(at(0, 1), at(10, 5)), step(at(20, 7), at(20, 5)), ...flush]
  assert.deepEqual(shown(run(classOf(spec), turns).given, 'last'), ['0 last=5'])
})

test('a point marked as far ahead moves no time: it is in no window, and what comes after it is not late', () => {
  const ahead = at(86_400 * 40, 1e9, quality.uncertain | because.ahead)
  const spec = window(60e6, 0, { statistics: ['sum', 'p95'] })
  const plain = [step(at(0, 1)), step(at(20, 2), at(61, 3)), step(at(30, 4)), step(at(130, 5))]
  const wrong = [step(ahead, at(0, 1)), ...plain.slice(1, 2), step(ahead), ...plain.slice(2)]
  const { given, stage } = run(classOf(spec), [...wrong, ...flush])
  assert.deepEqual(
    shown(given, 'sum'),
    shown(run(classOf(spec), [...plain, ...flush]).given, 'sum'),
  )
  assert.equal(shown(given, 'sum').length, 3)
  assert.equal(stage.totals()[0]?.tooLate, 1)
})
