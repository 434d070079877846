/** A destination that was removed from the configuration holds nothing back for ever: it is named, and can be let go. */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { createHttpPublisher } from '../support/publisher.ts'
import { cli, createSite } from '../support/site.ts'

test('a renamed destination is named by status and forgotten on request; the new one gets everything', async () => {
  const site = await createSite({ destination: { name: 'old', url: 'https://localhost:9' } })
  const publisher = createHttpPublisher(() => site.door)
  let agent = await site.startAgent()
  await publisher.send(100)
  assert.match(cli(['forget', 'old', '--yes', '--socket', site.socket]).err, /HF-X015/)
  await agent.stop()
  const config = readFileSync(site.config, 'utf8')
  const renamed = config
    .replace('name: old', 'name: region\n    from: oldest')
    .replace('https://localhost:9', `https://localhost:${site.regionPort}`)
  writeFileSync(site.config, renamed)
  const regional = await site.startRegional()
  agent = await site.startAgent()
  await publisher.send(100)
  await site.when((status) =>
    status.destinations.every((one) => one.pending === 0 && one.lastAckUs > 0),
  )
  const { verdict } = await site.status()
  assert.ok(
    verdict.issues.some(({ code }) => code === 'HF-H010'),
    JSON.stringify(verdict),
  )
  const told = cli(['forget', 'old', '--socket', site.socket, '--no-input'])
  assert.match(told.err, /200 points wait for old/)
  const done = cli(['forget', 'old', '--yes', '--json', '--socket', site.socket])
  assert.deepEqual(JSON.parse(done.out), { destination: 'old', points: 200 })
  await site.drained()
  const { issues } = (await site.status()).verdict
  assert.ok(issues.every(({ code }) => code !== 'HF-H010'))
  await agent.stop()
  await regional.stop()
  const checked = await site.verdict(publisher.journal())
  assert.deepEqual(checked.reasons, [])
  assert.equal(checked.delivered, 200)
})
