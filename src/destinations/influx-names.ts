/**
 * What the lines of a series begin with. Each product reads names in its own way: with the same bytes one refuses a
 * line, another stores it under a name that nobody gave, a third takes two series for one.
 *
 * Invariants: a name that would not be read back as it is, is none: its points are told as lost, never written. Each
 * line says whose it is, in a tag: a series is one of an agent, and two gateways may call theirs alike.
 */
import type { SeriesEntry } from '../model.ts'
import { splitSeriesName } from '../protocol/line-name.ts'
import { lineFieldKey, lineHead } from '../protocol/line-write.ts'
import type { InfluxDialect } from './influx-dialects.ts'

export const tableDefault = 'points'
export const agentTagDefault = 'agent'
/** Column of a value's kind, in the order of `kinds`. */
export const kindColumns = ['value=', 'value_int=', 'value_bool=', 'value_text='] as const
const reserved =
  /^(?:timestamp|_ts|ts|time|series|series_id|value|value_int|value_bool|value_text)$/i
const columnName = /^@?[\p{L}_][\p{L}\p{N}_ ]*$/u

type Tags = SeriesEntry['tags']
type Part = 'measurement' | 'key' | 'tag' | 'field'
/** Whose reader of lines it is. */
export type NameReader =
  | 'influxdb1'
  | 'influxdb2'
  | 'influxdb3'
  | 'victoriametrics'
  | 'questdb'
  | 'greptimedb'
  | 'tdengine'
/** Go's reader: time is its own, no blank begins a field, a backslash before a delimiter is taken for an escape. */
const goCannot = (part: Part, text: string): boolean =>
  (part === 'key' && text === 'time') ||
  (part === 'field' && (text === 'time' || /^[\t\0]|\\[,= "]/.test(text))) ||
  (part === 'measurement' && /^\0|\\[,= "]/.test(text))
/** A longer value of a label would be cut (`-maxLabelValueLen`), more labels dropped (`-maxLabelsPerTimeseries`). */
const victoriaValueBytesMax = 16_384
const victoriaLabelsMax = 30
/**
 * Why a part of a name cannot be said to that reader. Facts: test/standins/line-*.ts, and the real InfluxDB 1,
 * VictoriaMetrics and QuestDB.
 */
const faults: Readonly<Record<NameReader, (part: Part, text: string) => boolean>> = {
  influxdb1: goCannot,
  influxdb2: (part, text) =>
    goCannot(part, text) || (part === 'key' && /^_(?:field|measurement)$/.test(text)),
  // Rust: a tab ends every name.
  influxdb3: (part, text) =>
    /[\t\0]/.test(text) || (part !== 'tag' && /^(?:time|__chunk_order)$/.test(text)),
  // A quote in a field begins a string, which may end lines later.
  victoriametrics: (part, text) =>
    (part === 'field' && text.includes('"')) ||
    (part === 'key' && text === '__name__') ||
    Buffer.byteLength(text) > victoriaValueBytesMax,
  questdb: () => false,
  greptimedb: (part, text) =>
    /[\t\0]/.test(text) ||
    (part === 'measurement' && !/^[a-zA-Z_:-][a-zA-Z0-9_:\-.@#]*$/.test(text)) ||
    (part !== 'tag' && part !== 'measurement' && text === 'greptime_timestamp'),
  tdengine: (part, text) => part === 'key' && Buffer.byteLength(text) > 64,
}
/** For these a backslash escapes itself: twice, or it is gone, or two names become one. */
const escapesBackslash: ReadonlySet<NameReader> = new Set<NameReader>([
  'influxdb3',
  'greptimedb',
  'victoriametrics',
  'questdb',
])
/** There tags and fields are columns of one table. */
const oneTable: ReadonlySet<NameReader> = new Set<NameReader>(['influxdb3', 'greptimedb'])

/** TDengine keeps tags as four bytes a character, in powers of two up to 1 KiB: 16 KiB for all, 128 at most. */
const tdengineHolds = (tags: Tags): boolean => {
  const room = (bytes: number) => (bytes >= 1_024 ? bytes : 2 ** (32 - Math.clz32(bytes))) * 4 + 2
  const sum = tags.reduce((so, [, value]) => so + room(Buffer.byteLength(value)), 0)
  return tags.length <= 128 && sum <= 16_384
}

/** Where the lines of an agent go, as far as lines say it. */
export interface LinePlace {
  readonly agent: string
  /** Key of the tag with the agent's name; empty: none. */
  readonly agentTag: string
  /** Of all points, where they are the rows of one. */
  readonly table: string
  /** VictoriaMetrics gives each series without a tag `db` this one. */
  readonly database?: string
}
/** The series' own tags and the agent's; one of the plant's that is called so goes by `exported_` before its key. */
const tagsOf = ({ agent, agentTag }: LinePlace, own: Tags): Tags => {
  if (agentTag === '') return own
  const given = own.map(
    ([key, value]) => [key === agentTag ? `exported_${key}` : key, value] as const,
  )
  const all: Tags = [[agentTag, agent], ...given]
  return all.toSorted(([one], [other]) => (one < other ? -1 : 1))
}
const twice = (tags: Tags) => new Set(tags.map(([key]) => key)).size < tags.length
/** What VictoriaMetrics makes of them: a name of both, and labels. */
const victoriaKey = (measurement: string, field: string, tags: Tags, database: string): string => {
  const labels = tags.some(([key]) => key === 'db') ? tags : [...tags, ['db', database]]
  return JSON.stringify([`${measurement}_${field}`, [...labels].sort()])
}

export interface LineStart {
  readonly start: string
  /** Two series of one key would be one there. */
  readonly key: string
}
const fieldStart = (
  reader: NameReader,
  { name }: SeriesEntry,
  tags: Tags,
  { database = '' }: LinePlace,
): LineStart | undefined => {
  const { measurement, field } = splitSeriesName(name)
  const wrong = (part: Part, text: string) => faults[reader](part, text) || text.endsWith('\\')
  if (wrong('measurement', measurement) || wrong('field', field) || twice(tags)) return undefined
  if (tags.some(([key, value]) => wrong('key', key) || wrong('tag', value))) return undefined
  if (oneTable.has(reader) && tags.some(([key]) => key === field)) return undefined
  // Its own: the name and `db`.
  const victoria = reader === 'victoriametrics'
  if (victoria && tags.length + 2 > victoriaLabelsMax) return undefined
  const [head, key] = [headOf(reader, measurement, tags), lineFieldKey(saidTo(reader, field))]
  if (head === undefined || key === undefined) return undefined
  const start = `${head} ${key}=`
  return { start, key: victoria ? victoriaKey(measurement, field, tags, database) : start }
}
const saidTo = (reader: NameReader, text: string) =>
  escapesBackslash.has(reader) ? text.replaceAll('\\', '\\\\') : text
const headOf = (reader: NameReader, measurement: string, tags: Tags) =>
  lineHead(
    saidTo(reader, measurement),
    tags.map(([key, value]) => [saidTo(reader, key), saidTo(reader, value)]),
  )

/** What the lines of a series begin with, or why there are none. */
export const lineStartOf = (
  { layout, names, idColumn }: InfluxDialect,
  place: LinePlace,
  series: SeriesEntry,
): LineStart | { readonly why: string } => {
  const { name, id } = series
  const tags = tagsOf(place, series.tags)
  const unsayable = {
    why: `line protocol cannot say the name ${JSON.stringify(name)} or its tags`,
  }
  if (layout === 'fields') return fieldStart(names, series, tags, place) ?? unsayable
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
  const head = headOf(names, place.table, all)
  if (head === undefined) return unsayable
  const start = `${head} ${idColumn ? `series_id=${id}i,` : ''}`
  return { start, key: start }
}
