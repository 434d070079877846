import assert from 'node:assert/strict'
import { test } from 'node:test'
import { valueAt } from '../../../src/batch.ts'
import { seriesIdOf } from '../../../src/codec/series-id.ts'
import { type Clock, createSystemHost } from '../../../src/host.ts'
import { because, kinds, type PointBatch, quality } from '../../../src/model.ts'
import { createSeriesTable } from '../../../src/pipeline/series.ts'
import { simulateSource } from '../../../src/sources/simulate.ts'
import { createPlant } from '../../../src/sources/simulate-plant.ts'

const newTable = () => createSeriesTable({ agent: 'gw', seriesIdOf })
const plantOf = (seed: number, seriesCount = 48, series = newTable()) => ({
  series,
  plant: createPlant({ series, seriesCount, seed, periodUs: 1_000 }),
})
const shown = (batch: PointBatch) =>
  Array.from({ length: batch.count }, (_, at) => [
    ...[batch.series[at], batch.timeUs[at], batch.qualities[at]],
    ...[batch.kinds[at] === kinds.float ? batch.bits[at] : valueAt(batch, at)],
  ])

test('the same seed gives the same points, however they are asked for; another seed gives others', () => {
  const whole = shown(plantOf(7).plant.next(1_000))
  const { plant } = plantOf(7)
  assert.deepEqual(
    [...shown(plant.next(1)), ...shown(plant.next(600)), ...shown(plant.next(399))],
    whole,
  )
  assert.notDeepEqual(shown(plantOf(8).plant.next(1_000)), whole)
})

test('every kind of value, bad and uncertain readings, texts, and NaN only as bad', () => {
  const { plant } = plantOf(1)
  const batch = plant.next(600_000)
  const seen = new Map<string, number>()
  const see = (what: string) => seen.set(what, (seen.get(what) ?? 0) + 1)
  for (let at = 0; at < batch.count; at++) {
    see(`kind ${batch.kinds[at]}`)
    const value = valueAt(batch, at)
    if (typeof value === 'string') see(value)
    const rated = batch.qualities[at] as number
    if ((rated & 3) === quality.uncertain) see('uncertain')
    assert.equal(Number.isNaN(value), rated === (quality.bad | because.notANumber))
    if (Number.isNaN(value)) see('NaN')
  }
  for (const what of ['kind 0', 'kind 1', 'kind 2', 'kind 3', 'NaN', 'uncertain', 'open', 'auto']) {
    assert.ok((seen.get(what) ?? 0) > 0, what)
  }
  assert.ok((seen.get('level high') ?? 0) > 0 && (seen.get('level low') ?? 0) > 0)
  assert.ok((seen.get('NaN') ?? 0) < 6_000)
})

test('a believable plant: decimals as a sensor gives, bounds, counters that never fall, times that rise', () => {
  const { plant, series } = plantOf(3)
  const last = new Map<number, { timeUs: number; value: number }>()
  for (let part = 0; part < 20; part++) {
    const batch = plant.next(10_000)
    for (let at = 0; at < batch.count; at++) {
      const ref = batch.series[at] as number
      const { name } = series.entry(ref)
      const value = Number(valueAt(batch, at))
      const before = last.get(ref)
      if (before) assert.ok((batch.timeUs[at] as number) === before.timeUs + 1_000)
      if (/total|starts/.test(name) && before) assert.ok(value >= before.value, name)
      if (batch.kinds[at] === kinds.float && !Number.isNaN(value)) {
        assert.ok(String(value).replace(/^-?\d+\.?/, '').length <= 3, `${name} ${value}`)
      }
      if (/position|level/.test(name)) assert.ok(value >= 0 && value <= 100, `${name} ${value}`)
      last.set(ref, { timeUs: batch.timeUs[at] as number, value })
    }
  }
  assert.equal(last.size, 48)
  assert.equal(new Set([...last.keys()].map((ref) => series.entry(ref).unit)).size > 5, true)
})

/** A clock that only moves when somebody sleeps. */
interface SteppedClock extends Clock {
  readonly set: (us: number) => void
}
const steppedClock = (): SteppedClock => {
  let us = 1_700_000_000_000_000
  let ms = 0
  return {
    set: (to) => {
      us = to
    },
    nowUs: () => us,
    monotonicMs: () => ms,
    sleep: async (length) => {
      us += length * 1000
      ms += length
    },
    after: () => () => {},
  }
}
const run = async (
  config: object,
  take: (batch: PointBatch, stop: () => void, clock: SteppedClock) => Promise<void>,
  trusted = true,
) => {
  const series = newTable()
  const clock = steppedClock()
  const stop = new AbortController()
  const source = simulateSource.create(
    {
      ...{ host: { ...createSystemHost(), clock }, name: 'sim', agent: 'gw', series },
      clock: () => ({ nowUs: clock.nowUs(), bootId: 'b', monotonicUs: 0, trusted }),
      kept: async () => null,
      blocked: () => false,
    },
    simulateSource.config.parse({ type: 'simulate', ...config }),
  )
  await source.run(({ points }) => take(points, () => stop.abort(), clock), stop.signal)
  return { series, clock }
}

test('points at the rate of the configuration, times near the clock', async () => {
  const counts: number[] = []
  const { clock } = await run(
    { rate: 1_000, series: 100, every: '100ms' },
    async (points, stop) => {
      counts.push(points.count)
      if (counts.length === 20) stop()
    },
  )
  const total = counts.reduce((sum, one) => sum + one, 0)
  assert.ok(Math.abs(total - 2_000) <= 100, `${total}`)
  assert.ok(clock.nowUs() >= 1_700_000_002_000_000)
})

test('with `points` exactly that many, then silence until the end', async () => {
  for (const rate of ['max', 300] as const) {
    let total = 0
    await run({ rate, series: 10, points: 100_001 }, async (points, stop) => {
      total += points.count
      if (total >= 100_001) setImmediate(stop)
    })
    assert.equal(total, 100_001)
  }
})

test('times of a series rise strictly though the clock jumps both ways', async () => {
  const last = new Map<number, number>()
  let parts = 0
  await run({ rate: 2_000, series: 16 }, async (points, stop, clock) => {
    for (let at = 0; at < points.count; at++) {
      const [ref, timeUs] = [points.series[at] as number, points.timeUs[at] as number]
      assert.ok(timeUs > (last.get(ref) ?? 0))
      last.set(ref, timeUs)
    }
    parts++
    if (parts % 7 === 0) clock.set(clock.nowUs() + (parts % 2 ? 60_000_000 : -30_000_000))
    if (parts === 60) stop()
  })
  assert.ok(Math.max(...last.values()) >= 1_700_000_060_000_000)
})

test('while the clock is not trusted points ask for the time of their arrival', async () => {
  await run(
    { rate: 1_000, series: 16 },
    async (points, stop) => {
      assert.ok(points.timeUs.every(Number.isNaN))
      stop()
    },
    false,
  )
})

test('a refused commit ends the run: the supervisor starts it again', async () => {
  await assert.rejects(
    run({ rate: 'max' }, async () => {
      throw new Error('no room')
    }),
    /no room/,
  )
})
