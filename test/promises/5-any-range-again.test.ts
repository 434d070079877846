/** "Any range can be sent again": by hand, from what is still held, once in effect. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, test } from 'node:test'
import Database from 'better-sqlite3'
import type { ReplayAnswer } from '../../src/control/view.ts'
import { timeText } from '../../src/control/wire.ts'
import { createCertificates } from '../support/certificates.ts'
import type { Running } from '../support/processes.ts'
import { createHttpPublisher } from '../support/publisher.ts'
import { type Postgres, startPostgres } from '../support/servers.ts'
import { cli, createSite, type Site } from '../support/site.ts'

/** Waits for what a process says end with it, or with the test. */
const timeout = 120_000
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const until = async (what: string, seconds: number, holds: () => boolean | Promise<boolean>) => {
  for (const end = Date.now() + seconds * 1000; !(await holds()); await pause(100))
    if (Date.now() > end) throw new Error(`not in ${seconds} s: ${what}`)
}

const startUs = 1_800_000_000_000_000
/** Time of the nth point of a publisher. */
const timeOf = (nth: number) => startUs + nth * 1000
const replay = (site: Site, from: number, to: number, ...more: string[]) => {
  const range = ['--from', timeText(timeOf(from)), '--to', timeText(timeOf(to))]
  return cli(['replay', ...range, '--socket', site.socket, ...more])
}
const replayed = (site: Site, from: number, to: number, ...more: string[]): ReplayAnswer => {
  const { code, out, err } = replay(site, from, to, '--json', ...more)
  assert.equal(code, 0, err)
  return JSON.parse(out) as ReplayAnswer
}
const pointsOf = ({ parts }: ReplayAnswer) => parts.reduce((sum, { points }) => sum + points, 0)

const replaysDone = (agent: Running) => agent.output().split('replay_done').length - 1

describe('replays', { concurrency: 2 }, () => {
  test('rows deleted in the region come back, those that stand are not written again', {
    timeout,
  }, async () => {
    const site = await createSite({ lanes: { raw: { max_delay: '10ms' } } })
    let regional = await site.startRegional()
    const agent = await site.startAgent()
    const publisher = createHttpPublisher(() => site.door)
    for (let round = 0; round < 30; round++) assert.ok(await publisher.send(100))
    await site.drained()
    await regional.stop()
    const [from, to] = [1_000, 2_000]
    const db = new Database(site.regionDatabase)
    const gone = 'time >= ? AND time < ?'
    const { changes } = db.prepare(`DELETE FROM points WHERE ${gone}`).run(timeOf(from), timeOf(to))
    // The audit counts writes since the deletion, which undid the first ones.
    db.prepare(`DELETE FROM points_audit WHERE ${gone}`).run(timeOf(from), timeOf(to))
    db.close()
    assert.equal(changes, to - from)
    regional = await site.startRegional()

    const dry = replayed(site, from, to, '--dry-run')
    assert.equal(dry.id, '')
    assert.ok(pointsOf(dry) >= to - from)
    assert.match(replay(site, from, to, '--dry-run').err, /nothing was sent/)
    const real = replayed(site, from, to)
    assert.equal(pointsOf(real), pointsOf(dry))
    // The whole as well: nothing of it is missing, so nothing may be written.
    replayed(site, 0, 3_000)
    await until('both replays have ended', 60, () => replaysDone(agent) === 2)
    await agent.stop()
    await regional.stop()
    const verdict = await site.verdict(publisher.journal())
    assert.deepEqual(verdict.reasons, [])
    assert.equal(verdict.delivered, publisher.acked())
  })

  /** Rows of the agent's points in PostgreSQL, looked at while everything runs. */
  const rowsIn = (postgres: Postgres) => Number(postgres.sql('select count(*) from points'))

  test('a replay is cancelled by hand, and one in work survives a restart', {
    timeout,
  }, async () => {
    const certificates = await createCertificates()
    const postgres = await startPostgres({ certificates })
    const site = await createSite({
      certificates,
      database: { url: postgres.url, postgres },
      lanes: { raw: { max_delay: '10ms' } },
      // Slow enough that a replay of all takes seconds.
      destination: { bandwidth: '2 Mbit/s' },
    })
    const regional = await site.startRegional()
    let agent = await site.startAgent()
    // 2 KiB of text each, which no compressor makes small: 1.2 MB in all.
    const bulky = () => randomBytes(1_536).toString('base64')
    const publisher = createHttpPublisher(() => site.door, { valueAt: bulky })
    const all = 800
    for (let round = 0; round < all / 20; round++) assert.ok(await publisher.send(20))
    await site.drained()
    postgres.sql('delete from points; delete from points_audit')
    assert.equal(pointsOf(replayed(site, 0, all, '--dry-run')), all)
    assert.equal(rowsIn(postgres), 0)

    const { id } = replayed(site, 0, all)
    await until('first rows are back', 30, () => rowsIn(postgres) > 0)
    const { code, err } = cli(['replay', 'cancel', id, '--socket', site.socket])
    assert.equal(code, 0, err)
    // What was on its way may still arrive; a replay that a restart took up again would bring the rest.
    await agent.stop()
    const cancelledAt = rowsIn(postgres)
    assert.ok(cancelledAt < all, `${cancelledAt} rows: it had ended already`)
    agent = await site.startAgent()
    await site.drained()
    await pause(1_000)
    assert.equal(rowsIn(postgres), cancelledAt)
    assert.notEqual(cli(['replay', 'cancel', id, '--socket', site.socket]).code, 0)

    replayed(site, 0, all)
    await until('it goes on beyond what was there', 30, () => rowsIn(postgres) > cancelledAt)
    await agent.kill()
    assert.ok(rowsIn(postgres) < all, 'it had ended before the restart')
    agent = await site.startAgent()
    await until('all rows are back', 30, () => rowsIn(postgres) === all)
    await agent.stop()
    const verdict = await site.verdict(publisher.journal())
    assert.deepEqual(verdict.reasons, [])
    assert.equal(verdict.delivered, publisher.acked())
    await regional.stop()
    await postgres.stop()
  })

  test('a range that is no longer held: the replay says so', { timeout }, async () => {
    const site = await createSite({
      lanes: { raw: { max_delay: '10ms' } },
      spool: { keep_sent: '1s', commit_window: '20ms' },
    })
    const regional = await site.startRegional()
    const agent = await site.startAgent()
    const publisher = createHttpPublisher(() => site.door)
    for (let round = 0; round < 40; round++) assert.ok(await publisher.send(10))
    await site.drained()
    // Sent points go with later commits, once their time is over.
    await until('the first points are given up', 60, async () => {
      assert.ok(await publisher.send(10))
      return pointsOf(replayed(site, 0, 100, '--dry-run')) === 0
    })
    const { code, out, err } = replay(site, 0, 100)
    assert.equal(code, 0)
    assert.match(out, /\b0 points/)
    assert.match(err, /nothing of that range is still held/)
    const { code: unknown, err: why } = replay(site, 0, 100, '--lane', 'nowhere')
    assert.notEqual(unknown, 0)
    assert.match(why, /HF-X404/)
    await site.drained()
    await agent.stop()
    await regional.stop()
    const verdict = await site.verdict(publisher.journal())
    assert.deepEqual(verdict.reasons, [])
  })
})
