import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createRig, floats, laneOptions, store } from './support.ts'

test('recorded losses come in the order of time over all lanes; few asked for are the newest', () => {
  // The lane that lost last was made first.
  const lanes = ['new', 'old', 'timeless'].map((name) =>
    laneOptions(name, { segmentPointsMax: 10 }),
  )
  const rig = createRig({ lanes })
  const spool = rig.open()
  const lose = (lane: string, first: number) => {
    store(spool, floats(rig.series, first, 10), lane, true)
    const seq = spool.lanes().find((one) => one.lane === lane)?.head ?? 0
    // Handed out, so that neighbours stay rows of their own.
    spool.read(lane, 0, 1e9)
    spool.quarantine(lane, seq, 'rejected', 'no')
    spool.read(lane, 0, 1e9)
  }
  const unreadable = (lane: string, source: string) => {
    const losses = [{ source, reason: 'malformed', count: 1, text: '' }] as const
    spool.commit([{ lane, intakes: [{ points: floats(rig.series, 1, 0), losses }], seal: true }])
    spool.read(lane, 0, 1e9)
  }
  for (const first of [100, 300]) lose('old', first)
  for (const first of [200, 400, 600]) lose('new', first)
  unreadable('new', 'after 600')
  lose('new', 800)
  const seen = (limit: number) =>
    spool.gaps(limit).map(({ lane, source, timeUsMin }) => `${lane} ${source || timeUsMin / 1_000}`)
  const all = ['old 100', 'new 200', 'old 300', 'new 400', 'new 600', 'new after 600', 'new 800']
  assert.deepEqual(seen(100), all)
  assert.deepEqual(seen(3), all.slice(-3))
  unreadable('timeless', 'nobody knows when')
  assert.deepEqual(seen(1), ['timeless nobody knows when'])
})
