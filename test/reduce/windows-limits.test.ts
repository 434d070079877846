/** What windows may take at once, whatever comes: open ones, points gathered from the raw lane, time without a pause. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { seriesIdOf } from '../../src/codec/series-id.ts'
import type { StageInput } from '../../src/model.ts'
import { compileClasses, type WindowSpec } from '../../src/pipeline/classes.ts'
import { createStageSeries } from '../../src/pipeline/stage-series.ts'
import { type MakeJob, type MakeLimits, makeAgain } from '../../src/pipeline/window-make.ts'
import { createWindowsStage } from '../../src/pipeline/windows.ts'
import { batchOf, drive, entryOf, type Given, givenOf, type Sample, type Turn } from './harness.ts'
import { naiveWindows } from './naive-windows.ts'

const second = 1e6
/** A whole day of UTC. */
const startUs = 1_759_968_000 * second
const classes = (spec: WindowSpec) =>
  compileClasses([{ name: 'c', match: {}, reduce: { method: 'none' }, windows: [spec] }])
const create = (spec: WindowSpec, windowsMax: number) => () =>
  createWindowsStage({
    classes: classes(spec),
    timeZone: 'UTC',
    idOf: (key) => seriesIdOf('a', key),
    windowsMax,
  })
const entries = [entryOf('s0'), entryOf('s1'), entryOf('s2')]
const at = (seconds: number, series = 0): Sample => ({
  ...{ series, timeUs: startUs + seconds * second, value: seconds, quality: 0 },
})
const step = (...points: Sample[]): Turn => ({ kind: 'step', points })
const tick = (seconds: number): Turn => ({ kind: 'tick', nowUs: startUs + seconds * second })
const statistic = ({ entry }: Given) => entry.tags.find(([tag]) => tag === '@statistic')?.[1]

test('windows kept only for late points make way, the oldest first; later points of theirs are counted', () => {
  const spec: WindowSpec = {
    ...{ everyUs: second, latenessUs: 10_000 * second, statistics: ['count'], lane: 'w' },
  }
  const points = Array.from({ length: 4_000 }, (_, nth) => nth)
  const steps = Array.from({ length: 40 }, (_, nth) =>
    step(...points.slice(nth * 100, nth * 100 + 100).map((one) => at(one))),
  )
  const driven = (max: number) => {
    const { given, stage } = drive(create(spec, max), entries, [...steps, step(at(5), at(3_995))])
    const revised = given.filter((one) => statistic(one) === 'rev' && one.value === 2n)
    const bytes = stage.save().length
    return { revised: revised.map(({ timeUs }) => (timeUs - startUs) / second), bytes, stage }
  }
  const free = driven(1_000_000)
  assert.deepEqual(free.revised, [5, 6, 3_995, 3_996])
  assert.equal(free.stage.totals()[0]?.tooLate, 0)
  const few = driven(200)
  assert.deepEqual(few.revised, [3_995, 3_996])
  assert.equal(few.stage.totals()[0]?.tooLate, 1)
  assert.ok(few.bytes < 250 * 300 && free.bytes > 4_000 * 224, `${few.bytes} of ${free.bytes}`)
  const [warning, ...others] = few.stage.warnings?.().filter(({ kind }) => kind === 'no_room') ?? []
  assert.deepEqual([warning?.series.name, others.length], ['s0', 0])
  assert.ok((warning?.points ?? 0) > 3_700)
})

const point = fc.record({
  series: fc.nat(entries.length - 1),
  back: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 90 })),
  step: fc.integer({ min: 1, max: 15 }),
})
test('a restart anywhere, or a tick, closes the same ones for want of room', () => {
  const spec: WindowSpec = {
    ...{ everyUs: 10 * second, latenessUs: 100 * second, statistics: ['count'], lane: 'w' },
  }
  let refused = 0
  const list = fc.array(fc.array(point, { minLength: 1, maxLength: 4 }), {
    minLength: 5,
    maxLength: 40,
  })
  fc.assert(
    fc.property(list, fc.array(fc.nat(3), { minLength: 1, maxLength: 7 }), (batches, breaks) => {
      let now = 0
      const steps = batches.map((batch) =>
        step(
          ...batch.map(({ series, back, step: ahead }) => {
            now += ahead
            return at(now - back, series)
          }),
        ),
      )
      const between = (nth: number): Turn[] => {
        const one = breaks[nth % breaks.length]
        return one === 1 ? [{ kind: 'restart' }] : one === 2 ? [tick(0)] : []
      }
      const end = [tick(0), tick(1e6)]
      const broken = steps.flatMap((one, nth) => [...between(nth), one])
      const plain = drive(create(spec, 6), entries, [...steps, ...end])
      const other = drive(create(spec, 6), entries, [...broken, ...end])
      const textOf = ({ entry, timeUs, value }: Given) =>
        `${entry.name} ${timeUs} ${entry.tags.join()} ${value}`
      assert.deepEqual(other.given.map(textOf), plain.given.map(textOf))
      assert.deepEqual(other.stage.totals(), plain.stage.totals())
      const fed = batches.flatMap((_, nth) => {
        const turn = steps[nth] as Turn
        return turn.kind === 'step' ? [turn.points] : []
      })
      const naive = entries.reduce((sum, _, series) => {
        const own = fed.map((points) => points.filter((one) => one.series === series))
        return sum + naiveWindows(own, spec).tooLate
      }, 0)
      const tooLate = plain.stage.totals()[0]?.tooLate ?? 0
      assert.ok(tooLate >= naive)
      if (tooLate > naive) refused++
    }),
    { numRuns: 300, seed: 3 },
  )
  assert.ok(refused > 50, `${refused}`)
})

/** A lane of one series, a point a second in segments of 100; how much of it was read. */
const createRaw = (count: number) => {
  const segments = Array.from({ length: count / 100 }, (_, nth) =>
    Array.from({ length: 100 }, (_, one) => at(nth * 100 + one)),
  )
  const raw: StageInput['raw'] = function* (fromUs: number, toUs: number) {
    for (const segment of segments) {
      const part = segment.filter(({ timeUs }) => timeUs >= fromUs && timeUs < toUs)
      if (part.length > 0) yield batchOf(part)
    }
  }
  return raw
}
const made = (jobs: readonly MakeJob[], limits: MakeLimits, count: number) => {
  const spec: WindowSpec = {
    ...{ everyUs: second, latenessUs: 0, statistics: ['count'], lane: 'w' },
  }
  const series = createStageSeries(
    classes(spec),
    () => true,
    () => {},
  )
  const entry = () => entries[0] as (typeof entries)[0]
  series.meet(batchOf([at(0)]), entry)
  const found = new Map<number, number[]>()
  let most = 0
  const taken: number[] = []
  const all = makeAgain(
    {
      ...{ raw: createRaw(count), series, limits },
      take: ({ at: job }, gathered, isLast) => {
        assert.ok(gathered.kind === 'points')
        const { points, order, before } = gathered
        most = Math.max(most, points.count)
        const times = [...before.timeUs, ...[...order].map((i) => points.timeUs[i] as number)]
        found.set(job, [...(found.get(job) ?? []), ...times])
        if (isLast) taken.push(job)
      },
    },
    jobs,
  )
  for (const _ of all);
  return { found, most, taken }
}

test('what is gathered at once is bounded, whatever was thought of it', () => {
  const job = (nth: number, length: number, estimate: number): MakeJob => ({
    ...{ at: nth, own: 0, owner: 0, estimate, inOrder: false },
    fromUs: startUs + (nth - 1) * length * second,
    startUs: startUs + nth * length * second,
    toUs: startUs + (nth + 1) * length * second,
  })
  const limits = { points: 1_000, part: 300 }
  // Long ones, told and not; many; and ten of which the third is long.
  for (const [length, estimates] of [
    [9_000, [9_000]],
    [9_000, [1]],
    [200, Array.from({ length: 45 }, () => 1)],
    [900, Array.from({ length: 10 }, (_, nth) => (nth === 2 ? 900 : 10))],
  ] as const) {
    const jobs = estimates.map((estimate, nth) => job(nth, length, estimate))
    const { found, most, taken } = made(jobs, limits, 9_000)
    assert.ok(most <= limits.points * 1.25 + 100, `${most} of ${length}`)
    assert.deepEqual(taken, [...estimates.keys()])
    for (const nth of estimates.keys()) {
      const first = Math.max(0, nth * length - 1)
      const seconds = Array.from({ length: (nth + 1) * length - first }, (_, i) => first + i)
      assert.deepEqual(
        found.get(nth),
        seconds.map((one) => startUs + one * second),
        `job ${nth} of ${length}`,
      )
    }
  }
})

test('points far behind the newest window are taken in with pauses in between', () => {
  const spec: WindowSpec = {
    ...{ everyUs: second, latenessUs: 10_000 * second, statistics: ['count'], lane: 'w' },
  }
  const stage = create(spec, 100_000)()
  stage.load(null)
  const feed = (points: readonly Sample[]) => {
    const input = { entry: () => entries[0] as (typeof entries)[0], seq: 1, raw: () => [] }
    const pieces = stage.stepping?.({ points: batchOf(points), ...input })
    let count = 0
    for (let next = pieces?.next(); next?.done === false; next = pieces?.next()) count++
    return count
  }
  const seconds = Array.from({ length: 5_000 }, (_, nth) => at(nth))
  assert.equal(feed(seconds), 0)
  assert.ok(feed(seconds.slice(0, 2_000)) >= 10)
})

test('windows that are let go of together read the lane together', () => {
  const spec: WindowSpec = {
    ...{ everyUs: 3600 * second, latenessUs: 0, statistics: ['count', 'median'], lane: 'w' },
  }
  const names = Array.from({ length: 50 }, (_, nth) => entryOf(`s${nth}`))
  const entry = (series: number) => names[series] as (typeof names)[0]
  const points = batchOf(names.flatMap((_, nth) => [at(1, nth), at(3, nth), at(8, nth)]))
  let reads = 0
  const raw = () => {
    reads++
    return [points]
  }
  const stage = create(spec, 1_000)()
  stage.load(null)
  stage.step({ points, entry, seq: 1, raw })
  const given = givenOf(stage.letGo(Number.POSITIVE_INFINITY, raw))
  const medians = given.filter((one) => statistic(one) === 'median').map(({ value }) => value)
  assert.deepEqual(
    medians,
    names.map(() => 3),
  )
  assert.equal(reads, 1)
})
