/** "Once in effect" also beside a clone: a copied spool is fenced and kept, never merged, until it is admitted. */
import assert from 'node:assert/strict'
import { cpSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { createHttpPublisher } from '../support/publisher.ts'
import { cli, createSite } from '../support/site.ts'
import { temporaryFolder } from '../support/temp.ts'

const release = process.env.HOLDFAST_TEST_RELEASE === '1'
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
/** A door may ask to come again later: its disk is slow. */
const taken = async (send: () => Promise<boolean>): Promise<void> => {
  for (let tries = 0; tries < 10; tries++) {
    if (await send()) return
    await pause(1_000)
  }
  assert.fail('the door refused ten times')
}
const lanes = { raw: { max_delay: '100ms' } }

test('the copy of a running spool is fenced while the original goes on; admitted, it sends what it kept', async () => {
  const site = await createSite({ lanes })
  const regional = await site.startRegional()
  const publisher = createHttpPublisher(() => site.door)
  let original = await site.startAgent()
  await publisher.send(400)
  await site.drained()
  await regional.stop()
  // What the copy shares with its original is not all delivered yet.
  await publisher.send(200)
  await original.stop()
  const stateDir = join(temporaryFolder('copy'), 'agent')
  cpSync(site.stateDir, stateDir, { recursive: true })
  const { certificates, regionPort } = site
  const twin = await createSite({ certificates, regionPort, stateDir, lanes })
  const later = createHttpPublisher(() => twin.door, { name: 'twin' })

  let again = await site.startRegional()
  original = await site.startAgent()
  await publisher.send(300)
  await site.drained()
  let copy = await twin.startAgent()
  await taken(() => later.send(500))
  await copy.says(/fenced/)
  const [fenced] = (await twin.status()).destinations
  assert.equal(fenced?.state, 'blocked')
  assert.match(`${fenced?.text} ${fenced?.hint}`, /fenced|copy|clone/i)
  // It cannot know that its original has delivered the 200 they share.
  assert.equal(fenced?.pending, 700)
  // The original does not notice.
  await publisher.send(300)
  await site.drained()
  assert.equal((await site.status()).destinations[0]?.state, 'up')
  await original.stop()
  await again.stop()
  const apart = await site.verdict(publisher.journal())
  assert.deepEqual(apart.reasons, [])
  assert.equal(apart.delivered, publisher.acked())

  // By an operator's hand.
  const asked = (...verb: string[]) => {
    const words = ['regional', ...verb, '-c', join(site.folder, 'regional.yaml'), '--json']
    const { code, out, err } = cli(words)
    assert.equal(code, 0, err)
    return JSON.parse(out)
  }
  const { agents } = asked('agents') as { agents: { agent: string; fenced: string[] }[] }
  const [epoch] = agents.find(({ agent }) => agent === site.name)?.fenced ?? []
  assert.deepEqual(asked('admit', site.name), { agent: site.name, admitted: epoch })
  again = await site.startRegional()
  // It asks once a minute by itself, and at once when it starts.
  if (!release) {
    await copy.stop()
    copy = await twin.startAgent()
  }
  await twin.drained(120)
  await taken(() => later.send(100))
  await twin.drained()
  await copy.stop()
  await again.stop()
  const both = await site.verdict([...publisher.journal(), ...later.journal()])
  assert.deepEqual(both.reasons, [])
  assert.equal(both.delivered, publisher.acked() + later.acked())
})
