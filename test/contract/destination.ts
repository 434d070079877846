/**
 * What every destination keeps, run over each of them with the real far side: it classifies, never throws, never says
 * stored of what is not, and sending twice is harmless. A rig that cannot bring about a fault leaves it out of `faults`.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Destination, LaneItem, Outcome, Value } from '../../src/model.ts'
import { type LogPoint, laneId, type TestLog } from './destination-log.ts'

export type Answer = {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}
export type CertificateFault = 'server-expired' | 'server-of-other-ca' | 'server-of-other-host'
export type Fault =
  | 'answers'
  | 'bad-point'
  | 'credentials'
  | 'lost-answer'
  | 'rewind'
  | CertificateFault

export interface DestinationRig extends AsyncDisposable {
  readonly destination: Destination
  readonly log: TestLog
  /** A value it cannot hold; for the fault `bad-point`. */
  readonly unholdable?: Value
  /** Points that stand on the far side. */
  readonly arrived: () => Promise<number>
  /** The far side, or something before it, answers the next send so instead. */
  readonly answerNext: (answer: Answer) => void
  /** The next send arrives and takes effect, but its answer is lost with the connection. */
  readonly loseNextAnswer: () => Promise<void> | void
  /** The next send stays unanswered; `arrives` is called once it is there. */
  readonly holdNext: (arrives: () => void) => Promise<void> | void
  /** The far side goes back to where it was when this was called first. */
  readonly remember: () => Promise<void>
  readonly forget: () => Promise<void>
}
export interface RigOptions {
  readonly fault?: Extract<Fault, 'credentials' | CertificateFault>
}

const signal = new AbortController().signal
const pointsFrom = (timeUs: number, count = 5): LogPoint[] =>
  Array.from({ length: count }, (_, at) => ({ name: 'a', timeUs: timeUs + at, value: at / 3 }))
const damaged = (item: LaneItem): LaneItem => {
  assert.ok(item.type === 'segment')
  const bytes = Uint8Array.from(item.bytes)
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] as number) ^ 1
  return { ...item, bytes }
}
const stored: Outcome = { kind: 'stored', rejected: [] }

const greeted = async (rig: DestinationRig): Promise<DestinationRig> => {
  const standing = await rig.destination.standing(rig.log.standing(0), signal)
  if (standing.kind === 'known' || standing.kind === 'unknown') return rig
  await rig[Symbol.asyncDispose]()
  assert.fail(JSON.stringify(standing))
}

export const runDestinationContract = (
  name: string,
  make: (options?: RigOptions) => Promise<DestinationRig>,
  faults: readonly Fault[],
  skip: string | false = false,
): void => {
  const contract = (what: string, run: (rig: DestinationRig) => Promise<void>) =>
    test(`${name}: ${what}`, { skip }, async () => {
      await using rig = await greeted(await make())
      await run(rig)
    })

  void contract('stored means that the points are there', async ({ destination, log, arrived }) => {
    const items = [log.add(pointsFrom(0)), log.addGap({ count: 3 }), log.add(pointsFrom(100))]
    assert.deepEqual(await destination.send(log.batch(items), signal), stored)
    assert.equal(await arrived(), 10)
  })
  void contract('sending again changes nothing', async ({ destination, log, arrived }) => {
    const batch = log.batch([log.add(pointsFrom(0))])
    assert.deepEqual(await destination.send(batch, signal), stored)
    assert.deepEqual(await destination.send(batch, signal), stored)
    assert.deepEqual(await destination.send({ ...batch, replay: true }, signal), stored)
    assert.equal(await arrived(), 5)
  })
  void contract('a send given up ends at once, and can be sent again', async (rig) => {
    const { destination, log } = rig
    const stop = new AbortController()
    await rig.holdNext(() => stop.abort())
    const batch = log.batch([log.add(pointsFrom(0))])
    assert.equal((await destination.send(batch, stop.signal)).kind, 'later')
    assert.deepEqual(await destination.send(batch, signal), stored)
    assert.equal(await rig.arrived(), 5)
  })

  void contract('a damaged segment is named, and the others stand', async (rig) => {
    const { destination, log } = rig
    const [good, hurt] = [log.add(pointsFrom(0)), damaged(log.add(pointsFrom(100)))]
    const outcome = await destination.send(log.batch([good, hurt]), signal)
    assert.ok(outcome.kind === 'stored', JSON.stringify(outcome))
    assert.deepEqual(
      outcome.rejected.map(({ seq }) => seq),
      [hurt.seq],
    )
    assert.deepEqual(await destination.send(log.batch([good]), signal), stored)
    assert.equal(await rig.arrived(), 5)
  })

  if (faults.includes('bad-point'))
    void contract(
      'one point among 10,000 that it cannot hold is declared lost; the others stand',
      async (rig) => {
        const points = pointsFrom(100, 10_000)
        assert.ok(rig.unholdable !== undefined)
        points[7_321] = { ...(points[7_321] as LogPoint), value: rig.unholdable }
        const batch = rig.log.batch([rig.log.add(pointsFrom(0)), rig.log.add(points)])
        for (let times = 0; times < 2; times++) {
          const outcome = await rig.destination.send(batch, signal)
          assert.ok(outcome.kind === 'stored', JSON.stringify(outcome))
          assert.deepEqual(
            outcome.lost?.map(({ seq, count, reason }) => [seq, count, reason]),
            [[2, 1, 'rejected']],
          )
          assert.equal(await rig.arrived(), 10_004)
        }
      },
    )
  if (faults.includes('answers')) addAnswerCases(contract)
  if (faults.includes('lost-answer'))
    void contract('an answer lost with its connection is later; again is harmless', async (rig) => {
      const batch = rig.log.batch([rig.log.add(pointsFrom(0))])
      await rig.loseNextAnswer()
      assert.equal((await rig.destination.send(batch, signal)).kind, 'later')
      assert.equal(await rig.arrived(), 5)
      assert.deepEqual(await rig.destination.send(batch, signal), stored)
      assert.equal(await rig.arrived(), 5)
    })
  if (faults.includes('rewind'))
    void contract('a far side that forgot is noticed, and gets it again', async (rig) => {
      const { destination, log } = rig
      const [one, two] = [log.add(pointsFrom(0)), log.add(pointsFrom(100))]
      assert.deepEqual(await destination.send(log.batch([one]), signal), stored)
      await rig.remember()
      const second = log.batch([two], { ackedThrough: 1 })
      assert.deepEqual(await destination.send(second, signal), stored)
      await rig.forget()
      const third = log.batch([log.add(pointsFrom(200))], { ackedThrough: 2 })
      assert.deepEqual(await destination.send(third, signal), { kind: 'rewind', after: 1 })
      const standing = await destination.standing(log.standing(2), signal)
      assert.ok(standing.kind === 'known')
      assert.equal(standing.lanes.get(laneId)?.contiguous, 1)
      assert.deepEqual(await destination.send(second, signal), stored)
      assert.equal(await rig.arrived(), 15)
    })
  const failures: [Extract<Fault, 'credentials' | CertificateFault>, RegExp][] = [
    ['credentials', /certificate|credential|password|token/i],
    ['server-expired', /expired/],
    ['server-of-other-ca', /not signed by the configured CA/],
    ['server-of-other-host', /another name/],
  ]
  for (const [fault, sentence] of failures) {
    if (!faults.includes(fault)) continue
    test(`${name}: ${fault} pauses, with a sentence and a remedy`, { skip }, async () => {
      await using rig = await make({ fault })
      const batch = rig.log.batch([rig.log.add(pointsFrom(0))])
      const standing = await rig.destination.standing(rig.log.standing(0), signal)
      // A far side that keeps no books is asked nothing before the first send.
      const first = standing.kind === 'unknown' ? [] : [standing]
      for (const said of [...first, await rig.destination.send(batch, signal)]) {
        assert.ok(said.kind === 'blocked', JSON.stringify(said))
        assert.match(said.text, sentence)
        assert.match(said.code, /^HF-[A-Z]\d+$/)
        assert.ok(said.hint.length > 10)
      }
      assert.equal(await rig.arrived(), 0)
    })
  }
}

const addAnswerCases = (
  contract: (what: string, run: (rig: DestinationRig) => Promise<void>) => Promise<void>,
): void => {
  const html = { 'content-type': 'text/html' }
  const inAMinute = () => new Date(Date.now() + 60_000).toUTCString()
  const cases: [string, () => Answer, (outcome: Outcome) => boolean][] = [
    [
      'too big, by something in between',
      () => ({ status: 413, headers: html, body: '<h1>413</h1>' }),
      ({ kind }) => kind === 'smaller',
    ],
    [
      'throttled, in seconds',
      () => ({ status: 429, headers: { 'retry-after': '7' } }),
      (outcome) => outcome.kind === 'later' && outcome.afterMs === 7_000,
    ],
    [
      'throttled, until a date',
      () => ({ status: 503, headers: { 'retry-after': inAMinute() } }),
      (outcome) => outcome.kind === 'later' && Math.abs((outcome.afterMs ?? 0) - 60_000) < 5_000,
    ],
    [
      'throttled, without a word how long',
      () => ({ status: 429 }),
      (outcome) => outcome.kind === 'later' && outcome.afterMs === undefined,
    ],
    [
      'broken behind a proxy',
      () => ({ status: 502, headers: html }),
      ({ kind }) => kind === 'later',
    ],
    [
      'a captive portal that says 200',
      () => ({ status: 200, headers: html, body: '<html>Welcome to Hotel Wi-Fi</html>' }),
      ({ kind }) => kind === 'later',
    ],
    [
      'a captive portal that speaks JSON',
      () => ({
        status: 200,
        headers: { 'content-type': 'application/json' },
        body: '{"status":"login required"}',
      }),
      ({ kind }) => kind === 'later',
    ],
    [
      'a captive portal that sends elsewhere',
      () => ({ status: 302, headers: { location: 'http://portal.invalid/' } }),
      ({ kind }) => kind === 'later',
    ],
    ['refused, 401', () => ({ status: 401 }), ({ kind }) => kind === 'blocked'],
    ['refused, 403', () => ({ status: 403, headers: html }), ({ kind }) => kind === 'blocked'],
  ]
  for (const [what, answer, right] of cases)
    void contract(`${what}: classified, nothing lost`, async (rig) => {
      const batch = rig.log.batch([rig.log.add(pointsFrom(0)), rig.log.add(pointsFrom(100))])
      rig.answerNext(answer())
      const outcome = await rig.destination.send(batch, signal)
      assert.ok(right(outcome), JSON.stringify(outcome))
      assert.deepEqual(await rig.destination.send(batch, signal), stored)
      assert.equal(await rig.arrived(), 10)
    })
}
