/** An agent before Prometheus, both as processes: SIGKILL of either and outages lose nothing and alter nothing; the checker judges. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { kinds } from '../../src/model.ts'
import { check } from '../../src/verify/checker.ts'
import { startPrometheus } from '../support/prometheus-server.ts'
import { createHttpPublisher } from '../support/publisher.ts'
import { createSite } from '../support/site.ts'

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
/** Of the agent; every fourth one falls together with the server. */
const kills = 20

for (const window of [undefined, '30m'] as const)
  test(`${window === undefined ? 'in order' : `with a window of ${window}`}: SIGKILLs of the agent and of Prometheus, outages: counts and values are equal`, async () => {
    const prometheus = await startPrometheus(
      window === undefined ? {} : { outOfOrderWindow: window },
    )
    const site = await createSite({
      lanes: { raw: { max_delay: '50ms' } },
      destination: {
        ...{ name: 'prom', type: 'prometheus', url: prometheus.url, tls: undefined },
        ...(window === undefined ? {} : { out_of_order_window: window }),
      },
    })
    let agent = await site.startAgent()
    // Near now, a millisecond each: what Prometheus takes.
    const startUs = (Date.now() - 1_200_000) * 1_000
    const publisher = createHttpPublisher(() => site.door, { startUs, seriesCount: 5 })
    const stop = new AbortController()
    const flood = publisher.flood(40, stop.signal)
    const mine = window === undefined ? kills : 4
    try {
      for (let kill = 0; kill < mine; kill++) {
        await publisher.ackedMore(80)
        await pause(200 + Math.random() * 300)
        const outage = kill % 4 === 1
        if (outage) await prometheus.kill()
        if (outage) await pause(400)
        await agent.kill()
        agent = await site.startAgent()
        if (outage) await prometheus.restart()
      }
    } finally {
      stop.abort()
      await flood
    }
    await publisher.send(10)
    const { destinations } = await site.drained(60)
    assert.equal(destinations[0]?.state, 'up')
    await agent.stop()

    const journal = publisher.journal()
    const sent = new Map(journal.map((point) => [`${point.series}@${point.timeUs / 1_000}`, point]))
    const held = new Map<string, bigint>()
    for (const { labels, ms, value } of await prometheus.samples('{agent="gw-1"}')) {
      const key = `${labels.holdfast_series}@${ms}`
      assert.ok(!held.has(key), `${key} is there twice`)
      const bits = new BigUint64Array(new Float64Array([Number(value)]).buffer)[0] as bigint
      held.set(key, bits)
      assert.equal(bits, sent.get(key)?.bits, `${key} is altered`)
    }
    const missing = journal.filter(
      ({ acked, series, timeUs }) => acked && !held.has(`${series}@${timeUs / 1_000}`),
    )
    assert.deepEqual(missing, [])
    const rows = [...held].map(([key, bits]) => {
      const [series = '', ms] = key.split('@')
      const timeUs = Number(ms) * 1_000
      return { series, timeUs, kind: kinds.float, bits, text: null, quality: 0 }
    })
    const evidence = { journal: [journal], gaps: [], reduced: 0, pending: 0 }
    const verdict = await check({ ...evidence, rows: [rows], delivered: rows.length })
    assert.deepEqual(verdict.reasons, [])
    const less = await check({ ...evidence, rows: [rows.slice(1)], delivered: rows.length - 1 })
    assert.equal(less.missing, 1)
    assert.ok(publisher.acked() > mine * 40, `only ${publisher.acked()} points were accepted`)
    await prometheus.stop()
  })
