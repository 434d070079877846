/** Verbs that ask a running agent, through the real process over a real socket. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { hasChanged } from '../../../src/cli/config-changed.ts'
import { parseTimeUs } from '../../../src/cli/replay.ts'
import { statusLines } from '../../../src/cli/status.ts'
import { openControlSocket } from '../../../src/control/socket.ts'
import type { AgentView } from '../../../src/control/view.ts'
import { exitCodes } from '../../../src/errors.ts'
import { silentLog } from '../../../src/host.ts'
import { verdict as verdictOf } from '../../../src/observability/health.ts'
import { temporaryFolder } from '../../support/temp.ts'
import { createView, status } from '../control/view.ts'
import { holdfast } from './process.ts'

const folder = temporaryFolder('online')
const open: AsyncDisposable[] = []
after(async () => {
  for (const one of open) await one[Symbol.asyncDispose]()
})
const agent = async (answer: Partial<AgentView> = {}) => {
  const recorded = createView(answer)
  const path = join(folder, `s${open.length}`)
  open.push(await openControlSocket({ path, view: recorded.view, log: silentLog }))
  return { ...recorded, ask: (...args: string[]) => holdfast([...args, '--socket', path]) }
}

test('status: the verdict first, exit 0, 3 or 4 by it', async () => {
  const well = await (await agent()).ask('status')
  assert.equal(well.code, 0, well.err)
  assert.match(well.out, /^OK {2}gw-0042 {2}all is well\n/)
  assert.match(well.out, /^ {2}sources {6}1\/1 running {3}9,840 points\/s$/m)
  assert.match(
    well.out,
    /^ {2}spool {8}400 MB of 10\.0 GB, disk 50\.0 GB free {3}safe offline for 27 h$/m,
  )
  assert.match(well.out, /^ {2}destination {2}north up {3}last ack 2 s ago {3}pending 96 points$/m)
  assert.match(well.out, /^ {2}lost {9}4 points declared lost, see: holdfast gaps$/m)
  const issue = {
    code: 'HF-N002',
    reason: 'TLS: certificate of regional-1 expired\x1b[2J',
    fix: 'renew it',
    effects: ['7 points wait'],
  }
  for (const [state, code] of [
    ['degraded', exitCodes.degraded],
    ['unhealthy', exitCodes.unhealthy],
  ] as const) {
    const verdict = { ...status.verdict, ...issue, state, issues: [{ ...issue, severity: state }] }
    const said = await (await agent({ status: async () => ({ ...status, verdict }) })).ask('status')
    assert.equal(said.code, code)
    assert.match(said.out, new RegExp(`^${state.toUpperCase()}  gw-0042  TLS`))
    assert.match(said.out, /^ {2}why {10}HF-N002 TLS/m)
    assert.match(said.out, /^ {2}fix {10}renew it$/m)
    assert.ok(!said.out.includes('\x1b'), 'what a far side said cannot move the cursor')
  }
})

test('"nothing lost" is said where it is known, and nowhere else', () => {
  const [lane] = status.lanes
  assert.ok(lane)
  const first = (change: Partial<typeof status>) => statusLines({ ...status, ...change })[0] ?? ''
  const without = { ...lane, readers: lane.readers.map((one) => ({ ...one, declaredLost: 0 })) }
  assert.match(first({ lanes: [without] }), /, nothing lost$/)
  assert.doesNotMatch(first({}), /nothing lost/)
  // The spool does not answer: nobody knows.
  assert.doesNotMatch(first({ spool: null, lanes: [] }), /nothing lost/)
  // Nobody keeps the books of a lane that took points.
  assert.doesNotMatch(first({ lanes: [{ ...lane, readers: [] }] }), /nothing lost/)
  assert.match(first({ lanes: [{ ...lane, accepted: 0, readers: [] }] }), /nothing lost$/)
  const verdict = verdictOf({
    ...{ nowUs: status.nowUs, upForUs: status.upForUs, spool: status.spool, silentMs: 0 },
    ...{ lanes: [], sources: [], certificates: [], clock: status.clock, lostLastHour: 7 },
    destinations: status.destinations.map((one) => ({ ...one, state: 'blocked', text: 'no' })),
  })
  const said = first({ lanes: [without], verdict })
  assert.match(said, /7 points were lost in the last hour$/)
  assert.ok(verdict.issues.some(({ effects }) => effects.includes('96 points wait for it')))
})

test('status --json is the whole answer; -q is the verdict alone', async () => {
  const it = await agent()
  assert.deepEqual(JSON.parse((await it.ask('status', '--json')).out), status)
  assert.equal((await it.ask('status', '-q')).out.split('\n').length, 2)
})

const [copy] = status.selections as [(typeof status.selections)[0]]
const replay = {
  ...{ destination: 'region', id: 3, lane: 'raw', fromUs: 0, toUs: 1, state: 'running' as const },
  ...{ seqFirst: 1, seqLast: 10, seqDone: 7, segments: 10, points: 100 },
  ...{ segmentsSent: 7, pointsSent: 70, segmentsRefused: 0, text: '' },
}
test('status shows what is wrong in each part', () => {
  const source = { ...status.sources[0], state: 'restarting' as const, text: 'broker refused' }
  const lines = statusLines({
    ...status,
    spool: null,
    sources: [source as (typeof status.sources)[0]],
    clock: { trusted: false, offsetUs: -90_000_000 },
    replays: [
      replay,
      { ...replay, id: 4, state: 'done' },
      { ...replay, id: 5, state: 'waiting', text: 'HF-F162 it refuses the samples' },
      { ...replay, state: 'done', segmentsRefused: 2 },
    ],
    selections: [...status.selections, { ...copy, id: 6, gone: [[1, 3]], text: 'no longer held' }],
  }).join('\n')
  assert.match(lines, /0\/1 running/)
  assert.match(lines, /press: restarting, last point 1 s ago: broker refused/)
  assert.match(lines, /spool {8}does not answer/)
  assert.match(lines, /clock {8}not trusted, -2 min/)
  assert.match(lines, / region:3 running {3}70 of 100 points of raw\n/)
  assert.match(lines, /region:3 done {3}70 of 100 points of raw, 2 segments refused, see the log/)
  assert.match(lines, /region:5 waiting {3}70.*raw: HF-F162 it refuses.*replay cancel region:5/)
  assert.doesNotMatch(lines, /region:4/)
  assert.match(
    lines,
    /replay:6 done {3}press\/\* of raw, 40 points, 100 % looked at: no longer held/,
  )
  assert.doesNotMatch(lines, /replay:2/)
})

test('status says that the file is no longer what runs, and not where nobody can tell', async () => {
  const it = await agent()
  const shown = status.config.file
  assert.doesNotMatch((await it.ask('status')).out, /changed since/, `${shown} is not there`)
  assert.match(
    statusLines(status, true).join('\n'),
    / {15}changed since the agent began: restart it/,
  )
  const file = join(temporaryFolder('changed'), 'holdfast.yaml')
  writeFileSync(file, 'agent: {name: a}\n')
  const digest = createHash('sha256').update(readFileSync(file)).digest('hex')
  assert.equal(hasChanged({ file, digest }), false)
  writeFileSync(file, 'agent: {name: b}\n')
  assert.equal(hasChanged({ file, digest }), true)
  assert.equal(hasChanged({ file: `${file}.none`, digest }), false)
})

test('status shows what rules leave in of a lane, and nothing of windows', () => {
  const lane = status.lanes[0] as (typeof status.lanes)[0]
  const reader = lane.readers[0] as (typeof lane.readers)[0]
  const stage = { ...reader, stage: true, delivered: 93, reduced: 907 }
  const readers = [
    { ...stage, reader: '@rules' },
    { ...stage, reader: '@windows', delivered: 0, reduced: 1_000 },
  ]
  const lines = statusLines({ ...status, lanes: [{ ...lane, readers }] }).join('\n')
  assert.match(lines, /reduction {4}rules pass on 9\.3 % of raw: 93 of 1,?000 points/)
  assert.doesNotMatch(lines, /windows pass/)
  assert.doesNotMatch(lines, /late/)
  const counts = { class: 'press', lane: 'reduced', pointsIn: 0, pointsOut: 0 }
  const rules = { ...counts, tooLate: 0, withheld: 5, late: 9, lateUnmended: 2 }
  const windows = { ...counts, lane: 'w', tooLate: 3, withheld: 0, late: 0, lateUnmended: 0 }
  const late = [
    { ...stage, reader: '@rules', classes: [rules] },
    { ...stage, reader: '@windows', classes: [windows] },
  ]
  const said = statusLines({ ...status, lanes: [{ ...lane, readers: late }] }).join('\n')
  assert.match(said, /press: 2 of 9 late points not mended, the deviation may be exceeded there\n/)
  assert.match(said, /press: 5 points withheld by min_gap\n/)
  assert.match(said, /press: 3 points too late for windows in w\n/)
})

test('tap: so many points, then it ends', async () => {
  const it = await agent()
  const said = await it.ask('tap', '*/a', '-n', '2')
  assert.equal(said.code, 0, said.err)
  assert.equal(
    said.out,
    '2026-11-21T00:00:00.000007Z  plant/a,line=3  1.5\n2026-11-21T00:00:00.000000Z  plant/a  NaN  uncertain\n',
  )
  const json = await it.ask('tap', 'plant/b', '-n', '1', '--json')
  assert.equal(JSON.parse(json.out).value, '9007199254740993')
})

test('gaps and quarantine: a table, or JSON', async () => {
  const it = await agent()
  const [gaps, json, quarantine] = await Promise.all([
    it.ask('gaps'),
    it.ask('gaps', '--json'),
    it.ask('quarantine'),
  ])
  assert.match(
    gaps.out,
    /^LANE {2}SEQ {2}LOST {6}REASON {2}FOR {2}SOURCE {2}TIME\nraw {3}5-6 {2}4 points {2}quota /,
  )
  assert.match(gaps.err, /quota: given up to make room/)
  assert.equal(JSON.parse(json.out).gaps[0].count, 4)
  assert.match(
    quarantine.out,
    /^7 {2}2026-11-21T00:00:00\.000000Z {2}press {2}raw seq 8 {2}malformed: not JSON\n {4}\{"a":\\x1b\[31m\n$/,
  )
})

test('quarantine discard loses data: not without --yes', async () => {
  const it = await agent()
  const asked = await it.ask('quarantine', 'discard', '7')
  assert.equal(asked.code, exitCodes.usage)
  assert.match(asked.err, /1 sample/)
  assert.deepEqual(it.acts, [])
  assert.equal((await it.ask('quarantine', 'discard', '7', '--yes')).code, 0)
  assert.deepEqual(it.acts, ['discard 7'])
  assert.equal((await it.ask('quarantine', 'discard', '8', '--yes')).code, exitCodes.failed)
})

test('quarantine show: each refused point, the reason, the remedy; a sample in full', async () => {
  const it = await agent()
  const { out } = await it.ask('quarantine', 'show', '9')
  const [first, remedy, ...points] = out.trimEnd().split('\n')
  assert.match(
    String(first),
    /^9 {2}\S+Z {2}north refused {2}3 points of raw seq 4 {2}refused: field type conflict$/,
  )
  assert.match(String(remedy), /holdfast quarantine resend 9/)
  assert.match(
    String(points[0]),
    /^2026-11-21T00:00:00\.000007Z +plant\/a,line=3 +float +1\.5 +good/,
  )
  assert.match(String(points[1]), /"9007199254740993"/)
  assert.equal(points.length, 3)
  assert.equal(
    JSON.parse((await it.ask('quarantine', 'show', '9', '--json')).out).refused.length,
    3,
  )
  assert.match((await it.ask('quarantine', 'show', '7')).out, /\{"a":/)
  assert.equal((await it.ask('quarantine', 'show', '8')).code, exitCodes.failed)
})

test('quarantine: what is no ID, or not there, is said with where to look', async () => {
  const it = await agent()
  for (const verb of ['show', 'resend', 'discard']) {
    const { code, err } = await it.ask('quarantine', verb, 'abc')
    assert.equal(code, exitCodes.usage)
    assert.match(err, /"abc" is no ID\n {2}= holdfast quarantine lists them/)
  }
  assert.deepEqual(it.acts, [])
  assert.match(
    (await it.ask('quarantine', 'show', '8')).err,
    /no row 8 .*\n {2}= holdfast quarantine/,
  )
})

test('quarantine resend: what was delivered, what stays and why; exit 1 when anything stays', async () => {
  const it = await agent()
  const good = await it.ask('quarantine', 'resend', '9')
  assert.deepEqual([good.code, good.out], [0, '9  3 points delivered\n'])
  const both = await it.ask('quarantine', 'resend', '9', '10')
  assert.equal(both.code, exitCodes.failed)
  assert.match(both.out, /^9 .*\n10 {2}1 point delivered, 2 stay: still\. mend it\n$/)
  assert.deepEqual(it.acts, ['resend 9', 'resend 9', 'resend 10'])
  const gone = await it.ask('quarantine', 'resend', '8', '9')
  assert.deepEqual([gone.code, gone.out], [exitCodes.failed, '9  3 points delivered\n'])
  assert.match(gone.err, /^8 {2}there is no row 8 /)
  assert.match((await it.ask('quarantine', 'resend', '8')).err, /HF-X404 there is no row 8/)
  assert.equal((await it.ask('quarantine', 'resend')).code, exitCodes.usage)
  const none = await it.ask('quarantine', 'resend', '--destination', 'north')
  assert.match(none.err, /north has refused nothing/)
})

test('replay: a range, a dry run, a cancel; a wrong time is exit 2 and asks nothing', async () => {
  const it = await agent()
  const range = ['--from', '2026-11-21T02:00:00Z', '--to', '2026-11-21T02:59:59.5+01:00']
  const wrong = await it.ask('replay', ...range)
  assert.equal(wrong.code, exitCodes.usage, wrong.err)
  const good = await it.ask(
    'replay',
    '--from',
    '2026-11-21T02:00:00Z',
    '--to',
    '2026-11-21 04:00',
    '--lane',
    'raw',
  )
  assert.equal(good.code, 0, good.err)
  assert.match(
    good.out,
    /^raw {2}north {2}3 segments {2}600 points {2}900 B {2}for how long is unknown: /,
  )
  assert.match(good.err, /holdfast replay cancel r1/)
  const dry = await it.ask('replay', '--from', '3h', '--dry-run')
  assert.match(dry.err, /nothing was sent/)
  assert.deepEqual(
    it.replays.map(({ lane, dryRun }) => [lane, dryRun]),
    [
      ['raw', false],
      [null, true],
    ],
  )
  assert.equal((await it.ask('replay', 'cancel', 'r1')).code, 0)
  const list = await it.ask('replay', 'list')
  assert.match(
    list.out,
    /^replay:2 {2}done {2}raw {2}1970-01-01T00:00:00.000000Z .. 1970-01-01T00:00:01.000000Z {2}40 points of press/,
  )
  const { selections, replays } = JSON.parse((await it.ask('replay', 'list', '--json')).out)
  assert.deepEqual([selections, replays], [status.selections, status.replays])
  for (const args of [['--from', 'yesterday'], []])
    assert.equal((await it.ask('replay', ...args)).code, exitCodes.usage)
  assert.equal((await it.ask('replay', '--from', '1h', '--lane', 'none')).code, exitCodes.failed)
})

test('times as people write them', () => {
  const now = 1_000_000_000_000_000
  assert.equal(parseTimeUs('now', now), now)
  assert.equal(parseTimeUs('3h', now), now - 3 * 3_600e6)
  assert.equal(parseTimeUs('90s ago', now), now - 90e6)
  assert.equal(parseTimeUs('1970-01-01T00:00:01.0000025Z', now), 1_000_002)
  assert.equal(parseTimeUs('1970-01-01T01:00+01:00', now), 0)
  assert.equal(parseTimeUs('1970-01-02', now), 86_400e6)
  for (const wrong of ['', 'x', '2026-13-01', '12:00', '2026-11-21T25:00'])
    assert.equal(parseTimeUs(wrong, now), undefined, wrong)
})

test('reload says what came of it', async () => {
  const said = await (await agent()).ask('reload')
  assert.deepEqual([said.code, said.out], [0, 'nothing changed\n'])
})
