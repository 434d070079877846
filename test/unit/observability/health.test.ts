import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  type DestinationStatus,
  type HealthInputs,
  type SourceStatus,
  verdict,
} from '../../../src/observability/health.ts'
import type { SpoolStats } from '../../../src/spool-port.ts'

const nowUs = 1_795_219_200_000_000
const minuteUs = 60_000_000
const spool: SpoolStats = {
  bytesUsed: 1e9,
  bytesMax: 10e9,
  diskFreeBytes: 100e9,
  commits: 1,
  commitMsP50: 1,
  commitMsP99: 1,
  bytesWritten: 1,
  seriesCount: 1,
  blockedReason: null,
  fillBytesPerSecond: 100_000,
  quarantined: 0,
  waitingForClock: 0,
}
const north: DestinationStatus = {
  name: 'north',
  type: 'relay',
  state: 'up',
  ...{ breaker: 'closed', failures: 0 },
  code: '',
  text: '',
  hint: '',
  sinceUs: nowUs - 60 * minuteUs,
  lastAckUs: nowUs,
  points: 1,
  pointsPerSecond: 1,
  pending: 0,
  oldestUnackedUs: 0,
}
const press: SourceStatus = {
  name: 'press',
  type: 'mqtt',
  lane: 'raw',
  state: 'running',
  code: '',
  text: '',
  hint: '',
  sinceUs: nowUs - 60 * minuteUs,
  points: 1,
  pointsPerSecond: 1,
  lastPointUs: nowUs,
  pointsAhead: 0,
}
const well: HealthInputs = {
  nowUs,
  upForUs: 60 * minuteUs,
  spool,
  silentMs: 0,
  lanes: [],
  sources: [press],
  destinations: [north],
  clock: { trusted: true, offsetUs: 0 },
  certificates: [],
  lostLastHour: 0,
}
const of = (change: Partial<HealthInputs>) => verdict({ ...well, ...change })
const away: DestinationStatus = {
  ...north,
  state: 'retrying',
  text: 'connect timed out',
  pending: 7,
}

test('all well', () => {
  const found = of({})
  assert.equal(found.state, 'ok')
  assert.deepEqual(found.issues, [])
  assert.equal(found.safeOfflineHours, 25)
})

test('safe offline: room left over rate of filling, by quota or by disk, whichever is nearer', () => {
  assert.equal(of({ spool: { ...spool, diskFreeBytes: 3.6e8 } }).safeOfflineHours, 1)
  assert.equal(of({ spool: { ...spool, bytesUsed: 11e9 } }).safeOfflineHours, 0)
  assert.equal(of({ spool: { ...spool, fillBytesPerSecond: 0 } }).safeOfflineHours, null)
  assert.equal(of({ spool: null }).safeOfflineHours, null)
})

test('each trouble has its code, and the right weight', () => {
  const cases: readonly [Partial<HealthInputs>, string, string][] = [
    [{ silentMs: 2_500 }, 'unhealthy', 'HF-H001'],
    [{ spool: null, silentMs: 9_000 }, 'unhealthy', 'HF-H001'],
    [{ spool: { ...spool, blockedReason: 'the disk is full' } }, 'unhealthy', 'HF-H002'],
    [{ lostLastHour: 4 }, 'unhealthy', 'HF-H003'],
    [{ destinations: [away] }, 'degraded', 'HF-H004'],
    [
      {
        destinations: [{ ...away, state: 'blocked', code: 'HF-N002', text: 'certificate expired' }],
      },
      'degraded',
      'HF-N002',
    ],
    [{ sources: [{ ...press, state: 'restarting', text: 'refused' }] }, 'degraded', 'HF-H005'],
    [{ clock: { trusted: false, offsetUs: null } }, 'degraded', 'HF-H006'],
    [{ certificates: [{ use: 'relay north', endsUs: nowUs + 86_400e6 }] }, 'degraded', 'HF-H008'],
    [{ certificates: [{ use: 'relay north', endsUs: nowUs - 1 }] }, 'degraded', 'HF-H008'],
    [{ spool: { ...spool, quarantined: 3 } }, 'ok', ''],
    [{ certificates: [{ use: 'relay north', endsUs: nowUs + 20 * 86_400e6 }] }, 'ok', ''],
    // Full of what was sent and is kept for a while: as meant.
    [{ spool: { ...spool, bytesUsed: 9.9e9 } }, 'ok', ''],
  ]
  for (const [change, state, code] of cases) {
    const found = of(change)
    assert.deepEqual([found.state, found.code], [state, code], JSON.stringify(change))
    if (state !== 'ok') assert.notEqual(found.fix + found.reason, '')
  }
})

test('what only begins is no issue yet', () => {
  const sinceUs = nowUs - 5_000_000
  const young = of({
    upForUs: 5_000_000,
    destinations: [{ ...away, state: 'connecting', sinceUs }],
    sources: [{ ...press, state: 'starting', sinceUs }],
    clock: { trusted: false, offsetUs: null },
  })
  assert.equal(young.state, 'ok')
})

test('what waits since long is an issue at the first look', () => {
  const sinceUs = nowUs
  const late = { ...away, sinceUs, lastAckUs: nowUs - minuteUs }
  assert.equal(of({ destinations: [late] }).code, 'HF-H004')
  const idle = of({ destinations: [{ ...late, pending: 0 }] })
  assert.deepEqual([idle.state, idle.reason], ['ok', 'all is well; reaching north'])
})

test('a full spool behind a dead link is its effect: the link is what must be mended', () => {
  const full = { ...spool, bytesUsed: 10e9, blockedReason: 'quota' }
  const found = of({ spool: full, destinations: [away] })
  assert.equal(found.state, 'unhealthy')
  assert.equal(found.code, 'HF-H004')
  assert.ok(found.effects.some((one) => one.includes('intake waits')))
  assert.ok(!found.issues.some(({ code }) => code === 'HF-H002'))
  const filling = of({ spool: { ...spool, bytesUsed: 9e9 }, destinations: [away] })
  assert.equal(filling.state, 'degraded')
  assert.ok(filling.effects.some((one) => one.includes('90 % full')))
  // With the link up, the full disk itself is the cause.
  assert.equal(of({ spool: full }).code, 'HF-H002')
})

test('the verdict is never better than its worst issue, and the same for the same inputs', () => {
  const weight = { ok: 0, note: 0, degraded: 1, unhealthy: 2 }
  const flag = fc.boolean()
  fc.assert(
    fc.property(fc.tuple(flag, flag, flag, flag, flag, flag), (on) => {
      const inputs: HealthInputs = {
        ...well,
        ...(on[0] ? { destinations: [away, { ...away, name: 'south' }] } : {}),
        ...(on[1] ? { spool: { ...spool, blockedReason: 'quota' } } : {}),
        ...(on[2] ? { sources: [{ ...press, state: 'restarting' as const }] } : {}),
        ...(on[3] ? { clock: { trusted: false, offsetUs: null } } : {}),
        ...(on[4] ? { lostLastHour: 1 } : {}),
        ...(on[5] ? { silentMs: 3_000 } : {}),
      }
      const found = verdict(inputs)
      const worst = Math.max(0, ...found.issues.map(({ severity }) => weight[severity]))
      assert.equal(weight[found.state], worst)
      assert.deepEqual(verdict(inputs), found)
      assert.equal(
        found.state === 'ok',
        on.every((one) => !one),
      )
    }),
  )
})

test('rules or windows that rest after a defect are named, with what waits for them', () => {
  const cursor = { backlog: 1, live: null }
  const books = { delivered: 1, reduced: 0, declaredLost: 0, pending: 7 }
  const reader = { cursor, stage: true, ...books, reader: '@rules' }
  const lane = { lane: 'raw', id: 1, head: 5, floor: 1, derived: false, accepted: 8, bytes: 1 }
  assert.equal(of({ lanes: [{ ...lane, readers: [reader] }] }).state, 'ok')
  const found = of({ lanes: [{ ...lane, readers: [{ ...reader, failed: 'no such cell' }] }] })
  assert.deepEqual([found.state, found.code], ['degraded', 'HF-H013'])
  assert.equal(found.reason, 'rules of lane "raw" failed and rest: no such cell')
  assert.deepEqual(found.effects, ['7 points wait for it, nothing lost'])
})

test('a destination that is no longer configured and still holds points back is named', () => {
  const cursor = { backlog: 1, live: null }
  const reader = { cursor, stage: false, delivered: 1, reduced: 0, declaredLost: 0 }
  const readers = [
    { ...reader, reader: 'north', pending: 3 },
    { ...reader, reader: 'old', pending: 12 },
  ]
  const books = { derived: false, accepted: 13, bytes: 1 }
  const lane = { lane: 'raw', id: 1, head: 5, floor: 1, ...books, readers }
  const { state, code, reason, fix } = of({ lanes: [lane] })
  assert.deepEqual([state, code], ['degraded', 'HF-H010'])
  assert.match(reason, /12 points are held for "old"/)
  assert.match(fix, /holdfast forget old/)
  const drained = { ...lane, readers: readers.map((one) => ({ ...one, pending: 0 })) }
  assert.equal(of({ lanes: [drained] }).state, 'ok')
})

test('what came too late is a note: which class, and what to do', () => {
  const found = of({
    lateLastHour: [
      { class: 'press', unmended: 2, tooLate: 0 },
      { class: 'oven', unmended: 0, tooLate: 7 },
    ],
  })
  assert.equal(found.state, 'ok')
  assert.deepEqual(
    found.issues.map(({ code, severity }) => [code, severity]),
    [
      ['HF-H014', 'note'],
      ['HF-H015', 'note'],
    ],
  )
  assert.match(found.issues[0]?.reason ?? '', /press.*2 late points/)
  assert.match(found.issues[0]?.fix ?? '', /holdfast replay --series/)
  assert.match(found.issues[1]?.fix ?? '', /lateness/)
})
