/**
 * "Nothing is dropped silently": quotas, bad messages, damaged bytes. Whatever is lost has a gap record in the region, and
 * `accepted = delivered + reduced + pending + declared lost` by the publisher's own journal.
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import Database from 'better-sqlite3'
import mqtt from 'mqtt'
import { openLink } from '../../src/cli/demo/link.ts'
import { crc32c } from '../../src/codec/crc32c.ts'
import { segmentDigest } from '../../src/codec/segment.ts'
import type { QuarantineJson } from '../../src/control/wire.ts'
import type { Value } from '../../src/model.ts'
import type { GapRow } from '../../src/spool-port.ts'
import { freePort } from '../support/processes.ts'
import { createHttpPublisher } from '../support/publisher.ts'
import { startMosquitto } from '../support/servers.ts'
import { cli, createSite, type Site } from '../support/site.ts'
import { exact, type JournalPoint } from './checker.ts'

/** Waits for what a process says end with it, or with the test. */
const timeout = 120_000
const release = process.env.HOLDFAST_TEST_RELEASE === '1'
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const until = async (what: string, seconds: number, holds: () => boolean | Promise<boolean>) => {
  for (const end = Date.now() + seconds * 1000; !(await holds()); await pause(100))
    if (Date.now() > end) throw new Error(`not in ${seconds} s: ${what}`)
}
const ask = <T>(site: Site, ...args: string[]): T => {
  const { code, out, err } = cli([...args, '--json', '--socket', site.socket])
  assert.equal(code, 0, err)
  return JSON.parse(out) as T
}
const gapsOf = (site: Site) => ask<{ gaps: GapRow[] }>(site, 'gaps', '--limit', '1000').gaps
const quarantineOf = (site: Site) =>
  ask<{ quarantine: QuarantineJson[] }>(site, 'quarantine', '--limit', '1000').quarantine
const lostIn = (gaps: readonly { readonly count: number }[]) =>
  gaps.reduce((sum, gap) => sum + gap.count, 0)

/** Points that no compressor makes small: 2 KiB of text each. */
const bulky = () => randomBytes(1_536).toString('base64')
const behindLink = async (policy: 'block' | 'drop_oldest') => {
  const regionPort = await freePort()
  const link = await openLink(regionPort)
  const site = await createSite({
    relayPort: link.port,
    regionPort,
    lanes: { raw: { when_full: policy, max_delay: '100ms' } },
    spool: { size_max: '4MiB', commit_window: '20ms' },
    door: { commit_timeout: '2s' },
  })
  return { link, site, publisher: createHttpPublisher(() => site.door, { valueAt: bulky }) }
}

describe('losses are declared', { concurrency: 2 }, () => {
  test('a full spool that drops the oldest: what went is declared, listed and delivered as gap records', {
    timeout,
  }, async () => {
    const { link, site, publisher } = await behindLink('drop_oldest')
    const regional = await site.startRegional()
    const agent = await site.startAgent()
    assert.ok(await publisher.send(100))
    await site.drained()
    link.cut()
    for (let round = 0; round < 60; round++) assert.ok(await publisher.send(100), `round ${round}`)
    const before = gapsOf(site)
    assert.ok(before.length > 0)
    assert.ok(before.every(({ reason, lane }) => reason === 'quota' && lane === 'raw'))
    // Gap records wait for the region like points.
    const { lanes } = await site.status()
    assert.equal(lanes[0]?.readers[0]?.pending, 6_000)
    link.heal()
    const drained = await site.drained()
    assert.equal(drained.lanes[0]?.readers[0]?.declaredLost, lostIn(before))
    await agent.stop()
    await regional.stop()
    await link[Symbol.asyncDispose]()
    const verdict = await site.verdict(publisher.journal())
    assert.deepEqual(verdict.reasons, [])
    assert.equal(verdict.declared_lost, lostIn(before))
    assert.equal(verdict.delivered, 6_100 - verdict.declared_lost)
  })

  test('a full spool that blocks: the door says when to come again, nothing is lost, it goes on by itself', {
    timeout,
  }, async () => {
    const { link, site, publisher } = await behindLink('block')
    const regional = await site.startRegional()
    const agent = await site.startAgent()
    link.cut()
    await until('the door refuses', 60, async () => !(await publisher.send(100)))
    for (let round = 0; round < 3; round++) {
      const { status, retryAfter } = publisher.lastAnswer()
      assert.ok(status === 503 || status === 429, `answered ${status}`)
      assert.ok(Number(retryAfter) > 0, `Retry-After: ${retryAfter}`)
      assert.equal(await publisher.send(1), false)
    }
    assert.equal((await site.status()).verdict.state, 'unhealthy')
    link.heal()
    await until('the door takes points again', 45, () => publisher.send(100))
    await site.drained()
    assert.deepEqual(gapsOf(site), [])
    await agent.stop()
    await regional.stop()
    await link[Symbol.asyncDispose]()
    const verdict = await site.verdict(publisher.journal())
    assert.deepEqual(verdict.reasons, [])
    assert.equal(verdict.declared_lost, 0)
  })

  const startUs = 1_800_000_000_000_000
  const ackedPoint = (series: string, timeUs: number, value: Value): JournalPoint => ({
    ...exact(series, timeUs, value),
    acked: true,
  })
  const postLines = async (site: Site, lines: readonly string[]): Promise<number> => {
    const answer = await fetch(`${site.door}/write?precision=us`, {
      method: 'POST',
      body: lines.join('\n'),
    })
    await answer.arrayBuffer()
    return answer.status
  }

  /** Good points among these, one in seven bad: each a message, or a value, that nobody can take. */
  const badLines = [
    'no fields at all',
    'm value=1 2 3 4',
    'm value="open',
    'm value=nonsense 1',
    '=',
  ]
  const badMessages = ['{"ts": 1, ', 'not json', '[1', '\u0000', '{"temperature": }']
  const publishAll = async (url: string, journal: JournalPoint[]): Promise<number> => {
    const client = await mqtt.connectAsync(url)
    let bad = 0
    for (let at = 0; at < 700; at++) {
      const timeUs = startUs + at * 1000
      const payload =
        at % 7 === 3
          ? (badMessages[bad++ % badMessages.length] as string)
          : JSON.stringify({ ts: timeUs, temperature: at / 8 })
      if (at % 7 !== 3) journal.push(ackedPoint(`m${at % 5}.temperature`, timeUs, at / 8))
      await client.publishAsync(`plant/m${at % 5}/data`, payload, { qos: 1 })
    }
    await client.endAsync()
    return bad
  }

  test('bad messages among good ones: the good arrive, each bad one is a gap record with a sample', {
    timeout,
  }, async () => {
    const broker = await startMosquitto({ quiet: true })
    const subscribe = {
      ...{ topic: 'plant/+/data', fields: { temperature: 'float' } },
      ...{ time: 'ts', time_unit: 'us', series: '{topic[1]}.{field}' },
    }
    const line = { name: 'line', type: 'mqtt', url: broker.url, subscribe: [subscribe] }
    const site = await createSite({ sources: [line] })
    const regional = await site.startRegional()
    const agent = await site.startAgent()
    await agent.says(/"connected"|connected url/)
    const journal: JournalPoint[] = []
    let bad = await publishAll(broker.url, journal)
    for (let round = 0; round < 20; round++) {
      const lines = Array.from({ length: 10 }, (_, at) => {
        const timeUs = startUs + (round * 10 + at) * 1000
        journal.push(ackedPoint('door.value', timeUs, round + at / 16))
        return `door value=${round + at / 16} ${timeUs}`
      })
      lines.splice(round % 10, 0, badLines[bad++ % badLines.length] as string)
      assert.equal(await postLines(site, lines), 400)
    }
    await until('every loss is counted', 30, () => lostIn(gapsOf(site)) === bad)
    await site.drained()
    const sources = new Set(gapsOf(site).map(({ source }) => source))
    assert.deepEqual(sources, new Set(['line', 'door']))
    const samples = quarantineOf(site).map(({ sample }) => Buffer.from(sample, 'base64').toString())
    for (const text of [...badMessages, ...badLines])
      assert.ok(
        samples.some((one) => one.includes(text)),
        `no sample of ${JSON.stringify(text)}`,
      )
    await agent.stop()
    await regional.stop()
    await broker.stop()
    const verdict = await site.verdict(journal, { losses: bad })
    assert.deepEqual(verdict.reasons, [])
    assert.equal(verdict.delivered, journal.length)
    assert.equal(verdict.declared_lost, bad)
  })

  interface Stored {
    readonly key: number
    readonly points: number
    readonly bytes: Buffer
  }
  const spoolFile = (site: Site) => join(site.stateDir, 'spool.db')
  /** Segments that no reader has passed, in a spool whose agent has stopped. */
  const unsent = (site: Site): Stored[] => {
    const db = new Database(spoolFile(site))
    try {
      return db
        .prepare<[], Stored>(
          `SELECT key, points, bytes FROM segments
         WHERE key % 17592186044416 > (SELECT min(backlog) FROM cursors) ORDER BY key`,
        )
        .all()
    } finally {
      db.close()
    }
  }
  /** An agent that has stopped with so many segments for a region that never was. */
  const stoppedWith = async (segments: number) => {
    const site = await createSite({ lanes: { raw: { max_delay: '10ms' } } })
    const publisher = createHttpPublisher(() => site.door)
    const agent = await site.startAgent()
    for (let at = 0; at < segments; at++) assert.ok(await publisher.send(60))
    await agent.stop()
    assert.equal(unsent(site).length, segments)
    return { site, publisher }
  }
  /** Everything but `lost` points arrives; those are declared, for this reason. */
  const assertRestArrives = async (
    { site, publisher }: Awaited<ReturnType<typeof stoppedWith>>,
    lost: readonly Stored[],
    reason: string,
  ) => {
    const regional = await site.startRegional()
    const agent = await site.startAgent()
    assert.ok(await publisher.send(60))
    await site.drained()
    const count = lost.reduce((sum, { points }) => sum + points, 0)
    const gaps = gapsOf(site)
    assert.ok(gaps.every((gap) => gap.reason === reason))
    assert.equal(lostIn(gaps), count)
    // Whole, for a person to look at.
    assert.equal(quarantineOf(site).filter((row) => row.reason === reason).length, lost.length)
    await agent.stop()
    await regional.stop()
    const verdict = await site.verdict(publisher.journal())
    assert.deepEqual(verdict.reasons, [])
    assert.equal(verdict.declared_lost, count)
    assert.equal(verdict.delivered, publisher.acked() - count)
  }

  const seeds = release ? 100 : 3
  test(`${seeds} × flipped bits in a stopped spool's segments: they are declared, the rest arrives, nothing altered`, {
    timeout: timeout * 10,
  }, async () => {
    for (let seed = 0; seed < seeds; seed++) {
      const stopped = await stoppedWith(12)
      const file = readFileSync(spoolFile(stopped.site))
      const damaged = unsent(stopped.site).filter((_, at) => at % 5 === seed % 5)
      for (const [at, { bytes }] of damaged.entries()) {
        // Small segments lie in one piece; header, body and checksum all have their turn.
        const bit = (seed * 7_919 + at * 104_729) % (bytes.length * 8)
        const places: number[] = []
        // SQLite leaves stale copies on pages that it split: whichever is the true one is hit.
        for (let from = file.indexOf(bytes); from !== -1; from = file.indexOf(bytes, from + 1))
          places.push(from + (bit >> 3))
        assert.ok(places.length > 0)
        for (const place of places) file[place] = (file[place] as number) ^ (1 << (bit & 7))
      }
      writeFileSync(spoolFile(stopped.site), file)
      await assertRestArrives(stopped, damaged, 'damaged')
    }
  })

  test('segments that the region cannot read never block the line', { timeout }, async () => {
    const stopped = await stoppedWith(30)
    const poison = unsent(stopped.site).filter((_, at) => at === 4 || at === 20)
    const db = new Database(spoolFile(stopped.site))
    for (const { key, bytes } of poison) {
      // What a defect in memory would have sealed: a checksum that is right, over a body that is not.
      const changed = Buffer.from(bytes)
      changed.fill(0xff, 200, changed.length - 4)
      changed.writeUInt32LE(crc32c(changed.subarray(0, -4)), changed.length - 4)
      assert.notEqual(segmentDigest(changed), segmentDigest(bytes))
      db.prepare('UPDATE segments SET bytes = ? WHERE key = ?').run(changed, key)
    }
    db.close()
    await assertRestArrives(stopped, poison, 'rejected')
  })

  /** A way to the region on which one bit of every `everyBytes` is flipped, until `mend`. */
  const openFlippingLink = async (regionPort: number, everyBytes: number) => {
    let flips = 0
    let left = everyBytes
    let broken = true
    const sockets = new Set<Socket>()
    const flip = (data: Buffer): Buffer => {
      left -= data.length
      if (!broken || left > 0) return data
      left = everyBytes
      const at = Math.floor(Math.random() * data.length)
      data[at] = (data[at] as number) ^ (1 << (flips++ % 8))
      return data
    }
    const server = createServer((near) => {
      const far = connect(regionPort, '127.0.0.1')
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        sockets.add(from)
        from.on('error', () => {})
        from.on('close', () => to.destroy())
        from.on('data', (data) => to.write(from === near ? flip(data) : data))
      }
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return {
      port: (server.address() as { port: number }).port,
      flips: () => flips,
      mend: () => {
        broken = false
      },
      close: async () => {
        for (const socket of sockets) socket.destroy()
        await new Promise((resolve) => server.close(resolve))
      },
    }
  }

  test('a link that flips bits: nothing it touched is taken, and nothing stays behind', {
    timeout,
  }, async () => {
    const regionPort = await freePort()
    const link = await openFlippingLink(regionPort, 40_000)
    const site = await createSite({ relayPort: link.port, regionPort })
    const regional = await site.startRegional()
    const agent = await site.startAgent()
    const publisher = createHttpPublisher(() => site.door, { valueAt: bulky })
    const stop = new AbortController()
    const flood = publisher.flood(20, stop.signal)
    await until('five flips', 90, () => link.flips() >= 5)
    stop.abort()
    await flood
    link.mend()
    await site.drained(90)
    assert.deepEqual(gapsOf(site), [])
    await agent.stop()
    await regional.stop()
    await link.close()
    const verdict = await site.verdict(publisher.journal())
    assert.deepEqual(verdict.reasons, [])
    assert.equal(verdict.declared_lost, 0)
  })
})
