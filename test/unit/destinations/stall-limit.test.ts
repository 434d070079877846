/** Requests that get stuck are halved until they get through, and grow again; an outage does not shrink them to nothing. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { influxDialects } from '../../../src/destinations/influx-dialects.ts'
import { createInfluxSender } from '../../../src/destinations/influx-send.ts'
import { createPrometheusSender } from '../../../src/destinations/prometheus-send.ts'
import { later } from '../../../src/destinations/relay-outcome.ts'
import { createStallLimit } from '../../../src/destinations/stall-limit.ts'
import { createSystemHost, silentLog } from '../../../src/host.ts'
import { createTestLog } from '../../contract/destination-log.ts'

const signal = new AbortController().signal
const stuck = { kind: 'setback', setback: later('no answer'), stalled: true } as const

test('a limit halves when something as large got stuck, and doubles after some that arrived', () => {
  const limit = createStallLimit({ most: 1_000, least: 100, arrivalsBetweenTries: 3 })
  limit.arrived(1_000)
  assert.equal(limit.max(), 1_000)
  limit.stalled(1_000)
  limit.stalled(500)
  assert.equal(limit.max(), 250)
  for (let times = 0; times < 20; times++) limit.stalled(limit.max())
  assert.equal(limit.max(), 100)
  for (let times = 0; times < 20; times++) limit.arrived(10)
  assert.equal(limit.max(), 100, 'small ones say nothing')
  limit.arrived(100)
  limit.arrived(100)
  assert.equal(limit.max(), 100)
  limit.arrived(100)
  assert.equal(limit.max(), 200)
  for (let times = 0; times < 99; times++) limit.arrived(limit.max())
  assert.equal(limit.max(), 1_000)
})

for (const kind of ['influx', 'prometheus'] as const)
  test(`${kind}: a link too slow for a whole request gets smaller ones, until the link is better`, async () => {
    const log = createTestLog('gw-7')
    const deps = {
      name: 'far',
      agent: 'gw-7',
      spool: log.spool,
      host: createSystemHost({ log: silentLog }),
    }
    let linkMax = kind === 'influx' ? 60_000 : 700
    const sizes: number[] = []
    const answer = (size: number) => {
      sizes.push(size)
      return size > linkMax ? stuck : ({ kind: 'taken' } as const)
    }
    const send =
      kind === 'influx'
        ? createInfluxSender({
            ...{ deps, dialect: influxDialects.influxdb2, bytesMax: 1 << 18, endpoint: 'x' },
            place: { table: 'points', agentTag: 'agent' },
            post: async (lines) => answer(lines.reduce((sum, one) => sum + one.length + 1, 0)),
          })
        : createPrometheusSender({
            deps,
            post: async (samples) => answer(samples.length),
            held: async () => [],
          })
    const batch = log.batch([
      log.add(
        Array.from({ length: 8_000 }, (_, at) => ({
          ...{ name: 'm.v', timeUs: 1e15 + at * 1_000, value: at },
        })),
      ),
    ])
    const tries = async (most: number) => {
      for (let times = 1; times <= most; times++)
        if ((await send(batch, signal)).kind === 'stored') return times
      return assert.fail('it never got through')
    }
    assert.ok((await tries(6)) > 1)
    sizes.length = 0
    assert.ok((await tries(6)) >= 1)
    assert.ok(Math.max(...sizes) > linkMax / 3, 'no smaller than needed')
    linkMax = Number.POSITIVE_INFINITY
    sizes.length = 0
    for (let times = 0; times < 12; times++) await tries(2)
    assert.ok(Math.max(...sizes) >= (kind === 'influx' ? 250_000 : 5_000), 'whole requests again')
    // Nothing gets through for long: still some after it.
    linkMax = 0
    for (let times = 0; times < 40; times++) assert.equal((await send(batch, signal)).kind, 'later')
    linkMax = Number.POSITIVE_INFINITY
    sizes.length = 0
    assert.equal(await tries(1), 1)
    assert.ok(sizes.length <= 80, `${sizes.length} requests`)
  })
