import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { laneOptions, spoolOptions, stagesConfig } from '../../../src/agent-spool.ts'
import { stagesOf } from '../../../src/agent-stages.ts'
import { createBatchBuilder } from '../../../src/batch.ts'
import { createArrivalClock } from '../../../src/cli/plan/clock.ts'
import { createRehearsal } from '../../../src/cli/plan/rehearse.ts'
import type { Plan } from '../../../src/cli/plan/report.ts'
import { storedBytes } from '../../../src/cli/plan/stored.ts'
import { encodeBlock, ndjsonLine, ndjsonPrefix } from '../../../src/codec/points-file.ts'
import { catalog } from '../../../src/config/catalog.ts'
import { loadConfig } from '../../../src/config/load.ts'
import type { Config } from '../../../src/config/schema.ts'
import { silentLog } from '../../../src/host.ts'
import type { PointBatch } from '../../../src/model.ts'
import { createSpoolIngest, createSpoolPort, type SpoolCalls } from '../../../src/spool/port.ts'
import { openSpool } from '../../../src/spool/spool.ts'
import {
  countingBytes,
  createTestClock,
  floats,
  newSeries,
  readAll,
  store,
} from '../spool/support.ts'
import { holdfast } from './process.ts'

const second = 1_000_000
const startUs = 1_700_000_001 * second

const folder = mkdtempSync(join(tmpdir(), 'holdfast-plan-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
const configOf = (classes: object, lanes: object = {}): Config => {
  const path = join(folder, 'holdfast.yaml')
  const all = {
    agent: { name: 'agent-1', state_dir: folder },
    lanes: { raw: {}, reduced: { max_delay: '20s' }, windows: { max_delay: '30s' }, ...lanes },
    classes,
    sources: [{ name: 'door', type: 'http', listen: '127.0.0.1:0' }],
    destinations: [
      { name: 'out', type: 'file', output_dir: folder, lanes: ['reduced', 'windows'] },
    ],
  }
  writeFileSync(path, JSON.stringify(all))
  const result = loadConfig(path, { environment: {}, catalog, surroundings: false })
  assert.ok(result.ok, result.ok ? '' : JSON.stringify(result.problems))
  return result.config
}
let seed = 3
const random = () => {
  seed = (seed * 48_271) % 2_147_483_647
  return seed / 2_147_483_647
}
/** A walk a series, ten points a second in all, now and then silent or late. */
const walks = (series: ReturnType<typeof newSeries>, seconds: number) => {
  const values = [20, 40, 1_000]
  const batches: PointBatch[] = []
  for (let at = 0; at < seconds; at++) {
    if (at % 97 > 90) continue
    const builder = createBatchBuilder()
    for (const [number, value] of values.entries()) {
      values[number] = Math.round((value + random() - 0.5) * 100) / 100
      const late = random() < 0.01 ? 5 : 0
      const timeUs = startUs + (at - late) * second + number
      builder.addFloat(series.ref(`walk.${'abc'[number]}`, []), timeUs, values[number] ?? 0, 0)
    }
    batches.push(builder.take())
  }
  return batches
}
const rehearse = (
  config: Config,
  series: ReturnType<typeof newSeries>,
  batches: readonly PointBatch[],
) => {
  using rehearsal = createRehearsal({ config, series, lane: 'raw' })
  const arrival = createArrivalClock()
  for (const batch of batches) rehearsal.take(batch, batch.timeUs.map(arrival.arrival))
  return rehearsal.finish()
}
const classes = {
  a: { match: { names: ['*.a'] }, reduce: { method: 'deadband', deviation: 0.5 } },
  b: {
    match: { names: ['*.b'] },
    reduce: { method: 'swinging_door', deviation: 0.7, heartbeat: '40s' },
    windows: [{ every: '10s', statistics: ['count', 'mean', 'max'], lateness: '2s' }],
  },
}

/** The same points through an agent's spool: its own group commit, its own timers, a clock that passes. */
const live = async (
  config: Config,
  series: ReturnType<typeof newSeries>,
  batches: readonly PointBatch[],
) => {
  const clock = createTestClock()
  const spool = openSpool({
    at: { image: null },
    host: { clock, log: silentLog, bootId: 'b0', randomBytes: countingBytes },
    series,
    options: { ...spoolOptions(config), diskFreeBytesMin: 0 },
    stages: stagesOf(stagesConfig(config)),
  })
  const ingest = createSpoolIngest(spool as SpoolCalls, clock, {
    commitWindowMs: config.spool.commit_window,
    lanes: laneOptions(config),
  })
  const port = createSpoolPort(spool as SpoolCalls, ingest, series)
  const settle = () =>
    port.setClock({ nowUs: clock.nowUs(), bootId: 'b0', monotonicUs: 0, trusted: true })
  let next = 0
  for (let at = 0; at < 400; at++) {
    const atUs = clock.nowUs()
    const batch = batches[next]
    if (batch !== undefined && Math.max(...batch.timeUs) <= atUs + 500_000) {
      next++
      void port.append('raw', { points: batch })
    }
    await settle()
    await clock.pass(1_000)
  }
  assert.equal(next, batches.length)
  clock.jump(86_400_000)
  await settle()
  clock.jump(86_400_000)
  await settle()
  await clock.pass(100_000)
  const totals = (name: string) => {
    const items = readAll(spool, name).flatMap((one) => (one.type === 'segment' ? [one] : []))
    return {
      lane: name,
      points: items.reduce((sum, { pointCount }) => sum + pointCount, 0),
      bytes: items.reduce((sum, { bytes }) => sum + bytes.length, 0),
      segments: items.length,
    }
  }
  const found = config.lanes.map(({ name }) => totals(name))
  await port[Symbol.asyncDispose]()
  return found
}

test('a rehearsal gives out and seals what a spool with timers and a clock does', async () => {
  const config = configOf(classes)
  const series = newSeries()
  const batches = walks(series, 300)
  const { lanes, classes: rows } = rehearse(config, series, batches)
  const real = await live(config, series, batches)
  for (const lane of real) {
    const mine = lanes.find((one) => one.lane === lane.lane)
    assert.ok(mine && lane.points > 50, lane.lane)
    assert.equal(mine.points, lane.points, lane.lane)
    const ratio = mine.bytes / lane.bytes
    assert.ok(ratio > 0.95 && ratio < 1.05, `${lane.lane}: ${mine.bytes} of ${lane.bytes} bytes`)
  }
  const sum = (of: (row: (typeof rows)[number]) => number) =>
    rows.reduce((all, row) => all + of(row), 0)
  const bytes = (name: string) => lanes.find(({ lane }) => lane === name)?.bytes ?? 0
  assert.ok(Math.abs(sum((row) => row.bytesIn) - bytes('raw')) < 1)
  assert.ok(Math.abs(sum((row) => row.bytesOut) - bytes('reduced') - bytes('windows')) < 1)
  assert.deepEqual(
    rows.map((row) => row.class),
    ['a', 'b', null],
  )
  for (const { class: name, greatestError, deviation, pointsIn, pointsOut } of rows.slice(0, 2)) {
    assert.ok(
      greatestError !== null && deviation !== null && greatestError <= deviation,
      String(name),
    )
    assert.ok(greatestError > deviation / 2 && pointsOut < pointsIn / 2, String(name))
  }
})

test('one wrong time moves the clock of a recording by nothing; three that agree do', () => {
  const { arrival, behind } = createArrivalClock()
  assert.deepEqual([1, 2, 9e15, 3, 1, 9e12, 9e12, 9e12].map(arrival), [1, 2, 2, 3, 3, 3, 3, 9e12])
  assert.equal(behind(), 1)
})

test('what a segment takes in the file is what SQLite takes for it', () => {
  const series = newSeries()
  const config = configOf(classes)
  for (const count of [1, 300, 3_000, 40_000]) {
    const spool = openSpool({
      at: { image: null },
      host: { clock: createTestClock(), log: silentLog, bootId: 'b0', randomBytes: countingBytes },
      series,
      options: { ...spoolOptions(config), diskFreeBytesMin: 0 },
    })
    const before = spool.stats().bytesUsed
    for (let at = 0; at < 200; at++) store(spool, floats(series, at * count, count), 'raw', true)
    const took = spool.stats().bytesUsed - before
    const said = readAll(spool).reduce(
      (sum, item) => sum + (item.type === 'segment' ? storedBytes(item.bytes.length) : 0),
      0,
    )
    assert.ok(said / took > 0.8 && said / took < 1.15, `${count} points: ${said} of ${took}`)
    spool.close()
  }
})

const file = (name: string, content: string | Uint8Array) => {
  const path = join(folder, name)
  writeFileSync(path, content)
  return path
}
const planned = async (...args: readonly string[]): Promise<Plan> => {
  const said = await holdfast(['plan', '--json', '-c', join(folder, 'holdfast.yaml'), ...args])
  assert.equal(said.code, 0, said.err)
  return JSON.parse(said.out) as Plan
}

test('line protocol, packed or not, a points file and a stopped spool tell the same of the same points', async () => {
  const config = configOf(classes)
  const series = newSeries()
  const batches = walks(series, 200)
  const lines: string[] = []
  const block: string[] = []
  for (const batch of batches)
    for (let at = 0; at < batch.count; at++) {
      const entry = series.entry(batch.series[at] as number)
      const [name, field] = entry.name.split('.')
      const value = new Float64Array(batch.bits.buffer, batch.bits.byteOffset, batch.count)[at]
      lines.push(`${name} ${field}=${value} ${batch.timeUs[at]}000\n`)
      block.push(`${ndjsonLine(ndjsonPrefix(entry), batch, at)}\n`)
    }
  const text = lines.join('')
  const header = {
    format: 'ndjson' as const,
    ...{ agent: 'agent-1', lane: 'raw', laneId: 1, epoch: 'a'.repeat(32) },
    ...{ seq: 1, seqLast: 1, part: 0, last: true, points: block.length, leftOut: 0 },
    ...{ timeUsMin: 0, timeUsMax: 0, gap: null, replay: false },
  } as const
  const ofLines = await planned('--from', file('day.lp', text))
  const others = [
    await planned('--from', file('day.lp.gz', gzipSync(text))),
    await planned(
      '--from',
      file('day.ndjson', encodeBlock({ header, body: Buffer.from(block.join('')) })),
    ),
  ]
  const figures = ({ now }: Plan) => now.classes.map((one) => ({ ...one }))
  for (const other of others) assert.deepEqual(figures(other), figures(ofLines))
  assert.equal(ofLines.recording.points, lines.length)
  assert.ok((ofLines.now.autonomyDays ?? 0) > 0 && ofLines.changed === null)

  const spool = openSpool({
    at: { path: join(folder, 'spool.db') },
    host: { clock: createTestClock(), log: silentLog, bootId: 'b0', randomBytes: countingBytes },
    series,
    options: { ...spoolOptions(config), diskFreeBytesMin: 0 },
  })
  for (const batch of batches) store(spool, batch, 'raw', true)
  spool.close()
  for (const args of [['--from', join(folder, 'spool.db')], []]) {
    const ofSpool = await planned(...args)
    assert.deepEqual(
      ofSpool.now.classes.map((one) => [one.class, one.pointsIn, one.greatestError]),
      ofLines.now.classes.map((one) => [one.class, one.pointsIn, one.greatestError]),
    )
  }
  const none = await holdfast(['plan', '-c', config.file, '--since', '1h'])
  assert.match(none.err, /HF-X031 there are no points/)

  const wide = configOf({ ...classes, a: { reduce: { method: 'deadband', deviation: 5 } } })
  const changed = file('changed.yaml', JSON.stringify({ x: 1 }))
  writeFileSync(changed, readFileSync(wide.file))
  configOf(classes)
  const both = await planned('--from', join(folder, 'day.lp'), '--against', changed)
  const out = (of: Plan['now'] | null) => of?.classes[0]?.pointsOut ?? 0
  assert.ok(out(both.changed) < out(both.now) / 2)
  const text2 = await holdfast([
    'plan',
    '-c',
    config.file,
    '--from',
    join(folder, 'day.lp'),
    '--against',
    changed,
  ])
  assert.match(text2.out, /^a {2,}now[\s\S]*^a {2,}changed[\s\S]*difference:.*to send.*offline/m)
})

test('a configuration without classes is planned against one with them, and the other way round', async () => {
  const config = configOf({})
  const bare = file('bare.yaml', readFileSync(config.file, 'utf8'))
  configOf(classes)
  const fine = file('fine.lp', 'walk a=1 1700000000000000000\nwalk a=2 1700000001000000000\n')
  for (const [now, changed] of [
    [bare, config.file],
    [config.file, bare],
  ] as const) {
    const said = await holdfast(['plan', '-c', now, '--from', fine, '--against', changed])
    assert.equal(said.code, 0, said.err)
  }
  const none = await holdfast(['plan', '-c', bare, '--from', fine])
  assert.match(none.err, /HF-X032.*no class reads/)
})

test('what cannot be planned says why, and what to do', async () => {
  const config = configOf(classes)
  const refused = async (...args: readonly string[]) => {
    const { code, err } = await holdfast(['plan', '-c', config.file, ...args])
    assert.equal(code, /HF-X002/.test(err) ? 2 : /HF-C020/.test(err) ? 78 : 1, err)
    return err
  }
  assert.match(await refused('--from', join(folder, 'absent.lp')), /HF-X031 cannot read/)
  assert.match(await refused('--from', file('notime.lp', 'm v=1\n')), /HF-X031.*without a time/)
  assert.match(await refused('--from', file('noise.lp', 'hello\n')), /HF-X031[\s\S]*noise.lp:1/)
  const fine = file('fine.lp', 'walk a=1 1700000000000000000\n')
  assert.match(await refused('--from', fine, '--lane', 'none'), /HF-X032.*no lane/)
  assert.match(await refused('--from', fine, '--lane', 'windows'), /HF-X032.*no class/)
  assert.match(await refused('--from', fine, '--since', '1h'), /HF-X002.*no spool/)
  assert.match(await refused('--from', fine, '--precision', 'weeks'), /HF-X002/)
  assert.match(await refused('--from', fine, '--against', file('bad.yaml', 'x: [')), /HF-C/)
  const bad = await holdfast([
    'plan',
    '-c',
    config.file,
    '--from',
    file('two.lp', `${'walk a=1 1700000000000000000\n'}bad\n`),
  ])
  assert.match(bad.err, /note: 1 lines or points could not be read: .*two.lp:2/)
})
