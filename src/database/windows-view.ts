/**
 * The view `windows`: points of statistic series (decision 0007) as one row a window, the newest revision standing.
 * Both databases have it, so that a plant engineer asks both alike.
 *
 * Invariant: names of series and agent, `every` and `start` are what rows are grouped by, so that a query that names
 * them reads the points of those series and times only.
 */

import { windowTags } from '../model.ts'

/** Of a number as float, of whole numbers (counts, times in microseconds), of text. */
const floats = [
  'min',
  'max',
  'first',
  'last',
  'sum',
  'twa',
  'delta',
  'range',
  'stddev',
  'median',
  'p95',
  'good_pct',
]
const ints = ['rev', 'count', 'good_count', 'changes']
const times = ['min_at', 'max_at']
const texts = ['time_in_state']

export interface ViewDialect {
  /** SQL of one tag of `s`, as text. */
  readonly tag: (name: string) => string
  /** SQL of the tags without the reserved ones. */
  readonly ownTags: string
  readonly hasStatistic: string
  /** SQL of the point's value, whatever its kind. */
  readonly float: string
  readonly int: string
  readonly time: (us: string) => string
  readonly start: string
  readonly json: (text: string) => string
  /** Microseconds, decimal text in. */
  readonly every: (text: string) => string
}

export const windowsView = (sql: ViewDialect): string => {
  const of = (statistic: string, value: string) =>
    `max(${value}) filter (where ${sql.tag(windowTags.statistic)} = '${statistic}')`
  const columns = [
    ...ints.map((name) => `${of(name, sql.int)} as ${name}`),
    ...floats.map((name) => `${of(name, sql.float)} as ${name}`),
    `${of('sum', sql.float)} / nullif(${of('good_count', sql.int)}, 0) as mean`,
    ...times.map((name) => `${sql.time(of(name, sql.int))} as ${name}`),
    ...texts.map((name) => `${sql.json(of(name, 'p.value_text'))} as ${name}`),
  ]
  const every = sql.every(sql.tag(windowTags.every))
  const keys = ['s.agent', 's.name', sql.ownTags, every, sql.start]
  return `create view windows as
select s.agent, s.name as series, ${sql.ownTags} as tags, ${every} as every, ${sql.start} as start,
  ${of('last', 's.unit')} as unit,
  ${columns.join(',\n  ')}
from series s join points p using (series_id)
where ${sql.hasStatistic}
group by ${keys.join(', ')};
`
}
