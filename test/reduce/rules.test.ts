import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { emptyBatch } from '../../src/batch.ts'
import { because, type Contract, quality, type Value } from '../../src/model.ts'
import {
  compileClasses,
  contractOf,
  type Reduce,
  type SeriesClass,
} from '../../src/pipeline/classes.ts'
import { createRulesStage } from '../../src/pipeline/rules.ts'
import { batchOf, drive, entryOf, type Given, givenOf, type Sample, type Turn } from './harness.ts'
import { beyondBound } from './naive-rules.ts'
import { runsOf } from './runs.ts'
import { cut, signal, startUs } from './signals.ts'

const runs = runsOf(1_500)
const one = entryOf('oven')
const classOf = (reduce: Reduce): SeriesClass => ({ name: 'c', match: {}, reduce, windows: [] })
const creator = (reduce: Reduce) => () =>
  createRulesStage({ classes: compileClasses([classOf(reduce)]) })
const farUs = startUs * 1.5
const flush: Turn[] = [
  { kind: 'tick', nowUs: farUs },
  { kind: 'tick', nowUs: farUs * 1.1 },
]
const lane = 'process'
const bounded: Readonly<Record<string, Reduce>> = {
  on_change: { method: 'on_change', lane },
  deadband: { method: 'deadband', lane, deviation: 0.5 },
  'deadband, heartbeat': { method: 'deadband', lane, deviation: 2, heartbeatUs: 7e6 },
  'swinging door': { method: 'swinging_door', lane, deviation: 0.5 },
  'swinging door, heartbeat': { method: 'swinging_door', lane, deviation: 2, heartbeatUs: 7e6 },
  'swinging door, fine': { method: 'swinging_door', lane, deviation: 1e-7 },
  'swinging door, coarse': { method: 'swinging_door', lane, deviation: 1e300 },
}

/** Every accepted point, as it stands, within the deviation of what is drawn; what has no distance, equal. */
const checkBound = (accepted: readonly Sample[], given: readonly Given[], contract: Contract) =>
  assert.equal(beyondBound(accepted, given, contract), null)
const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 })

for (const [name, reduce] of Object.entries(bounded)) {
  const contract = contractOf(classOf(reduce)) as Contract
  test(`${name}: nothing left out lies further off the drawn line than the deviation`, () => {
    fc.assert(
      fc.property(signal(0), sizes, (points, cuts) => {
        const turns = cut(points, cuts, (at) => (at % 3 === 2 ? [{ kind: 'restart' }] : []))
        const { given, stage } = drive(creator(reduce), [one], [...turns, ...flush])
        const [totals] = stage.totals()
        // Too far back for the knots remembered: counted, and beyond the promise.
        fc.pre(totals?.lateUnmended === 0)
        checkBound(points, given, contract)
      }),
      { numRuns: runs },
    )
  })
}

const at = (seconds: number, value: Value, given: number = quality.good): Sample => ({
  series: 0,
  timeUs: startUs + seconds * 1e6,
  value,
  quality: given,
})
const step = (...points: Sample[]): Turn => ({ kind: 'step', points })
const give = (reduce: Reduce, turns: readonly Turn[]) => drive(creator(reduce), [one], turns).given
/** Seconds and values of what was given out; a heartbeat's with a mark. */
const shown = (given: readonly Given[]) =>
  given.map(({ timeUs, value, quality: mark }) => {
    const repeated = (mark & ~3) === because.repeated ? '*' : ''
    return `${(timeUs - startUs) / 1e6}:${String(value)}${repeated}`
  })
const count = (length: number, make: (at: number) => Sample) =>
  Array.from({ length }, (_, i) => make(i))
const calm: Reduce = { method: 'deadband', lane, deviation: 1 }
const door: Reduce = { method: 'swinging_door', lane, deviation: 1 }

test('a restart anywhere changes nothing that is given out', () => {
  for (const reduce of Object.values(bounded)) {
    fc.assert(
      fc.property(signal(0), sizes, fc.infiniteStream(fc.boolean()), (points, cuts, often) => {
        const plain = [...cut(points, cuts), ...flush]
        const broken = [
          ...cut(points, cuts, () => (often.next().value ? [{ kind: 'restart' }] : [])),
          ...flush,
        ]
        assert.deepEqual(give(reduce, broken), give(reduce, plain))
      }),
      { numRuns: Math.min(runs, 200) },
    )
  }
})

test('in order: each point at most once, in order, as it came but for the mark of a heartbeat', () => {
  for (const reduce of Object.values(bounded)) {
    fc.assert(
      fc.property(signal(0, { ordered: true }), sizes, (points, cuts) => {
        const given = give(reduce, [...cut(points, cuts), ...flush])
        const byTime = new Map(points.map((point) => [point.timeUs, point]))
        given.forEach((point, i) => {
          const came = byTime.get(point.timeUs)
          assert.ok(Object.is(came?.value, point.value))
          const marked = (came?.quality ?? 0) | because.repeated
          assert.ok(point.quality === came?.quality || point.quality === marked)
          assert.ok(i === 0 || point.timeUs > (given[i - 1]?.timeUs ?? 0))
        })
      }),
      { numRuns: Math.min(runs, 200) },
    )
  }
})

test('always sent: the first point, a change of quality or type, NaN and infinity, big ints', () => {
  for (const reduce of [calm, door, { method: 'every', lane, intervalUs: 3600e6 } as const]) {
    const points = [
      at(0, 5),
      at(1, 5),
      at(2, 5, quality.uncertain),
      at(3, 5, quality.uncertain),
      at(4, Number.NaN, quality.bad | because.notANumber),
      at(5, Number.NaN, quality.bad | because.notANumber),
      at(6, Number.NEGATIVE_INFINITY, quality.bad | because.notANumber),
      at(7, 5),
      at(8, 5n),
      at(9, 5n),
      at(10, 1n << 60n),
      at(11, true),
    ]
    const times = new Set(
      give(reduce, [step(...points)]).map(({ timeUs }) => (timeUs - startUs) / 1e6),
    )
    for (const second of [0, 2, 4, 5, 6, 7, 8, 10, 11])
      assert.ok(times.has(second), `${reduce.method} ${second}`)
  }
})

test('the last point before a gap and the first after it are sent, be it of any rule', () => {
  const series = [...count(20, (i) => at(i, 5)), ...count(20, (i) => at(200 + i, 5))]
  for (const reduce of [calm, door, { method: 'on_change', lane } as const]) {
    assert.deepEqual(shown(give(reduce, [step(...series)])), ['0:5', '19:5', '200:5'])
    const never = { ...reduce, gap: { afterUs: Number.POSITIVE_INFINITY } }
    assert.deepEqual(shown(give(never, [step(...series)])), ['0:5'])
    const late = { ...reduce, gap: { afterUs: 500e6 } }
    assert.deepEqual(shown(give(late, [step(...series)])), ['0:5'])
  }
  // A slower pace is one gap, or a few, and then the usual one.
  const slower = [...count(20, (i) => at(i, 5)), ...count(60, (i) => at(100 + 60 * i, 5))]
  assert.ok(give(calm, [step(...slower)]).length < 12)
})

test('deadband and swinging door: what they keep of a step and a ramp', () => {
  const steps = count(9, (i) => at(i, i < 4 ? 0.5 : 9))
  assert.deepEqual(shown(give(calm, [step(...steps)])), ['0:0.5', '4:9'])
  const doors = shown(give(door, [step(...steps), ...flush]))
  assert.deepEqual(doors, ['0:0.5', '3:0.5', '4:9', '8:9'])
  const ramp = count(50, (i) => at(i, i * 3))
  assert.deepEqual(shown(give(door, [step(...ramp), ...flush])), ['0:0', '49:147'])
})

test('percent is of the range', () => {
  const reduce: Reduce = { method: 'deadband', lane, deviation: { percentOfRange: 10 } }
  const classes = compileClasses([{ ...classOf(reduce), range: { low: 100, high: 300 } }])
  const points = [at(0, 100), at(1, 120), at(2, 120.5), at(3, 101)]
  const { given } = drive(() => createRulesStage({ classes }), [one], [step(...points)])
  assert.deepEqual(shown(given), ['0:100', '2:120.5'])
  const contract = { method: 'deadband', deviation: 20, interpolation: 'step', heartbeatUs: null }
  assert.deepEqual(given[0]?.entry.contract, contract)
})

test('every and sample: by distance, and by the cells of a UTC grid', () => {
  const points = count(31, (i) => at(i + 3, i))
  const every = give({ method: 'every', lane, intervalUs: 10e6 }, [step(...points)])
  assert.deepEqual(shown(every), ['3:0', '13:10', '23:20', '33:30'])
  const sample = give({ method: 'sample', lane, intervalUs: 10e6 }, [step(...points)])
  assert.deepEqual(shown(sample), ['3:0', '10:7', '20:17', '30:27'])
  assert.equal(give({ method: 'every', lane }, [step(...points)]).length, 31)
  assert.equal(give({ method: 'none' }, [step(...points)]).length, 0)
})

test('min_gap holds back, says how often, and a tick sends what nothing followed', () => {
  const reduce: Reduce = { ...calm, minGapUs: 5e6 } as Reduce
  const turns = [step(at(0, 0), at(1, 9), at(2, 0), at(6, 20), at(8, 50))]
  const { given, stage } = drive(creator(reduce), [one], turns)
  assert.deepEqual(shown(given), ['0:0', '6:20'])
  assert.equal(stage.totals()[0]?.withheld, 2)
  const tick = (seconds: number): Turn => ({ kind: 'tick', nowUs: startUs + seconds * 1e6 })
  assert.deepEqual(shown(give(reduce, [...turns, tick(100), tick(104)])), ['0:0', '6:20'])
  assert.deepEqual(shown(give(reduce, [...turns, tick(100), tick(105)])), ['0:0', '6:20', '8:50'])
})

test('a heartbeat is the newest point, marked; a silent series has none', () => {
  const steady = count(25, (i) => at(i, 5))
  const reduce: Reduce = { ...calm, heartbeatUs: 10e6 }
  assert.deepEqual(shown(give(reduce, [step(...steady)])), ['0:5', '10:5*', '20:5*'])
  const tick = (seconds: number): Turn => ({ kind: 'tick', nowUs: startUs + seconds * 1e6 })
  const silent = give(reduce, [step(...steady), tick(50), tick(60), tick(70), tick(900)])
  assert.deepEqual(shown(silent).slice(3), ['24:5*'])
  const bad = count(25, (i) => at(i, 5, quality.bad | because.sensorFailure))
  const kept = give(reduce, [step(...bad)]).map((point) => point.quality)
  assert.deepEqual(new Set(kept), new Set([quality.bad | because.sensorFailure]), 'a cause stands')
})

test('a corner waits for maxHold at most, and is measured from there on', () => {
  const reduce: Reduce = { ...door, maxHoldUs: 30e6 } as Reduce
  const tick = (seconds: number): Turn => ({ kind: 'tick', nowUs: startUs + seconds * 1e6 })
  const before = [step(at(0, 0), at(1, 1), at(2, 2)), tick(10), tick(39)]
  assert.deepEqual(shown(give(reduce, before)), ['0:0'])
  const back = [...before, tick(-9e4), tick(-9e4 + 29), tick(-9e4 + 30)]
  assert.deepEqual(shown(give(reduce, back)), ['0:0', '2:2'], 'a clock that was set back')
  const after: Turn[] = [...before, tick(40), step(at(41, 2), at(42, 2)), tick(50), tick(80)]
  assert.deepEqual(shown(give(reduce, after)), ['0:0', '2:2', '41:2', '42:2'])
})

test('a corner without maxHold waits as long as a heartbeat says, or a minute', () => {
  const slow = (reduce: Reduce) => {
    const turns = count(60, (i) => at(i * 120, i * 3)).flatMap((point, i): Turn[] => [
      step(point),
      ...[5, 60, 115].map(
        (later): Turn => ({ kind: 'tick', nowUs: startUs + (i * 120 + later) * 1e6 }),
      ),
    ])
    return give(reduce, turns).length
  }
  assert.equal(slow(door), 60)
  const heartbeat = slow({ ...door, heartbeatUs: 900e6 } as Reduce)
  assert.equal(heartbeat, slow({ ...door, heartbeatUs: 900e6, maxHoldUs: 900e6 } as Reduce))
  assert.ok(heartbeat < 12, `${heartbeat}`)
  assert.equal(slow({ ...door, heartbeatUs: 900e6, maxHoldUs: 60e6 } as Reduce), 60)
})

test('text and bools leave when they change, by every rule with a bound', () => {
  for (const reduce of [calm, door, { method: 'on_change', lane } as Reduce]) {
    const texts = [
      at(0, 'run'),
      at(1, 'run'),
      at(2, 'stop'),
      at(3, 'stop'),
      at(4, ''),
      at(5, 'stop'),
    ]
    const values: Value[] = give(reduce, [step(...texts)]).map((point) => point.value)
    const wanted: readonly Value[] =
      reduce === door ? ['run', 'run', 'stop', 'stop', '', 'stop'] : ['run', 'stop', '', 'stop']
    assert.deepEqual(values, wanted)
    const bools = give(reduce, [step(at(0, true), at(1, true), at(2, false))])
    assert.deepEqual(shown(bools).slice(-1), ['2:false'])
  }
})

test('out of order: left out where the line covers it, else sent with the raw points around it', () => {
  const run = (reduce: Reduce, ...points: Sample[]) => {
    const { given, stage } = drive(creator(reduce), [one], [step(...points)])
    return { given: shown(given), totals: stage.totals()[0] }
  }
  const base = [at(0, 5), at(1, 5), at(3, 5), at(4, 5)]
  assert.deepEqual(run(calm, ...base, at(2, 5.5)).given, ['0:5'])
  assert.deepEqual(run(calm, ...base, at(4, 5.5)).given, ['0:5'])
  const mended = run(calm, ...base, at(2, 9))
  assert.deepEqual(mended.given, ['0:5', '4:5', '3:5', '2:9'], 'what follows a step')
  const line = run(door, ...base, at(2, 9))
  assert.deepEqual(line.given, ['0:5', '4:5', '1:5', '3:5', '2:9'], 'both sides of a line')
  assert.equal(mended.totals?.late, 1)
  assert.equal(mended.totals?.lateUnmended, 0)
  const corrected = run(calm, at(0, 5), at(1, 5), at(1, 9), at(2, 5))
  assert.deepEqual(
    corrected.given,
    ['0:5', '1:9', '2:5'],
    'and what follows is measured against it',
  )
  // Far back nothing is missing where nothing was left out.
  const steps = count(40, (i) => at(i * 2, i * 10))
  const far = run(calm, ...steps, at(3, 77))
  assert.equal(far.given.at(-1), '3:77')
  assert.equal(far.totals?.lateUnmended, 0)
  // Between knots too far apart to read it is sent alone, counted, and warned of.
  const slow = count(40, (i) => at(i * 600, i < 20 ? 5 : 6))
  const never: Reduce = { ...calm, gap: { afterUs: Number.POSITIVE_INFINITY } }
  const lost = drive(creator(never), [one], [step(...slow, at(7, 77), at(9, 78))])
  assert.deepEqual(shown(lost.given).slice(-2), ['7:77', '9:78'])
  assert.equal(lost.stage.totals()[0]?.lateUnmended, 2)
  const said = lost.stage.warnings?.().map(({ series, ...warning }) => [series.name, warning])
  const newest = { kind: 'late_unmended', class: 'c', points: 2, timeUs: startUs + 9e6 }
  assert.deepEqual(said, [['oven', newest]])
  assert.deepEqual(lost.stage.warnings?.(), [], 'once')
  // No bound, nothing to mend.
  assert.deepEqual(run({ method: 'every', lane, intervalUs: 60e6 }, ...base, at(2, 9)).given, [
    '0:5',
    '2:9',
  ])
})

test('a state that is none is refused; one of another class gives what it owed', () => {
  const first = createRulesStage({ classes: compileClasses([classOf(door)]) })
  first.load(null)
  const points = batchOf(count(5, (i) => at(i, i)))
  const input = { points, entry: () => one, seq: 1, raw: () => [] }
  first.step({ ...input, points: emptyBatch })
  first.step(input)
  const state = first.save()
  const fresh = (bytes: Uint8Array | null, reduce: Reduce) => {
    const stage = createRulesStage({ classes: compileClasses([classOf(reduce)]) })
    stage.load(bytes)
    return stage
  }
  assert.deepEqual(fresh(state, door).save(), state, 'saved, loaded and saved: the same bytes')
  for (let i = 0; i < state.length; i += 7) {
    const wrong = state.slice()
    wrong[i] = (wrong[i] as number) ^ 0x10
    assert.throws(() => fresh(wrong, door), RangeError, `byte ${i}`)
    assert.throws(() => fresh(state.subarray(0, i), door), RangeError, `cut at ${i}`)
  }
  const stage = fresh(state, door)
  assert.throws(() => stage.load(state.subarray(1)), RangeError)
  assert.deepEqual(stage.save(), fresh(null, door).save(), 'a state that is refused leaves nothing')
  const changed = fresh(state, calm)
  const wake = { ...input, points: emptyBatch }
  assert.deepEqual(shown(givenOf(changed.step(wake))), ['4:4'], 'where both rules agree')
  assert.deepEqual(shown(givenOf(changed.step(wake))), [], 'once')
  const next = batchOf([at(5, 4.5), at(6, 9), at(2, 40)])
  assert.deepEqual(shown(givenOf(changed.step({ ...input, points: next }))), ['6:9', '2:40'])
  assert.equal(changed.totals()[0]?.lateUnmended, 0, 'the knots of before are still those it gave')
  // What it read before it was asked, another rule gave out: of the knots in between it knows none.
  const between = fresh(state, calm)
  between.step({ ...input, points: batchOf([at(5, 90)]) })
  assert.deepEqual(shown(givenOf(between.step(wake))), ['5:90'])
  assert.deepEqual(shown(givenOf(between.step({ ...input, points: batchOf([at(2, 40)]) }))), [
    '2:40',
  ])
  assert.equal(between.totals()[0]?.lateUnmended, 1)
  const none = fresh(state, { method: 'none' })
  assert.deepEqual(
    none.tick(0, () => []),
    [],
  )
})

test('a point marked as far ahead leaves, and is no part of any line', () => {
  const ahead = at(86_400, 1e9, quality.uncertain | because.ahead)
  for (const reduce of [calm, door, { method: 'on_change', lane } as Reduce]) {
    const points = [at(0, 5), at(1, 5), at(2, 9), at(3, 5), at(4, 5)]
    const plain = shown(give(reduce, [...points.map((one) => step(one)), ...flush]))
    const wrong = [...points.slice(0, 2), ahead, ...points.slice(2)].map((one) => step(one))
    const given = shown(give(reduce, [...wrong, ...flush]))
    assert.deepEqual(
      given.filter((one) => one !== '86400:1000000000'),
      plain,
    )
    assert.equal(given.length, plain.length + 1)
  }
})
