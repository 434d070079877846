/** The checker's own controls: a clean run is green, and each single fault turns it red for its own reason. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  check,
  type Evidence,
  type ExactPoint,
  type JournalPoint,
} from '../../../src/verify/checker.ts'

const bitsOf = (value: number) => new BigUint64Array(new Float64Array([value]).buffer)[0] as bigint
const point = (at: number, value = at, part: Partial<JournalPoint> = {}): JournalPoint => ({
  series: `s${at % 7}`,
  timeUs: 1_700_000_000_000_000 + at,
  kind: 0,
  bits: bitsOf(value),
  text: null,
  quality: 0,
  acked: true,
  ...part,
})
const journal = Array.from({ length: 10_000 }, (_, at) => point(at))
const gapAt = (at: number, count = 1) =>
  ({
    reason: 'quota',
    count,
    timeUsMin: 1_700_000_000_000_000 + at,
    timeUsMax: 1_700_000_000_000_000 + at,
  }) as const
const evidence = (part: Partial<Evidence> = {}): Evidence => ({
  journal: [journal],
  rows: [journal],
  writes: [journal],
  gaps: [],
  delivered: journal.length,
  reduced: 0,
  pending: 0,
  ...part,
})
const without = (at: number): readonly ExactPoint[] => journal.filter((_, index) => index !== at)
const altering = (part: Partial<ExactPoint>): readonly ExactPoint[] =>
  journal.map((one, at) => (at === 77 ? { ...one, ...part } : one))

test('a clean run: the equation holds, nothing is missing, altered or written twice', async () => {
  assert.deepEqual(await check(evidence()), {
    accepted: 10_000,
    delivered: 10_000,
    reduced: 0,
    pending: 0,
    declared_lost: 0,
    duplicates: 0,
    altered: 0,
    missing: 0,
    ok: true,
    reasons: [],
  })
})

test('one point deleted in the region: missing', async () => {
  const verdict = await check(evidence({ rows: [without(77)] }))
  assert.deepEqual([verdict.ok, verdict.missing], [false, 1])
})

test('one point altered in a bit of its value, kind, quality, time or series: altered', async () => {
  for (const part of [
    { bits: bitsOf(77) ^ 1n },
    { kind: 1 },
    { quality: 2 },
    { timeUs: 5 },
    { series: 'other' },
  ] as const) {
    const verdict = await check(evidence({ rows: [altering(part)] }))
    assert.equal(verdict.ok, false)
    assert.equal(verdict.altered, 1, JSON.stringify(Object.keys(part)))
  }
})

test('minus zero, NaN payloads and strings that differ only in a surrogate are told apart', async () => {
  const odd = [
    point(1, 0, { bits: 0x7ff8_0000_dead_beefn }),
    point(2, -0),
    point(3, 0, { kind: 3, text: 'a\u{1F600}' }),
  ]
  assert.ok((await check(evidence({ journal: [odd], rows: [odd], writes: [], delivered: 3 }))).ok)
  for (const [at, part] of [
    [0, { bits: 0x7ff8_0000_0000_0000n }],
    [1, { bits: 0n }],
    [2, { text: 'a\u{1F601}' }],
  ] as const) {
    const rows = odd.map((one, index) => (index === at ? { ...one, ...part } : one))
    assert.equal((await check(evidence({ journal: [odd], rows: [rows], delivered: 3 }))).altered, 1)
  }
})

test('one point applied again: a duplicate, in the row, in the writes or in the ledger', async () => {
  const again = [...journal, journal[77] as JournalPoint]
  assert.equal((await check(evidence({ rows: [again] }))).duplicates, 1)
  assert.equal((await check(evidence({ writes: [again] }))).duplicates, 1)
  assert.equal((await check(evidence({ delivered: 10_001 }))).ok, false)
})

test('a row nobody ever sent is altered data', async () => {
  assert.equal((await check(evidence({ rows: [[...journal, point(20_000)]] }))).altered, 1)
})

test('a declared loss is no fault, a loss beside the gap or beyond its count is', async () => {
  const lost = { rows: [without(77)], delivered: 9_999 }
  assert.ok((await check(evidence({ ...lost, gaps: [gapAt(77)] }))).ok)
  assert.equal((await check(evidence({ ...lost, gaps: [gapAt(78)] }))).missing, 1)
  assert.equal((await check(evidence({ ...lost, gaps: [] }))).missing, 1)
  const two = journal.filter((_, at) => at !== 77 && at !== 78)
  const gaps = [{ ...gapAt(77), timeUsMax: gapAt(78).timeUsMax }]
  assert.equal((await check(evidence({ rows: [two], delivered: 9_998, gaps }))).missing, 1)
})

test('a loss declared and the point delivered too: the equation does not hold', async () => {
  assert.equal((await check(evidence({ gaps: [gapAt(77)] }))).ok, false)
})

test('a spool older than its anchor declares at most what it lacks', async () => {
  const gap = { reason: 'anchor', count: 9, timeUsMin: 0, timeUsMax: 0 } as const
  assert.ok((await check(evidence({ gaps: [gap] }))).ok)
  assert.ok((await check(evidence({ rows: [without(7)], delivered: 9_999, gaps: [gap] }))).ok)
  assert.equal(
    (await check(evidence({ rows: [without(7)], delivered: 9_990, gaps: [gap] }))).ok,
    false,
  )
})

test('pending points may be absent, no more of them than the spool holds', async () => {
  assert.ok((await check(evidence({ rows: [without(77)], delivered: 9_999, pending: 1 }))).ok)
  const two = journal.filter((_, at) => at > 1)
  assert.equal((await check(evidence({ rows: [two], delivered: 9_998, pending: 1 }))).missing, 1)
})

test('corrections: the last accepted value stands; an earlier one only where the later is declared lost', async () => {
  const [first, second] = [point(5, 1), point(5, 2)]
  const both = { journal: [[first, second]], writes: [], delivered: 2 }
  assert.ok((await check(evidence({ ...both, rows: [[second]] }))).ok)
  assert.equal((await check(evidence({ ...both, rows: [[first]] }))).altered, 1)
  const lost = { ...both, delivered: 1, gaps: [gapAt(5)] }
  assert.ok((await check(evidence({ ...lost, rows: [[first]] }))).ok)
})

test('an attempt without an answer may be there or not; after it the accepted value still counts', async () => {
  const unsure = point(9, 3, { acked: false })
  const base = { journal: [[point(9, 1), unsure]], writes: [] }
  for (const rows of [[point(9, 1)], [unsure]])
    for (const delivered of [1, 2])
      assert.ok((await check(evidence({ ...base, rows: [rows], delivered }))).ok)
  const later = { journal: [[unsure, point(9, 1)]], writes: [], delivered: 2 }
  assert.ok((await check(evidence({ ...later, rows: [[point(9, 1)]] }))).ok)
  assert.equal((await check(evidence({ ...later, rows: [[unsure]] }))).altered, 1)
  const never = { journal: [[unsure]], writes: [], rows: [], delivered: 0 }
  assert.ok((await check(evidence(never))).ok)
})

test('malformed messages are accepted as losses and must be found as gap records', async () => {
  const gap = { reason: 'malformed', count: 3, timeUsMin: 0, timeUsMax: 0 } as const
  assert.ok((await check(evidence({ losses: { acked: 3, unsure: 0 }, gaps: [gap] }))).ok)
  assert.equal((await check(evidence({ losses: { acked: 3, unsure: 0 } }))).missing, 3)
  const verdict = await check(
    evidence({ losses: { acked: 3, unsure: 0 }, gaps: [gap], rows: [without(77)] }),
  )
  assert.equal(verdict.missing, 1, 'a malformed message excuses no point')
})
