/**
 * Rules, windows and raw on demand through real processes: an agent killed again and again, a region that shows what
 * came of it. Judged from the points sent and from the region's database alone.
 */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import Database from 'better-sqlite3'
import { cli, createSite } from '../support/site.ts'

const second = 1_000_000
const startUs = 1_700_000_000 * second
const deviation = 0.5
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

interface Sent {
  readonly series: string
  readonly timeUs: number
  readonly value: number
}
/** Three walks, ten points a second of their own time. */
const series = ['walk.a', 'walk.b', 'walk.c']
let seed = 7
const random = () => {
  seed = (seed * 48_271) % 2_147_483_647
  return seed / 2_147_483_647
}
const walks = new Map(series.map((name) => [name, 20]))
const sent: Sent[] = []
const nextScan = (scan: number): Sent[] =>
  series.map((name) => {
    const value = Math.round(((walks.get(name) ?? 0) + random() - 0.5) * 100) / 100
    walks.set(name, value)
    return { series: name, timeUs: startUs + (scan * second) / 10, value }
  })
const lineOf = ({ series: name, timeUs, value }: Sent) =>
  `${name.split('.')[0]} ${name.split('.')[1]}=${value} ${timeUs}`
/** Until it is accepted: the same points at the same times once more are the same points. */
const post = async (door: string, points: readonly Sent[]): Promise<void> => {
  const body = points.map(lineOf).join('\n')
  for (let tries = 0; tries < 600; tries++) {
    const answer = await fetch(`${door}/write?precision=us`, { method: 'POST', body }).catch(
      () => undefined,
    )
    await answer?.arrayBuffer()
    if (answer?.status === 204) return
    await pause(50)
  }
  throw new Error('never accepted')
}

const site = await createSite({
  lanes: { raw: {}, reduced: { priority: 3 }, windows: {}, replay: { priority: 9 } },
  classes: {
    walks: {
      match: { names: ['walk.*'] },
      reduce: { method: 'swinging_door', deviation },
      windows: [
        { every: '1s', lateness: '2s', statistics: ['count', 'min', 'max', 'mean', 'last'] },
      ],
    },
  },
})
let regional = await site.startRegional()
let agent = await site.startAgent()
after(async () => {
  await agent.kill()
  await regional.kill()
})

type Row = Readonly<Record<string, number | string | bigint>>
const rows = (sql: string): readonly Row[] => {
  const db = new Database(site.regionDatabase, { readonly: true })
  try {
    return db.prepare<[], Row>(sql).all()
  } finally {
    db.close()
  }
}
const valuesOf = (name: string) =>
  new Map(
    rows(`select time_us, value from readings where series = '${name}' order by time_us`).map(
      (row) => [Number(row.time_us), Number(row.value)],
    ),
  )

/** How far a point lies off the straight line between its neighbours that were delivered. */
const errorAt = (point: Sent, times: readonly number[], values: ReadonlyMap<number, number>) => {
  const next = times.findIndex((time) => time >= point.timeUs)
  if (next < 0) return Number.POSITIVE_INFINITY
  const [t1, t0] = [times[next] as number, times[Math.max(0, next - 1)] as number]
  const [v0, v1] = [values.get(t0) as number, values.get(t1) as number]
  const share = t1 === t0 ? 0 : (point.timeUs - t0) / (t1 - t0)
  return Math.abs(point.value - (v0 + (v1 - v0) * share))
}

test('with six SIGKILLs: the bound holds, every window is what its points make, raw comes on request', async () => {
  for (let scan = 0; scan < 600; scan += 20) {
    const points = Array.from({ length: 20 }, (_, at) => nextScan(scan + at)).flat()
    sent.push(...points)
    const posting = post(site.door, points)
    if (scan % 100 === 60) {
      await pause(Math.random() * 60)
      await agent.kill()
      agent = await site.startAgent()
    }
    await posting
  }
  // A quality change and a far later point close doors and windows.
  const last = series.map((name) => ({ series: name, timeUs: startUs + 90 * second, value: 1 }))
  await post(site.door, last)
  sent.push(...last)
  await site.drained(60, sent.length)
  const raw = (await site.status()).lanes.find(({ lane }) => lane === 'raw')
  assert.ok(raw && raw.accepted >= sent.length)
  for (const one of raw.readers)
    assert.equal(raw.accepted, one.delivered + one.reduced + one.pending + one.declaredLost)

  // The embedded store lets nobody look while it runs.
  await regional.stop()
  let delivered = 0
  for (const name of series) {
    const values = valuesOf(name)
    const times = [...values.keys()]
    delivered += times.length
    const own = new Map(
      sent.filter((one) => one.series === name).map((one) => [one.timeUs, one.value]),
    )
    for (const [timeUs, value] of values)
      assert.equal(own.get(timeUs), value, 'no point is made up')
    for (const point of sent.filter((one) => one.series === name))
      assert.ok(errorAt(point, times, values) <= deviation, `${name} at ${point.timeUs}`)
  }
  assert.ok(delivered < sent.length / 2, `${delivered} of ${sent.length} points were delivered`)

  for (const name of series) {
    const shown = rows(
      `select start, count, min, max, sum, mean, last from windows where series = '${name}'`,
    )
    const starts = shown.map(({ start }) => (Number(start) - startUs) / second)
    assert.deepEqual(
      starts.sort((a, b) => a - b),
      Array.from({ length: 60 }, (_, at) => at),
      name,
    )
    for (const { start, count, min, max, sum, mean, last: newest } of shown) {
      const own = sent.filter(
        (one) =>
          one.series === name && one.timeUs >= Number(start) && one.timeUs < Number(start) + second,
      )
      const values = own.map(({ value }) => value)
      const added = values.reduce((all, value) => all + value, 0)
      assert.deepEqual(
        [count, min, max, sum, mean, newest].map(Number),
        [
          ...[own.length, Math.min(...values), Math.max(...values)],
          ...[added, added / own.length, values.at(-1)],
        ],
        `${name} at ${start}`,
      )
    }
  }

  regional = await site.startRegional()
  const from = new Date((startUs + 20 * second) / 1000).toISOString()
  const to = new Date((startUs + 30 * second) / 1000).toISOString()
  const replay = (series: string, ...more: readonly string[]) => {
    const range = ['--from', from, '--to', to, '--socket', site.socket]
    return cli(['replay', '--series', series, ...range, ...more])
  }
  assert.match(replay('walk.b', '--destination', 'nosuch').err, /HF-X404.*no destination "nosuch"/)
  assert.match(replay('nosuch.*').err, /met none of those series/)
  await site.when(
    ({ selections }) => selections.at(-1)?.text.includes('none of these') === true,
    30,
  )
  const asked = replay('walk.b')
  assert.equal(asked.code, 0, asked.err)
  await site.when(({ selections }) => selections.at(-1)?.state === 'done', 30)
  await pause(1_500)
  await site.drained(60)
  await regional.stop()
  const wanted = sent.filter(
    (one) =>
      one.series === 'walk.b' &&
      one.timeUs >= startUs + 20 * second &&
      one.timeUs < startUs + 30 * second,
  )
  const values = valuesOf('walk.b')
  assert.equal(wanted.length, 100)
  for (const { timeUs, value } of wanted) assert.equal(values.get(timeUs), value)
})
