import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createBooks, type Head, headKey } from '../../../src/database/books.ts'
import {
  aboveRangesMax,
  bookFrames,
  coverage,
  planFrames,
  positionOf,
  take,
} from '../../../src/database/ledger.ts'
import { createTestAgent } from '../../contract/store-agent.ts'

const headOf = (base = 0): Head => ({
  epoch: 'e',
  lane: 1,
  base,
  contiguous: base,
  hash: '',
  points: 0,
  lost: 0,
  above: [],
  dirty: false,
  aboveDirty: false,
})
const range = fc
  .tuple(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 0, max: 5 }))
  .map(([seq, more]) => ({ seq, seqLast: seq + more, hash: `h${seq + more}` }))

test('a head and its ranges are always the set of seqs taken, folded as far as it goes', () => {
  fc.assert(
    fc.property(fc.array(range, { maxLength: 40 }), (ranges) => {
      const head = headOf()
      const taken = new Set<number>()
      for (const each of ranges) {
        const covered = coverage(head, each.seq, each.seqLast)
        const seqs = Array.from({ length: each.seqLast - each.seq + 1 }, (_, n) => each.seq + n)
        const have = seqs.filter((seq) => taken.has(seq)).length
        assert.equal(covered, have === 0 ? 'none' : have === seqs.length ? 'all' : 'some')
        assert.ok(take(head, each))
        for (const seq of seqs) taken.add(seq)
      }
      let contiguous = 0
      while (taken.has(contiguous + 1)) contiguous++
      assert.equal(head.contiguous, contiguous)
      let before = contiguous
      for (const { seq, seqLast } of head.above) {
        assert.ok(seq > before + 1, 'ranges neither touch nor overlap')
        before = seqLast
      }
      const above = head.above.flatMap(({ seq, seqLast }) =>
        Array.from({ length: seqLast - seq + 1 }, (_, n) => seq + n),
      )
      const expected = [...taken].filter((seq) => seq > contiguous).sort((a, b) => a - b)
      assert.deepEqual(above, expected)
    }),
  )
})

test('the digest a head remembers is that of its contiguous seq', () => {
  const head = headOf()
  take(head, { seq: 2, seqLast: 2, hash: 'two' })
  take(head, { seq: 3, seqLast: 3, hash: 'three' })
  assert.deepEqual([head.contiguous, head.hash], [0, ''])
  take(head, { seq: 1, seqLast: 1, hash: 'one' })
  assert.deepEqual([head.contiguous, head.hash, head.above], [3, 'three', []])
  take(head, { seq: 4, seqLast: 6, hash: '' })
  assert.deepEqual([head.contiguous, head.hash], [6, ''])
})

test('too many ranges change nothing', () => {
  const head = headOf()
  for (let n = 1; n <= aboveRangesMax; n++)
    assert.ok(take(head, { seq: 2 * n, seqLast: 2 * n, hash: '' }))
  const before = structuredClone(head)
  assert.equal(take(head, { seq: 5000, seqLast: 5000, hash: '' }), false)
  assert.deepEqual(head, before)
})

const given = () => {
  const agent = createTestAgent('unit')
  const first = agent.epoch('first')
  const second = agent.epoch('second', first, { 1: 4 })
  const books = createBooks(agent.name, 0)
  for (const [at, { epoch, link }] of [first, second].entries()) {
    const rest = { fenced: false, spoolId: '', dictionaryLength: 8, dirty: false }
    books.epochs.set(epoch, { epoch, parent: link.parent, ordinal: at + 1, ...rest })
    books.heads.set(headKey(epoch, 1), { ...headOf(at * 4), epoch })
  }
  books.speaker = second.epoch
  return { first, second, books }
}
const point = { series: 0, timeUs: 1, value: 1 }

test('frames of one request: repeated ones count once, overlapping ones are refused', () => {
  const { first, second, books } = given()
  const one = first.segment(1, [point])
  const planned = planFrames(books, second.epoch, [one, one, first.tombstone(2, 3)])
  assert.ok(!('kind' in planned))
  assert.deepEqual(
    planned.map((plan) => plan.action),
    ['take', 'duplicate', 'take'],
  )
  assert.equal(
    bookFrames(planned, () => 0),
    null,
  )
  assert.deepEqual(positionOf(books, second.epoch, 1), { lane: 1, contiguous: 3, above: [] })
  const refused = planFrames(books, second.epoch, [first.tombstone(4, 6), first.tombstone(5, 9)])
  assert.ok('kind' in refused && refused.kind === 'fork')
})

test('seqs of a newer epoch stand above an older one that is not complete', () => {
  const { first, second, books } = given()
  const planned = planFrames(books, second.epoch, [
    second.segment(5, [point]),
    second.segment(7, [point]),
    first.segment(2, [point]),
  ])
  assert.ok(!('kind' in planned))
  bookFrames(planned, () => 0)
  assert.deepEqual(positionOf(books, second.epoch, 1), {
    lane: 1,
    contiguous: 0,
    above: [
      [2, 2],
      [5, 5],
      [7, 7],
    ],
  })
})
