/** The forwarder's states one by one, over a model spool and a far side with a script. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { helloIdleMs, retryAfterMsMax } from '../../../src/limits.ts'
import { createTrial } from './far-side.ts'

const upTo = (count: number) => Array.from({ length: count }, (_, at) => at + 1)

test('everything arrives once and in order, with several requests in flight and never more', async () => {
  const trial = createTrial({}, { liveShare: 0 })
  trial.add(100)
  trial.start()
  assert.ok(await trial.until(() => trial.drained() === 100))
  assert.deepEqual(trial.order, upTo(100))
  assert.equal(trial.inFlightMax(), 4)
  trial.add(1)
  assert.ok(await trial.until(() => trial.drained() === 101))
  assert.ok(await trial.stop())
  assert.equal(trial.inFlight(), 0)
  assert.equal(trial.waiting(), 0, 'no waiter left in the spool')
})

test('an answer that is lost is asked for, not sent again', async () => {
  const trial = createTrial({ send: (_, nth) => (nth === 1 ? 'lost' : undefined) })
  trial.add(1)
  trial.start()
  assert.ok(await trial.until(() => trial.drained() === 1))
  assert.deepEqual(trial.order, [1], 'the hello moved the cursor')
  await trial.stop()
})

test('far behind: fresh points go ahead of the backlog, and both become one again', async () => {
  const trial = createTrial()
  trial.add(200)
  trial.start()
  await trial.until(() => trial.order.length > 10)
  trial.add(1)
  await trial.until(() => trial.held().has(201))
  assert.ok(trial.drained() < 150, 'the backlog is still under way')
  assert.ok(await trial.until(() => trial.drained() === 201))
  assert.equal(trial.cursor('far').live, null)
  assert.deepEqual(
    [...trial.order].sort((a, b) => a - b),
    upTo(201),
  )
  trial.add(30)
  assert.ok(await trial.until(() => trial.drained() === 231))
  await trial.stop()
})

test('later: backs off with jitter under a growing ceiling, then goes on', async () => {
  let refuse: boolean = true
  const trial = createTrial({ send: () => (refuse ? { kind: 'later', text: 'busy' } : undefined) })
  trial.add(3)
  trial.start()
  await trial.until(() => trial.sends.length > 40, 3_600_000)
  await trial.until(() => trial.forwarder.status().phase === 'waiting')
  assert.equal(trial.forwarder.status().text, 'busy')
  const spans = trial.sends.slice(1).map((one, at) => one.atMs - (trial.sends[at]?.atMs ?? 0))
  assert.ok(Math.max(...spans) <= 21_000, 'within seconds after the fault, whatever its length')
  assert.ok(Math.max(...spans) > 3_000)
  refuse = false
  assert.ok(await trial.until(() => trial.drained() === 3, 21_000))
  assert.equal(trial.forwarder.status().text, '')
  await trial.stop()
})

test('Retry-After stands, but no longer than its ceiling', async () => {
  for (const [asked, least, most] of [
    [30_000, 30_000, 34_000],
    [1e9, retryAfterMsMax, retryAfterMsMax + 1_000],
  ] as const) {
    const trial = createTrial({
      send: (_, nth) => (nth === 1 ? { kind: 'later', text: '', afterMs: asked } : undefined),
    })
    trial.add(1)
    trial.start()
    await trial.until(() => trial.drained() === 1, 2e9)
    const waitedMs = Number(trial.sends.at(1)?.atMs) - Number(trial.sends.at(0)?.atMs)
    assert.ok(waitedMs >= least && waitedMs <= most, `${waitedMs}`)
    await trial.stop()
  }
})

test('smaller: fewer segments a request from then on', async () => {
  const trial = createTrial(
    { send: ({ items }) => (items.length > 2 ? { kind: 'smaller', text: '413' } : undefined) },
    { bodyBytesMax: 2_000, liveShare: 0 },
  )
  trial.add(60)
  trial.start()
  assert.ok(await trial.until(() => trial.drained() === 60))
  assert.deepEqual(trial.order, upTo(60))
  const refused = trial.sends.filter(({ batch }) => batch.items.length > 2).length
  assert.ok(refused < 30, `${refused} requests before the limit was learned`)
  await trial.stop()
})

test('a single segment too big goes to the quarantine, and its tombstone is sent in its place', async () => {
  const trial = createTrial(
    {
      send: ({ items }) =>
        items.some((one) => one.type === 'segment' && one.seq === 3)
          ? { kind: 'smaller', text: 'too big', bytesMax: 150 }
          : undefined,
    },
    { liveShare: 0 },
  )
  trial.add(5)
  trial.start()
  assert.ok(await trial.until(() => trial.drained() === 5))
  assert.equal(trial.item(3)?.type, 'tombstone')
  assert.ok(trial.held().has(3))
  await trial.stop()
})

test('rejected for good: quarantined, what stood beside it is sent again', async () => {
  const trial = createTrial({
    send: ({ items }) =>
      items.some((one) => one.type === 'segment' && one.seq === 2)
        ? { kind: 'stored', rejected: [{ seq: 2, text: 'bad frame' }] }
        : undefined,
  })
  trial.add(4)
  trial.start()
  assert.ok(await trial.until(() => trial.drained() === 4))
  assert.deepEqual([...trial.held()].sort(), [1, 2, 3, 4])
  assert.equal(trial.item(2)?.type, 'tombstone')
  await trial.stop()
})

test('a far side that rejects everything costs a segment a minute, not the backlog', async () => {
  const trial = createTrial({
    send: ({ items }) => {
      const rejected = items.flatMap((one) =>
        one.type === 'segment' ? [{ seq: one.seq, text: 'no' }] : [],
      )
      return rejected.length > 0 ? { kind: 'stored', rejected } : undefined
    },
  })
  trial.add(500)
  trial.start()
  await trial.until(() => false, 10 * 60_000)
  const given = upTo(500).filter((seq) => trial.item(seq)?.type === 'tombstone').length
  assert.ok(given >= 4 && given < 50, `${given} given up`)
  assert.equal(trial.forwarder.status().phase, 'blocked')
  assert.equal(trial.forwarder.status().code, 'HF-F001')
  await trial.stop()
})

test('rewind: what the far side forgot is sent again, found by an answer or by the idle minute', async () => {
  for (const busy of [true, false]) {
    const trial = createTrial()
    trial.add(20)
    trial.start()
    assert.ok(await trial.until(() => trial.drained() === 20))
    trial.forget(12)
    if (busy) trial.add(1)
    assert.ok(await trial.until(() => trial.held().has(13), helloIdleMs + 5_000))
    assert.ok(await trial.until(() => trial.drained() === (busy ? 21 : 20)))
    assert.equal(trial.held().size, busy ? 21 : 20)
    assert.equal(trial.forwarder.status().rewinds, 1)
    await trial.stop()
  }
})

test('a rewind to what its own request did not know as acked is not believed', async () => {
  const trial = createTrial({
    send: (_, nth) => (nth === 3 ? { kind: 'rewind', after: 4 } : undefined),
  })
  trial.add(12)
  trial.start()
  assert.ok(await trial.until(() => trial.drained() === 12))
  assert.equal(trial.forwarder.status().rewinds, 0)
  await trial.stop()
})

test('blocked: probed once a minute, nothing dropped, goes on by itself', async () => {
  let refuse: boolean = true
  const blocked = { kind: 'blocked', code: 'HF-R001', text: 'fenced', hint: 'admit it' } as const
  const trial = createTrial({ standing: () => (refuse ? blocked : undefined) })
  trial.add(5)
  trial.start()
  await trial.until(() => false, 10 * 60_000)
  assert.equal(trial.sends.length, 0)
  assert.equal(trial.forwarder.status().phase, 'blocked')
  assert.equal(trial.forwarder.status().hint, 'admit it')
  refuse = false
  assert.ok(await trial.until(() => trial.drained() === 5, 70_000))
  await trial.stop()
})

test('a bandwidth ceiling holds, and fresh points keep their share of it', async () => {
  const trial = createTrial({}, { bandwidthBytesPerSecond: 1_000 })
  trial.add(100)
  trial.start()
  await trial.until(() => trial.sends.length > 0)
  const from = trial.time.nowMs()
  await trial.until(() => false, 5_000)
  trial.add(5)
  await trial.until(() => trial.held().has(105), 10_000)
  assert.ok(trial.time.nowMs() - from < 9_000, 'fresh points did not wait for the backlog')
  await trial.until(() => trial.drained() === 105)
  const bytes = trial.sends.reduce((sum, one) => sum + one.batch.items.length * 100, 0)
  assert.ok(trial.time.nowMs() - from > bytes - 2_000)
  await trial.stop()
})

test('under a ceiling: live points have their share beside a backlog, a replay takes none on top', async () => {
  const rate = 2_000
  const trial = createTrial(
    {},
    { bandwidthBytesPerSecond: rate, liveShare: 0.75, bodyBytesMax: 250 },
  )
  trial.add(600)
  trial.start()
  await trial.until(() => trial.order.length > 30)
  const from = trial.time.nowMs()
  const before = trial.sends.length
  // More fresh points than their share carries, for a while.
  for (let second = 0; second < 20; second++) {
    trial.add(20)
    await trial.until(() => false, 1_000)
  }
  const during = trial.sends.slice(before)
  const bytesOf = (all: typeof during) =>
    all.reduce((sum, { batch }) => sum + batch.items.length * 108, 0)
  const fresh = during.filter(({ batch }) => (batch.items[0]?.seq ?? 0) > 600)
  const share = bytesOf(fresh) / bytesOf(during)
  assert.ok(share > 0.65 && share < 0.85, `${share} of the link`)
  const span = (trial.time.nowMs() - from) / 1000
  assert.ok(bytesOf(during) <= rate * span + 3 * 250, `${bytesOf(during)} in ${span} s`)
  assert.ok(bytesOf(during) >= 0.9 * rate * span, 'the link is used')

  assert.ok(await trial.until(() => trial.drained() === 1_000))
  await trial.forwarder.replay('raw', 0, 200_000_000)
  const replayFrom = trial.time.nowMs()
  const sent = trial.sends.length
  for (let second = 0; second < 15; second++) {
    trial.add(10)
    await trial.until(() => false, 1_000)
  }
  const both = trial.sends.slice(sent)
  const seconds = (trial.time.nowMs() - replayFrom) / 1000
  assert.ok(both.some(({ batch }) => batch.replay) && both.some(({ batch }) => !batch.replay))
  assert.ok(bytesOf(both) <= rate * seconds + 3 * 250, `${bytesOf(both)} in ${seconds} s`)
  await trial.stop()
})

test('on a thin link no request holds up what is more urgent for longer than two seconds', async () => {
  const options = { bandwidthBytesPerSecond: 8_000, bodyBytesMax: 512 * 1024, liveShare: 0 }
  const trial = createTrial({}, options)
  trial.add(300, 1_000)
  trial.start()
  assert.ok(await trial.until(() => trial.drained() === 300))
  const largest = Math.max(...trial.sends.map(({ batch }) => batch.items.length * 1_000))
  assert.ok(largest > 8_000 && largest <= 16 * 1024, `${largest}`)
  await trial.stop()
})

test('a far side that keeps no books: cursors stand as they are', async () => {
  const trial = createTrial({ standing: () => ({ kind: 'unknown' }) })
  trial.add(10)
  trial.start()
  assert.ok(await trial.until(() => trial.drained() === 10))
  await trial.stop()
})

test('a destination that throws is a bug: the service ends with it and leaves nothing running', async () => {
  const trial = createTrial({
    send: () => {
      throw new Error('a bug')
    },
  })
  trial.add(3)
  trial.start()
  await assert.rejects(() => trial.until(() => false, 10_000), /a bug/)
  assert.equal(trial.waiting(), 0)
})

test('replay: a segment that is refused now is passed over and counted', async () => {
  const trial = createTrial({
    send: ({ replay, items: [item] }) =>
      replay && item?.seq === 7
        ? { kind: 'stored', rejected: [{ seq: 7, text: 'not any more' }] }
        : undefined,
  })
  trial.add(10)
  trial.start()
  assert.ok(await trial.until(() => trial.drained() === 10))
  await trial.forwarder.replay('raw', 5_000_000, 10_000_000)
  await trial.until(() => trial.forwarder.replays()[0]?.state === 'done')
  const [{ segmentsSent, segmentsRefused, pointsSent } = {}] = trial.forwarder.replays()
  assert.deepEqual([segmentsSent, segmentsRefused, pointsSent], [4, 1, 40])
  assert.ok(await trial.stop())
})

test('replay: what the far side will not have waits with its reason; live points and other replays go on', async () => {
  const refused = { kind: 'blocked', code: 'HF-F162', text: 'out of order', hint: 'x' } as const
  let taken = false
  const trial = createTrial({
    send: ({ replay, items: [item] }) =>
      replay && item?.seq === 3 && !taken ? refused : undefined,
  })
  trial.add(10)
  trial.start()
  assert.ok(await trial.until(() => trial.drained() === 10))
  const replays = () => trial.forwarder.replays()
  await trial.forwarder.replay('raw', 0, 5_000_000)
  await trial.until(() => (replays()[0]?.text ?? '') !== '')
  assert.equal(replays()[0]?.state, 'waiting')
  assert.match(replays()[0]?.text ?? '', /HF-F162 out of order/)
  await trial.forwarder.replay('raw', 5_000_000, 10_000_000)
  const beganMs = trial.time.nowMs()
  trial.add(1)
  await trial.until(() => trial.drained() === 11 && replays()[1]?.state === 'done')
  assert.ok(trial.time.nowMs() - beganMs < 5_000, 'nobody waited for the one that waits')
  assert.equal(trial.forwarder.status().phase, 'sending')
  taken = true
  await trial.until(() => replays()[0]?.state === 'done', 120_000)
  assert.equal(replays()[0]?.text, '')
  assert.ok(await trial.stop())
})

test('replay: the range again, marked, once more after a restart, and not beyond what is acked', async () => {
  const trial = createTrial({ delayMs: 100 })
  trial.add(30)
  trial.start()
  assert.ok(await trial.until(() => trial.drained() === 30))
  const sent = trial.sends.length
  const asked = await trial.forwarder.replay('raw', 5_000_000, 15_000_000)
  assert.equal(asked.segments, 10)
  await trial.until(() => trial.sends.length === sent + 4)
  assert.ok(await trial.stop())
  assert.equal(trial.forwarder.replays()[0]?.state, 'running')

  const again = trial.build()
  const stop = new AbortController()
  const ended = again.run(stop.signal)
  await trial.until(() => again.replays()[0]?.state === 'done')
  const replayed = trial.sends.slice(sent).flatMap(({ batch }) => {
    assert.ok(batch.replay)
    return batch.items.map((one) => one.seq)
  })
  assert.deepEqual([...new Set(replayed)], [5, 6, 7, 8, 9, 10, 11, 12, 13, 14])
  assert.equal(again.replays()[0]?.pointsSent, 100)
  const cancelled = await again.replay('raw', 0, 30_000_000)
  assert.ok(await again.cancelReplay(cancelled.id))
  assert.equal(again.replays().at(-1)?.state, 'cancelled')
  await assert.rejects(() => again.replay('alarms', 0, 1), { code: 'HF-F003' })
  stop.abort()
  await trial.until(() => false, 5_000)
  await ended
})
