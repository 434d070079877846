/**
 * Dashboards and alert rules ask only for what is counted: declared meters, with their labels, and what prom-client
 * says of the process. What promtool thinks of them: test/contract/alerts.test.ts.
 */
import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { test } from 'node:test'
import { collectDefaultMetrics, Registry } from 'prom-client'
import { parse } from 'yaml'
import { meters } from '../../src/observability/meters.ts'

const root = join(import.meta.dirname, '../..')
interface Panel {
  readonly id: number
  readonly type: string
  readonly title: string
  readonly gridPos: Readonly<Record<'x' | 'y' | 'w' | 'h', number>>
  readonly datasource?: { readonly uid: string }
  readonly targets?: readonly { readonly refId: string; readonly expr: string }[]
}
interface Dashboard {
  readonly uid: string
  readonly templating: {
    readonly list: readonly { readonly name: string; readonly definition?: string }[]
  }
  readonly panels: readonly Panel[]
}
const read = (path: string): string => readFileSync(join(root, path), 'utf8')
const boards = ['gateway', 'fleet'].map(
  (name) => JSON.parse(read(`platforms/grafana/${name}.json`)) as Dashboard,
)
const ofProcess = new Registry()
collectDefaultMetrics({ register: ofProcess })
const processMeters = new Set(ofProcess.getMetricsAsArray().map(({ name }) => name))

/** Given by Prometheus, not by us. */
const targetLabels = ['job', 'instance']
const labelsOf = (name: string): readonly string[] | undefined => {
  if (name === 'up' || processMeters.has(name)) return []
  const plain = name.replace(/_(bucket|sum|count)$/, '')
  const one = meters[name] ?? (meters[plain]?.kind === 'histogram' ? meters[plain] : undefined)
  if (one === undefined || (one.kind === 'histogram' && plain === name)) return undefined
  return name.endsWith('_bucket') ? [...one.labels, 'le'] : one.labels
}
const words = (text: string): readonly string[] => text.match(/[a-z_]+/g) ?? []
/** What is wrong with a query; [] when nothing. */
const mistakesIn = (query: string): readonly string[] => {
  const expr = query.replace(/#.*$/gm, '')
  const asked = [
    ...expr.matchAll(/\b(up|(?:holdfast|process|nodejs)_[a-z0-9_]+)\b(?:\{([^}]*)\})?/g),
  ]
  const known = asked.map(([, name = '', matchers = '']) => {
    const labels = labelsOf(name)
    if (labels === undefined) return { labels: [], wrong: [`${name} is not declared`] }
    const named = [...matchers.matchAll(/([a-z_]+)\s*(?:=~|!~|!=|=)/g)].map(
      ([, label = '']) => label,
    )
    const odd = named.filter((label) => ![...labels, ...targetLabels].includes(label))
    return { labels, wrong: odd.map((label) => `${name} has no label ${label}`) }
  })
  const all = new Set([...targetLabels, ...known.flatMap(({ labels }) => labels)])
  const grouped = [...expr.matchAll(/\b(?:by|on)\s*\(([^)]*)\)/g)].flatMap(([, list = '']) =>
    words(list),
  )
  return [
    ...(asked.length === 0 ? ['asks for nothing'] : []),
    ...known.flatMap(({ wrong }) => wrong),
    ...grouped.filter((label) => !all.has(label)).map((label) => `grouped by ${label}`),
  ]
}

test('every query of a dashboard asks for declared meters and labels', () => {
  for (const { uid, panels, templating } of boards) {
    for (const { title, targets = [] } of panels)
      for (const { expr } of targets) assert.deepEqual(mistakesIn(expr), [], `${uid}: ${title}`)
    for (const { definition } of templating.list)
      if (definition !== undefined) assert.deepEqual(mistakesIn(definition), [], uid)
  }
})

test('every alert asks for declared meters and labels', () => {
  const { groups } = parse(read('platforms/prometheus/holdfast.rules.yaml')) as {
    groups: { rules: { alert: string; expr: string; annotations: Record<string, string> }[] }[]
  }
  for (const { alert, expr } of groups.flatMap(({ rules }) => rules))
    assert.deepEqual(mistakesIn(expr), [], alert)
})

test('a wrong name, a wrong label, a wrong grouping and a bare histogram are found', () => {
  for (const [expr, mistake] of [
    ['holdfast_sppol_bytes', 'holdfast_sppol_bytes is not declared'],
    ['holdfast_spool_bytes{lane="raw"}', 'holdfast_spool_bytes has no label lane'],
    ['sum by (series) (holdfast_points_pending)', 'grouped by series'],
    [
      'holdfast_regional_commit_duration_seconds',
      'holdfast_regional_commit_duration_seconds is not declared',
    ],
    ['holdfast_health_count', 'holdfast_health_count is not declared'],
  ] as const)
    assert.deepEqual(mistakesIn(expr), [mistake])
})

test('panels stand side by side, each with its own number, and use variables that exist', () => {
  for (const { uid, panels, templating } of boards) {
    assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length)
    const taken = new Set<string>()
    for (const { title, type, gridPos, targets = [], datasource } of panels) {
      assert.ok(gridPos.x >= 0 && gridPos.x + gridPos.w <= 24, `${uid}: ${title}`)
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++)
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          assert.ok(!taken.has(`${x},${y}`), `${uid}: ${title} stands on another`)
          taken.add(`${x},${y}`)
        }
      assert.equal(type === 'row', targets.length === 0, `${uid}: ${title}`)
      if (type !== 'row') assert.equal(datasource?.uid, `\${datasource}`)
      assert.equal(new Set(targets.map(({ refId }) => refId)).size, targets.length)
    }
    const names = new Set([
      ...templating.list.map(({ name }) => name),
      '__rate_interval',
      '__range',
    ])
    for (const [, name = ''] of JSON.stringify(panels).matchAll(/\$\{?([a-z_]+)/g))
      assert.ok(names.has(name), `${uid}: $${name}`)
  }
})

test('every alert has its page, and every page its alert', () => {
  const kebab = (name: string) =>
    name
      .replace(/^Holdfast/, '')
      .replace(/(?<!^)([A-Z])/g, '-$1')
      .toLowerCase()
  const { groups } = parse(read('platforms/prometheus/holdfast.rules.yaml')) as {
    groups: {
      rules: { alert: string; labels: { severity: string }; annotations: { runbook_url: string } }[]
    }[]
  }
  const rules = groups.flatMap((group) => group.rules)
  for (const { alert, annotations, labels } of rules) {
    assert.equal(annotations.runbook_url, `docs/operate/runbooks/${kebab(alert)}.md`)
    const page = read(annotations.runbook_url)
    assert.ok(page.startsWith(`# ${alert}: `), alert)
    for (const heading of ['What it means.', 'What is safe.', 'What to do.', 'When it is over.'])
      assert.ok(page.includes(`**${heading}**`), `${alert}: ${heading}`)
    assert.match(labels.severity, /^(critical|warning|info)$/)
    for (const [, link = ''] of page.matchAll(/\]\((?!http)([^)#]+)/g))
      read(join('docs/operate/runbooks', link))
  }
  assert.deepEqual(
    globSync('docs/operate/runbooks/*.md', { cwd: root })
      .map((page) => basename(page, '.md'))
      .sort(),
    rules.map(({ alert }) => kebab(alert)).sort(),
  )
})
