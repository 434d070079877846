import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { meters } from '../../../src/observability/meters.ts'
import { createMeter } from '../../../src/observability/metrics.ts'

const root = join(import.meta.dirname, '../../..')

test('what is counted is what is shown', async () => {
  const meter = createMeter()
  meter.count('holdfast_points_received_total', 3, { source: 'press' })
  meter.count('holdfast_points_received_total', 2, { source: 'press' })
  meter.gauge('holdfast_spool_bytes', 7)
  meter.observe('holdfast_regional_commit_duration_seconds', 0.02)
  const text = await meter.text()
  assert.match(text, /^holdfast_points_received_total\{source="press"\} 5$/m)
  assert.match(text, /^holdfast_spool_bytes 7$/m)
  assert.match(text, /^holdfast_regional_commit_duration_seconds_bucket\{le="0.025"\} 1$/m)
  assert.match(text, /^holdfast_regional_commit_duration_seconds_bucket\{le="0.01"\} 0$/m)
  assert.match(text, /^holdfast_meter_errors_total 0$/m)
  assert.doesNotMatch(text, /holdfast_series/, 'what is never counted is not shown')
})

test('a wrong name, kind or label stops nothing and shows', async () => {
  const meter = createMeter()
  meter.count('holdfast_no_such_total')
  meter.gauge('holdfast_points_received_total', 1)
  meter.count('holdfast_points_received_total', 1, { colour: 'red' })
  meter.count('holdfast_points_received_total', -1, { source: 'a' })
  assert.match(await meter.text(), /^holdfast_meter_errors_total 4$/m)
})

test('label sets are bounded', async () => {
  const meter = createMeter()
  for (let index = 0; index < 3_000; index++)
    meter.count('holdfast_points_received_total', 1, { source: `s${index}` })
  const lines = (await meter.text()).split('\n').filter((line) => line.includes('{source='))
  assert.equal(lines.length, 1_001)
  assert.ok(lines.includes('holdfast_points_received_total{source="(other)"} 2000'))
})

test('names follow one practice', () => {
  for (const [name, one] of Object.entries(meters)) {
    assert.match(name, /^holdfast_[a-z_]+$/)
    assert.equal(name.endsWith('_total'), one.kind === 'counter', name)
    assert.match(one.help, /\.$/, name)
    for (const label of one.labels) assert.doesNotMatch(label, /series|topic|tag/, name)
  }
})

test('every meter that the source counts is declared, with its labels', () => {
  const wrong: string[] = []
  for (const file of globSync('src/**/*.ts', { cwd: root })) {
    const text = readFileSync(join(root, file), 'utf8')
    for (const call of text.matchAll(
      /\.(count|gauge|observe)\(\s*'(holdfast_[a-z_]*)'([^;\n]*)/g,
    )) {
      const [, verb, name = '', rest = ''] = call
      const kind = { count: 'counter', gauge: 'gauge', observe: 'histogram' }[verb ?? '']
      const declared = meters[name]
      if (declared === undefined || declared.kind !== kind)
        wrong.push(`${file}: ${verb}('${name}') is not declared in src/observability/meters.ts`)
      const labels = /\{([^}]*)\}/.exec(rest)?.[1]
      for (const label of labels?.matchAll(/(?:^|,)\s*([a-z_]+)\s*(?=[:,]|$)/g) ?? [])
        if (declared && !declared.labels.includes(label[1] ?? ''))
          wrong.push(`${file}: ${name} has no label '${label[1]}'`)
    }
  }
  assert.deepEqual(wrong, [])
})

test('no meter is declared that nothing counts', () => {
  const texts = globSync('src/**/*.ts', { cwd: root })
    .filter((file) => !file.endsWith('meters.ts'))
    .map((file) => readFileSync(join(root, file), 'utf8'))
  const dead = Object.keys(meters).filter(
    (name) => !texts.some((text) => text.includes(`'${name}'`)),
  )
  assert.deepEqual(dead, [])
})
