/**
 * What is written to each product and how its answers are read, where no real server is at hand. Each answer names the
 * vendor's file it is taken from.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { influxDestination } from '../../../src/destinations/influx.ts'
import {
  type InfluxDialectName,
  influxDialectNames,
  influxDialects,
} from '../../../src/destinations/influx-dialects.ts'
import { readInfluxReply } from '../../../src/destinations/influx-outcome.ts'
import { influxPlan, questdbReady, type Ready } from '../../../src/destinations/influx-plan.ts'
import { createInfluxSender } from '../../../src/destinations/influx-send.ts'
import { createSystemHost } from '../../../src/host.ts'
import type { Value } from '../../../src/model.ts'
import { createTestLog } from '../../contract/destination-log.ts'

const read = (dialect: InfluxDialectName, status: number, body: string): string => {
  const said = readInfluxReply(
    { status, headers: {}, body: Buffer.from(body) },
    10,
    0,
    influxDialects[dialect].read,
  )
  if (said.kind !== 'setback') return said.kind
  return said.setback.kind === 'blocked' ? said.setback.code : said.setback.kind
}
const influx3Partial =
  '{"error":"partial write of line protocol occurred","data":[{"original_line":"m v=1","line_number":2,"error_message":"invalid column type"}]}'
const answers: readonly (readonly [InfluxDialectName, number, string, string])[] = [
  // influxdata/influxdb main: influxdb3_server/src/http.rs, influxdb3_types/src/write.rs
  ['influxdb3', 204, '', 'taken'],
  ['influxdb3', 400, influx3Partial, 'suspect'],
  ['influxdb3', 401, '{"error":"the request was not authenticated"}', 'HF-F120'],
  ['influxdb3', 413, '{"error":"request too large"}', 'too-big'],
  ['influxdb3', 422, '{"error":"Update to schema would exceed number of columns"}', 'HF-F122'],
  ['influxdb3', 429, '{"error":"write buffer full"}', 'later'],
  ['influxdb3', 500, '{"error":"wal error"}', 'later'],
  // taosdata/taosadapter: plugin/influxdb/plugin.go; numbers: taosdata/TDengine taoserror.h
  ['tdengine', 204, '', 'taken'],
  [
    'tdengine',
    500,
    '{"code":"internal error","message":"[0x3002] Invalid data format"}',
    'suspect',
  ],
  ['tdengine', 500, '{"code":"internal error","message":"[0x80003002] Invalid data"}', 'suspect'],
  ['tdengine', 500, '{"code":"internal error","message":"[0x388] Database not exist"}', 'HF-F121'],
  ['tdengine', 500, '{"message":"[0x60b] Timestamp data out of range"}', 'out-of-keep'],
  ['tdengine', 500, '{"message":"[0x263e] Row length exceeds max length"}', 'HF-F122'],
  ['tdengine', 500, '{"message":"[0x203] smlParseValue error:x"}', 'suspect'],
  // GreptimeTeam/greptimedb: src/operator/src/error.rs
  ['greptimedb', 400, '{"error":"Failed to find schema, schema info: greptime.x"}', 'HF-F121'],
  [
    'tdengine',
    500,
    '{"code":"internal error","message":"[0x357] Authentication failure"}',
    'HF-F120',
  ],
  ['tdengine', 500, '{"code":"internal error","message":"[0xb] Unable to establish"}', 'later'],
  ['tdengine', 500, '{"code":"internal error","message":"timeout"}', 'later'],
  ['tdengine', 401, '{"code":"forbidden","message":"whitelist prohibits current IP"}', 'HF-F120'],
  ['tdengine', 503, '"memory exceeds threshold"', 'later'],
  // Recorded from QuestDB 9.3.4.
  [
    'questdb',
    400,
    '{"code":"invalid","message":"failed to parse line protocol","line":1}',
    'suspect',
  ],
  ['questdb', 500, '{"code":"internal error","message":"write error: pts"}', 'later'],
  // Only TDengine's 500 carries numbers that mean something.
  ['influxdb1', 500, '{"error":"[0x3002] of somebody else"}', 'later'],
]
for (const [dialect, status, body, meaning] of answers)
  test(`${dialect}: ${status} ${body.slice(0, 60)}: ${meaning}`, () =>
    assert.equal(read(dialect, status, body), meaning))

const written = async (
  dialect: InfluxDialectName,
  points: readonly (readonly [string, Value])[],
  stepUs = 1,
) => {
  const log = createTestLog('gw-7')
  const requests: string[] = []
  const send = createInfluxSender({
    deps: { name: 'influx', agent: 'gw-7', spool: log.spool, host: createSystemHost({}) },
    dialect: influxDialects[dialect],
    place: { table: 'points', agentTag: 'agent' },
    bytesMax: 1 << 20,
    endpoint: 'x',
    post: async (lines) => {
      requests.push(...lines)
      return { kind: 'taken' }
    },
  })
  const item = log.add(
    points.map(([name, value], at) => ({ name, value, timeUs: (at + 1) * stepUs })),
  )
  const outcome = await send(log.batch([item]), new AbortController().signal)
  assert.equal(outcome.kind, 'stored')
  const lost = outcome.kind === 'stored' ? (outcome.lost ?? []) : []
  return {
    lines: requests.filter((line) => !line.startsWith('holdfast_gaps')),
    lost: lost.reduce((sum, { count }) => sum + count, 0),
  }
}
const mixed: readonly (readonly [string, Value])[] = [
  ['line 1.temp', 21.5],
  ['line 1.temp', 7n],
  ['line 1.temp', true],
  ['line 1.temp', 'two\nlines'],
  ['line 1.temp', -(2n ** 63n)],
]
test('rows: one table, a column a kind, and what would become nothing is lost', async () => {
  const quest = await written('questdb', mixed)
  const head = /^points,series=line\\ 1\.temp,agent=gw-7,plant=north series_id=\d+i,(.*)$/s
  assert.deepEqual(
    quest.lines.map((line) => head.exec(line)?.[1]),
    ['value=21.5 1', 'value_int=7i 2', 'value_bool=t 3', 'value_text="two\\\nlines" 4'],
  )
  assert.equal(quest.lost, 1)
  const tdengine = await written('tdengine', mixed)
  assert.deepEqual(tdengine.lines, [
    'points,series=line\\ 1.temp,agent=gw-7,plant=north value=21.5 1',
    'points,series=line\\ 1.temp,agent=gw-7,plant=north value_int=7i 2',
    'points,series=line\\ 1.temp,agent=gw-7,plant=north value_bool=t 3',
  ])
  assert.equal(tdengine.lost, 2)
})
test('fields: as they are where the product holds them', async () => {
  for (const dialect of ['influxdb1', 'influxdb2', 'influxdb3', 'greptimedb'] as const) {
    // No table of GreptimeDB has a blank in its name.
    const named = dialect === 'greptimedb' ? 'line_1.temp' : 'line 1.temp'
    const { lines, lost } = await written(
      dialect,
      mixed.map(([, value]) => [named, value]),
    )
    assert.equal(lines.length, 5, dialect)
    assert.equal(lost, 0)
  }
  assert.equal((await written('victoriametrics', mixed, 1_000)).lost, 1)
})
test('each dialect asks for what it needs and refuses what means nothing to it', () => {
  const url = 'https://db.example'
  const takes = (config: object) =>
    influxDestination.config.safeParse({ type: 'influx', url, ...config }).success
  const good: Readonly<Record<InfluxDialectName, object>> = {
    influxdb1: { database: 'd', username: 'u', password: 'p' },
    influxdb2: { org: 'o', bucket: 'b', token: 't' },
    influxdb3: { database: 'd', token: 't' },
    victoriametrics: { token: 't' },
    questdb: { username: 'u', password: 'p', table: 'readings' },
    greptimedb: { database: 'd', username: 'u', password: 'p' },
    tdengine: { database: 'd', username: 'u', password: 'p' },
  }
  for (const dialect of influxDialectNames) {
    assert.ok(takes({ dialect, ...good[dialect] }), dialect)
    assert.ok(!takes({ dialect, ...good[dialect], bucket: 'b', table: 't' }), dialect)
    assert.notEqual(influxPlan(dialect, {}), '')
  }
  assert.ok(!takes({ dialect: 'tdengine', ...good.tdengine, database: undefined }))
  assert.ok(!takes({ dialect: 'influxdb3', database: 'd', username: 'u', password: 'p' }))
})
test('QuestDB is ready when both tables remove duplicates, and a portal is not QuestDB', () => {
  const { read: readTables } = questdbReady()
  const kindOf = (body: string, status = 200) =>
    readTables({ status, headers: {}, body: Buffer.from(body) }).kind
  const tables = (gaps: boolean) =>
    JSON.stringify({
      dataset: [
        ['points', true],
        ['holdfast_gaps', gaps],
      ],
    })
  assert.equal(kindOf(tables(true)), 'next')
  assert.equal(kindOf(tables(false)), 'blocked')
  assert.equal(kindOf('<html>'), 'later')
  assert.equal(kindOf('{}'), 'later')
  assert.equal(kindOf('', 401), 'blocked')
  assert.equal(kindOf('', 503), 'later')
  const { next } = readTables({ status: 200, headers: {}, body: Buffer.from(tables(true)) }) as {
    readonly next: Ready
  }
  assert.match(next.path, /table_columns/)
  const keys = (points: readonly string[], gaps = ['timestamp', 'agent', 'lane', 'reason']) => {
    const rows = [
      ...points.map((one) => ['points', one]),
      ...gaps.map((one) => ['holdfast_gaps', one]),
    ]
    return next.read({
      ...{ status: 200, headers: {} },
      body: Buffer.from(JSON.stringify({ dataset: rows })),
    }).kind
  }
  assert.equal(keys(['timestamp', 'series_id']), 'unknown')
  assert.equal(keys(['timestamp']), 'blocked')
  assert.equal(keys(['timestamp', 'series']), 'blocked')
  assert.equal(keys(['timestamp', 'series_id', 'value']), 'blocked')
  assert.equal(keys(['timestamp', 'series_id'], ['timestamp']), 'blocked')
  assert.equal(next.read({ status: 200, headers: {}, body: Buffer.from('<html>') }).kind, 'later')
})
