/** Series on their way up: whatever the series table takes gets through, in requests of bounded size. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { seriesIdOf } from '../../../src/codec/series-id.ts'
import { createSeriesSender } from '../../../src/destinations/ledger-series.ts'
import type { LedgerSide, Said } from '../../../src/destinations/ledger-side.ts'
import { isFailure } from '../../../src/errors.ts'
import type { SeriesEntry } from '../../../src/model.ts'
import { createSeriesTable } from '../../../src/pipeline/series.ts'
import {
  type SeriesAnswer,
  type SeriesRequest,
  seriesRequest,
} from '../../../src/protocol/relay-messages.ts'

const epoch = '1'.repeat(32)
const signal = new AbortController().signal
const tableOf = () => createSeriesTable({ agent: 'gw', seriesIdOf })
const entriesOf = (count: number, padding = 0): SeriesEntry[] => {
  const table = tableOf()
  return Array.from({ length: count }, (_, at) =>
    table.entry(table.ref(`s${at}`, padding === 0 ? [] : [['pad', 'x'.repeat(padding)]], '°C')),
  )
}
type Answer = Said<SeriesAnswer>
/** A region that takes everything, and what it was asked. */
const farSide = (answer?: (entries: number, bytes: number) => Answer | undefined) => {
  const stored: SeriesEntry[] = []
  const sizes: number[] = []
  const series = async (request: SeriesRequest): Promise<Answer> => {
    // As the relay carries it.
    const body = seriesRequest.encode(request)
    const { first, entries } = seriesRequest.decode(body)
    const instead = answer?.(entries.length, body.length)
    if (instead !== undefined) return instead
    sizes.push(body.length)
    assert.equal(first, stored.length)
    stored.push(...entries)
    return { kind: 'answer', answer: { epoch, known: stored.length } }
  }
  return { stored, sizes, series }
}
const senderOf = (entries: readonly SeriesEntry[], far: Pick<LedgerSide, 'series'>) =>
  createSeriesSender(
    { epoch, dictionary: async (_, first, max) => entries.slice(first, first + max) },
    far,
  )

test('whatever the series table takes, the protocol carries', () => {
  const text = fc.oneof(
    fc.string({ maxLength: 40, unit: 'binary' }),
    fc.nat(4_200).map((length) => 'é'.repeat(length / 2)),
    fc.nat(600).map((length) => 'x'.repeat(length)),
  )
  const series = fc.record({ name: text, tags: fc.array(fc.tuple(text, text), { maxLength: 4 }) })
  let taken = 0
  fc.assert(
    fc.property(series, ({ name, tags }) => {
      const table = tableOf()
      try {
        table.ref(name, tags)
      } catch (error) {
        assert.ok(isFailure(error))
        return
      }
      taken++
      const entries = [table.entry(0)]
      assert.deepEqual(
        seriesRequest.decode(seriesRequest.encode({ epoch, first: 0, entries })).entries,
        entries,
      )
    }),
    { numRuns: 300 },
  )
  assert.ok(taken > 30, `only ${taken} were taken`)
})

test('many and long series go up in order, once, in requests of bounded size', async () => {
  for (const [count, padding] of [
    [12_000, 0],
    [700, 3_000],
  ] as const) {
    const entries = entriesOf(count, padding)
    const far = farSide()
    const sender = senderOf(entries, far)
    assert.equal(await sender.ensure(epoch, count, signal), null)
    assert.deepEqual(far.stored, entries)
    assert.ok(Math.max(...far.sizes) < 600 * 1024, String(Math.max(...far.sizes)))
    assert.equal(await sender.ensure(epoch, count, signal), null)
    assert.deepEqual(far.stored.length, count)
  }
})

test('too big: less at once, down to one', async () => {
  const entries = entriesOf(50)
  const far = farSide((_, bytes) =>
    bytes > 400 ? { kind: 'setback', setback: { kind: 'smaller', text: '413' } } : undefined,
  )
  assert.equal(await senderOf(entries, far).ensure(epoch, 50, signal), null)
  assert.deepEqual(far.stored, entries)
  const never = farSide(() => ({ kind: 'setback', setback: { kind: 'smaller', text: '413' } }))
  const end = await senderOf(entries, never).ensure(epoch, 50, signal)
  assert.deepEqual(end, { kind: 'later', text: 'one series is too big: 413' })
})

test('a unit that no database takes does not hold up its points', async () => {
  const table = tableOf()
  const units = ['a\0b', '\ud800', 'm'.repeat(10_000), '°C']
  const entries = units.map((unit, at) => table.entry(table.ref(`s${at}`, [], unit)))
  const far = farSide()
  assert.equal(await senderOf(entries, far).ensure(epoch, units.length, signal), null)
  assert.deepEqual(
    far.stored.map(({ unit }) => unit),
    ['a\ufffdb', '\ufffd', 'm'.repeat(256), '°C'],
  )
})

test('trouble on the way ends the upload and is said', async () => {
  const entries = entriesOf(5)
  const ensure = (said: Answer) =>
    senderOf(entries, { series: async () => said }).ensure(epoch, 5, signal)
  const kindOf = (end: Awaited<ReturnType<typeof ensure>>) =>
    end === null || end === 'need-hello' ? end : end.kind
  const answer = (value: SeriesAnswer): Answer => ({ kind: 'answer', answer: value })
  assert.equal(kindOf(await ensure(answer({ epoch, known: 4 }))), 'later')
  assert.equal(kindOf(await ensure(answer({ epoch: '2'.repeat(32), known: 5 }))), 'later')
  const demand = (code: 'need-hello' | 'need-series', first?: number): Answer => ({
    kind: 'demand',
    code,
    error: { code, text: '', first },
  })
  assert.equal(kindOf(await ensure(demand('need-hello'))), 'need-hello')
  assert.equal(kindOf(await ensure(demand('need-series', 3))), 'later')
  const short = senderOf([], farSide())
  assert.equal(kindOf(await short.ensure(epoch, 5, signal)), 'later')
  const stopped = senderOf(entries, farSide())
  assert.equal(kindOf(await stopped.ensure(epoch, 5, AbortSignal.abort())), 'later')
})
