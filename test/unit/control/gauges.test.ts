import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createGauges } from '../../../src/control/gauges.ts'
import { createMeter } from '../../../src/observability/metrics.ts'
import { createView, nowUs, spool, status } from './view.ts'

test('a look tells the meter; counters take the difference and never go back', async () => {
  const meter = createMeter()
  const look = createGauges(meter)
  const { view } = createView()
  await look(view)
  await look(view)
  const first = await meter.text()
  for (const line of [
    'holdfast_health 0',
    'holdfast_safe_offline_seconds 96000',
    'holdfast_spool_commits_total 10',
    'holdfast_commit_duration_seconds{quantile="0.99"} 0.012',
    `holdfast_spool_oldest_unacked_timestamp_seconds{destination="north"} ${nowUs / 1e6 - 3}`,
    'holdfast_points_lost_total{lane="raw",reason="quota"} 4',
    'holdfast_meter_errors_total 0',
  ])
    assert.ok(first.split('\n').includes(line), line)
  const later = (commits: number) =>
    createView({ status: async () => ({ ...status, spool: { ...spool, commits } }) }).view
  await look(later(25))
  await look(later(3))
  assert.match(await meter.text(), /^holdfast_spool_commits_total 25$/m)
})

test('a stage that rests has a meter, and one that runs again takes it back', async () => {
  const meter = createMeter()
  const look = createGauges(meter)
  const lanes = (failed?: string) => {
    const [lane] = status.lanes
    const [reader] = lane?.readers ?? []
    assert.ok(lane && reader)
    const rules = { ...reader, reader: '@rules', stage: true }
    const readers = [reader, failed === undefined ? rules : { ...rules, failed }]
    return { ...status, lanes: [{ ...lane, readers }] }
  }
  const said = async (failed?: string) => {
    await look(createView({ status: async () => lanes(failed) }).view)
    return (await meter.text()).split('\n').filter((line) => line.startsWith('holdfast_stage'))
  }
  assert.deepEqual(await said('why'), ['holdfast_stage_failed{lane="raw",reader="@rules"} 1'])
  assert.deepEqual(await said(), ['holdfast_stage_failed{lane="raw",reader="@rules"} 0'])
})

test('a destination that waits for a person says why, and what to do, as it was first said', async () => {
  const meter = createMeter()
  const look = createGauges(meter)
  const said = async (state: 'blocked' | 'up', text = '', code = 'HF-D020') => {
    const one = { ...status.destinations[0], name: 'plant', state, code, text, hint: 'renew it' }
    const destinations = [one] as typeof status.destinations
    await look(createView({ status: async () => ({ ...status, destinations }) }).view)
    const lines = (await meter.text()).split('\n')
    return lines.filter((line) => line.startsWith('holdfast_destination_blocked'))
  }
  const line = (reason: string, value: number, code = 'HF-D020') =>
    `holdfast_destination_blocked{destination="plant",code="${code}",reason="${reason}",remedy="renew it"} ${value}`
  assert.deepEqual(await said('blocked', 'refused 3 s ago'), [line('refused 3 s ago', 1)])
  assert.deepEqual(await said('blocked', 'refused 63 s ago'), [line('refused 3 s ago', 1)])
  const other = [line('refused 3 s ago', 0), line('expired', 1)]
  assert.deepEqual(await said('blocked', 'expired'), other)
  assert.deepEqual(await said('up'), [line('refused 3 s ago', 0), line('expired', 0)])
  assert.deepEqual(
    (await said('blocked', 'expired', 'HF-F120')).at(-1),
    line('expired', 1, 'HF-F120'),
  )
  const long = (await said('blocked', 'x'.repeat(10_000))).at(-1) ?? ''
  assert.ok(long.length < 500 && long.endsWith(' 1'), long)
})

test('what rules and windows could not keep is counted by class', async () => {
  const meter = createMeter()
  const [lane] = status.lanes
  const [reader] = lane?.readers ?? []
  assert.ok(lane !== undefined && reader !== undefined)
  const one = { class: 'press', lane: 'reduced', pointsIn: 9, pointsOut: 3 }
  const counts = { tooLate: 0, withheld: 4, late: 3, lateUnmended: 2 }
  const zero = { tooLate: 7, withheld: 0, late: 0, lateUnmended: 0 }
  const readers = [
    { ...reader, stage: true, classes: [{ ...one, ...counts }] },
    { ...reader, stage: true, classes: [{ ...one, lane: 'windows', ...zero }] },
  ]
  const lanes = [{ ...lane, readers }]
  await createGauges(meter)(createView({ status: async () => ({ ...status, lanes }) }).view)
  const text = await meter.text()
  for (const line of [
    'holdfast_points_late_total{class="press"} 3',
    'holdfast_points_late_unmended_total{class="press"} 2',
    'holdfast_points_withheld_total{class="press"} 4',
    'holdfast_points_too_late_total{class="press",lane="windows"} 7',
    'holdfast_meter_errors_total 0',
  ])
    assert.ok(text.split('\n').includes(line), line)
})

test('a spool that nothing fills any more is safe for ever, whatever was said before', async () => {
  const meter = createMeter()
  const look = createGauges(meter)
  await look(createView().view)
  const verdict = { ...status.verdict, safeOfflineHours: null }
  await look(createView({ status: async () => ({ ...status, verdict }) }).view)
  assert.match(await meter.text(), /^holdfast_safe_offline_seconds \+Inf$/m)
})

test('without an answer of the spool nothing is invented', async () => {
  const meter = createMeter()
  const never = new Promise<never>(() => {})
  const { view } = createView({
    status: async () => ({ ...status, spool: null }),
    gaps: () => never,
  })
  await createGauges(meter)(view)
  assert.doesNotMatch(await meter.text(), /commits_total/)
})
