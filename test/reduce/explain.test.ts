/** What `explain` says of a running agent, held against what came to the region. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import Database from 'better-sqlite3'
import type { Plan } from '../../src/cli/plan/report.ts'
import type { ExplainAnswer, ExplainPoint } from '../../src/control/explained.ts'
import { cli, createSite } from '../support/site.ts'

const second = 1_000_000
const startUs = 1_700_000_000 * second
const deviation = 0.5

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
let seed = 11
const random = () => {
  seed = (seed * 48_271) % 2_147_483_647
  return seed / 2_147_483_647
}
const site = await createSite({
  lanes: { raw: {}, reduced: {}, windows: {} },
  sources: [{ name: 'plant', type: 'simulate', series: 3, rate: 30 }],
  classes: {
    alarms: { match: { names: ['*.alarm'] }, reduce: { method: 'on_change' } },
    walks: {
      match: { names: ['press.*', 'walk.*'], tags: { line: '2*' } },
      reduce: { method: 'deadband', deviation, heartbeat: '20s' },
      windows: [{ every: '1s', lateness: '2s', statistics: ['count', 'mean'] }],
    },
    rest: { reduce: { method: 'swinging_door', deviation: 0.02 } },
  },
})
const regional = await site.startRegional()
let agent = await site.startAgent()
after(async () => {
  await agent.kill()
  await regional.kill()
})

const post = async (lines: readonly string[]): Promise<void> => {
  const body = lines.join('\n')
  const answer = await fetch(`${site.door}/write?precision=us`, { method: 'POST', body })
  assert.equal(answer.status, 204, await answer.text())
}
const explained = (series: string, count: number): ExplainAnswer => {
  const { code, out, err } = cli([
    'explain',
    series,
    '-n',
    String(count),
    '--json',
    '--socket',
    site.socket,
  ])
  assert.equal(code, 0, err)
  return JSON.parse(out) as ExplainAnswer
}
/** Once nothing of it waits any more, its newest point at `untilUs`. */
const settled = async (series: string, count: number, untilUs: number): Promise<ExplainAnswer> => {
  for (let tries = 0; tries < 60; tries++) {
    const answer = explained(series, count)
    const there = answer.points.some(({ timeUs }) => timeUs === untilUs)
    if (there && answer.points.every(({ state }) => state !== 'waits')) return answer
    await pause(500)
  }
  throw new Error('it still waits')
}
const refused = (series: string) => {
  const { code, err } = cli(['explain', series, '--socket', site.socket])
  assert.equal(code, 1)
  return err
}
const words = (points: readonly ExplainPoint[], state: string) =>
  new Set(points.filter((one) => one.state === state).map(({ reason }) => reason))

const line = (at: number, value: number) =>
  `walk,line=21 a=${value} ${startUs + Math.round(at * second)}`
const sent = new Map<number, number>()
let value = 20
const walk = async (from: number, to: number) => {
  const lines: string[] = []
  for (let at = from; at < to; at++) {
    value = Math.round((value + (random() - 0.5) * 0.6) * 100) / 100
    sent.set(startUs + Math.round((at / 10) * second), value)
    lines.push(line(at / 10, value))
  }
  await post(lines)
}

test('what explain says of each point is what the region has', async () => {
  for (let at = 0; at < 200; at += 20) {
    await walk(at, at + 20)
    if (at === 100) {
      await agent.kill()
      agent = await site.startAgent()
    }
  }
  const walked = await settled('walk.a', 100, Math.max(...sent.keys()))
  assert.deepEqual(
    walked.classes.map((one) => [one.class, one.chosen, one.because]),
    [
      ['alarms', false, 'names: *.alarm (it is walk.a)'],
      ['walks', true, 'names: walk.*, tags: line=2*'],
    ],
  )
  assert.deepEqual(
    [walked.lane, walked.rule?.method, walked.rule?.deviation],
    ['raw', 'deadband', deviation],
  )
  assert.deepEqual(
    walked.routes.map(({ lane, holds, destinations }) => [lane, holds, destinations.length]),
    [
      ['raw', 'raw', 0],
      ['reduced', 'reduced', 1],
      ['windows', 'windows', 1],
    ],
  )
  if (walked.points.at(-1)?.state === 'reduced')
    assert.match(walked.points.at(-1)?.text ?? '', /; a heartbeat is due from 2023-/)
  assert.equal(walked.points.length, 100)
  assert.deepEqual(
    walked.points.map(({ timeUs }) => timeUs),
    [...sent.keys()].slice(-100),
  )
  assert.deepEqual(words(walked.points, 'reduced'), new Set(['within']))
  assert.ok(words(walked.points, 'sent').has('beyond'))
  let before = Number.NaN
  for (const one of walked.points) {
    if (one.state === 'sent') before = Number(one.value)
    else if (!Number.isNaN(before))
      assert.match(
        one.text,
        new RegExp(`: ${Number(Math.abs(Number(one.value) - before).toPrecision(6))} of 0.5`),
      )
  }

  // A point a minute late: sent as it is and what lies around it, and for its window too late.
  await post([line(1.05, 99)])
  const lateUs = startUs + 1.05 * second
  const late = (await settled('walk.a,line=21', 1, lateUs)).points[0]
  assert.deepEqual([late?.value, late?.state, late?.tooLateForUs], [99, 'sent', [second]])

  assert.match(refused('wolk.a'), /HF-X404.*wolk\.a[\s\S]*walk\.a,line=21/)
  assert.match(refused('*'), /HF-X034[\s\S]*pump\.current,\S+ {2}walk\.a,line=21/)
  const plant = explained('pump.current', 200)
  assert.deepEqual([plant.classes.at(-1)?.class, plant.sources], ['rest', ['door', 'plant']])
  assert.ok(words(plant.points, 'reduced').has('corridor'))
  assert.ok(
    words(plant.points, 'sent').has('corner'),
    JSON.stringify([...words(plant.points, 'sent')]),
  )
  const text = cli(['explain', 'walk.a', '--socket', site.socket])
  assert.match(text.out, /not class alarms[\s\S]*class walks: names[\s\S]*lane "reduced"/)

  // The raw lane of the running agent, rehearsed by the same classes.
  const { code, out, err } = cli(['plan', '-c', site.config, '--socket', site.socket, '--json'])
  assert.equal(code, 0, err)
  const { now } = JSON.parse(out) as Plan
  const walks = now.classes.find((one) => one.class === 'walks')
  assert.ok(walks && walks.greatestError !== null && walks.pointsIn === sent.size + 1)
  assert.ok(walks.greatestError <= deviation && walks.greatestError > deviation / 2)
  assert.ok(walks.pointsOut > 10 && walks.pointsOut < walks.pointsIn / 2)

  await agent.stop()
  await regional.stop()
  const db = new Database(site.regionDatabase, { readonly: true })
  const timesOf = (name: string) =>
    new Set(
      db.prepare('select time_us from readings where series = ?').pluck().all(name) as number[],
    )
  const [ofWalk, ofPlant] = [timesOf('walk.a'), timesOf(plant.series)]
  db.close()
  // The newest one may leave later, by a heartbeat.
  for (const one of walked.points.slice(0, -1))
    assert.equal(ofWalk.has(one.timeUs), one.state === 'sent', one.time)
  const known = plant.points.filter(({ reason }) => reason !== 'unknown')
  assert.ok(known.length > plant.points.length * 0.8, `${known.length} reasons known`)
  for (const { state, timeUs, reason, time } of known.slice(0, -5)) {
    if (state === 'waits') continue
    assert.equal(ofPlant.has(timeUs), state === 'sent', `${time} ${state} ${reason}`)
  }
})
