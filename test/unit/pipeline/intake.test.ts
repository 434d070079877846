import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createBatchBuilder, emptyBatch, giveBack } from '../../../src/batch.ts'
import { Failure } from '../../../src/errors.ts'
import { silentMeter } from '../../../src/host.ts'
import { because, type Intake, type Loss, quality } from '../../../src/model.ts'
import { meters } from '../../../src/observability/meters.ts'
import { createIntake } from '../../../src/pipeline/intake.ts'
import { packWindow } from '../../../src/spool/wire.ts'

const setUp = (trusted = true, aheadUsMax?: number) => {
  const appended: { lane: string; intake: Intake; release: (error?: Error) => void }[] = []
  const counted: string[] = []
  const emit = createIntake({
    lane: 'raw',
    source: 's',
    ...(aheadUsMax === undefined ? {} : { aheadUsMax }),
    clock: () => ({ nowUs: 5_000_000, bootId: 'b', monotonicUs: 40, trusted }),
    meter: {
      ...silentMeter,
      count: (name, value, labels) => {
        assert.ok(meters[name], `${name} is in the table`)
        assert.deepEqual(Object.keys(labels ?? {}).sort(), [...(meters[name]?.labels ?? [])].sort())
        counted.push(`${name} ${value} ${Object.values(labels ?? {})}`)
      },
    },
    spool: {
      append: (lane, intake) =>
        new Promise((resolve, reject) => {
          const release = (error?: Error) => (error ? reject(error) : resolve())
          appended.push({ lane, intake, release })
        }),
    },
  })
  return { appended, counted, emit }
}
const points = (...times: number[]) => {
  const builder = createBatchBuilder()
  for (const time of times) builder.addFloat(0, time, Number.NaN, 0)
  return builder.take()
}
const loss: Loss = { source: 's', reason: 'refused', count: 3, text: 'why' }
const turn = () => new Promise((resolve) => setImmediate(resolve))

test('resolves, and counts, only once the spool has said durable', async () => {
  const { appended, counted, emit } = setUp()
  let durable = false
  const done = emit({ points: points(1, 2), losses: [loss] }).then(() => {
    durable = true
  })
  await turn()
  assert.equal(appended.length, 1)
  assert.deepEqual([durable, counted], [false, []])
  assert.deepEqual(
    [...(appended[0]?.intake.points.qualities ?? [])],
    [quality.bad | because.notANumber, quality.bad | because.notANumber],
  )
  appended[0]?.release()
  await done
  assert.deepEqual(counted, [
    'holdfast_points_received_total 2 s',
    'holdfast_points_refused_total 3 s,refused',
  ])
  assert.equal(appended[0]?.lane, 'raw')
})

test('columns are given back once durable, not before, and cannot be handed over again', async () => {
  const { appended, emit } = setUp()
  const refused = points(1, 2)
  const failed = emit({ points: refused })
  await turn()
  appended[0]?.release(new Failure('HF-S001', 'no'))
  await assert.rejects(failed)
  assert.deepEqual([...refused.timeUs], [1, 2], 'the source sends them again')
  const again = emit({ points: refused })
  await turn()
  assert.deepEqual([...(appended[1]?.intake.points.timeUs ?? [])], [1, 2])
  appended[1]?.release()
  await again
  assert.deepEqual(
    [refused.timeUs, refused.bits, refused.series, refused.qualities].map(({ length }) => length),
    [0, 0, 0, 0],
  )
  const window = { lane: 'raw', intakes: [{ points: refused }], seal: false }
  assert.throws(() => packWindow(window), TypeError)
  giveBack(refused)
})

test('a failure reaches the source and counts nothing', async () => {
  const { appended, counted, emit } = setUp()
  const done = emit({ points: points(1) })
  await turn()
  appended[0]?.release(new Failure('HF-S001', 'no'))
  await assert.rejects(done, { code: 'HF-S001' })
  assert.deepEqual(counted, [])
})

test('mixed times under an untrusted clock: two appends in order, kept and losses with the last', async () => {
  const { appended, emit } = setUp(false)
  const kept = [{ key: 'k', value: new Uint8Array([1]) }]
  const given = points(7, Number.NaN)
  const done = emit({ points: given, kept, losses: [loss] })
  await turn()
  assert.equal(appended.length, 1)
  assert.deepEqual([appended[0]?.intake.kept ?? [], appended[0]?.intake.losses ?? []], [[], []])
  appended[0]?.release()
  await turn()
  assert.equal(appended[1]?.intake.timeBase, 'monotonic')
  assert.deepEqual([...(appended[1]?.intake.points.timeUs ?? [])], [40])
  assert.deepEqual([appended[1]?.intake.kept, appended[1]?.intake.losses], [kept, [loss]])
  assert.equal(given.timeUs.length, 2)
  appended[1]?.release()
  await done
  assert.equal(given.timeUs.length, 0, 'what the parts were copied from is given back too')
})

test('a time base the source has chosen stands; nothing at all is no append', async () => {
  const { appended, emit } = setUp()
  const done = emit({ points: points(3), timeBase: 'monotonic' })
  await emit({ points: emptyBatch })
  await turn()
  assert.equal(appended.length, 1)
  assert.equal(appended[0]?.intake.timeBase, 'monotonic')
  appended[0]?.release()
  await done
})

test('times further ahead of a trusted clock than allowed are marked and counted, and stored as they are', async () => {
  const ahead = quality.bad | because.ahead
  const given = async (trusted: boolean, timeBase?: 'monotonic') => {
    const { appended, counted, emit } = setUp(trusted, 1_000)
    const done = emit({
      points: points(5_001_000, 5_001_001),
      ...(timeBase === undefined ? {} : { timeBase }),
    })
    await turn()
    const { timeUs, qualities } = appended[0]?.intake.points ?? emptyBatch
    assert.deepEqual([...timeUs], [5_001_000, 5_001_001])
    const marked = [...qualities].map((one) => one === ahead)
    appended[0]?.release()
    await done
    return { counted: counted.slice(1), marked }
  }
  const counted = ['holdfast_points_ahead_total 1 s']
  assert.deepEqual(await given(true), { counted, marked: [false, true] })
  const believed = { counted: [], marked: [false, false] }
  assert.deepEqual(await given(false), believed, 'a clock that is wrong itself judges nobody')
  assert.deepEqual(await given(true, 'monotonic'), believed)
})
