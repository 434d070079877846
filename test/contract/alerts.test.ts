/**
 * The alert rules as Prometheus itself reads them: valid, and each one fires on the series it is meant for and on no
 * others. promtool computes; nothing of Prometheus is imitated here.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { parse, stringify } from 'yaml'
import { dashboards } from '../../build/generate.ts'
import { findTool, type Tool } from '../support/debian.ts'
import { temporaryFolder } from '../support/temp.ts'

const root = join(import.meta.dirname, '../..')
const rulesFile = join(root, 'platforms/prometheus/holdfast.rules.yaml')
interface Rule {
  readonly alert: string
  readonly expr: string
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
}
const readRules = (file: string): readonly Rule[] =>
  (parse(readFileSync(file, 'utf8')) as { groups: { rules: Rule[] }[] }).groups.flatMap(
    ({ rules }) => rules,
  )
const rules = readRules(rulesFile)

let tool: Tool | undefined
let why = ''
try {
  tool = findTool('promtool', 'prometheus', '/usr/bin/promtool')
} catch (error) {
  why = `promtool could not be had: ${error instanceof Error ? error.message : error}`
}
const skip = tool === undefined ? why : false
/** Empty text when promtool is content, else all it says. */
const promtool = (...args: string[]): string => {
  try {
    execFileSync(tool?.path ?? '', args, { encoding: 'utf8', stdio: 'pipe', timeout: 60_000 })
    return ''
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string }
    return `${stdout}${stderr}` || String(error)
  }
}

/** One sample a minute, in promtool's words: `1x5` is six ones, `_` no sample. */
interface Case {
  /** Fires it, and nothing else, at the minute `at`. */
  readonly fires: Readonly<Record<string, string>>
  /** Fires nothing at all, at the same minute. */
  readonly quiet: Readonly<Record<string, string>>
  readonly at: number
}
const on = (name: string, labels: Readonly<Record<string, string>> = {}): string => {
  const all = Object.entries({ job: 'holdfast', instance: 'gw-0042', ...labels })
  return `${name}{${all.map(([label, value]) => `${label}="${value}"`).join(',')}}`
}
const north = { destination: 'north' }
const plc = { source: 'plc' }
const gap = (reason: string) => on('holdfast_points_lost_total', { lane: 'raw', reason })
const farLost = (reason: string) => on('holdfast_regional_points_lost_total', { reason })
const asked = (status: string) =>
  on('holdfast_regional_requests_total', { route: 'segments', status })
const expiry = on('holdfast_certificate_expiry_timestamp_seconds', { use: 'north' })
const lastPoint = on('holdfast_source_last_point_timestamp_seconds', plc)
const oldest = on('holdfast_spool_oldest_unacked_timestamp_seconds', north)
const p99 = on('holdfast_commit_duration_seconds', { quantile: '0.99' })

const gauge = (name: string, bad: string, good: string, at: number, labels = {}): Case => ({
  fires: { [on(name, labels)]: `${bad}x${at}` },
  quiet: { [on(name, labels)]: `${good}x${at}` },
  at,
})
const cases: Readonly<Record<string, Case>> = {
  HoldfastDown: {
    fires: { [on('up')]: '1 0x20' },
    // A restart, and a machine of somebody else.
    quiet: { [on('up')]: '1x5 0x3 1x20', 'up{job="node",instance="gw-0042"}': '0x20' },
    at: 8,
  },
  HoldfastUnhealthy: gauge('holdfast_health', '2', '0', 5),
  HoldfastDegraded: gauge('holdfast_health', '1', '0', 40),
  HoldfastRestarting: {
    fires: { [on('process_start_time_seconds')]: '1 2 3 4 5 5x10' },
    quiet: { [on('process_start_time_seconds')]: '1 2 3 3x20' },
    at: 8,
  },
  HoldfastPointsLost: {
    // A first loss, whose counter begins above zero, of an agent that was there all the while.
    fires: { [on('up')]: '1x40', [gap('quota')]: '_x25 7x15' },
    // An agent that comes back to Prometheus with losses of long ago, one that had them all along, and no loss at all.
    quiet: {
      [on('up')]: '_x25 1x15',
      [gap('quota')]: '_x25 7x15',
      'up{job="holdfast",instance="gw-2"}': '1x40',
      'holdfast_points_lost_total{job="holdfast",instance="gw-2",lane="raw",reason="quota"}':
        '7x40',
      [gap('malformed')]: '0+5x40',
    },
    at: 30,
  },
  HoldfastMessagesRefused: {
    fires: { [on('holdfast_points_refused_total', { ...plc, reason: 'refused' })]: '0+1x40' },
    quiet: { [on('holdfast_messages_refused_total', { ...plc, reason: 'malformed' })]: '0 5x40' },
    at: 35,
  },
  HoldfastQuarantine: gauge('holdfast_spool_quarantined', '3', '0', 70),
  HoldfastSourceDown: gauge('holdfast_source_up', '0', '1', 15, plc),
  HoldfastSourceSilent: {
    fires: { [lastPoint]: '60x60', [on('holdfast_source_up', plc)]: '1x60' },
    quiet: { [lastPoint]: '0+60x60', [on('holdfast_source_up', plc)]: '1x60' },
    at: 45,
  },
  HoldfastIntakeBlocked: gauge('holdfast_spool_blocked', '1', '0', 5),
  HoldfastSpoolFillsSoon: {
    fires: {
      [on('holdfast_safe_offline_seconds')]: '7200x20',
      [on('holdfast_destination_up', north)]: '0x20',
    },
    // A link that is there empties it; and nothing fills it.
    quiet: {
      [on('holdfast_safe_offline_seconds')]: '7200x20',
      [on('holdfast_destination_up', north)]: '1x20',
      'holdfast_safe_offline_seconds{job="holdfast",instance="gw-2"}': Array(20)
        .fill('+Inf')
        .join(' '),
      'holdfast_destination_up{job="holdfast",instance="gw-2",destination="north"}': '0x20',
    },
    at: 12,
  },
  HoldfastDiskLow: gauge('holdfast_spool_disk_free_bytes', '1e8', '2e9', 15),
  HoldfastCommitSlow: {
    fires: { [p99]: '1.5x20' },
    quiet: { [p99]: '0.02x20', [p99.replace('0.99', '0.5')]: '1.5x20' },
    at: 18,
  },
  HoldfastDestinationDown: gauge('holdfast_destination_up', '0', '1', 20, north),
  HoldfastBacklogOld: {
    fires: { [oldest]: '0x120', [on('holdfast_destination_up', north)]: '1x120' },
    quiet: { [oldest]: '0+60x120', [on('holdfast_destination_up', north)]: '1x120' },
    at: 100,
  },
  HoldfastRewound: gauge('holdfast_destination_rewinds_total', '0 1', '1', 5, north),
  HoldfastClockUntrusted: gauge('holdfast_clock_trusted', '0', '1', 20),
  HoldfastClockOff: gauge('holdfast_clock_offset_seconds', '-8', '-0.5', 20),
  HoldfastCertificateEnds: {
    fires: { [expiry]: '864000x70' },
    quiet: { [expiry]: '2592000x70' },
    at: 65,
  },
  HoldfastRegionalDatabaseDown: gauge('holdfast_regional_database_up', '0', '1', 5),
  HoldfastRegionalErrors: {
    fires: { [asked('200')]: '0+60x30', [asked('503')]: '0+6x30' },
    quiet: { [asked('200')]: '0+60x30', [asked('503')]: '0+1x30', [asked('400')]: '0+60x30' },
    at: 20,
  },
  HoldfastRegionalBusy: {
    fires: { [asked('200')]: '0+60x30', [asked('429')]: '0+30x30' },
    quiet: { [asked('200')]: '0+60x30', [asked('429')]: '0+6x30' },
    at: 25,
  },
  HoldfastRegionalFenced: gauge('holdfast_regional_fenced', '1', '0', 10),
  HoldfastRegionalAgentsMissing: {
    fires: { [on('holdfast_regional_agents')]: '12x30 11x40' },
    // A second node behind the same database counts the same agents.
    quiet: {
      [on('holdfast_regional_agents')]: '12x70',
      [on('holdfast_regional_agents', { instance: 'region-2' })]: '_x20 12x20 11x5 12x25',
    },
    at: 60,
  },
  HoldfastRegionalPointsLost: {
    fires: { [on('up')]: '1x40', [farLost('damaged')]: '3x25 5x15' },
    quiet: { [on('up')]: '1x40', [farLost('damaged')]: '3x40', [farLost('refused')]: '0+1x40' },
    at: 30,
  },
}

const firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
const unitTest = (name: string, kind: 'fires' | 'quiet', one: Case) => ({
  name: `${name} ${kind}`,
  interval: '1m',
  input_series: Object.entries(one[kind]).map(([series, values]) => ({ series, values })),
  promql_expr_test: [
    {
      expr: firing,
      eval_time: `${one.at}m`,
      exp_samples: kind === 'quiet' ? [] : [{ labels: `{alertname="${name}"}`, value: 1 }],
    },
  ],
})
const folder = temporaryFolder('alerts')
/** What promtool says of cases, under these rules. */
const tryCases = (file: string, names: readonly string[]): string => {
  const tests = names.flatMap((name) => {
    const one = cases[name]
    assert.ok(one, `${name} has no case`)
    return [unitTest(name, 'fires', one), unitTest(name, 'quiet', one)]
  })
  const path = join(folder, 'tests.yaml')
  const text = { rule_files: [file], evaluation_interval: '1m', tests }
  writeFileSync(path, stringify(text, { aliasDuplicateObjects: false }))
  return promtool('test', 'rules', path)
}

test('promtool finds the rules valid', { skip }, () => {
  assert.equal(promtool('check', 'rules', rulesFile), '')
})

test('every alert fires on what it is meant for, alone, and stays quiet else', { skip }, () => {
  const names = rules.map(({ alert }) => alert)
  assert.deepEqual(Object.keys(cases).sort(), names.toSorted())
  assert.equal(tryCases(rulesFile, names), '')
})

test('rules that never fire, or too often, are found out', { skip }, () => {
  const text = readFileSync(rulesFile, 'utf8')
  for (const [name, from, to] of [
    ['HoldfastIntakeBlocked', 'holdfast_spool_blocked == 1', 'holdfast_spool_blocked == 2'],
    ['HoldfastClockUntrusted', 'holdfast_clock_trusted == 0', 'holdfast_clock_trusted >= 0'],
    ['HoldfastSpoolFillsSoon', 'and on (job, instance) (holdfast_destination_up == 0)', ''],
    ['HoldfastPointsLost', 'and on (job, instance) (up offset 15m == 1)', ''],
    ['HoldfastPointsLost', 'unless holdfast_points_lost_total offset 15m', 'unless up'],
    [
      'HoldfastRegionalAgentsMissing',
      'max by (job) (holdfast_regional_agents)',
      'holdfast_regional_agents',
    ],
  ] as const) {
    assert.ok(text.includes(from), from)
    const path = join(folder, 'mutant.rules.yaml')
    writeFileSync(path, text.replace(from, to))
    assert.notEqual(tryCases(path, [name]), '', `${name}: ${from} → ${to}`)
  }
})

test('what a technician reads is filled in', { skip }, () => {
  const path = join(folder, 'words.yaml')
  const { at, fires } = cases.HoldfastClockOff as Case
  const rule = rules.find(({ alert }) => alert === 'HoldfastClockOff') as Rule
  const words = {
    ...rule.annotations,
    summary: 'gw-0042: its clock and the far side differ by 8s',
  }
  const wanted = {
    exp_labels: { severity: 'warning', job: 'holdfast', instance: 'gw-0042' },
    exp_annotations: words,
  }
  const series = Object.entries(fires).map(([name, values]) => ({ series: name, values }))
  const one = {
    interval: '1m',
    input_series: series,
    alert_rule_test: [{ alertname: rule.alert, eval_time: `${at}m`, exp_alerts: [wanted] }],
  }
  writeFileSync(path, stringify({ rule_files: [rulesFile], tests: [one] }))
  assert.equal(promtool('test', 'rules', path), '')
})

test('every query of the dashboards is PromQL', { skip }, () => {
  const queries = Object.values(dashboards).flatMap(({ panels }) =>
    panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr)),
  )
  assert.ok(queries.length > 20)
  const records = queries.map((expr, at) => ({
    record: `query_${at}`,
    expr: expr.replaceAll('$__rate_interval', '5m').replaceAll('$__range', '1h'),
  }))
  const path = join(folder, 'queries.yaml')
  writeFileSync(path, stringify({ groups: [{ name: 'queries', rules: records }] }))
  assert.equal(promtool('check', 'rules', path), '')
})
