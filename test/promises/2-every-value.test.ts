/** "Bit for bit": every kind and the awkward values of each, through every door, on both databases. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { connectAsync } from 'mqtt'
import { because, quality, type Value } from '../../src/model.ts'
import { databaseKinds, openDatabase } from '../support/databases.ts'
import { postPatiently } from '../support/publisher.ts'
import { startMosquitto } from '../support/servers.ts'
import { createSite } from '../support/site.ts'
import { exact, type JournalPoint, seriesText, verdictOf } from './checker.ts'

const some = <T>(of: fc.Arbitrary<T>, count: number): T[] =>
  fc.sample(of, { numRuns: count, seed: 2 })
const longest = 64 * 1024
const values: Readonly<Record<'float' | 'int' | 'bool' | 'string', readonly Value[]>> = {
  float: [
    ...[0, -0, 1e308, -1e308, Number.MAX_VALUE, -Number.MAX_VALUE, Number.MIN_VALUE, -5e-324],
    ...[
      2.2250738585072014e-308,
      2.225073858507201e-308,
      4e-320,
      0.1 + 0.2,
      1 / 3,
      1e23,
      9e15 + 0.5,
    ],
    ...[2 ** 53, 2 ** 53 + 2, -(2 ** 63), 1.7976931348623155e308, 123456789012345.67, 1e-7, 1e21],
    ...some(fc.double({ noNaN: true, noDefaultInfinity: true }), 600),
  ],
  int: [
    ...[-(2n ** 63n), 2n ** 63n - 1n, 2n ** 53n + 1n, -(2n ** 53n) - 1n, 2n ** 53n, 0n, 1n, -1n],
    ...some(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), 300),
  ],
  bool: [true, false],
  string: [
    ...[
      '',
      ' ',
      'plain',
      '"',
      '\\',
      '\\"',
      'a\\\\b',
      'two\nlines',
      '\r\n\t',
      "it's",
      '😀',
      '\u{10ffff}',
    ],
    ...[
      'ä',
      'a\u0308',
      'שלום',
      '\ufeff\uffff\ufffe',
      '\u2028\u2029',
      '\u0001\u001f\u007f',
      '=,# {}',
      '-0',
    ],
    ...['NaN', '1i', 'null', 'x'.repeat(longest), 'ß'.repeat(longest / 2), '€'.repeat(21_000)],
    ...some(fc.string({ unit: 'binary', maxLength: 40 }), 300).filter((one) => !one.includes('\0')),
  ],
}
type TypeName = keyof typeof values
const types = Object.keys(values) as TypeName[]
const number = (value: Value) => (Object.is(value, -0) ? '-0' : String(value))
const inJson = (value: Value) => (typeof value === 'string' ? JSON.stringify(value) : number(value))
const inLine = (value: Value) => {
  if (typeof value === 'string') return `"${value.replace(/["\\]/g, '\\$&')}"`
  return typeof value === 'bigint' ? `${value}i` : number(value)
}

const startUs = 1_800_000_000_000_000
const timeOf = (at: number) => startUs + at * 7
const tags = { 'Ort, süd=1': '温度 "x\\y"' }
const escaped = (text: string) => text.replace(/[ ,=]/g, '\\$&')

/** One body for each kind, and what it says. */
interface Letter {
  readonly body: string
  readonly points: readonly JournalPoint[]
}
const said = (series: string, entries: readonly (readonly [number, Value, number?])[]) =>
  entries.map(([timeUs, value, rated]) => ({ ...exact(series, timeUs, value, rated), acked: true }))

const lineLetters = (measurement: string): Letter[] =>
  types.map((type) => {
    const entries = values[type].map((value, at) => [timeOf(at), value] as const)
    // An equals sign needs no escape here, and a backslash before it would be one more character.
    const head = measurement.replace(/[ ,]/g, '\\$&')
    const tagged = Object.entries(tags).map(([tag, text]) => `${escaped(tag)}=${escaped(text)}`)
    const lines = entries.map(
      ([timeUs, value]) => `${head},${tagged} ${escaped(type)}=${inLine(value)} ${timeUs}`,
    )
    return {
      body: lines.join('\n'),
      points: said(seriesText(`${measurement}.${type}`, tags), entries),
    }
  })

const jsonLetters = (): Letter[] =>
  types.map((type) => {
    const name = `JSON 温度/${type}`
    const entries: (readonly [number, Value, number])[] = values[type].map(
      (value, at) => [timeOf(at), value, at % 3] as const,
    )
    const items = entries.map(
      ([timeUs, value, rated]) =>
        `{"series":${JSON.stringify(name)},"tags":${JSON.stringify(tags)},"type":"${type}",` +
        `"time":${timeUs},"value":${inJson(value)},"quality":${rated}}`,
    )
    if (type === 'float') {
      // JSON has no word for these; and what is no number is bad, whatever its sender thinks.
      const spelled = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
      for (const [at, value] of spelled.entries()) {
        const timeUs = timeOf(values.float.length + at)
        entries.push([timeUs, value, quality.bad | because.notANumber])
        items.push(
          `{"series":${JSON.stringify(name)},"tags":${JSON.stringify(tags)},"type":"float","time":${timeUs},"value":"${value}"}`,
        )
      }
    }
    return { body: `[${items.join()}]`, points: said(seriesText(name, tags), entries) }
  })

const mqttLetters = (): Letter[] =>
  types.map((type) => {
    const entries = values[type].map((value, at) => [timeOf(at), value] as const)
    const items = entries.map(([timeUs, value]) => `{"at":${timeUs},"${type}":${inJson(value)}}`)
    return { body: `[${items.join()}]`, points: said(seriesText(`mqtt.α β.${type}`), entries) }
  })

/** Times at the ends of what a point may have, and finer than a microsecond; each with what the region must hold. */
const edges: readonly (readonly [string, number])[] = [
  ['0', 0],
  ['999', 0],
  ['1000', 1],
  ['9007199254740991999', Number.MAX_SAFE_INTEGER],
  ['1800000000123456789', 1_800_000_000_123_456],
]
const timeLetter = (): Letter => ({
  body: edges.map(([ns], at) => `edges v=${at}i ${ns}`).join('\n'),
  points: said(
    seriesText('edges.v'),
    edges.map(([, timeUs], at) => [timeUs, BigInt(at)] as const),
  ),
})

/** What no door takes: each costs its own point, which leaves a gap record, and not the good one beside it. */
const refused: readonly (readonly [path: string, bad: string])[] = [
  ['/write?precision=us', `bad v=${2n ** 63n}u 1`],
  ['/write?precision=us', `bad v=${2n ** 63n}i 1`],
  ['/write?precision=us', 'bad v=NaN 1'],
  ['/write?precision=us', `bad v="${'x'.repeat(longest + 1)}" 1`],
  ['/api/v1/points?precision=us', '{"series":"bad","time":1,"value":"a\\u0000b"}'],
  ['/api/v1/points?precision=us', '{"series":"bad","time":1,"value":"a\\ud800b"}'],
  ['/api/v1/points?precision=us', `{"series":"bad","time":1,"value":${2n ** 63n},"type":"int"}`],
]

for (const kind of databaseKinds) {
  test(`every kind of value, through every door, into ${kind}`, async () => {
    const database = await openDatabase(kind)
    const broker = await startMosquitto({ quiet: true })
    const site = await createSite({
      ...database.site,
      sources: [
        {
          name: 'plant',
          type: 'mqtt',
          url: broker.url,
          subscribe: [
            {
              topic: 'mqtt/+',
              fields: { float: 'float', int: 'int', bool: 'bool', string: 'string' },
              ...{ time: 'at', time_unit: 'us' },
            },
          ],
        },
      ],
    })
    const regional = await site.startRegional()
    const agent = await site.startAgent()
    await agent.says('"connected"')
    const journal: JournalPoint[] = []
    const sent = async (letters: readonly Letter[], send: (body: string) => Promise<unknown>) => {
      for (const { body, points } of letters) {
        await send(body)
        journal.push(...points)
      }
    }
    const to = (path: string) => async (body: string) =>
      assert.equal(await postPatiently(site.door + path, body), 204)
    await sent(lineLetters('Wärme, v1='), to('/write?precision=us'))
    await sent(lineLetters('v2 温度'), to('/api/v2/write?precision=us'))
    await sent([timeLetter()], to('/api/v2/write?precision=ns'))
    await sent(jsonLetters(), to('/api/v1/points?precision=us'))
    const publisher = await connectAsync(broker.url, { reconnectPeriod: 0 })
    await sent(mqttLetters(), (body) => publisher.publishAsync('mqtt/α β', body, { qos: 1 }))
    await publisher.publishAsync('mqtt/α β', '{"at":1,"string":"a\\u0000b"}', { qos: 1 })
    await publisher.endAsync()
    for (const [at, [path, bad]] of refused.entries()) {
      const good = path.startsWith('/write')
        ? `beside v=${at} ${timeOf(at)}`
        : `{"series":"beside.v","time":${timeOf(at)},"value":${at}}`
      const body = path.startsWith('/write') ? `${bad}\n${good}` : `[${bad},${good}]`
      assert.equal(await postPatiently(site.door + path, body), 400, bad)
      journal.push(...said(seriesText('beside.v'), [[timeOf(at), at]]))
    }
    const losses = refused.length + 1
    await site.drained(60, journal.length + losses)
    await agent.stop()
    await regional.stop()
    await broker.stop()
    const verdict = () =>
      site.withReadBack((back, delivered) =>
        verdictOf({
          ...{ back, agent: site.name, journal: [journal], delivered },
          losses: { acked: losses, unsure: 0 },
        }),
      )
    const good = await verdict()
    assert.deepEqual(good.reasons, [])
    assert.equal(good.accepted, journal.length + losses)
    assert.equal(good.declared_lost, losses)
    if (database.site.database) {
      // The verdict must be able to go red: a bit turned, a row gone, a row written again.
      const { sql } = database.site.database.postgres
      const one = (kind: number) =>
        `(series_id, time) = (select series_id, time from points where kind = ${kind} order by 1, 2 limit 1)`
      sql(`update points set value_int = value_int # 1 where ${one(1)}`)
      assert.equal((await verdict()).altered, 1)
      sql(`update points set value_int = value_int # 1 where ${one(1)}`)
      const again = await verdict()
      assert.ok(again.altered === 0 && again.duplicates > 0)
      sql(`delete from points where ${one(3)}`)
      assert.equal((await verdict()).missing, 1)
    }
    await database.stop()
  })
}
