import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  encodeWriteRequest,
  labelsOf,
  type Sample,
  selectorOf,
} from '../../../src/protocol/remote-write.ts'

type Field = readonly [number, bigint | Uint8Array]
/** Protobuf's wire format, as its documentation has it. */
const fieldsOf = (bytes: Uint8Array): Field[] => {
  let at = 0
  const varint = () => {
    let [value, shift] = [0n, 0n]
    for (;;) {
      const one = BigInt(bytes[at++] as number)
      value |= (one & 127n) << shift
      shift += 7n
      if (one < 128n) return value
    }
  }
  const fields: Field[] = []
  while (at < bytes.length) {
    const tag = Number(varint())
    if ((tag & 7) === 0) fields.push([tag >> 3, varint()])
    else {
      const length = (tag & 7) === 1 ? 8 : Number(varint())
      assert.ok((tag & 7) === 1 || (tag & 7) === 2)
      fields.push([tag >> 3, bytes.subarray(at, at + length)])
      at += length
    }
  }
  assert.equal(at, bytes.length)
  return fields
}
const bytesAt = (fields: readonly Field[], number: number) =>
  fields.filter(([field]) => field === number).map(([, value]) => value as Uint8Array)
const textOf = (bytes: Uint8Array | undefined) => Buffer.from(bytes ?? []).toString('utf8')
const read = (request: Uint8Array) =>
  bytesAt(fieldsOf(request), 1).map((series) => {
    const fields = fieldsOf(series)
    return {
      labels: bytesAt(fields, 1).map((label) => {
        const parts = fieldsOf(label)
        return [textOf(bytesAt(parts, 1)[0]), textOf(bytesAt(parts, 2)[0])]
      }),
      samples: bytesAt(fields, 2).map((sample) => {
        const parts = fieldsOf(sample)
        const [value = new Uint8Array(8)] = bytesAt(parts, 1)
        const ms = parts.find(([field]) => field === 2)?.[1] ?? 0n
        return [Number(BigInt.asIntN(64, ms as bigint)), Buffer.from(value).readBigUInt64LE()]
      }),
    }
  })
const bitsOf = (value: number) => {
  const bytes = Buffer.alloc(8)
  bytes.writeDoubleLE(value)
  return bytes.readBigUInt64LE()
}

test('a request reads back, by another reader, as it went', () => {
  const text = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 200 })
  const sample = fc.tuple(fc.maxSafeInteger(), fc.double({ noNaN: true }))
  const series = fc.tuple(
    fc.array(fc.tuple(text, text), { maxLength: 4 }),
    fc.array(sample, { minLength: 1, maxLength: 5 }),
  )
  fc.assert(
    fc.property(fc.array(series, { maxLength: 5 }), (all) => {
      const samples = all.flatMap(([labels, some]) =>
        some.map(([ms, value]): Sample => ({ labels, ms, value })),
      )
      assert.deepEqual(
        read(encodeWriteRequest(samples)),
        all.map(([labels, some]) => ({
          labels,
          samples: some.map(([ms, value]) => [ms, bitsOf(value)]),
        })),
      )
    }),
  )
})

test('the mark of a stale series is no value: another NaN goes out', () => {
  const stale = Buffer.from('020000000000f07f', 'hex').readDoubleLE()
  const [series] = read(encodeWriteRequest([{ labels: [['a', 'b']], ms: 5, value: stale }]))
  const bits = series?.samples[0]?.[1] as bigint
  assert.notEqual(bits, 0x7ff0000000000002n)
  assert.equal(bits & 0x7ff8000000000000n, 0x7ff8000000000000n)
})

test('labels are valid, sorted, and no two series share them', () => {
  const of = (name: string, tags: Record<string, string> = {}) =>
    labelsOf('gw-1', { name, tags: Object.entries(tags) })
  assert.deepEqual(of('boiler.temperature', { plant: 'north' }), [
    ['__name__', 'boiler_temperature'],
    ['agent', 'gw-1'],
    ['holdfast_series', 'boiler.temperature'],
    ['plant', 'north'],
  ])
  assert.deepEqual(of('5.é', { 'site.id': '3', agent: 'own' })?.slice(0, 4), [
    ['__name__', '_5__'],
    ['agent', 'gw-1'],
    ['exported_agent', 'own'],
    ['holdfast_series', '5.é ["site.id","agent"]'],
  ])
  assert.equal(of('a', { agent: '1', exported_agent: '2' }), undefined)
  assert.equal(of('a', { 'x.y': '1', x_y: '2' }), undefined)
  assert.equal(of('a', { __name__: 'b' }), undefined)
  assert.equal(of('a', { holdfast_series: 'b' }), undefined)
  assert.equal(selectorOf([['a', 'say "x" \\']]), '{a="say \\"x\\" \\\\"}')
  const word = fc.constantFrom('a', 'b', 'a.b', 'a_b', 'a-b', '_', '1', 'agent', 'exported_agent')
  const key = fc.tuple(word, fc.dictionary(word, word, { maxKeys: 2 }))
  fc.assert(
    fc.property(key, key, ([name, tags], [other, otherTags]) => {
      const sorted = (given: Record<string, string>) =>
        Object.fromEntries(Object.entries(given).sort(([one], [two]) => (one < two ? -1 : 1)))
      const [one, two] = [of(name, sorted(tags)), of(other, sorted(otherTags))]
      const same =
        name === other && JSON.stringify(sorted(tags)) === JSON.stringify(sorted(otherTags))
      if (one === undefined || two === undefined) return
      assert.equal(JSON.stringify(one) === JSON.stringify(two), same)
      for (const [label, value] of one) assert.ok(/^[a-zA-Z_][a-zA-Z0-9_]*$/.test(label) && value)
      assert.deepEqual(
        one.map(([label]) => label),
        one.map(([label]) => label).sort(),
      )
    }),
    { numRuns: 2_000 },
  )
})
