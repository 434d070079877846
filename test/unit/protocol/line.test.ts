import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { valueAt } from '../../../src/batch.ts'
import { seriesIdOf } from '../../../src/codec/series-id.ts'
import { Failure } from '../../../src/errors.ts'
import type { PointBatch, Value } from '../../../src/model.ts'
import { createSeriesTable } from '../../../src/pipeline/series.ts'
import { createLineParser, type LinePrecision, linePrecisions } from '../../../src/protocol/line.ts'
import { seriesNameOf, splitSeriesName } from '../../../src/protocol/line-name.ts'
import { writeLine } from '../../../src/protocol/line-write.ts'
import { readSlowly } from './line-reference.ts'

const reader = (max?: number) => {
  const series = createSeriesTable({ agent: 'gw', seriesIdOf, ...(max ? { max } : {}) })
  const parser = createLineParser(series)
  const read = (text: string | Uint8Array, precision: LinePrecision = 'ns', pointsMax = 1e9) => {
    const body = typeof text === 'string' ? Buffer.from(text) : text
    const reading = parser.read(body, precision)
    const points: { name: string; tags: unknown; value: Value; timeUs: number }[] = []
    const sizes: number[] = []
    while (!reading.done()) {
      const batch: PointBatch = reading.next(pointsMax)
      sizes.push(batch.count)
      for (let at = 0; at < batch.count; at++) {
        const { name, tags } = series.entry(batch.series[at] as number)
        points.push({ name, tags, value: valueAt(batch, at), timeUs: batch.timeUs[at] as number })
      }
    }
    return { points, sizes, troubles: reading.troubles, counts: reading.counts }
  }
  return { read, series }
}
const valuesOf = (text: string) =>
  reader()
    .read(text)
    .points.map(({ value }) => value)
const troubleOf = (text: string | Uint8Array) => {
  const [trouble] = reader().read(text).troubles
  return trouble && { ...trouble, sample: undefined }
}

test('a line becomes one point per field, named measurement.field, with its tags', () => {
  const { points } = reader().read('weather,site=A,room=2 temp=21.5,hum=40i 1700000000123456789\n')
  const tags = [
    ['room', '2'],
    ['site', 'A'],
  ]
  assert.deepEqual(points, [
    { name: 'weather.temp', tags, value: 21.5, timeUs: 1_700_000_000_123_456 },
    { name: 'weather.hum', tags, value: 40n, timeUs: 1_700_000_000_123_456 },
  ])
})

test('values keep every bit: -0, int64 ends, 2^53 + 1, long decimals, exponents, subnormals', () => {
  const long = 'm a=-0,b=9223372036854775807i,c=-9223372036854775808i,d=9007199254740993i,e=0.1'
  const more =
    ',f=0.30000000000000004,g=5e-324,h=1.7976931348623157E+308,i=-.5,j=1.,k=+2,l=-0i,m=7u'
  assert.deepEqual(valuesOf(long + more), [
    ...[-0, 2n ** 63n - 1n, -(2n ** 63n), 2n ** 53n + 1n, 0.1],
    ...[0.1 + 0.2, 5e-324, Number.MAX_VALUE, -0.5, 1, 2, 0n, 7n],
  ])
  assert.deepEqual(valuesOf('m a=9223372036854775807u,b=-9007199254740993i'), [
    2n ** 63n - 1n,
    -(2n ** 53n) - 1n,
  ])
})

test('every double that prints comes back to its last bit', () => {
  const { read } = reader()
  const bits = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
  const shown = fc.tuple(fc.integer(), fc.nat(22)).map(([whole, scale]) => whole / 10 ** scale)
  const doubles = fc.oneof(
    shown,
    bits.map((pattern) => new Float64Array(BigUint64Array.of(pattern).buffer)[0] as number),
  )
  fc.assert(
    fc.property(doubles.filter(Number.isFinite), fc.boolean(), (value, exponent) => {
      const text = Object.is(value, -0) ? '-0' : exponent ? value.toExponential() : String(value)
      assert.ok(Object.is(read(`m v=${text}`).points[0]?.value, value))
    }),
    { numRuns: 2_000 },
  )
})

test('bools in every spelling, strings with escapes, commas, newlines and Unicode', () => {
  assert.deepEqual(valuesOf('m a=t,b=T,c=true,d=True,e=TRUE,f=f,g=F,h=false,i=False,j=FALSE'), [
    ...[true, true, true, true, true, false, false, false, false, false],
  ])
  assert.deepEqual(valuesOf(String.raw`m a="",b="x, y=\"z\" \\ \n",c="ü€😀"`), [
    ...['', String.raw`x, y="z" \ \n`, 'ü€😀'],
  ])
  const { points, counts } = reader().read('m s="one\ntwo" 1000\nm s="three" 2000\nbad')
  assert.deepEqual(
    points.map(({ value, timeUs }) => [value, timeUs]),
    [
      ['one\ntwo', 1],
      ['three', 2],
    ],
  )
  assert.equal(counts.malformed, 1)
})

test('escapes in names: comma, space, equals; a backslash before anything else is itself', () => {
  const { points } = reader().read(String.raw`my\ me\,as,t\=a\ g=v\,1\x f\ i\=e\,ld=1`)
  assert.deepEqual(points[0]?.name, 'my me,as.f i=e,ld')
  assert.deepEqual(points[0]?.tags, [['t=a g', String.raw`v,1\x`]])
})

test('times in every precision, floored to microseconds, also before 1970', () => {
  const timeOf = (time: string, precision: LinePrecision) =>
    reader().read(`m v=1 ${time}`, precision).points[0]?.timeUs
  assert.equal(timeOf('1999', 'ns'), 1)
  assert.equal(timeOf('-1', 'ns'), -1)
  assert.equal(timeOf('-1000', 'ns'), -1)
  assert.equal(timeOf('-1001', 'ns'), -2)
  assert.equal(timeOf('-0', 'ns'), 0)
  assert.equal(timeOf('1700000000999999', 'us'), 1_700_000_000_999_999)
  assert.equal(timeOf('1700000000999', 'ms'), 1_700_000_000_999_000)
  assert.equal(timeOf('1700000000', 's'), 1_700_000_000_000_000)
  assert.equal(timeOf('28333333', 'm'), 1_699_999_980_000_000)
  assert.equal(timeOf('472222', 'h'), 1_699_999_200_000_000)
  for (const [spelled, means] of [
    ['n', 'ns'],
    ['u', 'us'],
    ['µ', 'us'],
    ['ms', 'ms'],
  ] as const) {
    assert.equal(linePrecisions[spelled], means)
  }
  assert.match(troubleOf('m v=1 99999999999999999999')?.text ?? '', /out of range/)
})

test('a line without a time asks for its arrival', () => {
  assert.deepEqual(
    reader()
      .read('m v=1\nm v=2 ')
      .points.map(({ timeUs }) => timeUs),
    [Number.NaN, Number.NaN],
  )
})

test('comments, blank lines, indents and CR LF are no trouble', () => {
  const text = '# comment\r\n\r\n  \t\n  m v=1 1000\r\nm  v=2   2000  \r\n#end'
  const { points, troubles, counts } = reader().read(text)
  assert.deepEqual(
    points.map(({ value, timeUs }) => [value, timeUs]),
    [
      [1, 1],
      [2, 2],
    ],
  )
  assert.deepEqual(troubles, [])
  assert.equal(counts.lines, 2)
})

test('bad lines are named by line, column and reason; good ones around them are kept', () => {
  const text = ['m v=1 1', 'm', 'm v= 1', 'm,a v=1', '', 'm v=abc', 'm v=1 soon', 'm v=2 2'].join(
    '\n',
  )
  const { points, troubles, counts } = reader().read(text)
  assert.deepEqual(
    points.map(({ value }) => value),
    [1, 2],
  )
  assert.deepEqual(
    troubles.map(({ line, column, reason }) => [line, column, reason]),
    [
      [2, 1, 'malformed'],
      [3, 5, 'malformed'],
      [4, 3, 'malformed'],
      [6, 5, 'malformed'],
      [7, 7, 'malformed'],
    ],
  )
  assert.deepEqual(
    troubles.map(({ sample }) => Buffer.from(sample).toString().trim()),
    [...['m', 'm v= 1', 'm,a v=1', 'm v=abc', 'm v=1 soon']],
  )
  assert.deepEqual(counts, { lines: 7, malformed: 5, refused: 0 })
  for (const bad of [
    ',a=b v=1',
    'm,=b v=1',
    'm,a=b=c v=1',
    'm v',
    'm =1',
    'm v=1,',
    'm v="x',
    'm v="x"y',
    'm v=1.2.3',
    'm v=1ix',
    'm v=1e',
    'm v=--1',
    'm v=1 1 1',
    'm v=1\rx',
  ]) {
    assert.equal(troubleOf(bad)?.reason, 'malformed', bad)
  }
})

test('a bad line loses all its points, also texts, and nothing of it leaks into the next', () => {
  const { points } = reader().read('m a="lost",b=t,c=5i,d=\nm e=t,f="kept",g=-3i 1000')
  assert.deepEqual(
    points.map(({ name, value }) => [name, value]),
    [
      ['m.e', true],
      ['m.f', 'kept'],
      ['m.g', -3n],
    ],
  )
})

test('the inside of a string in a bad line is never read as a line', () => {
  const { points, counts } = reader().read('m x=oops,s="a\nforged v=1 1000\n" 1\nm v=2 1000')
  assert.deepEqual(
    points.map(({ name }) => name),
    ['m.v'],
  )
  assert.equal(counts.malformed, 1)
})

test('a refused value loses its point only, with the reason', () => {
  const cases: [string, RegExp][] = [
    ['9223372036854775808u', /2\^63/],
    ['18446744073709551615u', /2\^63/],
    ['18446744073709551616u', /64 bits/],
    ['9223372036854775808i', /64 bits/],
    ['-1u', /minus/],
    ['NaN', /no value/],
    ['-inf', /no value/],
    ['1e400', /float64/],
    ['"a\0b"', /NUL/],
  ]
  for (const [value, why] of cases) {
    const { points, troubles, counts } = reader().read(`m a=1,b=${value},c=3 1000`)
    assert.deepEqual(
      points.map(({ name, timeUs }) => [name, timeUs]),
      [
        ['m.a', 1],
        ['m.c', 1],
      ],
      value,
    )
    assert.match(troubles[0]?.text ?? '', why)
    assert.deepEqual(counts, { lines: 1, malformed: 0, refused: 1 })
  }
  const surrogate = Buffer.from('m a="x\xed\xa0\x80",b=1', 'latin1')
  assert.match(troubleOf(surrogate)?.text ?? '', /UTF-8/)
  assert.equal(reader().read(surrogate).points.length, 1)
  assert.match(troubleOf(Buffer.from('m,t=\xed\xa0\x80 a=1', 'latin1'))?.text ?? '', /UTF-8/)
  assert.match(troubleOf('m\0 a=1')?.text ?? '', /NUL/)
  assert.match(troubleOf('m,a=1,a=2 v=1')?.text ?? '', /twice/)
  assert.match(troubleOf(`m v="${'x'.repeat(65_537)}"`)?.text ?? '', /65536 bytes/)
})

test('beyond the cap of series new ones are refused and known ones go on', () => {
  const { read } = reader(2)
  const { points, counts } = read('m a=1,b=2,c=3 1000\nm c=4,a=5 2000')
  assert.deepEqual(
    points.map(({ value }) => value),
    [1, 2, 5],
  )
  assert.equal(counts.refused, 2)
})

test('a series table that breaks is not taken for bad input', () => {
  const parser = createLineParser({
    ref: () => {
      throw new TypeError('broken')
    },
  })
  assert.throws(() => parser.read(Buffer.from('m v=1'), 'ns').next(10), /broken/)
  const refusing = createLineParser({
    ref: () => {
      throw new Failure('HF-I001', 'full')
    },
  })
  assert.equal(refusing.read(Buffer.from('m v=1'), 'ns').next(10).count, 0)
})

test('parts end between lines and together are the whole', () => {
  const text = Array.from(
    { length: 50 },
    (_, at) => `m,t=${at % 7} a=${at},b="${at}" ${at}000`,
  ).join('\n')
  const whole = reader().read(text)
  const parts = reader().read(text, 'ns', 5)
  assert.deepEqual(parts.points, whole.points)
  assert.deepEqual(parts.sizes.slice(0, 3), [6, 6, 6])
})

test('troubles are bounded, counts are not', () => {
  const { troubles, counts } = reader().read('bad\n'.repeat(1_000))
  assert.equal(troubles.length, 100)
  assert.equal(counts.malformed, 1_000)
})

test('names divide into measurement and field again, whatever dots they hold', () => {
  fc.assert(
    fc.property(fc.string({ minLength: 1 }), fc.string({ minLength: 1 }), (measurement, field) => {
      const parts = splitSeriesName(seriesNameOf(measurement, field))
      assert.deepEqual(parts, { measurement, field })
    }),
  )
  const tricky = fc.stringMatching(/^[%25E.]{1,8}$/)
  fc.assert(
    fc.property(tricky, tricky, (measurement, field) => {
      const parts = splitSeriesName(seriesNameOf(measurement, field))
      assert.deepEqual(parts, { measurement, field })
    }),
  )
  assert.equal(seriesNameOf('cpu', 'usage_idle'), 'cpu.usage_idle')
  assert.deepEqual(splitSeriesName('temperature'), { measurement: 'temperature', field: 'value' })
})

const name = fc.oneof(fc.string({ minLength: 1 }), fc.stringMatching(/^[a,= \\"#.é]{1,5}$/))
test('what the writer writes the reader reads back, value by value', () => {
  const value = fc.oneof(
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    fc.boolean(),
    fc.string().filter((text) => !text.includes('\0')),
  )
  const clean = name.filter((text) => !text.includes('\0') && text.isWellFormed())
  const { read } = reader()
  let written = 0
  fc.assert(
    fc.property(
      clean,
      fc.uniqueArray(fc.tuple(clean, clean), { selector: ([key]) => key, maxLength: 3 }),
      fc.array(fc.tuple(clean, value), { minLength: 1, maxLength: 3 }),
      fc.integer({ min: -(10 ** 12), max: 10 ** 15 }),
      (measurement, tags, fields, timeUs) => {
        const line = writeLine({ measurement, tags, fields, timeUs })
        const sayable = [measurement, ...tags.flat(), ...fields.map(([key]) => key)].every(
          (text) => !text.endsWith('\\') && !/[\r\n]/.test(text),
        )
        assert.equal(line !== undefined, sayable && !/^[#\t]/.test(measurement))
        if (line === undefined) return
        written++
        const { points, troubles } = read(`${line}\n`, 'us')
        assert.deepEqual(troubles, [])
        assert.deepEqual(
          points.map((point) => [point.name, point.value, point.timeUs]),
          fields.map(([field, said]) => [seriesNameOf(measurement, field), said, timeUs]),
        )
      },
    ),
    { numRuns: 500 },
  )
  assert.ok(written > 100)
  assert.equal(writeLine({ measurement: 'm', tags: [], fields: [['v', Number.NaN]] }), undefined)
  assert.equal(writeLine({ measurement: 'm', tags: [], fields: [] }), undefined)
})

test('the fast reader and the slow one agree on anything', () => {
  const { read, series } = reader()
  const piece = fc.oneof(
    fc.stringMatching(/^[a-c]{1,2}$/),
    fc.constantFrom(...',= "\\\n\r#\t.'),
    fc.constantFrom(
      '=1',
      '=1.5',
      '=-2i',
      '=t',
      '="x"',
      '="a\nb"',
      ' 1000',
      ' 12345',
      '\nm a=1 5000\n',
    ),
    fc.constantFrom('1e5', '5u', 'NaN', 'm,a=b c=1,d="e" 7000\n', '\\"', '\\\\', 'é', '\0', '\xff'),
    fc.constantFrom(
      'm,a=b c=1',
      'm a=2,b=3',
      'm a="\xff",z=3',
      '9223372036854775808i',
      '0.30000000000000004',
    ),
  )
  const body = fc.array(piece, { maxLength: 24 }).map((all) => Buffer.from(all.join(''), 'latin1'))
  const precision = fc.constantFrom<LinePrecision>('ns', 'us', 'ms', 's', 'm', 'h')
  const seen = { points: 0, malformed: 0, refused: 0 }
  fc.assert(
    fc.property(body, precision, (bytes, unit) => {
      const fast = read(bytes, unit)
      const slow = readSlowly(bytes, unit)
      const expected = slow.points.map(({ measurement, field, tags, value, timeUs }) => {
        const ref = series.ref(seriesNameOf(measurement, field), tags)
        const entry = series.entry(ref)
        return { name: entry.name, tags: entry.tags, value, timeUs }
      })
      assert.deepEqual(fast.points, expected)
      assert.equal(fast.counts.malformed, slow.malformed.length)
      assert.equal(fast.counts.refused, slow.refused.length)
      const linesOf = (reason: string) =>
        fast.troubles.filter((trouble) => trouble.reason === reason).map(({ line }) => line)
      assert.deepEqual(linesOf('malformed'), slow.malformed)
      assert.deepEqual(linesOf('refused'), slow.refused)
      seen.points += expected.length
      seen.malformed += slow.malformed.length
      seen.refused += slow.refused.length
    }),
    { numRuns: 6_000 },
  )
  assert.ok(
    seen.points > 1_000 && seen.malformed > 1_000 && seen.refused > 100,
    JSON.stringify(seen),
  )
})
