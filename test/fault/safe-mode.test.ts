/** Safe mode with real processes: five crashes, the spool set aside, a new one that sends at once, all points rescued. */
import assert from 'node:assert/strict'
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { salvagedMark } from '../../src/spool/set-aside.ts'
import type { Running, StartOptions } from '../support/processes.ts'
import { createHttpPublisher } from '../support/publisher.ts'
import { cli, createSite, type Site } from '../support/site.ts'

const asideIn = (site: Site) =>
  readdirSync(site.stateDir).filter((name) => /^spool\.db\.suspect-[0-9a-f]{8}$/.test(name))
/** Starts and kills before any point came: nobody has seen the spool work. */
const crashes = async (site: Site, count: number, options: StartOptions = {}) => {
  for (let nth = 0; nth < count; nth++) await (await site.startAgent(options)).kill()
}
const codes = async (site: Site) => (await site.status()).verdict.issues.map(({ code }) => code)
const ask = (site: Site, ...args: string[]) =>
  cli([...args, '-c', site.config, '--socket', site.socket])

test('five crashes: set aside, sending again within seconds, and every point of the old file rescued once', async () => {
  const site = await createSite()
  const publisher = createHttpPublisher(() => site.door)
  let regional = await site.startRegional()
  let agent: Running = await site.startAgent()
  await publisher.send(400)
  await site.drained(30, 400)
  await regional.stop()
  // A backlog: sealed segments, and points still in the journal when the first crash comes.
  for (let nth = 0; nth < 5; nth++) await publisher.send(100)
  await site.when((seen) => (seen.lanes[0]?.head ?? 0) >= 2)
  await publisher.send(37)
  await agent.kill()

  await crashes(site, 4)
  assert.deepEqual(asideIn(site), [], 'four are not enough')
  await crashes(site, 1)
  agent = await site.startAgent()
  const [name = ''] = asideIn(site)
  const file = join(site.stateDir, name)
  assert.match(agent.output(), /spool_set_aside/)
  const seen = await site.status()
  assert.equal(seen.verdict.issues.find(({ code }) => code === 'HF-H011')?.severity, 'degraded')
  assert.ok(seen.verdict.issues.some(({ fix }) => fix.includes(`holdfast spool salvage ${file}`)))
  assert.equal(seen.lanes[0]?.accepted, 0, 'nothing is declared lost: it is all still there')

  // The new spool is no stranger to the region: it is let in at once, not after ten minutes.
  await publisher.send(50)
  regional = await site.startRegional()
  await site.drained(30, 50)

  assert.match(ask(site, 'doctor').out, /LOOK +spool +HF-H011 /)
  const checked = ask(site, 'spool', 'check', file, '--json')
  assert.equal(checked.code, 0, checked.err)
  const verdict = JSON.parse(checked.out) as { good: boolean; lanes: { journalPoints: number }[] }
  assert.equal(verdict.good, true)
  const stats = JSON.parse(ask(site, 'spool', 'stats', file, '--json').out) as { unsent: number }
  assert.equal(stats.unsent, 537)
  const dry = ask(site, 'spool', 'salvage', file, '--dry-run')
  assert.match(dry.out, /raw: 537 points not sent/)
  assert.ok(!existsSync(`${file}${salvagedMark}`))

  const done = ask(site, 'spool', 'salvage', file)
  assert.equal(done.code, 0, done.err)
  assert.match(done.out, /raw: 537 points not sent, 537 taken in now/)
  assert.ok(!(await codes(site)).includes('HF-H011'), 'dealt with')
  // Again, as after a salvage that was broken off: nothing comes twice.
  assert.match(ask(site, 'spool', 'salvage', file).out, /537 points not sent, 0 taken in now/)
  const end = await site.drained(30, 587)
  assert.equal(end.lanes[0]?.accepted, 587)
  assert.ok(existsSync(file), 'kept')
  await agent.stop()
  await regional.stop()
  const found = await site.verdict(publisher.journal())
  assert.deepEqual(found.reasons, [])
  assert.equal(found.declared_lost, 0)
})

test('crashes that go on over the new spool set nothing aside a second time', async () => {
  const site = await createSite()
  await crashes(site, 5)
  await (await site.startAgent()).kill()
  assert.equal(asideIn(site).length, 1)
  await crashes(site, 5)
  const agent = await site.startAgent()
  assert.match(agent.output(), /crashes_go_on/)
  assert.equal(asideIn(site).length, 1)
  await agent.stop()
})

test('five kills of an agent at work, and five stops, set nothing aside; five exceptions at work do', async () => {
  const site = await createSite()
  const publisher = createHttpPublisher(() => site.door)
  for (let nth = 0; nth < 6; nth++) {
    const agent = await site.startAgent()
    assert.equal(await publisher.send(10), true)
    await agent.kill()
  }
  for (let nth = 0; nth < 6; nth++) await (await site.startAgent()).stop()
  assert.deepEqual(asideIn(site), [])

  const bug = join(site.folder, 'bug.mjs')
  writeFileSync(bug, "process.once('SIGUSR2', () => { throw new Error('a bug of the test') })\n")
  for (let nth = 0; nth < 5; nth++) {
    const agent = await site.startAgent({ env: { NODE_OPTIONS: `--import ${bug}` } })
    assert.equal(await publisher.send(10), true)
    agent.signal('SIGUSR2')
    assert.notEqual(await agent.ended, 0)
    assert.deepEqual(asideIn(site), [])
  }
  const agent = await site.startAgent()
  assert.equal(asideIn(site).length, 1)
  await agent.stop()
})
