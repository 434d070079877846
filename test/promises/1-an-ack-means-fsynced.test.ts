/** "An ack means fsynced": it survives kill -9 of the agent and of the region, and a power cut of the gateway's disk. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openPowerCutDisk } from '../support/power.ts'
import { isRoot } from '../support/processes.ts'
import { createHttpPublisher } from '../support/publisher.ts'
import { createSite } from '../support/site.ts'

const release = process.env.HOLDFAST_TEST_RELEASE === '1'
const kills = release ? 10_000 : 50
const cuts = release ? 1_000 : 20
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

test(`${kills} × SIGKILL of the agent and of the regional node at random moments under load`, async () => {
  const site = await createSite()
  let regional = await site.startRegional()
  let agent = await site.startAgent()
  const publisher = createHttpPublisher(() => site.door)
  const stop = new AbortController()
  const floods = [publisher.flood(50, stop.signal), publisher.flood(7, stop.signal)]
  try {
    for (let kill = 0; kill < kills; kill++) {
      if (kill % 2 === 0) await publisher.ackedMore(200)
      // A moment inside commits, sends and start-up alike.
      await pause(Math.random() * 400)
      if (kill % 2 === 0) {
        await agent.kill()
        agent = await site.startAgent()
      } else {
        await regional.kill()
        regional = await site.startRegional()
      }
    }
  } finally {
    stop.abort()
    await Promise.all(floods)
  }
  await publisher.send(10)
  await site.drained(90)
  await agent.stop()
  await regional.stop()
  const verdict = await site.verdict(publisher.journal())
  assert.ok(
    publisher.acked() > kills * 50,
    `only ${publisher.acked()} points were accepted: no load`,
  )
  assert.deepEqual(verdict.reasons, [])
  assert.equal(verdict.declared_lost, 0)
})

test(`${cuts} power cuts of the gateway's disk`, {
  skip: isRoot ? false : 'needs root (mount)',
}, async () => {
  const disk = await openPowerCutDisk(128)
  const site = await createSite({
    run: disk.run,
    stateDir: `${disk.folder}/agent`,
    spool: { size_max: '48MiB', disk_free_min: '1MiB' },
  })
  const regional = await site.startRegional()
  const publisher = createHttpPublisher(() => site.door)
  try {
    for (let cut = 0; cut < cuts; cut++) {
      const agent = await site.startAgent()
      const stop = new AbortController()
      const flood = publisher.flood(100, stop.signal)
      await publisher.ackedMore(200)
      await pause(300 + Math.random() * 700)
      disk.cut()
      await agent.kill()
      stop.abort()
      await flood
      disk.powerOn()
    }
    const agent = await site.startAgent()
    await publisher.send(10)
    await site.drained(60)
    await agent.stop()
    await regional.stop()
    const verdict = await site.verdict(publisher.journal())
    assert.ok(
      publisher.acked() > cuts * 100,
      `only ${publisher.acked()} points were accepted: no load`,
    )
    assert.deepEqual(verdict.reasons, [])
    assert.equal(verdict.declared_lost, 0)
  } finally {
    await disk.dispose()
  }
})
