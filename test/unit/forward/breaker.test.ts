/** The circuit breaker, what was learned of sizes, and refused points sent again; in virtual time. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createBreaker, opensAfterFailures } from '../../../src/forward/breaker.ts'
import type { ResendAnswer } from '../../../src/forward/forwarder.ts'
import type { Outcome } from '../../../src/model.ts'
import { createTrial, type Script } from './far-side.ts'

const later: Outcome = { kind: 'later', text: 'HTTP 503: busy' }
const wrong: Outcome = { kind: 'blocked', code: 'HF-F120', text: 'wrong token', hint: 'mend it' }

test('breaker: opens at the third failure in a row, or at once where only a person can help', () => {
  const breaker = createBreaker(() => 0.5)
  const states: string[] = []
  for (let nth = 1; nth <= opensAfterFailures; nth++) {
    breaker.failed(later)
    states.push(breaker.state())
  }
  assert.deepEqual(states, ['closed', 'closed', 'open'])
  breaker.trying()
  assert.equal(breaker.state(), 'half_open')
  breaker.failed(later)
  assert.equal(breaker.state(), 'open')
  breaker.trying()
  breaker.stored()
  assert.deepEqual([breaker.state(), breaker.failures()], ['closed', 0])
  // A far side that was restored answers, and is no failure.
  for (let nth = 0; nth < 5; nth++) breaker.failed({ kind: 'rewind', lane: 'raw', after: 0 })
  assert.equal(breaker.state(), 'closed')
  breaker.failed(wrong)
  assert.equal(breaker.state(), 'open')
})

test('a rewind waits not, one to the same place again does, whatever was committed in between', () => {
  const breaker = createBreaker(() => 0.5)
  const rewind = (after: number) => {
    breaker.stored()
    return breaker.failed({ kind: 'rewind', lane: 'raw', after })
  }
  const waits = [7, 3, 3, 3, 3, 5].map(rewind)
  assert.deepEqual([waits[0], waits[1], waits[5]], [0, 0, 0])
  const [, , first = 0, second = 0, third = 0] = waits
  assert.ok(first > 0 && second === 2 * first && third === 2 * second, `${waits}`)
})

test('open: nothing is sent while it waits; half open: one request a lane until one is committed', async () => {
  const script: Script = { send: () => later, delayMs: 100 }
  const trial = createTrial(script, { liveShare: 0 })
  trial.add(100)
  trial.start()
  const { forwarder, time } = trial
  await trial.until(() => forwarder.status().breaker === 'open')
  assert.equal(forwarder.status().failures, opensAfterFailures)
  assert.equal(forwarder.status().text, 'HTTP 503: busy')
  const sentBefore = trial.sends.length
  const waitMs = forwarder.status().retryInMs ?? 0
  await time.run(() => false, time.nowMs() + waitMs - 1)
  assert.equal(trial.sends.length, sentBefore, 'sent while open')
  let most = 0
  const probes: number[] = []
  script.send = (_, nth) => {
    if (forwarder.status().breaker === 'half_open') {
      most = Math.max(most, trial.inFlight())
      probes.push(nth)
    }
    return undefined
  }
  assert.ok(await trial.until(() => trial.drained() === 100))
  assert.deepEqual([most, probes.length], [1, 1])
  assert.equal(forwarder.status().breaker, 'closed')
  assert.equal(trial.inFlightMax(), 4, 'afterwards as many as configured')
  assert.equal(forwarder.status().text, '')
  await trial.stop()
})

test('a probe that fails opens it again, and the points wait', async () => {
  const script: Script = { send: () => wrong }
  const trial = createTrial(script)
  trial.add(5)
  trial.start()
  await trial.until(() => trial.forwarder.status().breaker === 'open')
  assert.equal(trial.forwarder.status().phase, 'blocked')
  const before = trial.sends.length
  await trial.until(() => trial.sends.length > before)
  await trial.until(() => trial.forwarder.status().breaker === 'open')
  assert.equal(trial.drained(), 0)
  delete script.send
  assert.ok(await trial.until(() => trial.drained() === 5, 70_000))
  await trial.stop()
})

test('a learned size limit is kept over a restart, tried upwards, and forgotten with the endpoint', async () => {
  let [limit, endpoint] = [2, 'https://far']
  const script: Script = {
    send: ({ items }) => (items.length > limit ? { kind: 'smaller', text: '413' } : undefined),
    endpoint: () => endpoint,
  }
  const trial = createTrial(script, { bodyBytesMax: 900, liveShare: 0 })
  const most = () => Math.max(...trial.sends.map(({ batch }) => batch.items.length))
  trial.add(40)
  trial.start()
  assert.ok(await trial.until(() => trial.drained() === 40))
  assert.ok(most() > 2)
  await trial.stop()
  const again = async (segments: number) => {
    trial.sends.length = 0
    const goal = trial.drained() + segments
    trial.add(segments)
    trial.start(trial.build())
    assert.ok(await trial.until(() => trial.drained() === goal))
    await trial.stop()
    return most()
  }
  assert.equal(await again(40), 2, 'learned anew after a restart')
  limit = 8
  assert.ok((await again(1_200)) > 2, 'never tried upwards')
  limit = 2
  await again(40)
  endpoint = 'https://another'
  assert.ok((await again(40)) > 2, 'another endpoint has no limit yet')
})

test('refused points once more: what is taken is booked, what is refused again stays', async () => {
  const script: Script = {}
  const trial = createTrial(script)
  trial.add(3)
  trial.start()
  await trial.until(() => trial.drained() === 3)
  trial.refuse(7, 'far', 2, 4)
  const refused = [{ why: 'refused', text: 'still a conflict', at: [1, 3] }] as const
  const times = { timeUsMin: 0, timeUsMax: 0 }
  script.send = ({ replay, items }) => {
    assert.deepEqual([replay, items.length, items[0]?.seq], [true, 1, 2])
    const lost = [{ seq: 2, reason: 'rejected', count: 2, source: '', ...times, refused } as const]
    return { kind: 'stored', rejected: [], lost }
  }
  let said: unknown
  trial.forwarder.resend(7).then((answer) => {
    said = answer
  })
  await trial.until(() => said !== undefined)
  assert.deepEqual(said, { delivered: 2, refused: 2, text: 'still a conflict', hint: '' })
  assert.deepEqual(trial.resent, [{ id: 7, places: [1, 3] }])
  assert.equal(await trial.forwarder.resend(8), undefined)
  trial.refuse(9, 'somebody else', 2, 4)
  assert.equal(await trial.forwarder.resend(9), undefined)
  await trial.stop()
})

test('refused points once more: whatever is not stored changes nothing, and disturbs nothing', async () => {
  const unclear: Outcome = {
    ...{ kind: 'stored', rejected: [] },
    lost: [{ seq: 1, reason: 'rejected', count: 1, source: '', timeUsMin: 0, timeUsMax: 0 }],
  }
  const rejected: Outcome = { kind: 'stored', rejected: [{ seq: 1, text: 'no' }] }
  for (const outcome of [
    later,
    wrong,
    unclear,
    rejected,
    { kind: 'smaller', text: '413' } as const,
  ]) {
    const script: Script = {}
    const trial = createTrial(script)
    trial.add(3)
    trial.start()
    await trial.until(() => trial.drained() === 3)
    trial.refuse(7, 'far', 1, 1)
    script.send = ({ replay }) => (replay ? outcome : undefined)
    const answers: (ResendAnswer | undefined)[] = []
    const resend = async () => {
      const count = answers.length
      trial.forwarder.resend(7).then((answer) => answers.push(answer))
      await trial.until(() => answers.length > count)
      return answers.at(-1)
    }
    const said = await resend()
    assert.equal(said?.delivered, 0)
    assert.notEqual(said?.text, '')
    assert.deepEqual(trial.resent, [])
    assert.deepEqual(
      [trial.forwarder.status().phase, trial.forwarder.status().breaker],
      ['sending', 'closed'],
    )
    trial.add(3)
    assert.ok(await trial.until(() => trial.drained() === 6, 1_000))
    // While it is away nothing is even tried.
    script.send = () => wrong
    trial.add(1)
    await trial.until(() => trial.forwarder.status().breaker === 'open')
    const before = trial.sends.length
    assert.equal((await resend())?.text, 'wrong token')
    assert.equal(trial.sends.length, before)
    await trial.stop()
  }
})
