/** What of refused samples a server holds: against a naive store, with siblings, empty labels and NaN, in few queries. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type HeldQuery, missingOf } from '../../../src/destinations/prometheus-held.ts'
import type { HeldSeries } from '../../../src/destinations/prometheus-outcome.ts'
import type { Labels, Sample } from '../../../src/protocol/remote-write.ts'

const { signal } = new AbortController()
const labelsOf = (name: string, tag: string | undefined): Labels => [
  ['__name__', name],
  ['agent', 'gw'],
  ['holdfast_series', name],
  ...(tag === undefined ? [] : [['tag', tag] as const]),
]
/** Answers as Prometheus does: by whole expression, both ends included, labels without a value left out. */
const serverOf = (held: readonly Sample[], asked: HeldQuery[]) => (query: HeldQuery) => {
  asked.push(query)
  const wanted = [...query.selector.matchAll(/(\w+)(=~?)("(?:[^"\\]|\\.)*")/g)].map(
    ([, label = '', how, text = '']) => ({ label, how, value: JSON.parse(text) as string }),
  )
  const found = new Map<Labels, Map<number, number>>()
  for (const { labels, ms, value } of held) {
    const of = new Map(labels)
    const matches = wanted.every(({ label, how, value: asks }) =>
      how === '='
        ? (of.get(label) ?? '') === asks
        : new RegExp(`^(?:${asks})$`).test(of.get(label) ?? ''),
    )
    if (!matches || ms < query.fromMs || ms > query.toMs) continue
    found.set(labels, (found.get(labels) ?? new Map()).set(ms, value))
  }
  const answer: HeldSeries[] = [...found].map(([labels, values]) => ({
    labels: Object.fromEntries(labels.filter(([, value]) => value !== '')),
    values,
  }))
  return Promise.resolve(answer)
}
const names = ['a.b', 'axb', 'c|d', 'e"f\\']
const all = names.flatMap((name) => [undefined, '', 'x'].map((tag) => labelsOf(name, tag)))
const sample = fc.record({
  labels: fc.constantFrom(...all.filter((labels) => labels.at(-1)?.[1] !== '')),
  ms: fc.nat(20).map((ms) => ms * 700),
  value: fc.constantFrom(1, 2, -0, 0, Number.NaN, Number.POSITIVE_INFINITY),
})
const place = ({ labels, ms }: Sample) => `${JSON.stringify(labels)}@${ms}`
const unique = fc.uniqueArray(sample, { selector: place, maxLength: 40 })

test('what is missing is what a naive look finds missing, whatever stands beside it', async () => {
  await fc.assert(
    fc.asyncProperty(unique, unique, async (sent, held) => {
      const there = new Map(held.map((one) => [place(one), one.value]))
      const missing = sent.filter((one) => {
        const at = place(one)
        return !there.has(at) || !Object.is(there.get(at), one.value)
      })
      assert.deepEqual(await missingOf(sent, serverOf(held, []), signal), missing)
    }),
  )
})
test('a label without a value is none', async () => {
  const [one, other] = [labelsOf('a.b', ''), labelsOf('a.b', undefined)]
  const held = [{ labels: other, ms: 5, value: 1 }]
  assert.deepEqual(
    await missingOf([{ labels: one, ms: 5, value: 1 }], serverOf(held, []), signal),
    [],
  )
})
test('series of one time are asked for together, one of hours alone', async () => {
  const short = Array.from({ length: 1_000 }, (_, at) => ({
    labels: labelsOf(`s${at}`, undefined),
    ms: 5_000 + (at % 3) * 100,
    value: at,
  }))
  const slow = labelsOf('slow', undefined)
  const hours = [0, 1, 2].map((hour) => ({ labels: slow, ms: hour * 3_600_000, value: hour }))
  const asked: HeldQuery[] = []
  assert.deepEqual(
    await missingOf([...short, ...hours], serverOf([...short, ...hours], asked), signal),
    [],
  )
  assert.equal(asked.length, 6)
  assert.equal(asked.filter(({ fromMs, toMs }) => toMs - fromMs > 1_000).length, 1)
})
test('a query that fails is the answer', async () => {
  const later = { kind: 'later', text: 'HTTP 503' } as const
  const one = { labels: labelsOf('a', undefined), ms: 1, value: 1 }
  assert.equal(await missingOf([one], () => Promise.resolve(later), signal), later)
})
