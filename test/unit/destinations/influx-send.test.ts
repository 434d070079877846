/** Cutting batches into requests, finding refused lines, and what is left out: against a server given as a function. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { influxDestination } from '../../../src/destinations/influx.ts'
import { influxDialects } from '../../../src/destinations/influx-dialects.ts'
import type { InfluxReading } from '../../../src/destinations/influx-outcome.ts'
import { createInfluxSender } from '../../../src/destinations/influx-send.ts'
import { createSystemHost, type Host, type LogFields, silentLog } from '../../../src/host.ts'
import { createTestLog, type LogPoint } from '../../contract/destination-log.ts'

const signal = new AbortController().signal
const stored = { kind: 'stored', rejected: [] }
const taken: InfluxReading = { kind: 'taken' }
const bytesOf = (lines: readonly string[]) => lines.reduce((sum, one) => sum + one.length + 1, 0)
const points = (count: number, name = 'm.v', from = 0): LogPoint[] =>
  Array.from({ length: count }, (_, at) => ({ name, timeUs: from + at, value: from + at }))

const setUp = (
  answer: (lines: readonly string[]) => InfluxReading,
  bytesMax = 1 << 20,
  change: Partial<Host> = {},
) => {
  const log = createTestLog('gw-7')
  const told: LogFields[] = []
  const loud = {
    ...silentLog,
    error: (_: string, fields: LogFields = {}) => void told.push(fields),
  }
  const host: Host = { ...createSystemHost({ log: loud }), ...change }
  const requests: (readonly string[])[] = []
  const send = createInfluxSender({
    deps: { name: 'influx', agent: 'gw-7', spool: log.spool, host },
    dialect: influxDialects.influxdb2,
    place: { table: 'points', agentTag: 'agent' },
    bytesMax,
    endpoint: 'x',
    post: async (lines) => {
      requests.push(lines)
      return answer(lines)
    },
  })
  return { log, send, requests, told }
}

test('names, values and microseconds as line protocol writes them', async () => {
  const { log, send, requests } = setUp(() => taken)
  const timeUs = 1_700_000_000_000_001
  const item = log.add([
    { name: 'line 1.temp', timeUs, value: 21.5 },
    { name: 'line 1.a%2Eb', timeUs, value: 7n },
    { name: 'lonely', timeUs, value: true },
    { name: 'line 1.text', timeUs, value: 'a "b"' },
  ])
  assert.deepEqual(await send(log.batch([item]), signal), stored)
  assert.deepEqual(requests, [
    [
      `line\\ 1,agent=gw-7,plant=north temp=21.5 ${timeUs}`,
      `line\\ 1,agent=gw-7,plant=north a.b=7i ${timeUs}`,
      `lonely,agent=gw-7,plant=north value=t ${timeUs}`,
      `line\\ 1,agent=gw-7,plant=north text="a \\"b\\"" ${timeUs}`,
    ],
  ])
})
test('what line protocol cannot say is lost, told here once and there each time with the same line', async () => {
  const { log, send, requests, told } = setUp(() => taken)
  const odd = [
    { name: 'm.v', timeUs: 1, value: Number.NaN },
    { name: 'm.v', timeUs: 2, value: Number.POSITIVE_INFINITY },
    { name: 'bad\nname.v', timeUs: 3, value: 1 },
    { name: 'm.v', timeUs: 4, value: 2 },
  ]
  const item = log.add(odd)
  const outcome = await send(log.batch([item]), signal)
  const loss = { seq: 1, reason: 'rejected', count: 3, source: '', timeUsMin: 1, timeUsMax: 3 }
  const refused = [
    { why: 'value', text: 'NaN is no number it holds', at: [0] },
    { why: 'value', text: 'Infinity is no number it holds', at: [1] },
    { why: 'name', text: 'line protocol cannot say the name "bad\\nname.v" or its tags', at: [3] },
  ]
  assert.deepEqual(outcome, { ...stored, lost: [{ ...loss, refused }] })
  const fields = `count=3i,seq=1i,seq_last=1i,from_us=1i,to_us=3i,epoch="${item.epoch}"`
  const sent = [
    ['m,agent=gw-7,plant=north v=2 4'],
    [`holdfast_gaps,agent=gw-7,lane=raw,reason=rejected ${fields} 2`],
  ]
  assert.deepEqual(requests, sent)
  await send(log.batch([item]), signal)
  assert.deepEqual(requests, [...sent, ...sent])
  assert.deepEqual(
    told.map(({ reason, count }) => [reason, count]),
    [
      ['value', 2],
      ['name', 1],
    ],
  )
})
test('a tombstone and a segment of nothing but NaN are a line each, one series by its name', async () => {
  const { log, send, requests } = setUp(() => taken)
  const items = [log.addGap({ count: 3 }), log.add([{ name: 'm.v', timeUs: 1, value: Number.NaN }])]
  const outcome = await send(log.batch(items), signal)
  assert.ok(outcome.kind === 'stored')
  assert.deepEqual(
    outcome.lost?.map(({ seq, count, source }) => [seq, count, source]),
    [[2, 1, 'm.v']],
  )
  assert.deepEqual(
    requests.flat().map((line) => /reason=(\w+) count=(\d+)i.* (?:\d+)$/.exec(line)?.slice(1)),
    [
      ['quota', '3'],
      ['rejected', '1'],
    ],
  )
})
test('gap records that the server refuses hold nothing up', async () => {
  const { log, send, requests } = setUp((lines) =>
    lines[0]?.startsWith('holdfast_gaps') === true ? { kind: 'suspect', text: 'no' } : taken,
  )
  const outcome = await send(log.batch([log.addGap({ count: 3 }), log.add(points(1))]), signal)
  assert.deepEqual(outcome, stored)
  assert.equal(requests.length, 2)
})
test('a gap record of a time that the server no longer keeps is told as of now, the others as they are', async () => {
  const nowUs = 5_000_000_000_000_000
  const { clock } = createSystemHost()
  const old = (line: string) => Number(line.split(' ').at(-1)) < nowUs / 2
  const { log, send, requests } = setUp(
    (lines) => {
      const tooOld = lines.filter(old).length
      const all: InfluxReading = { kind: 'too-old', text: 'old' }
      return tooOld === 0
        ? taken
        : tooOld === lines.length
          ? all
          : { ...all, kind: 'suspect', tooOld }
    },
    1 << 20,
    { clock: { ...clock, nowUs: () => nowUs } },
  )
  const nan = (timeUs: number) => log.add([{ name: 'm.v', timeUs, value: Number.NaN }])
  await send(log.batch([nan(1_000), nan(nowUs - 7)]), signal)
  const [first = '', second = ''] = requests[0] as string[]
  const asOfNow = first.replace(/ \d+$/, ` ${nowUs + 1}`)
  assert.deepEqual(requests.slice(1), [[first], [asOfNow], [second]])
  assert.match(asOfNow, /from_us=1000i/)
})
test('points of which the server calls so many too old: the others together, then the oldest', async () => {
  const { log, send, requests } = setUp((lines) => {
    const tooOld = lines.filter((line) => Number(line.split(' ').at(-1)) < 30).length
    if (tooOld === 0) return taken
    const all: InfluxReading = { kind: 'too-old', text: 'old' }
    return tooOld === lines.length ? all : { ...all, kind: 'suspect', tooOld }
  })
  const mixed = points(100).toSorted((a, b) => (a.timeUs % 7) - (b.timeUs % 7))
  const outcome = await send(log.batch([log.add(mixed)]), signal)
  assert.ok(outcome.kind === 'stored')
  assert.equal(outcome.lost?.[0]?.count, 30)
  assert.deepEqual(
    requests.map((lines) => lines.length),
    [100, 70, 30, 1],
  )
})
test('segments of several epochs use their own dictionaries', async () => {
  const { log, send, requests } = setUp(() => taken)
  const first = log.add(points(1, 'old.v'))
  const later = log.restart()
  const second = later.add(points(1, 'new.v'))
  await send(log.batch([first, second]), signal)
  assert.deepEqual(requests, [
    ['old,agent=gw-7,plant=north v=0 0', 'new,agent=gw-7,plant=north v=0 0'],
  ])
})
test('bytes that are damaged are rejected by their seq', async () => {
  const { log, send } = setUp(() => taken)
  const [good, bad] = [log.add(points(2)), log.add(points(2))]
  assert.ok(bad.type === 'segment')
  const bytes = Uint8Array.from(bad.bytes)
  bytes[bytes.length - 1] = (bytes.at(-1) as number) ^ 1
  const outcome = await send(log.batch([good, { ...bad, bytes }]), signal)
  assert.ok(outcome.kind === 'stored')
  assert.deepEqual(
    outcome.rejected.map(({ seq }) => seq),
    [2],
  )
})
test('too big: several segments become fewer, the lines of one are cut', async () => {
  const { log, send, requests } = setUp((lines) =>
    bytesOf(lines) > 500 ? { kind: 'too-big', text: '413' } : taken,
  )
  const [one, two] = [log.add(points(100)), log.add(points(100, 'm.v', 100))]
  assert.equal((await send(log.batch([one, two]), signal)).kind, 'smaller')
  for (const item of [one, two])
    assert.equal((await send(log.batch([item]), signal)).kind, 'stored')
  const written = requests.filter((lines) => bytesOf(lines) <= 500).flat()
  assert.equal(new Set(written).size, 200)
})
const refusedLines = fc.uniqueArray(fc.nat(399), { maxLength: 20 })
test('whichever lines are refused, and whichever are blamed: the others are written, those are counted', async () => {
  await fc.assert(
    fc.asyncProperty(
      refusedLines,
      fc.constantFrom('none', 'right', 'wrong'),
      async (bad, blames) => {
        const refused = new Set(bad.map((at) => `m,agent=gw-7,plant=north v=${at} ${at}`))
        const written = new Set<string>()
        const { log, send, told } = setUp((lines) => {
          if (lines[0]?.startsWith('holdfast_gaps') === true) return taken
          const wrong = lines.flatMap((line, at) => (refused.has(line) ? [at] : []))
          if (wrong.length > 0) {
            const blamed = { none: [], right: wrong, wrong: [0, lines.length - 1, 7, 999] }[blames]
            return { kind: 'suspect', text: 'conflict', lines: blamed }
          }
          for (const line of lines) written.add(line)
          return taken
        })
        // A point of another segment that is taken shows that the server is not what is wrong.
        const items = [log.add(points(1, 'fine.v')), log.add(points(400))]
        const outcome = await send(log.batch(items), signal)
        if (outcome.kind === 'blocked') return assert.ok(bad.length > 10 && written.size === 0)
        assert.ok(outcome.kind === 'stored')
        assert.equal(written.size, 401 - bad.length)
        const loss = { seq: 2, reason: 'rejected', count: bad.length, source: 'm.v' }
        const times = { timeUsMin: Math.min(...bad), timeUsMax: Math.max(...bad) }
        const at = [...bad].sort((one, other) => one - other)
        const named = [{ why: 'refused', text: 'conflict', at }]
        const lost = [{ ...loss, ...times, refused: named }]
        assert.deepEqual(outcome.lost ?? [], bad.length === 0 ? [] : lost)
        assert.equal(told[0]?.count, bad.length === 0 ? undefined : bad.length)
      },
    ),
    { numRuns: 50 },
  )
})
test('a series of another type there costs a few searches, not a pause; it is asked again in time', async () => {
  let nowMs = 0
  const bad = (line: string) => line.startsWith('word,')
  const { log, send, requests } = setUp(
    (lines) => (lines.some(bad) ? { kind: 'suspect', text: 'field type conflict' } : taken),
    1 << 20,
    { clock: { ...createSystemHost().clock, monotonicMs: () => nowMs } },
  )
  const mixed = (from: number) =>
    log.add(
      points(5_000, 'm.v', from).map((one, at) =>
        at % 4 === 3 ? { ...one, name: 'word.v' } : one,
      ),
    )
  const lostOf = async (from: number) => {
    requests.length = 0
    const outcome = await send(log.batch([mixed(from)]), signal)
    assert.ok(outcome.kind === 'stored', JSON.stringify(outcome))
    const asked = requests.flat().filter(bad).length
    return { lost: outcome.lost?.[0]?.count, requests: requests.length, asked: asked > 0 }
  }
  const first = await lostOf(0)
  assert.equal(first.lost, 1_250)
  assert.ok(first.requests < 100, `${first.requests} requests`)
  // The lines, and the gap record.
  assert.deepEqual(await lostOf(5_000), { lost: 1_250, requests: 2, asked: false })
  nowMs += 300_000
  const again = await lostOf(10_000)
  assert.deepEqual([again.lost, again.asked], [1_250, true])
  assert.equal((await lostOf(15_000)).asked, false)
})
test('a server that refuses everything is asked a few times, and is blocked; nothing is told as lost', async () => {
  const { log, send, requests, told } = setUp(() => ({ kind: 'suspect', text: 'conflict' }))
  const outcome = await send(log.batch([log.add(points(10_000))]), signal)
  assert.ok(outcome.kind === 'blocked' && outcome.code === 'HF-F122')
  assert.ok(requests.length < 50, `${requests.length} requests`)
  assert.deepEqual(told, [])
})
test('trouble in the middle ends the send; again sends all of it', async () => {
  let calls = 0
  const { log, send, requests } = setUp(
    () => (++calls === 2 ? { kind: 'setback', setback: { kind: 'later', text: 'gone' } } : taken),
    1_024,
  )
  const batch = log.batch([log.add(points(200))])
  assert.equal((await send(batch, signal)).kind, 'later')
  requests.length = 0
  assert.equal((await send(batch, signal)).kind, 'stored')
  assert.equal(requests.flat().length, 200)
})

test('what the configuration takes and refuses', () => {
  const good = {
    type: 'influx',
    dialect: 'influxdb1',
    url: 'https://db.example:8086',
    database: 'd',
  }
  const v2 = {
    ...good,
    dialect: 'influxdb2',
    database: undefined,
    org: 'o',
    bucket: 'b',
    token: 't',
  }
  const takes = (config: object) => influxDestination.config.safeParse(config).success
  assert.ok(takes(good))
  assert.ok(takes(v2))
  for (const url of ['http://127.0.0.1:8086', 'http://localhost:8086', 'http://[::1]:8086'])
    assert.ok(takes({ ...good, url }), url)
  for (const url of ['http://db.example', 'http://127.example', 'https://u:p@db.example', 'x'])
    assert.ok(!takes({ ...good, url }), url)
  assert.ok(!takes({ ...good, database: undefined }))
  assert.ok(!takes({ ...good, username: 'u' }))
  assert.ok(!takes({ ...good, token: 't' }))
  assert.ok(!takes({ ...v2, token: undefined }))
  assert.ok(!takes({ ...good, tls: { verify: false } }))
})
