/** Each query that docs/operate/queries.md shows runs on a region's database as it stands there. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import pg from 'pg'
import { migrationSql } from '../../src/database/schema-postgres.ts'
import { type Postgres, startPostgres } from '../support/servers.ts'

const page = readFileSync(join(import.meta.dirname, '../../docs/operate/queries.md'), 'utf8')
const queries = [...page.matchAll(/```sql\n([\s\S]*?)```/g)].map(([, sql = '']) => sql)

let server: Postgres
let client: pg.Client
before(async () => {
  server = await startPostgres()
  const { folder: host, port, database } = server
  client = new pg.Client({ host, port, user: 'postgres', database })
  await client.connect()
  await client.query(migrationSql(0))
  for (const [id, name, tags, unit] of [
    [1, 'press/temperature', '{}', '°C'],
    [2, 'press/temperature', '{"@every":"60000000","@statistic":"rev"}', ''],
    [3, 'press/temperature', '{"@every":"60000000","@statistic":"sum"}', '°C'],
    [4, 'press/temperature', '{"@every":"60000000","@statistic":"good_count"}', ''],
    [5, 'press/state', '{"@every":"3600000000","@statistic":"rev"}', ''],
    [6, 'press/state', '{"@every":"3600000000","@statistic":"time_in_state"}', ''],
  ])
    await client.query({
      text: 'insert into series (series_id, agent, name, tags, unit) values ($1, $2, $3, $4, $5)',
      values: [id, 'gw-0042', name, tags, unit],
    })
  await client.query(`insert into points values
    (1, now(), 0, 21.5, null, null, 0, 1), (2, now(), 1, null, 1, null, 0, 1), (3, now(), 0, 43, null, null, 0, 1),
    (4, now(), 1, null, 2, null, 0, 1), (5, now(), 1, null, 1, null, 0, 1),
    (6, now(), 3, null, null, '{"running": 3000.5, "stopped": 599.5}', 0, 1)`)
})
after(async () => {
  await client.end()
  await server.stop()
})

test('every query of the page runs, and what it draws is there', async () => {
  assert.ok(queries.length >= 8)
  const found = new Map<string, Record<string, unknown>[]>()
  for (const sql of queries) {
    const plain = sql.replaceAll(
      /\$__timeFilter\((\w+)\)/g,
      "$1 between now() - interval '1 day' and now() + interval '1 day'",
    )
    found.set(sql, (await client.query(plain)).rows)
  }
  const of = (part: string) => [...found].find(([sql]) => sql.includes(part))?.[1]
  assert.deepEqual(
    of('mean, min, max\nfrom')?.map(({ mean, min }) => [mean, min]),
    [[21.5, null]],
  )
  assert.deepEqual(
    of('jsonb_each_text')?.map(({ state, seconds }) => [state, seconds]),
    [
      ['running', 3000.5],
      ['stopped', 599.5],
    ],
  )
})
