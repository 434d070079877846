/**
 * What ticks decided, done again over the state before them: the same state, bit for bit, as the one that was never
 * saved. A restart comes anywhere, its input numbered anew.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { emptyBatch } from '../../src/batch.ts'
import { seriesIdOf } from '../../src/codec/series-id.ts'
import type { Stage } from '../../src/model.ts'
import { compileClasses, type Reduce, type SeriesClass } from '../../src/pipeline/classes.ts'
import { createRulesStage } from '../../src/pipeline/rules.ts'
import { createWindowsStage } from '../../src/pipeline/windows.ts'
import { batchOf, entryOf, type Sample } from './harness.ts'
import { signal, startUs } from './signals.ts'

const runs = Math.min(Number(process.env.HOLDFAST_REDUCE_RUNS ?? 300), 300)
const lane = 'out'
const windowsOf = (everyUs: number, latenessUs: number, quantiles: boolean) => ({
  ...{ everyUs, latenessUs, lane },
  statistics: ['count', 'sum', 'twa', 'changes', ...(quantiles ? (['median'] as const) : [])],
})
const one: SeriesClass = {
  name: 'c',
  match: {},
  reduce: { method: 'none' },
  windows: [
    windowsOf(10e6, 3e6, false),
    windowsOf(60e6, 20e6, true),
    windowsOf(3600e6, 0, false),
  ] as SeriesClass['windows'],
}
const windows = (): Stage =>
  createWindowsStage({
    classes: compileClasses([one]),
    timeZone: 'UTC',
    idOf: (key) => seriesIdOf('a', key),
  })
const rules = (reduce: Reduce) => (): Stage =>
  createRulesStage({ classes: compileClasses([{ ...one, reduce, windows: [] }]) })
const kinds: Readonly<Record<string, () => Stage>> = {
  windows,
  'swinging door': rules({ method: 'swinging_door', lane, deviation: 0.5, maxHoldUs: 4e6 }),
  'deadband, heartbeat, min_gap': rules({
    ...{ method: 'deadband', lane, deviation: 1, heartbeatUs: 7e6, minGapUs: 2e6 },
  }),
}

type Event =
  | { readonly kind: 'step'; readonly points: readonly Sample[] }
  | { readonly kind: 'tick'; readonly decided: Uint8Array }
const entries = [entryOf('a'), entryOf('b')]

/** A stage over a raw lane of its own numbering. */
const over = (create: () => Stage, state: Uint8Array | null, seen: Sample[][], shift: number) => {
  const stage = create()
  stage.load(state)
  const number = (series: number) => (series + shift) % entries.length
  const entry = (at: number) => entries[(at + shift) % entries.length] as (typeof entries)[number]
  function* raw(fromUs: number, toUs: number) {
    for (const points of seen)
      yield batchOf(
        points.filter(({ timeUs }) => timeUs >= fromUs && timeUs < toUs),
        number,
      )
  }
  return {
    stage,
    step: (points: readonly Sample[]) => {
      seen.push([...points])
      return stage.step({ points: batchOf(points, number), entry, seq: seen.length, raw })
    },
    tick: (nowUs: number) => stage.tick(nowUs, raw),
    redo: (decided: Uint8Array) => stage.redo?.(decided, { entry, seq: seen.length, raw }),
    wake: () => stage.step({ points: emptyBatch, entry, seq: seen.length, raw }),
  }
}
/**
 * Rows lie where they lie: loaded once they stand in one order. A tick that decides nothing still forgets windows to
 * which nothing can happen any more.
 */
const canonical = (create: () => Stage, stage: Stage): Buffer => {
  const other = create()
  other.load(stage.save())
  other.tick(0, () => [])
  const last = create()
  last.load(other.save())
  return Buffer.from(last.save())
}

const turn = fc.record({
  size: fc.integer({ min: 0, max: 12 }),
  ticks: fc.array(fc.integer({ min: 0, max: 40_000_000 }), { maxLength: 3 }),
  save: fc.boolean(),
})
for (const [name, create] of Object.entries(kinds)) {
  test(`${name}: what ticks decided, done again, makes the same state`, () => {
    let [redone, ticked] = [0, 0]
    fc.assert(
      fc.property(
        signal(0, { lengthMax: 60 }),
        signal(1, { lengthMax: 60 }),
        fc.array(turn, { minLength: 4, maxLength: 30 }),
        (a, b, turns) => {
          const points = [...a, ...b].sort((x, y) => x.timeUs - y.timeUs)
          const seen: Sample[][] = []
          const live = over(create, null, seen, 0)
          live.wake()
          let saved = { state: live.stage.save(), seen: 0 }
          let events: Event[] = []
          let nowUs = startUs
          let at = 0
          for (const { size, ticks, save } of turns) {
            if (size > 0 && at < points.length) {
              const part = points.slice(at, at + size)
              at += size
              events.push({ kind: 'step', points: part })
              live.step(part)
            }
            for (const us of ticks) {
              nowUs += us
              if (live.tick(nowUs).length === 0) continue
              const decided = live.stage.decided?.() ?? assert.fail('it decides')
              events.push({ kind: 'tick', decided })
              ticked++
            }
            if (!save) continue
            const again = over(create, saved.state, seen.slice(0, saved.seen), 1)
            for (const event of events) {
              if (event.kind === 'step') again.step(event.points)
              else again.redo(event.decided)
              if (event.kind === 'tick') redone++
            }
            assert.deepEqual(canonical(create, again.stage), canonical(create, live.stage))
            assert.deepEqual(again.stage.totals(), live.stage.totals())
            saved = { state: live.stage.save(), seen: seen.length }
            events = []
          }
        },
      ),
      { numRuns: runs, endOnFailure: true },
    )
    assert.ok(redone > runs && ticked > runs, `${redone} of ${ticked} ticks done again`)
  })
}

test('decisions of a series or a length that is no longer there, and bytes that are none', () => {
  const live = over(windows, null, [], 0)
  live.step([{ series: 0, timeUs: startUs, value: 1, quality: 0 }])
  live.tick(startUs)
  assert.ok(live.tick(startUs + 9e9).length > 0)
  const decided = live.stage.decided?.() ?? assert.fail('it decides')
  const without = over(windows, null, [], 0)
  without.redo(decided)
  assert.equal(without.stage.holdFromUs(), Number.POSITIVE_INFINITY)
  const bad = Uint8Array.from(decided)
  bad[bad.length - 1] = (bad[bad.length - 1] as number) ^ 1
  assert.throws(() => without.redo(bad), RangeError)
  assert.throws(
    () => over(kinds['swinging door'] as () => Stage, null, [], 0).redo(decided),
    RangeError,
  )
})
