/**
 * The scene on a thin link: windows and thinned series over 64 kbit/s, raw on request. It ends green, and its verdict is
 * worth something: a falsified window, knot, raw point or ledger turns it red.
 */
import assert from 'node:assert/strict'
import { cpSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import Database from 'better-sqlite3'
import type { CellularOutcome } from '../../src/cli/demo/cellular.ts'
import { judgeReduced } from '../../src/cli/demo/verdict.ts'
import { createSystemHost } from '../../src/host.ts'
import { start } from '../support/processes.ts'
import { cliPath } from '../support/site.ts'
import { forgetFolder, temporaryFolder } from '../support/temp.ts'

let kept = ''
after(() => forgetFolder(kept))

const one = (
  series: string,
  at: number,
) => `(series_id, time) in (select series_id, time from points
  join series s using (series_id) where ${series} order by series_id, time limit 1 offset ${at})`
const statistic = (name: string) => `json_extract(s.tags, '$."@statistic"') = '${name}'`
const raw = `json_extract(s.tags, '$."@statistic"') is null`

/** What a region that fails its promise would hold, and what the verdict then says. */
const tampers: Readonly<Record<string, readonly [string, RegExp]>> = {
  'one bit of one maximum': [
    `update points set bits = bits + 1 where ${one(statistic('max'), 20)}`,
    /windows: .* says max/,
  ],
  'a window a point short': [
    `update points set bits = bits - 1 where ${one(statistic('count'), 20)}`,
    /windows: .* says count/,
  ],
  'a window that is gone': [
    `delete from points where time = (select time from points join series s using (series_id)
      where ${statistic('rev')} order by series_id, time limit 1 offset 20)
      and series_id in (select series_id from series s where s.name =
      (select name from points join series s using (series_id)
      where ${statistic('rev')} order by series_id, time limit 1 offset 20)) and
      series_id in (select series_id from series s where not ${raw})`,
    /windows: .* is not there/,
  ],
  'a knot of a swinging door that is gone': [
    `delete from points where ${one(`${raw} and s.name = 'plant.pump-007.temperature'`, 2)}`,
    /missing/,
  ],
  'a contract that says less than was done': [
    `update series_contracts set contract = json_set(contract, '$.deviation', 0.0001)
      where series_id in (select series_id from series where name like '%.temperature')`,
    /missing/,
  ],
  'a raw point that was asked for and is gone': [
    `delete from points where ${one(`${raw} and s.name = 'plant.pump-007.vibration'`, 40)}`,
    /missing: plant.pump-007.vibration/,
  ],
  'one bit of a raw point': [
    `update points set bits = bits + 1 where ${one(`${raw} and s.name = 'plant.pump-007.vibration'`, 40)}`,
    /altered/,
  ],
  'a segment counted twice (no ledger check)': [
    'update ledger set points = points + 8',
    /books: .* came in/,
  ],
}

test('the scene ends with a verified verdict, and with less sent than raw', async () => {
  const run = start('node', [
    cliPath,
    ...['demo', '--scene', 'cellular', '--seconds', '26', '--json', '--keep'],
  ])
  assert.equal(await run.ended, 0, run.output())
  const line = run
    .output()
    .split('\n')
    .find((text) => text.startsWith('{"accepted"'))
  const verdict = JSON.parse(line ?? '{}')
  assert.ok(verdict.accepted > 10_000, run.output())
  assert.equal(
    verdict.accepted,
    verdict.delivered + verdict.reduced + verdict.pending + verdict.declared_lost,
  )
  assert.deepEqual(
    [verdict.duplicates, verdict.altered, verdict.pending, verdict.declared_lost],
    [0, 0, 0, 0],
  )
  assert.ok(verdict.reduced > verdict.accepted / 2 && verdict.windows > 200 && verdict.asked > 500)
  assert.ok(verdict.wire_bytes < verdict.raw_bytes, 'raw would have been cheaper')
  kept = /stand in (\S+)/.exec(run.output())?.[1] ?? ''
  assert.notEqual(kept, '')
})

const judged = async (region: string) => {
  const outcome: CellularOutcome = JSON.parse(readFileSync(join(kept, 'outcome.json'), 'utf8'))
  const files = { region, journal: join(kept, 'journal.ndjson') }
  return await judgeReduced(createSystemHost(), files, 'demo-gateway', outcome)
}
for (const [name, [sql, expected]] of Object.entries(tampers)) {
  test(`${name}: the scene's verdict is red`, async () => {
    const folder = temporaryFolder('tamper')
    cpSync(join(kept, 'region'), folder, { recursive: true })
    const region = join(folder, 'region.db')
    const database = new Database(region)
    const { changes } = database.prepare(sql).run()
    database.close()
    assert.ok(changes > 0, 'the tampering changed nothing')
    const { ok, reasons } = await judged(region)
    assert.equal(ok, false)
    assert.match(reasons.join('\n'), expected)
  })
}
test('untouched, and with books that do not add up', async () => {
  const region = join(kept, 'region', 'region.db')
  const good = await judged(region)
  assert.deepEqual(good.reasons, [])
  const outcome: CellularOutcome = JSON.parse(readFileSync(join(kept, 'outcome.json'), 'utf8'))
  const books = outcome.books.map((lane) => ({ ...lane, accepted: lane.accepted + 1 }))
  const files = { region, journal: join(kept, 'journal.ndjson') }
  const host = createSystemHost()
  const red = await judgeReduced(host, files, 'demo-gateway', { ...outcome, books })
  assert.match(red.reasons.join('\n'), /books/)
})
