/**
 * What the lines of a series begin with. Each product reads names in its own way: with the same bytes one refuses a
 * line, another stores it under a name that nobody gave, a third takes two series for one.
 *
 * Invariant: a name that would not be read back as it is, is none: its points are told as lost, never written.
 */
import type { SeriesEntry } from '../model.ts'
import { splitSeriesName } from '../protocol/line-name.ts'
import { lineFieldKey, lineHead } from '../protocol/line-write.ts'
import type { InfluxDialect } from './influx-dialects.ts'

export const tableDefault = 'points'
/** Column of a value's kind, in the order of `kinds`. */
export const kindColumns = ['value=', 'value_int=', 'value_bool=', 'value_text='] as const
const reserved =
  /^(?:timestamp|_ts|ts|time|series|series_id|value|value_int|value_bool|value_text)$/i
const columnName = /^@?[\p{L}_][\p{L}\p{N}_ ]*$/u

type Tags = SeriesEntry['tags']
type Part = 'measurement' | 'key' | 'tag' | 'field'
/** Whose reader of lines it is; `plain`: nothing more is known than what line protocol says. */
export type NameReader =
  | 'plain'
  | 'influxdb1'
  | 'influxdb2'
  | 'influxdb3'
  | 'greptimedb'
  | 'tdengine'
/** Go's reader: time is its own, no blank begins a field, a backslash before a delimiter is taken for an escape. */
const goCannot = (part: Part, text: string): boolean =>
  (part === 'key' && text === 'time') ||
  (part === 'field' && (text === 'time' || /^[\t\0]|\\[,= "]/.test(text))) ||
  (part === 'measurement' && /^\0|\\[,= "]/.test(text))
/** Why a part of a name cannot be said to that reader. Facts: test/standins/line-*.ts, and the real InfluxDB 1. */
const faults: Readonly<Record<NameReader, (part: Part, text: string) => boolean>> = {
  plain: () => false,
  influxdb1: goCannot,
  influxdb2: (part, text) =>
    goCannot(part, text) || (part === 'key' && /^_(?:field|measurement)$/.test(text)),
  // Rust: a tab ends every name.
  influxdb3: (part, text) =>
    /[\t\0]/.test(text) || (part !== 'tag' && /^(?:time|__chunk_order)$/.test(text)),
  greptimedb: (part, text) =>
    /[\t\0]/.test(text) ||
    (part === 'measurement' && !/^[a-zA-Z_:-][a-zA-Z0-9_:\-.@#]*$/.test(text)) ||
    (part !== 'tag' && part !== 'measurement' && text === 'greptime_timestamp'),
  tdengine: (part, text) => part === 'key' && Buffer.byteLength(text) > 64,
}
/** For Rust a backslash escapes itself: twice, or two names become one. */
const escapesBackslash = (reader: NameReader) => reader === 'influxdb3' || reader === 'greptimedb'

/** TDengine keeps tags as four bytes a character, in powers of two up to 1 KiB: 16 KiB for all, 128 at most. */
const tdengineHolds = (tags: Tags): boolean => {
  const room = (bytes: number) => (bytes >= 1_024 ? bytes : 2 ** (32 - Math.clz32(bytes))) * 4 + 2
  const sum = tags.reduce((so, [, value]) => so + room(Buffer.byteLength(value)), 0)
  return tags.length <= 128 && sum <= 16_384
}

const fieldStart = (reader: NameReader, { name, tags }: SeriesEntry): string | undefined => {
  const { measurement, field } = splitSeriesName(name)
  const wrong = (part: Part, text: string) => faults[reader](part, text) || text.endsWith('\\')
  if (wrong('measurement', measurement) || wrong('field', field)) return undefined
  if (tags.some(([key, value]) => wrong('key', key) || wrong('tag', value))) return undefined
  const rust = escapesBackslash(reader)
  // There tags and fields are columns of one table.
  if (rust && tags.some(([key]) => key === field)) return undefined
  const say = (text: string) => (rust ? text.replaceAll('\\', '\\\\') : text)
  const said = tags.map(([key, value]) => [say(key), say(value)] as const)
  const [head, key] = [lineHead(say(measurement), said), lineFieldKey(say(field))]
  return head === undefined || key === undefined ? undefined : `${head} ${key}=`
}

/** What the lines of a series begin with, or why there are none. */
export const lineStartOf = (
  { layout, names, idColumn }: InfluxDialect,
  table: string,
  series: SeriesEntry,
): { readonly start: string } | { readonly why: string } => {
  const { name, tags, id } = series
  const unsayable = {
    why: `line protocol cannot say the name ${JSON.stringify(name)} or its tags`,
  }
  if (layout === 'fields') {
    const start = fieldStart(names, series)
    return start === undefined ? unsayable : { start }
  }
  const keys = tags.map(([key]) => key.toLowerCase())
  const bad = tags.find(
    ([key], at) =>
      reserved.test(key) ||
      !columnName.test(key) ||
      faults[names]('key', key) ||
      keys.indexOf(key.toLowerCase()) !== at,
  )
  if (bad !== undefined) return { why: `${name}: no column can be named like the tag ${bad[0]}` }
  const all: Tags = [['series', name], ...tags]
  if (names === 'tdengine' && !tdengineHolds(all))
    return { why: `${name}: its tags are longer than the product holds` }
  const head = lineHead(table, all)
  if (head === undefined) return unsayable
  return { start: `${head} ${idColumn ? `series_id=${id}i,` : ''}` }
}
