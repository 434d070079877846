/**
 * A stage over a spool that is crashed, restored, trimmed and damaged at any point, against the same stage that nothing
 * ever interrupts: their lanes hold the same points, bit for bit, and the books balance after every step.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createBatchBuilder } from '../../src/batch.ts'
import type { LaneItem, SeriesEntry } from '../../src/model.ts'
import type { Spool } from '../../src/spool/spool.ts'
import { createTestStage, sorted, toldBy, toldNaively } from '../unit/spool/stage-support.ts'
import { createRig, laneOptions } from '../unit/spool/support.ts'

type Step =
  | { readonly kind: 'append'; readonly count: number; readonly back: number; readonly at: string }
  | { readonly kind: 'turn' | 'derive' | 'seal'; readonly at: string }
  | { readonly kind: 'kill' | 'close' | 'snapshot' | 'restore' | 'pass' }
  | { readonly kind: 'reject'; readonly share: number }

/** Mostly none: a crash is rare among the turns. */
const at = fc.oneof(
  { weight: 6, arbitrary: fc.constant('') },
  { weight: 1, arbitrary: fc.constantFrom('before-commit', 'after-commit', 'after-anchor') },
)
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('append' as const),
      count: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 40, max: 200 })),
      /** Times go back by so many milliseconds: late points. */
      back: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 60 })),
      at,
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constantFrom('turn' as const, 'derive' as const, 'seal' as const),
      at,
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constantFrom('kill', 'close', 'snapshot', 'restore', 'pass', 'pass'),
    }) as fc.Arbitrary<Step>,
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('reject' as const),
      share: fc.integer({ min: 0, max: 100 }),
    }),
  },
)

class Crash extends Error {}
interface Truth {
  /** Of raw, by place: what was sealed there. */
  items: LaneItem[]
  /** Segments that were taken away, and how far the stage had read then. */
  gone: Map<number, number>
}

const createLockstep = () => {
  const lanes = [
    laneOptions('raw', { segmentPointsMax: 3 }),
    laneOptions('thin', { derived: true, segmentPointsMax: 5 }),
    laneOptions('windows', { derived: true }),
  ]
  const rig = createRig({ lanes })
  const seen = { crash: 0, again: 0, trimmed: 0, restored: 0, rejected: 0, unread: 0 }
  const dictionaries = new Map<string, readonly SeriesEntry[]>()
  let failAt = ''
  let closing = false
  let openedAt = 0
  let stage = createTestStage()
  let spool: Spool
  let image: Uint8Array | null = null
  let truth: Truth = { items: [], gone: new Map() }
  let snapshot: { readonly image: Uint8Array; readonly truth: Truth } | null = null
  let nextMs = 100

  const failpoint = (name: string) => {
    if (name === failAt) throw new Crash(name)
    // The last transaction of a close is what it leaves behind.
    if (closing && name === 'after-anchor') image = spool.image()
  }
  const open = () => {
    stage = createTestStage()
    spool = rig.open(image, failpoint, [{ reader: 'stage', lane: 'raw', stage }])
    spool.openReader('raw', 'region', 'oldest')
    openedAt = reader().cursor.backlog
  }
  const raw = () => spool.lanes()[0] ?? assert.fail('no lane')
  const reader = () =>
    raw().readers.find((one) => one.reader === 'stage') ?? assert.fail('no reader')

  /** What was sealed since: the truth keeps it, whatever becomes of the file. */
  const learn = () => {
    for (;;) {
      const after = truth.items.reduce(
        (last, item) => Math.max(last, item.type === 'segment' ? item.seq : item.seqLast),
        0,
      )
      const items = spool.read('raw', after, 1e9)
      if (items.length === 0) break
      truth.items.push(...items)
      for (const { epoch } of items) dictionaries.set(epoch, spool.dictionary(epoch, 0, 1e6))
    }
    // A destination that takes everything: only the stage holds raw back.
    spool.ack('raw', 'region', { which: 'backlog', upTo: raw().head })
  }
  const reopen = () => {
    open()
    learn()
  }
  /** Runs `work` with a crash at a named point of it, if it comes by. */
  const crashing = (point: string, work: () => void) => {
    failAt = point
    try {
      work()
      failAt = ''
    } catch (error) {
      failAt = ''
      if (!(error instanceof Crash)) throw error
      seen.crash++
      image = spool.image()
      reopen()
    }
  }
  const append = (count: number, back: number) => {
    const builder = createBatchBuilder()
    for (let one = 0; one < count; one++) {
      nextMs++
      const name = ['a', 'b', 'c'][nextMs % 3] as string
      builder.addFloat(rig.series.ref(name, []), (nextMs - back) * 1000, nextMs / 7, 0)
    }
    spool.commit([{ lane: 'raw', intakes: [{ points: builder.take() }], seal: false }])
  }
  const deriveAll = () => {
    for (let turns = 0; spool.derive() === 'more'; turns++) assert.ok(turns < 10_000)
  }
  const reject = (share: number) => {
    const { head, floor } = raw()
    const seq = floor + Math.floor(((head - floor) * share) / 100)
    const known = truth.items.some((item) => item.type === 'segment' && item.seq === seq)
    if (seq < floor || seq > head || !known || truth.gone.has(seq)) return
    spool.quarantine('raw', seq, 'rejected', 'no')
    const { backlog } = reader().cursor
    truth.gone.set(seq, backlog)
    if (backlog < seq) seen.unread++
    else seen.rejected++
  }
  const copy = ({ items, gone }: Truth): Truth => ({ items: [...items], gone: new Map(gone) })

  const run = (one: Step) => {
    switch (one.kind) {
      case 'append':
        return crashing(one.at, () => append(one.count, one.back))
      case 'turn':
        return crashing(one.at, () => spool.derive())
      case 'derive':
        return crashing(one.at, deriveAll)
      case 'seal':
        return crashing(one.at, () => spool.seal(['raw', 'thin', 'windows']))
      case 'kill':
        image = spool.image()
        return reopen()
      case 'close':
        image = spool.image()
        closing = true
        spool.close()
        closing = false
        return reopen()
      case 'pass':
        return rig.clock.jump(61_000)
      case 'snapshot':
        snapshot = { image: spool.image(), truth: copy(truth) }
        return
      case 'restore':
        if (snapshot === null) return
        seen.restored++
        image = snapshot.image
        truth = copy(snapshot.truth)
        return reopen()
      case 'reject':
        return reject(one.share)
    }
  }
  const check = () => {
    learn()
    const { accepted, floor, head } = raw()
    const { delivered, reduced, declaredLost, pending, cursor } = reader()
    assert.equal(delivered + reduced + declaredLost + pending, accepted)
    assert.ok(pending >= 0 && declaredLost >= 0)
    const inLanes = spool.lanes().filter(({ derived }) => derived)
    assert.equal(
      delivered,
      inLanes.reduce((sum, lane) => sum + lane.accepted, 0),
    )
    assert.ok(cursor.backlog <= head)
    if (floor > 1) seen.trimmed++
    if (stage.seqs.some((seq) => seq <= openedAt)) seen.again++
  }
  const finish = () => {
    deriveAll()
    learn()
    const expected = toldNaively(
      truth.items,
      (epoch) => dictionaries.get(epoch) ?? assert.fail('no dictionary'),
      truth.gone,
    )
    assert.deepEqual(sorted(toldBy(spool)), sorted(expected))
  }
  open()
  return { run, check, finish, seen }
}

test('a stage that anything interrupts gives what one gives that nothing does', () => {
  const seen = { crash: 0, again: 0, trimmed: 0, restored: 0, rejected: 0, unread: 0 }
  const numRuns = process.env.HOLDFAST_TEST_RELEASE === '1' ? 3_000 : 120
  fc.assert(
    fc.property(fc.array(step, { minLength: 10, maxLength: 60, size: 'max' }), (steps) => {
      const both = createLockstep()
      for (const one of steps) {
        both.run(one)
        both.check()
      }
      both.finish()
      for (const key of Object.keys(seen) as (keyof typeof seen)[]) seen[key] += both.seen[key]
    }),
    { numRuns, seed: 20_261, endOnFailure: false },
  )
  for (const [what, times] of Object.entries(seen)) assert.ok(times > 0, `${what} never happened`)
})
