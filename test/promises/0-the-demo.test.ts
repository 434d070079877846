/** The newcomer's command: it ends green, and its verdict is worth something: every tampered region turns it red. */
import assert from 'node:assert/strict'
import { cpSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import Database from 'better-sqlite3'
import { judge } from '../../src/cli/demo/verdict.ts'
import { createSystemHost } from '../../src/host.ts'
import { start } from '../support/processes.ts'
import { cliPath } from '../support/site.ts'
import { forgetFolder, temporaryFolder } from '../support/temp.ts'

let kept = ''
after(() => forgetFolder(kept))

/** What a region that fails its promise would hold. */
const tampers: Readonly<Record<string, string>> = {
  'one point deleted':
    'delete from points where (series_id, time) in (select series_id, time from points limit 1 offset 100)',
  'one bit of one value altered':
    'update points set bits = bits + 1 where (series_id, time) in (select series_id, time from points where kind = 0 limit 1 offset 50)',
  'one point applied again': `insert into points_audit (series_id, time, ord, op)
    select series_id, time, ord, 'update' from points_audit limit 1`,
  'a segment counted twice (no ledger check)': 'update ledger set points = points + 8',
  'points acknowledged and never committed':
    'delete from points where time = (select max(time) from points)',
}

test('the demo ends with a verified verdict', async () => {
  const run = start('node', [cliPath, 'demo', '--seconds', '12', '--json', '--keep'])
  assert.equal(await run.ended, 0, run.output())
  const line = run
    .output()
    .split('\n')
    .find((one) => one.startsWith('{"accepted"'))
  const verdict = JSON.parse(line ?? '{}')
  assert.ok(verdict.accepted > 10_000, run.output())
  assert.equal(
    verdict.accepted,
    verdict.delivered + verdict.reduced + verdict.pending + verdict.declared_lost,
  )
  assert.deepEqual([verdict.duplicates, verdict.altered, verdict.pending], [0, 0, 0])
  assert.ok(verdict.wire_bytes_per_point > 0)
  kept = /stand in (\S+)/.exec(run.output())?.[1] ?? ''
  assert.notEqual(kept, '')
})

for (const [name, sql] of Object.entries(tampers)) {
  test(`${name}: the demo's verdict is red`, async () => {
    const folder = temporaryFolder('tamper')
    cpSync(join(kept, 'region'), folder, { recursive: true })
    const region = join(folder, 'region.db')
    const files = { region, journal: join(kept, 'journal.ndjson') }
    assert.equal((await judge(createSystemHost(), files, 'demo-gateway')).ok, true)
    const database = new Database(region)
    const { changes } = database.prepare(sql).run()
    database.close()
    assert.ok(changes > 0, 'the tampering changed nothing')
    assert.equal((await judge(createSystemHost(), files, 'demo-gateway')).ok, false)
  })
}
