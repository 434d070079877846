/** Classes taken out and put back in under a real agent that is killed each time: every point accepted arrives. */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { after, test } from 'node:test'
import { parse, stringify } from 'yaml'
import { createHttpPublisher } from '../support/publisher.ts'
import { createSite } from '../support/site.ts'

// A rule that lets everything through, and a lane that is sealed late: what is killed has not been read.
const rule = { match: {}, reduce: { method: 'every' } }
const site = await createSite({
  lanes: { raw: { max_delay: '60s' }, reduced: { max_delay: '60s' }, thin: { max_delay: '60s' } },
  classes: { all: rule },
})
const configured = (classes: Record<string, unknown>) => {
  const config = parse(readFileSync(site.config, 'utf8'))
  writeFileSync(site.config, stringify({ ...config, classes }))
}
const regional = await site.startRegional()
let agent = await site.startAgent()
after(async () => {
  await agent.kill()
  await regional.kill()
})

test('a class removed, put back, and sent to another lane, each over a SIGKILL: nothing accepted is lost', async () => {
  const publisher = createHttpPublisher(() => site.door, { startUs: 1_700_000_000_000_000 })
  for (const classes of [
    {},
    { all: rule },
    { all: { ...rule, reduce: { method: 'every', lane: 'thin' } } },
    {},
  ]) {
    await publisher.send(100)
    await agent.kill()
    configured(classes)
    agent = await site.startAgent()
  }
  await publisher.send(100)
  await agent.stop()
  agent = await site.startAgent()
  await site.when(({ lanes }) =>
    lanes.every(({ readers }) => readers.every((one) => one.stage || one.pending === 0)),
  )
  await agent.stop()
  await regional.stop()
  // What comes by two lanes is one row: the checker looks for rows, the region counts deliveries.
  const { accepted, missing, altered, reasons } = await site.verdict(publisher.journal())
  assert.deepEqual([accepted, missing, altered], [500, 0, 0], JSON.stringify(reasons))
})
