/**
 * Windows while the quota lets go of raw points they still ask for: what is not called partial is what its points make,
 * whatever came late, was trimmed or was restarted in between.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { emptyBatch } from '../../src/batch.ts'
import { seriesIdOf } from '../../src/codec/series-id.ts'
import type { StageInput } from '../../src/model.ts'
import { compileClasses, type WindowSpec } from '../../src/pipeline/classes.ts'
import { makeLimits } from '../../src/pipeline/window-make.ts'
import { createWindowsStage } from '../../src/pipeline/windows.ts'
import { batchOf, entryOf, type Given, givenOf, type Sample } from './harness.ts'
import { allStatistics, naiveWindows, windowDiffers } from './naive-windows.ts'
import { signal, startUs } from './signals.ts'

const runs = Number(process.env.HOLDFAST_REDUCE_RUNS ?? 1_000)
const everyUs = 10e6
const one = entryOf('s0')
const entry = () => one
const create = (spec: WindowSpec) =>
  createWindowsStage({
    classes: compileClasses([
      { name: 'c', match: {}, reduce: { method: 'none' }, windows: [spec] },
    ]),
    timeZone: 'UTC',
    idOf: (key) => seriesIdOf('a', key),
    // Some of them a few points at a time.
    ...(spec.latenessUs === 5e6 ? { limits: { ...makeLimits, part: 2 } } : {}),
  })
const timesOf = (segment: readonly Sample[]) => segment.map(({ timeUs }) => timeUs)

/** A raw lane that loses its oldest segments. */
const createRaw = () => {
  let segments: Sample[][] = []
  const gone: (readonly [number, number])[] = []
  const raw: StageInput['raw'] = Object.assign(
    function* (fromUs: number, toUs: number) {
      for (const segment of segments) {
        const found = segment.filter(({ timeUs }) => timeUs >= fromUs && timeUs < toUs)
        if (found.length > 0) yield batchOf(found)
      }
    },
    {
      lacks: (fromUs: number, toUs: number) =>
        gone.some(([first, last]) => last >= fromUs && first < toUs),
      missed: () => false,
    },
  )
  return {
    raw,
    add: (segment: Sample[]) => segments.push(segment),
    oldest: () => segments[0],
    count: () => segments.length,
    drop: () => {
      const [first = []] = segments
      segments = segments.slice(1)
      gone.push([Math.min(...timesOf(first)), Math.max(...timesOf(first))])
    },
  }
}
/** What each window's last issue says. */
const rowsOf = (given: readonly Given[]) => {
  const rows = new Map<number, Map<string, Given['value']>>()
  for (const { timeUs, entry: of, value } of given) {
    const statistic = of.tags.find(([tag]) => tag === '@statistic')?.[1] ?? ''
    const row = rows.get(timeUs) ?? new Map()
    rows.set(timeUs, row.set(statistic, value))
  }
  return rows
}

let [judged, partial] = [0, 0]
const act = fc.constantFrom('press', 'restart', 'trim', 'nothing', 'nothing', 'nothing')
const holds = fc.property(
  signal(0),
  fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 5 }),
  fc.array(act, { minLength: 5, maxLength: 30 }),
  fc.constantFrom(0, 5e6, 30e6),
  fc.boolean(),
  (points, sizes, acts, latenessUs, quantiles) => {
    const simple = allStatistics.filter((name) => name !== 'median' && name !== 'p95')
    const statistics = quantiles ? allStatistics : simple
    const spec: WindowSpec = { everyUs, latenessUs, lane: 'w', statistics }
    let stage = create(spec)
    const lane = createRaw()
    const { raw } = lane
    const given: Given[] = []
    const steps: Sample[][] = []
    const begin = (state: Uint8Array | null) => {
      stage.load(state)
      given.push(...givenOf(stage.step({ points: emptyBatch, entry, seq: steps.length, raw })))
    }
    begin(null)
    for (let at = 0; at < points.length; ) {
      const size = sizes[steps.length % sizes.length] ?? 1
      const segment = points.slice(at, at + size)
      at += size
      lane.add(segment)
      steps.push(segment)
      const input = { points: batchOf(segment), entry, seq: steps.length, raw }
      given.push(...givenOf(stage.step(input)))
      const next = acts[steps.length % acts.length]
      const newestUs = () => Math.max(...timesOf(lane.oldest() ?? []))
      if (next === 'press' && lane.count() > 1) {
        if (stage.holdFromUs() <= newestUs())
          given.push(...givenOf(stage.letGo(newestUs() + 1, raw)))
        lane.drop()
      } else if (next === 'restart') {
        const state = Buffer.from(stage.save())
        stage = create(spec)
        begin(state)
      } else if (next === 'trim')
        while (lane.count() > 0 && newestUs() < stage.holdFromUs()) lane.drop()
    }
    given.push(...givenOf(stage.tick(startUs, raw)), ...givenOf(stage.tick(startUs * 4, raw)))
    const rows = rowsOf(given)
    for (const window of naiveWindows(steps, spec).windows) {
      const row = rows.get(window.startUs)
      assert.ok(row !== undefined, `no window at ${window.startUs - startUs}`)
      if (row.get('partial') === true) partial++
      else {
        judged++
        assert.equal(windowDiffers(row, window), null)
      }
    }
  },
)

test('under pressure: a window is what its points make, or partial', () => {
  fc.assert(holds, {
    numRuns: runs,
  })
  assert.ok(judged > 5 * partial && partial > 0, `${judged} judged, ${partial} partial`)
})

const tenth = (seconds: number): Sample => ({
  series: 0,
  timeUs: startUs + seconds * 1e6,
  value: seconds / 10,
  quality: 0,
})
/** The point of 30 s comes twice, and its window is made again before it ends. */
const twice = [1, 2, 3, 4, 24, 25, 26, 27, 28, 29, 30, 31, 30, 32].map(tenth)
const presses = ['press', 'press', 'press', 'press', 'nothing', 'nothing'] as const

test('a window that was put right under pressure is asked for its median once it ends', () => {
  fc.assert(holds, { numRuns: 1, examples: [[twice, [1], [...presses], 0, true]] })
})
