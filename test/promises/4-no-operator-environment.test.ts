/**
 * "No operator is needed after a fault", as far as the machine around the agent is at fault: its disk, its clock, its
 * memory; and a region that fails over while nothing is left to send.
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { after, describe, test } from 'node:test'
import mqtt from 'mqtt'
import { because } from '../../src/model.ts'
import { createCertificates } from '../support/certificates.ts'
import { createFakeClock, noFakeClock } from '../support/clocks.ts'
import { openSmallDisk } from '../support/namespace.ts'
import { openPowerCutDisk } from '../support/power.ts'
import { isRoot, type Running, start } from '../support/processes.ts'
import { createHttpPublisher } from '../support/publisher.ts'
import { startMosquitto, startPostgres } from '../support/servers.ts'
import { createShim, noShim } from '../support/shim.ts'
import { createSite, type Site } from '../support/site.ts'
import { exact, type JournalPoint } from './checker.ts'

/** Waits for what a process says end with it, or with the test. */
const timeout = 150_000
const noMount = isRoot ? false : 'needs root (mount)'
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const until = async (what: string, seconds: number, holds: () => boolean | Promise<boolean>) => {
  for (const end = Date.now() + seconds * 1000; !(await holds()); await pause(100))
    if (Date.now() > end) throw new Error(`not in ${seconds} s: ${what}`)
}
const assertNothingLost = async (site: Site, journal: Iterable<JournalPoint>) => {
  const verdict = await site.verdict(journal)
  assert.deepEqual(verdict.reasons, [])
  assert.equal(verdict.declared_lost, 0)
  return verdict
}

const group = `/sys/fs/cgroup/memory/holdfast-test-${process.pid}`
after(async () => {
  // Whoever was in it has been stopped or killed by now, and takes a moment to be gone.
  await pause(500)
  if (existsSync(group)) rmdirSync(group)
})

/** The first waits for a minute; the others, one after the other, beside it. */
describe('faults around the agent', { concurrency: 2 }, () => {
  test('a region that fails over with nothing left to send is found out by the idle agent', {
    timeout,
  }, async () => {
    const certificates = await createCertificates()
    const postgres = await startPostgres({ certificates })
    const site = await createSite({ certificates, database: { url: postgres.url, postgres } })
    const regional = await site.startRegional()
    const agent = await site.startAgent()
    const publisher = createHttpPublisher(() => site.door)
    assert.ok(await publisher.send(200))
    await site.drained()
    await postgres.stop()
    const saved = postgres.saveData()
    await postgres.restart()
    assert.ok(await publisher.send(200))
    await site.drained()
    // The regional node stays, and the agent's connection to it; only the database forgets.
    await postgres.kill()
    postgres.restoreData(saved)
    await postgres.restart()
    const rows = () => Number(postgres.sql('select count(*) from points'))
    assert.equal(rows(), 200)
    await until('what it forgot is there again', 100, () => rows() === 400)
    assert.match(agent.output(), /rewind/)
    await site.drained()
    await agent.stop()
    await assertNothingLost(site, publisher.journal())
    await regional.stop()
    await postgres.stop()
  })

  test('a disk that is full: the door refuses, and takes points again once there is room', {
    skip: noMount,
    timeout,
  }, async () => {
    const disk = await openSmallDisk(48)
    const site = await createSite({
      run: disk.run,
      stateDir: `${disk.folder}/agent`,
      spool: { size_max: '16MiB', disk_free_min: '2MiB' },
      door: { commit_timeout: '2s' },
    })
    // No region yet: what a region has taken would be given up first, and make room.
    const agent = await site.startAgent()
    // 2 KiB of text a point, which no compressor makes small.
    const bulky = () => randomBytes(1_536).toString('base64')
    const publisher = createHttpPublisher(() => site.door, { valueAt: bulky })
    // First to the last byte, in the middle of a commit; then just below what the agent leaves free.
    for (const leaveBytes of [0, 1 << 20]) {
      const stop = new AbortController()
      const flood = publisher.flood(50, stop.signal)
      await pause(1_000)
      disk.fill(leaveBytes)
      await until('the door refuses', 60, () => publisher.lastAnswer().status === 503)
      assert.ok(Number(publisher.lastAnswer().retryAfter) > 0)
      stop.abort()
      await flood
      assert.equal((await site.status()).verdict.code, 'HF-H002')
      disk.free()
      await until('the door takes points again', 15, () => publisher.send(10))
    }
    const regional = await site.startRegional()
    await site.drained()
    await agent.stop()
    await regional.stop()
    const { accepted } = await assertNothingLost(site, publisher.journal())
    assert.ok(accepted > 500)
    await disk.dispose()
  })

  /** A fault ends the process with 74 under load; once it is over a new start goes on. */
  const assertGoesOn = async (
    site: Site,
    fault: { readonly env?: Record<string, string>; happen: () => void; end: () => void },
  ) => {
    const regional = await site.startRegional()
    const agent = await site.startAgent({ env: fault.env ?? {} })
    const publisher = createHttpPublisher(() => site.door)
    const stop = new AbortController()
    const flood = publisher.flood(100, stop.signal)
    await until('points are accepted', 30, () => publisher.acked() > 1_000)
    fault.happen()
    assert.equal(await agent.ended, 74, agent.output().slice(-2_000))
    stop.abort()
    await flood
    fault.end()
    const again = await site.startAgent({ env: fault.env ?? {} })
    assert.ok(await publisher.send(10))
    await site.drained()
    await again.stop()
    await regional.stop()
    await assertNothingLost(site, publisher.journal())
  }

  test('a flush that fails ends the process with 74; the next start goes on', {
    skip: noShim(),
    timeout,
  }, async () => {
    const shim = createShim('spool.db')
    await assertGoesOn(await createSite(), {
      env: { ...shim.env },
      happen: () => shim.order('fsync-eio'),
      end: () => shim.order(''),
    })
  })

  test('a disk that the kernel makes read-only ends the process with 74; the next start goes on', {
    skip: noMount,
    timeout,
  }, async () => {
    const disk = await openPowerCutDisk(96)
    const spool = { size_max: '48MiB', disk_free_min: '1MiB' }
    const site = await createSite({ run: disk.run, stateDir: `${disk.folder}/agent`, spool })
    await assertGoesOn(site, { happen: disk.failReadOnly, end: disk.powerOn })
    await disk.dispose()
  })

  /** Points without a time: what was sent when, by a clock that is right. */
  const createUntimed = (site: Site) => {
    const sent: { readonly value: number; readonly fromUs: number; readonly toUs: number }[] = []
    return {
      send: async (count: number) => {
        for (let at = 0; at < count; at++) {
          const value = sent.length + 0.25
          const fromUs = Date.now() * 1000
          const body = `arrival value=${value}\n`
          const answer = await fetch(`${site.door}/write`, { method: 'POST', body })
          await answer.arrayBuffer()
          assert.equal(answer.status, 204)
          sent.push({ value, fromUs, toUs: Date.now() * 1000 })
        }
      },
      count: () => sent.length,
      /** Each of them stands at the time it came in, a second more or less; then it may enter the journal under it. */
      journal: async (): Promise<JournalPoint[]> => {
        const rows = new Map<number, { timeUs: number; quality: number }>()
        await site.withReadBack(async (back) => {
          for await (const { name, bits, timeUs, quality } of back.readBack(site.name)) {
            if (name !== 'arrival.value' || typeof bits !== 'bigint') continue
            const value = new Float64Array(new BigUint64Array([bits]).buffer)[0] as number
            assert.equal(rows.has(value), false, `${value} stands twice`)
            rows.set(value, { timeUs, quality })
          }
        })
        let lastUs = 0
        return sent.map(({ value, fromUs, toUs }) => {
          const row = rows.get(value)
          assert.ok(row !== undefined, `${value} is not there`)
          const { timeUs, quality } = row
          const off = `${value} sent at ${fromUs}..${toUs} stands at ${timeUs}`
          assert.ok(timeUs > fromUs - 1_000_000 && timeUs < toUs + 1_000_000, off)
          assert.ok(timeUs > lastUs, `${value} stands before the one sent before it`)
          assert.ok(quality === 0 || quality === because.clockRebased, `quality ${quality}`)
          lastUs = timeUs
          return { ...exact('arrival.value', timeUs, value, quality), acked: true }
        })
      },
    }
  }
  const waitingIn = async (site: Site) => (await site.status()).spool?.waitingForClock
  const trusted = (site: Site, wanted: boolean) =>
    until(
      `clock trusted: ${wanted}`,
      30,
      async () => (await site.status()).clock.trusted === wanted,
    )

  test('a clock at 1970, and one that jumps: times of their own go on, arrivals wait and are stamped right', {
    skip: noFakeClock(),
    timeout,
  }, async () => {
    // Neither side's certificates may be what keeps the clock's troubles apart from TLS's.
    const certificates = await createCertificates({ fromMs: 0, days: 40_000 })
    const site = await createSite({ certificates })
    const at1970 = 3_600 - Math.floor(Date.now() / 1000)
    const clock = createFakeClock(at1970)
    let regional = await site.startRegional()
    let agent = await site.startAgent({ env: clock.env })
    const timed = createHttpPublisher(() => site.door)
    const untimed = createUntimed(site)
    await trusted(site, false)
    assert.ok(await timed.send(100))
    await untimed.send(20)
    assert.equal(await waitingIn(site), 20)
    // A restart within the same boot loses neither the points nor when they came.
    await agent.kill()
    await pause(1_500)
    agent = await site.startAgent({ env: clock.env })
    await untimed.send(20)
    assert.equal(await waitingIn(site), 40)
    await until('points with a time of their own arrive', 30, async () => {
      const [region] = (await site.status()).destinations
      return region?.state === 'up' && region.pending <= 40
    })
    clock.set(0)
    await trusted(site, true)
    await site.drained()
    // From its next hello on, the agent knows of a far side that agrees; only then can a jump ahead be told.
    await regional.stop()
    assert.ok(await timed.send(10))
    await until('the link is seen to be down', 30, async () => {
      const [region] = (await site.status()).destinations
      return region?.state !== 'up'
    })
    regional = await site.startRegional()
    await site.drained()
    for (const jump of [3 * 3_600, at1970, -7 * 86_400]) {
      await untimed.send(5)
      clock.set(jump)
      await trusted(site, false)
      await untimed.send(20)
      assert.ok(await timed.send(50))
      clock.set(0)
      await trusted(site, true)
      await untimed.send(5)
    }
    await until('nothing waits', 30, async () => (await waitingIn(site)) === 0)
    await site.drained()
    await agent.stop()
    await regional.stop()
    const journal = [...timed.journal(), ...(await untimed.journal())]
    const { delivered } = await assertNothingLost(site, journal)
    assert.equal(delivered, timed.acked() + untimed.count())
  })

  const limitBytes = 256 << 20
  /** A memory limit that the kernel enforces, where control groups (version 1) can be made; else nothing to start in. */
  const limitMemory = () => {
    try {
      mkdirSync(group)
      writeFileSync(`${group}/memory.limit_in_bytes`, String(limitBytes))
    } catch {
      return start
    }
    const run: typeof start = (command, args, options) => {
      const join = `echo $$ > ${group}/cgroup.procs && exec "$@"`
      return start('sh', ['-c', join, 'sh', command, ...args], options)
    }
    return run
  }
  /** The most memory the process ever had resident. */
  const peakBytes = ({ pid }: Running): number => {
    const found = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
    return Number(found?.[1]) * 1024
  }
  const fieldsAMessage = 10
  const messagesASecond = 1_000
  /** 10,000 points a second in messages of ten; what the broker acknowledged enters the journal. */
  const publishSteadily = async (url: string, seconds: number): Promise<JournalPoint[]> => {
    const client = await mqtt.connectAsync(url)
    const journal: JournalPoint[] = []
    const acks: Promise<unknown>[] = []
    const from = Date.now()
    for (let nth = 0; nth < seconds * messagesASecond; nth++) {
      const timeUs = 1_800_000_000_000_000 + nth * 1_000
      const device = `d${nth % 50}`
      const values: Record<string, number> = { ts: timeUs }
      for (let at = 0; at < fieldsAMessage; at++) {
        const value = ((nth * 7 + at * 13) % 4_096) / 8
        values[`f${at}`] = value
        journal.push({ ...exact(`${device}.f${at}`, timeUs, value), acked: true })
      }
      acks.push(client.publishAsync(`plant/${device}`, JSON.stringify(values), { qos: 1 }))
      const dueMs = from + (nth * 1000) / messagesASecond
      if (dueMs > Date.now() + 10) await pause(10)
    }
    await Promise.all(acks)
    await client.endAsync()
    return journal
  }

  test('a slow gateway of 256 MiB whose flushes take 50 to 500 ms keeps up its session at 10,000 points a second', {
    skip: noShim(),
    timeout,
  }, async () => {
    const broker = await startMosquitto({
      quiet: true,
      settings: ['max_queued_messages 0', 'max_inflight_messages 1000', 'log_type notice'],
    })
    const fields = Object.fromEntries(
      Array.from({ length: fieldsAMessage }, (_, at) => [`f${at}`, 'float']),
    )
    const mapping = { fields, time: 'ts', time_unit: 'us', series: '{topic[1]}.{field}' }
    const line = {
      ...{
        name: 'line',
        type: 'mqtt',
        url: broker.url,
        client_id: 'slow-gateway',
        keepalive: '5s',
      },
      subscribe: [{ topic: 'plant/+', ...mapping }],
    }
    const run = limitMemory()
    const shim = createShim('spool.db')
    const site = await createSite({ sources: [line], run })
    const regional = await site.startRegional()
    const agent = await site.startAgent({ env: { ...shim.env } })
    await agent.says(/"connected"|connected url/)
    shim.order('fsync-ms=50 fsync-rare-ms=500')
    const journal = await publishSteadily(broker.url, 60)
    await until('all of it is accepted', 60, async () => {
      const { sources } = await site.status()
      return sources.find(({ name }) => name === 'line')?.points === journal.length
    })
    await site.drained(60)
    const peak = peakBytes(agent)
    shim.order('')
    await agent.stop()
    await regional.stop()
    assert.ok(peak < limitBytes, `${Math.round(peak / (1 << 20))} MiB resident`)
    const sessions = broker.output().split(/New client connected .* as slow-gateway /).length - 1
    assert.equal(sessions, 1, broker.output().slice(-2_000))
    assert.doesNotMatch(broker.output(), /slow-gateway has exceeded timeout/)
    await broker.stop()
    const { delivered } = await assertNothingLost(site, journal)
    assert.equal(delivered, journal.length)
  })
})
