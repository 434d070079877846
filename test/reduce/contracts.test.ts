/**
 * What the region says of how a series was thinned, through real processes: of one that a running agent meets while
 * another lane sends, and of each row after its rule has changed.
 */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import Database from 'better-sqlite3'
import { freePort } from '../support/processes.ts'
import { createSite } from '../support/site.ts'

const second = 1_000_000
const startUs = 1_700_000_000 * second
const post = async (door: string, lines: readonly string[]) => {
  const body = lines.join('\n')
  const answer = await fetch(`${door}/write?precision=us`, { method: 'POST', body })
  assert.equal(answer.status, 204, await answer.text())
}
const deviations = (database: string, sql: string): unknown[] => {
  const db = new Database(database, { readonly: true })
  const found = db.prepare(sql).raw().all()
  db.close()
  return found
}

test('a new series at a running agent has its contract, though another lane sent before its rule did', async () => {
  const alarmsPort = await freePort()
  const alarms = `http://127.0.0.1:${alarmsPort}`
  const site = await createSite({
    // The rule hears of a point a second after the alarms' uploads have told the region of its series.
    lanes: { raw: { max_delay: '1s' }, alarms: { max_delay: '10ms' }, reduced: {} },
    sources: [{ name: 'alarms', type: 'http', lane: 'alarms', listen: `127.0.0.1:${alarmsPort}` }],
    classes: { walks: { reduce: { method: 'deadband', deviation: 5 } } },
  })
  const regional = await site.startRegional()
  const agent = await site.startAgent()
  try {
    let accepted = 0
    for (let at = 0; at < 6; at++) {
      await post(site.door, [`walk n${at}=1 ${startUs + at * second}`])
      await post(alarms, [`alarm x=${at} ${startUs + at * second}`])
      accepted += 2
      const sent = accepted / 2
      await site.when(
        ({ lanes }) =>
          lanes.some(
            ({ lane, readers }) =>
              lane === 'alarms' && readers.some(({ pending }) => pending === 0),
          ) && sent > 0,
      )
    }
    await site.drained(60, accepted)
  } finally {
    await agent.stop()
    await regional.stop()
  }
  const rows = deviations(
    site.regionDatabase,
    `select series, json_extract(contract, '$.deviation') from readings order by series, time`,
  )
  const walks = Array.from({ length: 6 }, (_, at) => [`walk.n${at}`, 5])
  const alarmRows = Array.from({ length: 6 }, () => ['alarm.x', null])
  assert.deepEqual(rows, [...alarmRows, ...walks])
})

test('each row keeps the contract of its time: 5, then 50, then every point, then no class', async () => {
  const site = await createSite({
    lanes: { raw: { max_delay: '50ms' }, reduced: {} },
    classes: { walks: { reduce: { method: 'deadband', deviation: 5 } } },
  })
  let secondNow = 0
  let accepted = 0
  const life = async (values: readonly number[], change?: readonly [RegExp, string]) => {
    if (change !== undefined) {
      const text = readFileSync(site.config, 'utf8')
      assert.match(text, change[0])
      writeFileSync(site.config, text.replace(...change))
    }
    const agent = await site.startAgent()
    try {
      await post(
        site.door,
        values.map((value) => `walk a=${value} ${startUs + second * secondNow++}`),
      )
      accepted += values.length
      await site.drained(60, accepted)
    } finally {
      await agent.stop()
    }
  }
  const regional = await site.startRegional()
  try {
    await life([0, 3, 10, 11])
    await life([40, 80, 90], [/deviation: 5\n/, 'deviation: 50\n'])
    await life([91, 92], [/deadband\s+deviation: 50\n/, 'every\n'])
    await life([93, 93], [/\nclasses:\n( .*\n)+/, '\n'])
  } finally {
    await regional.stop()
  }
  const rows = deviations(
    site.regionDatabase,
    `select value, json_extract(contract, '$.deviation') from readings order by time`,
  )
  assert.deepEqual(rows, [
    [0, 5],
    // Sent by the raw lane, once no class keeps it from being sent: what the rule promised is true still.
    [3, 5],
    [10, 5],
    // Where rules change, both give the point in which their lines meet.
    [11, 50],
    [40, 50],
    [80, 50],
    [90, null],
    [91, null],
    [92, null],
    [93, null],
    [93, null],
  ])
})
