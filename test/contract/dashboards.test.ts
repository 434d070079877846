/**
 * The dashboards before a real Prometheus that scrapes a real agent and a real regional node: every variable finds its
 * values, every query of every panel is answered with numbers, in a site where points flow and some are refused, and every
 * alert rule is evaluated, none firing.
 */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { parse, stringify } from 'yaml'
import { findTool } from '../support/debian.ts'
import { freePort } from '../support/processes.ts'
import { type Prometheus, startPrometheus } from '../support/prometheus-server.ts'
import { createHttpPublisher } from '../support/publisher.ts'
import { createSite, type Site } from '../support/site.ts'

let why: string | false = false
try {
  findTool('prometheus', 'prometheus', '/usr/bin/prometheus')
} catch (error) {
  why = `prometheus could not be had: ${error instanceof Error ? error.message : error}`
}

interface Target {
  readonly expr: string
  readonly instant?: boolean
}
interface Dashboard {
  readonly uid: string
  readonly templating: {
    readonly list: readonly { name: string; definition?: string; allValue?: string }[]
  }
  readonly panels: readonly { readonly title: string; readonly targets?: readonly Target[] }[]
}
const root = join(import.meta.dirname, '../..')
const boards = ['gateway', 'fleet'].map(
  (name) =>
    JSON.parse(readFileSync(join(root, `platforms/grafana/${name}.json`), 'utf8')) as Dashboard,
)
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** As Grafana fills them in, the scrapes being a second apart. */
const fill = (text: string, values: ReadonlyMap<string, string>): string =>
  text.replace(/\$(\w+)/g, (whole, name) => values.get(name) ?? whole)
const always = [
  ['__rate_interval', '10s'],
  ['__range', '2m'],
] as const

/** The values of a dashboard's variables, each asked of Prometheus as Grafana does. */
const variablesOf = async (
  prometheus: Prometheus,
  { templating }: Dashboard,
): Promise<ReadonlyMap<string, string>> => {
  const values = new Map<string, string>(always)
  for (const { name, definition, allValue } of templating.list) {
    const [, match = '', label = ''] = /^label_values\((.*), (\w+)\)$/.exec(definition ?? '') ?? []
    if (match === '') continue
    const asked = { 'match[]': fill(match, values) }
    const valuesOf = async () =>
      (await prometheus.ask(`label/${label}/values`, asked)) as readonly string[]
    let found = await valuesOf()
    // Scraped once a second, and the label is there from the first scrape that found the process.
    for (
      const end = Date.now() + 20_000;
      found.length === 0 && Date.now() < end;
      found = await valuesOf()
    )
      await pause(200)
    assert.equal(found.length, 1, `${name}: ${found.join(' ')}`)
    values.set(name, allValue ?? found[0] ?? '')
  }
  return values
}
interface Answer {
  readonly result: readonly { value?: [number, string]; values?: [number, string][] }[]
}
/** How many series answer, each with a number at some time. */
const seriesOf = async (prometheus: Prometheus, query: string, instant: boolean) => {
  const end = Date.now() / 1_000
  const { result } = (await (instant
    ? prometheus.ask('query', { query, time: `${end}` })
    : prometheus.ask('query_range', {
        query,
        start: `${end - 20}`,
        end: `${end}`,
        step: '1',
      }))) as Answer
  const isNumber = (text: string) => text !== 'NaN'
  return result.filter(({ value, values = [] }) =>
    [...(value ? [value] : []), ...values].some(([, text]) => isNumber(text)),
  ).length
}

/** Both processes serve their metrics, and the spool is small enough to say when it is full. */
const openSite = async (): Promise<{ site: Site; agentAt: string; regionalAt: string }> => {
  const site = await createSite({
    sources: [{ name: 'plant', type: 'simulate', rate: 2_000, series: 20 }],
    spool: { size_max: '32MiB', disk_free_min: '1MiB' },
  })
  const serve = async (path: string, key?: string) => {
    const at = `127.0.0.1:${await freePort()}`
    const config = parse(readFileSync(path, 'utf8'))
    ;(key === undefined ? config : config[key]).metrics = { listen: at }
    writeFileSync(path, stringify(config))
    return at
  }
  const agentAt = await serve(site.config, 'agent')
  return { site, agentAt, regionalAt: await serve(join(site.folder, 'regional.yaml')) }
}

test('every panel of both dashboards shows numbers, and every rule is evaluated', {
  skip: why,
}, async (t: TestContext) => {
  const { site, agentAt, regionalAt } = await openSite()
  const prometheus = await startPrometheus({
    scrape: { holdfast: agentAt, 'holdfast-regional': regionalAt },
    rules: join(root, 'platforms/prometheus/holdfast.rules.yaml'),
  })
  const regional = await site.startRegional()
  const agent = await site.startAgent()
  await createHttpPublisher(() => site.door).send(100)
  // Something of everything: a message that is none, a point that cannot be.
  for (const body of ['no line protocol', 'plant value=1 1e99\nplant value="\0" 1'])
    await fetch(`${site.door}/write`, { method: 'POST', body })
  await site.when((seen) => seen.destinations[0]?.state === 'up')
  await pause(3_000)

  const asked = new Map<string, () => Promise<number>>()
  for (const board of boards) {
    const values = await variablesOf(prometheus, board)
    for (const { title, targets = [] } of board.panels)
      for (const { expr, instant = false } of targets)
        asked.set(`${board.uid}, ${title}: ${expr}`, () =>
          seriesOf(prometheus, fill(expr, values), instant),
        )
  }
  assert.ok(asked.size > 45, `${asked.size} queries`)
  const left = new Set(asked.keys())
  for (const end = Date.now() + 40_000; left.size > 0 && Date.now() < end; await pause(500))
    for (const name of left) if (((await asked.get(name)?.()) ?? 0) > 0) left.delete(name)
  assert.deepEqual([...left], [])
  t.diagnostic(`${asked.size} queries answered`)

  const { groups } = (await prometheus.ask('rules', {})) as {
    groups: readonly { rules: readonly { name: string; health: string; state: string }[] }[]
  }
  const rules = groups.flatMap((group) => group.rules)
  assert.ok(rules.length > 10)
  for (const { name, health, state } of rules) {
    assert.equal(health, 'ok', name)
    assert.notEqual(state, 'firing', name)
  }

  // It can tell: a meter that is none, one of another role, and a text that is no query.
  assert.equal(await seriesOf(prometheus, 'holdfast_helth', true), 0)
  assert.equal(await seriesOf(prometheus, `holdfast_health{instance="${regionalAt}"}`, false), 0)
  await assert.rejects(seriesOf(prometheus, 'sum by holdfast_health', true), /parse error/)
  await agent.stop()
  await regional.stop()
})
