/** The key `classes`: what it becomes, and that what cannot be is refused at its place with what to do. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { loadConfig } from '../../../src/config/load.ts'
import { renderProblems } from '../../../src/config/problems.ts'
import { destinationTypes } from '../../../src/destinations/table.ts'
import { sourceTypes } from '../../../src/sources/table.ts'
import { temporaryFolder } from '../../support/temp.ts'

const folder = temporaryFolder('classes')
const catalog = { sources: sourceTypes, destinations: destinationTypes }
const load = (text: string) => {
  const file = join(folder, 'holdfast.yaml')
  writeFileSync(file, text)
  return loadConfig(file, { environment: {}, catalog, surroundings: false })
}
const base = `agent: {name: gw}
lanes: {raw: {}, reduced: {}, windows: {}, press: {}}
sources:
  - {name: all, type: simulate}
  - {name: press, type: simulate, lane: press}
`
const region = (lanes: string) =>
  `destinations: [{name: region, type: relay, url: "https://r.example:1"${lanes}, tls: {ca: a, cert: b, key: c}}]\n`

test('classes of a lane in file order, times in microseconds, percent as percent of the range', () => {
  const result = load(`${base}classes:
  temperature:
    match: {names: ["*/t"], units: ["°C"], tags: {line: "2*"}}
    range: {low: 0, high: 400}
    reduce: {method: swinging_door, deviation: 0.25%, heartbeat: 15m, gap_after: 30s}
    windows: [{every: 1m, statistics: [mean, p95], counter: {bits: 32}}]
  press: {match: {sources: [press]}, from: press, reduce: {method: every}}
  rest: {reduce: {method: deadband, deviation: 2}}
${region('')}`)
  assert.ok(result.ok, JSON.stringify(result))
  const [raw, press] = result.config.classes
  assert.deepEqual(
    [raw?.lane, raw?.classes.map(({ name }) => name), press?.lane],
    ['raw', ['temperature', 'rest'], 'press'],
  )
  assert.deepEqual(raw?.classes[0], {
    name: 'temperature',
    match: { names: ['*/t'], units: ['°C'], tags: { line: '2*' } },
    range: { low: 0, high: 400 },
    reduce: {
      method: 'swinging_door',
      lane: 'reduced',
      deviation: { percentOfRange: 0.25 },
      heartbeatUs: 900e6,
      gap: { afterUs: 30e6 },
    },
    windows: [
      {
        everyUs: 60e6,
        statistics: ['mean', 'p95'],
        latenessUs: 30e6,
        lane: 'windows',
        counter: { modulus: 2 ** 32 },
      },
    ],
  })
  assert.deepEqual(result.config.destinations[0]?.lanes, ['reduced', 'windows'])
  assert.deepEqual(result.warnings, [])
})

const refused: readonly (readonly [string, string, string, RegExp])[] = [
  [
    'a gap said twice',
    'a: {reduce: {method: every, gap_after: 1m, gap_times: 5}}',
    'HF-C025',
    /two ways/,
  ],
  [
    'a counter said twice',
    'a: {windows: [{every: 1m, statistics: [delta], counter: {bits: 16, modulus: 100}}]}',
    'HF-C025',
    /two ways/,
  ],
  ['percent without a range', 'a: {reduce: {method: deadband, deviation: 1%}}', 'HF-C025', /range/],
  [
    'a window that divides no day',
    'a: {windows: [{every: 7m, statistics: [mean]}]}',
    'HF-C025',
    /divide a day/,
  ],
  [
    'an unknown statistic',
    'a: {windows: [{every: 1m, statistics: [meen]}]}',
    'HF-C006',
    /did you mean .+mean/,
  ],
  ['an unknown method', 'a: {reduce: {method: deadbnd, deviation: 1}}', 'HF-C006', /deadband/],
  ['a lane that is not there', 'a: {reduce: {method: every, lane: thin}}', 'HF-C010', /thin/],
  ['a source that is not there', 'a: {match: {sources: [pres]}}', 'HF-C028', /pres/],
  [
    'a source that shares its lane',
    'a: {from: press, match: {sources: [all]}}',
    'HF-C028',
    /of its own/,
  ],
  [
    'classes over classes',
    'a: {reduce: {method: every}}\n  b: {from: reduced}',
    'HF-C026',
    /written by classes/,
  ],
  [
    'windows of copies',
    'a: {from: replay, windows: [{every: 1m, statistics: [mean]}]}',
    'HF-C026',
    /copies on request/,
  ],
  ['a rule that writes copies', 'a: {reduce: {method: every, lane: replay}}', 'HF-C026', /copies/],
  [
    'a lane all but named',
    'a: {reduce: {method: every, lane: redused}}',
    'HF-C010',
    /did you mean/,
  ],
  ['no method', 'a: {reduce: {deviation: 1}}', 'HF-C004', /one of none, every, sample/],
  [
    'a statistic by another name',
    'a: {windows: [{every: 1m, statistics: [avg]}]}',
    'HF-C006',
    /did you mean .+mean/,
  ],
  [
    'a source in a lane of classes',
    'a: {reduce: {method: every, lane: press}}',
    'HF-C026',
    /source "press"/,
  ],
]
for (const [what, text, code, expected] of refused)
  test(`refused: ${what}`, () => {
    const result = load(`${base}classes:\n  ${text}\n${region('')}`)
    assert.ok(!result.ok)
    const problem = result.problems.find((one) => one.code === code)
    assert.ok(problem, JSON.stringify(result.problems))
    assert.match(`${problem.text} ${problem.hint} ${JSON.stringify(problem)}`, expected)
    assert.ok(problem.line > 5 || code === 'HF-C026', `${problem.line}`)
    assert.ok(problem.column > 0 && (problem.hint !== '' || code === 'HF-C006'))
  })

test('refused: routes that overlap, raw and thinned to one destination', () => {
  const classes = 'classes: {a: {reduce: {method: every}}}\n'
  const result = load(`${base}${classes}${region(', lanes: [raw, reduced]')}`)
  assert.ok(!result.ok)
  assert.ok(result.problems.some(({ code }) => code === 'HF-C027'))
  const kept = base.replace('reduced: {}', 'reduced: {when_full: drop_oldest}')
  assert.ok(load(`${kept}${classes}${region(', lanes: [raw]')}`).ok)
})

test('a class that is not understood is no reason to miss takers of its lanes', () => {
  for (const wrong of ['{a: {reduce: {deviation: 1}}}', '[]', '{a: {windows: {every: 1m}}}']) {
    const result = load(`${base}classes: ${wrong}\n${region(', lanes: [press]')}`)
    assert.ok(!result.ok)
    assert.ok(!result.problems.some(({ code }) => code === 'HF-C041'), JSON.stringify(result))
  }
})

const warned = (classes: string, lanes = '') => {
  const result = load(`${base}classes:\n${classes}${region(lanes)}`)
  assert.ok(result.ok, JSON.stringify(result))
  return result.warnings.map(({ code, text, line }) => [code, text.split(',')[0], line])
}
test('warned: a class that another one before it leaves nothing to', () => {
  const rest = '  rest: {reduce: {method: every}}\n'
  const pumps = (match: string) => `  pumps: {match: {${match}}, reduce: {method: on_change}}\n`
  const hidden = (before: string, match: string) =>
    warned(`${before}${pumps(match)}${before === rest ? '' : rest}`).filter(
      ([code]) => code === 'HF-C045',
    )
  const all = 'class "pumps" takes no series: each is of class "rest" already'
  assert.deepEqual(hidden(rest, 'names: ["pump.*"]'), [['HF-C045', all, 8]])
  assert.equal(hidden(rest, 'units: ["°C"]').length, 1)
  const broad = (match: string) => `  broad: {match: {${match}}, reduce: {method: every}}\n`
  for (const [wide, narrow, found] of [
    ['names: ["pump*", "fan*"]', 'names: ["pump.?.rpm", "fan"]', 1],
    ['names: ["pump*"]', 'names: ["pump.1", "fan"]', 0],
    ['names: ["p?mp"]', 'names: ["p*mp"]', 0],
    ['names: ["*.rpm"]', 'names: ["pump.*"]', 0],
    ['units: [V, A]', 'names: [x], units: [V]', 1],
    ['units: [V]', 'units: [V, A]', 0],
    ['tags: {line: "2*"}', 'tags: {line: "21", hall: x}', 1],
    ['tags: {line: "2*"}', 'tags: {hall: x}', 0],
  ] as const)
    assert.equal(hidden(broad(wide), narrow).length, found, `${wide} before ${narrow}`)
  assert.equal(warned(`${pumps('names: ["pump.*"]')}${rest}`).length, 0)
})
test('warned: points of no class in a lane that nobody takes', () => {
  const pumps = '  pumps: {match: {names: ["pump.*"]}, reduce: {method: on_change}}\n'
  assert.deepEqual(warned(pumps), [
    [
      'HF-C046',
      'points of lane "raw" that no class takes go nowhere: no destination takes that lane',
      7,
    ],
  ])
  assert.deepEqual(warned(`${pumps}  rest: {}\n`), [])
  const windows =
    '  pumps: {match: {names: ["pump.*"]}, windows: [{every: 1m, statistics: [max]}]}\n'
  assert.ok(!warned(windows, ', lanes: [raw, windows, press]').some(([code]) => code === 'HF-C046'))
})

/** Each with the text its place points at, and what its remedy speaks of. */
const placed: readonly (readonly [string, string, string, RegExp])[] = [
  [
    'percent without a range',
    'classes:\n  a:\n    reduce: {method: deadband, deviation: 1.5%}\n',
    '1.5%',
    /range/,
  ],
  [
    'a window that divides no day',
    'classes:\n  a:\n    windows:\n      - {every: 7m, statistics: [mean]}\n',
    '7m',
    /day|6m|8m|10m/,
  ],
  [
    'an unknown statistic',
    'classes:\n  a:\n    windows: [{every: 1m, statistics: [max, meen]}]\n',
    'meen',
    /mean/,
  ],
  [
    'a gap that every point would be',
    'classes:\n  a:\n    reduce: {method: every, gap_times: 0.5}\n',
    '0.5',
    /gap_times must be above 1.*such as 10/s,
  ],
  [
    'a heartbeat without a time',
    'classes:\n  a:\n    reduce: {method: every, heartbeat: 0s}\n',
    '0s',
    /heartbeat must be a time above 0/,
  ],
  [
    'more windows than may wait for late points',
    'classes:\n  a:\n    windows:\n      - {every: 1s, statistics: [mean], lateness: 1d}\n',
    '1d',
    /lateness must be at most 10080 times `every`/,
  ],
  [
    'a window of no time, which is said once',
    'classes:\n  a:\n    windows:\n      - {every: 0s, statistics: [mean]}\n',
    '0s',
    /divide a day/,
  ],
  [
    'routes that overlap',
    'classes: {a: {reduce: {method: every}}}\n',
    'lanes: [raw, reduced]',
    /replay/,
  ],
  [
    'a lane of windows that nobody takes',
    'classes:\n  a: {windows: [{every: 1m, statistics: [mean], lane: windows}]}\n',
    'windows}',
    /add "windows" to the lanes of a destination/,
  ],
]
const routed = (what: string) =>
  what.startsWith('routes')
    ? ', lanes: [raw, reduced]'
    : what.endsWith('takes')
      ? ', lanes: [press]'
      : ''
for (const [what, text, at, remedy] of placed)
  test(`refused with file:line:col and a hint: ${what}`, () => {
    const source = `${base}${text}${region(routed(what))}`
    const result = load(source)
    assert.ok(!result.ok)
    const errors = result.problems.filter(({ severity }) => severity === 'error')
    assert.equal(errors.length, 1, JSON.stringify(errors))
    const [problem] = errors
    assert.ok(problem)
    const lines = source.slice(0, source.indexOf(at)).split('\n')
    assert.deepEqual(
      [problem.line, problem.column],
      [lines.length, (lines.at(-1) ?? '').length + 1],
    )
    const shown = renderProblems(errors, { color: false })
    assert.ok(
      shown.includes(`${join(folder, 'holdfast.yaml')}:${problem.line}:${problem.column}`),
      shown,
    )
    assert.match(`${problem.hint} ${shown}`, remedy)
  })
