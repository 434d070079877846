/**
 * The views over points of statistic series (decision 0007): `windows`, one row a window, the newest revision standing;
 * `windows_latest`, the newest of each series; and `readings_latest`. Both databases have them, so that a plant
 * engineer asks both alike.
 *
 * Invariants: a window is there once its `rev` is; each statistic is looked up by its key only where a query names its
 * column, so that a query costs what it asks for, whatever else the table holds; names and tags are read once a series,
 * never once a point.
 */

import { windowTags } from '../model.ts'

/** SQL of the contract that held when point `p` was given out. */
export const contractThen = `(select c.contract from series_contracts c
    where c.series_id = p.series_id and c.from_time <= p.time
    order by c.from_time desc limit 1) as contract`

/** By what a statistic's points hold: whole numbers, numbers, times in microseconds, text. */
const ints = ['count', 'good_count', 'changes']
const floats = [
  ...['min', 'max', 'first', 'last', 'sum', 'twa', 'delta'],
  ...['range', 'stddev', 'median', 'p95'],
]
const times = ['min_at', 'max_at']
const texts = ['first', 'last']
const others = ['good_pct', 'time_in_state', 'partial', 'rev']
const ofValues = [...floats, ...texts].map((name) => `'${name}'`).join(', ')

export interface ViewDialect {
  /** SQL of one tag of `s`, as text. */
  readonly tag: (name: string) => string
  /** SQL of the tags without the reserved ones. */
  readonly ownTags: string
  readonly hasStatistic: string
  /** SQL of the value of point `p`, whatever its kind; null for NaN, which says that there is none. */
  readonly float: string
  readonly int: string
  readonly time: (us: string) => string
  readonly json: (text: string) => string
  readonly bool: (int: string) => string
  /** Microseconds, decimal text in. */
  readonly every: (text: string) => string
}

/** One row a series and length of window: the ids of its statistics. */
const windowSeries = (sql: ViewDialect): string => {
  const statistic = sql.tag(windowTags.statistic)
  const every = sql.every(sql.tag(windowTags.every))
  const ids = [...ints, ...floats, ...times, ...others].map(
    (name) => `max(s.series_id) filter (where ${statistic} = '${name}') as ${name}_id`,
  )
  return `create view window_series as
select s.agent, s.name as series, ${sql.ownTags} as tags, ${every} as every,
  max(s.unit) filter (where ${statistic} in (${ofValues})) as unit,
  ${ids.join(',\n  ')}
from series s where ${sql.hasStatistic}
group by ${['s.agent', 's.name', sql.ownTags, every].join(', ')};
`
}

const columns = (sql: ViewDialect): readonly string[] => {
  const of = (name: string, value: string) =>
    `(select ${value} from points p where p.series_id = w.${name}_id and p.time = r.time)`
  const count = of('count', sql.int)
  const good = of('good_count', sql.int)
  // PostgreSQL refuses a quotient that rounds to zero, and with it the whole query.
  const divisible = `case when abs(${sql.float}) < 1e-300 then 0 else ${sql.float} end`
  return [
    ...['rev', ...ints].map((name) => `${of(name, sql.int)} as ${name}`),
    `coalesce(${of('good_pct', sql.float)}, 100.0 * ${good} / nullif(${count}, 0)) as good_pct`,
    `1.0 * ${of('sum', divisible)} / nullif(${good}, 0) as mean`,
    ...floats.map((name) => `${of(name, sql.float)} as ${name}`),
    ...texts.map((name) => `${of(name, 'p.value_text')} as ${name}_text`),
    ...times.map((name) => `${sql.time(of(name, sql.int))} as ${name}`),
    `${sql.json(of('time_in_state', 'p.value_text'))} as time_in_state`,
    `${sql.bool(`coalesce(${of('partial', sql.int)}, 0)`)} as partial`,
  ]
}
const windows = (sql: ViewDialect, name: string, more: string): string => `create view ${name} as
select w.agent, w.series, w.tags, w.every, r.time as start, w.unit,
  ${columns(sql).join(',\n  ')}
from window_series w join points r on r.series_id = w.rev_id${more};
`

/** `latest` is the SQL of `readings` with a condition more. */
export const windowViews = (sql: ViewDialect): string =>
  [
    windowSeries(sql),
    windows(sql, 'windows', ''),
    windows(
      sql,
      'windows_latest',
      `
  and r.time = (select max(n.time) from points n where n.series_id = w.rev_id)`,
    ),
  ].join('')
