/**
 * The view `windows`: points of statistic series (decision 0007) as one row a window, the newest revision standing.
 * Both databases have it, so that a plant engineer asks both alike.
 *
 * Invariant: names of series and agent, `every` and `start` are what rows are grouped by, so that a query that names
 * them reads the points of those series and times only.
 */

import { windowTags } from '../model.ts'

/** By what a statistic's points hold: whole numbers, numbers, times in microseconds, text. */
const ints = ['rev', 'count', 'good_count', 'changes']
const floats = [
  ...['min', 'max', 'first', 'last', 'sum', 'twa', 'delta'],
  ...['range', 'stddev', 'median', 'p95'],
]
const times = ['min_at', 'max_at']
const texts = ['first', 'last']

export interface ViewDialect {
  /** SQL of one tag of `s`, as text. */
  readonly tag: (name: string) => string
  /** SQL of the tags without the reserved ones. */
  readonly ownTags: string
  readonly hasStatistic: string
  /** SQL of the point's value, whatever its kind; null for NaN, which says that there is none. */
  readonly float: string
  readonly int: string
  readonly time: (us: string) => string
  readonly start: string
  readonly json: (text: string) => string
  readonly bool: (int: string) => string
  /** Microseconds, decimal text in. */
  readonly every: (text: string) => string
}

export const windowsView = (sql: ViewDialect): string => {
  const statistic = sql.tag(windowTags.statistic)
  const of = (name: string, value: string) =>
    `max(${value}) filter (where ${statistic} = '${name}')`
  const columns = [
    ...ints.map((name) => `${of(name, sql.int)} as ${name}`),
    `coalesce(${of('good_pct', sql.float)},
    100.0 * ${of('good_count', sql.int)} / nullif(${of('count', sql.int)}, 0)) as good_pct`,
    `${of('sum', sql.float)} / nullif(${of('good_count', sql.int)}, 0) as mean`,
    ...floats.map((name) => `${of(name, sql.float)} as ${name}`),
    ...texts.map((name) => `${of(name, 'p.value_text')} as ${name}_text`),
    ...times.map((name) => `${sql.time(of(name, sql.int))} as ${name}`),
    `${sql.json(of('time_in_state', 'p.value_text'))} as time_in_state`,
    `${sql.bool(`coalesce(${of('partial', sql.int)}, 0)`)} as partial`,
  ]
  const every = sql.every(sql.tag(windowTags.every))
  const ofValues = [...floats, ...texts].map((name) => `'${name}'`).join(', ')
  return `create view windows as
select s.agent, s.name as series, ${sql.ownTags} as tags, ${every} as every, ${sql.start} as start,
  max(s.unit) filter (where ${statistic} in (${ofValues})) as unit,
  ${columns.join(',\n  ')}
from series s join points p using (series_id)
where ${sql.hasStatistic}
group by ${['s.agent', 's.name', sql.ownTags, every, sql.start].join(', ')};
`
}
