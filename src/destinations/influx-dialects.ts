/**
 * What the products that take line protocol do differently, as data: where to write, how to say who writes, what a line
 * looks like, what a value cannot be, which answers lie. Facts come from real servers where `proven.ts` names
 * one, else from the vendor's source and documents.
 *
 * Invariant: what a product is known to alter, drop or merge behind its ack is left out by us and told, never written;
 * where it tells nobody beforehand what it will drop, `docs/operate/destinations.md` names it.
 */
import type { Value } from '../model.ts'
import { lineValue } from '../protocol/line-write.ts'
import type { NameReader } from './influx-names.ts'
import { type InfluxReading, influxCodes } from './influx-outcome.ts'
import { renewHint } from './login.ts'
import { blocked } from './relay-outcome.ts'

export const influxDialectNames = [
  'influxdb1',
  'influxdb2',
  'influxdb3',
  'victoriametrics',
  'questdb',
  'greptimedb',
  'tdengine',
] as const
export type InfluxDialectName = (typeof influxDialectNames)[number]
/** Keys of the configuration that say where. */
export const placeKeys = ['database', 'retention_policy', 'org', 'bucket', 'table'] as const
export type Place = Partial<Record<(typeof placeKeys)[number], string | undefined>>

export interface InfluxDialect {
  readonly path: string
  /** Of the query, by name there; values name a key of `Place` or stand for themselves after `=`. */
  readonly query: Readonly<Record<string, string>>
  readonly needs: readonly (keyof Place | 'token')[]
  readonly takes: readonly (keyof Place)[]
  /** How a token is sent; undefined: it takes user and password alone. */
  readonly token: 'Token' | 'Bearer' | undefined
  /** How user and password are sent. */
  readonly user: 'basic' | 'token' | undefined
  /**
   * `fields`: one measurement a name, one field a line. `rows`: one table of all points with a column a kind, so that
   * no line of one time replaces or splits another's row, and no type can conflict.
   */
  readonly layout: 'fields' | 'rows'
  /** In rows: a column with the series' 63-bit id, for a key that tags of any number cannot make. */
  readonly idColumn: boolean
  readonly names: NameReader
  readonly timeUnitUs: number
  /** Behind the microseconds of a line: what makes them the unit that the query names. */
  readonly timeTail: '' | '000'
  readonly strings: boolean
  /** A line feed inside a string: as it is, after a backslash, or never. */
  readonly lineFeed: 'plain' | 'escaped' | 'never'
  readonly unholdable: (value: Value, timeUs: number) => string | undefined
  /** Answers that mean something else here than elsewhere. */
  readonly read: (status: number, words: string) => InfluxReading | undefined
}

const holdsAll = () => undefined
const asElsewhere = () => undefined
const setback = (one: ReturnType<typeof blocked>): InfluxReading => ({
  kind: 'setback',
  setback: one,
})

/** It holds float64 alone, and would write a string as 0. */
const floatsOnly = (value: Value): string | undefined => {
  if (typeof value === 'string') return 'VictoriaMetrics holds no strings'
  const exact = typeof value !== 'bigint' || BigInt(Number(value)) === value
  return exact ? undefined : `VictoriaMetrics holds no integer as large as ${value}`
}
const int64Min = -(2n ** 63n)
/** Both use the smallest int64 for "nothing". */
const noSmallestInt =
  (product: string) =>
  (value: Value, timeUs: number): string | undefined => {
    if (value === int64Min) return `${product} takes ${value} for nothing`
    return timeUs < 0 ? `${product} holds no time before 1970` : undefined
  }
/** A row has 65,531 bytes for all columns, and a column keeps the room of its longest string: numbers need theirs. */
const tdengineTextMax = 65_000
const tdengineCannot = (value: Value, timeUs: number): string | undefined => {
  // Zero would be stamped with the server's clock.
  if (timeUs === 0) return 'TDengine takes the time 0 for now'
  const long = typeof value === 'string' && value.length > tdengineTextMax / 6
  if (long && Buffer.byteLength(lineValue(value) ?? '') > tdengineTextMax)
    return `TDengine holds no string of more than ${tdengineTextMax} bytes beside numbers`
  return noSmallestInt('TDengine')(value, timeUs)
}
const limitReached = (words: string): InfluxReading =>
  setback(
    blocked(
      influxCodes.refusesAll,
      `a limit of the server is reached: ${words}`,
      'Tables, columns or databases: raise the limit or write elsewhere; nothing was dropped.',
    ),
  )
/** Schema limits of the server: 422 of InfluxDB 3 (columns, tables, databases). */
const readInflux3 = (status: number, words: string): InfluxReading | undefined =>
  status === 422 ? limitReached(words) : undefined
/** GreptimeDB has one 400 for everything. */
const readGreptimedb = (status: number, words: string): InfluxReading | undefined =>
  status === 400 && /^Failed to find schema/.test(words)
    ? setback(blocked(influxCodes.notFound, words, 'CREATE DATABASE there, or correct database.'))
    : undefined
/** taosAdapter answers 500 to whatever an insert meets; TDengine's own number (taoserror.h) stands in the text. */
const tdengineBadData = new Set([0x124, 0x127, 0x203, 0x20a, 0x21f, 0x2642, 0x2653, 0x3002, 0x3004])
const tdengineOutOfKeep = 0x60b
/** Bytes of all tags, bytes of a row, columns, tags: of the table, whatever the point. */
const tdengineLimits = new Set([0x263d, 0x263e, 0x2640, 0x2643])
const tdengineNoPlace = new Set([0x388, 0x383, 0x2616])
const tdengineNoRights = new Set([0x3, 0x350, 0x357, 0x303, 0x2644])
const readTdengine = (status: number, words: string): InfluxReading | undefined => {
  const number = Number.parseInt(/\[0x([0-9a-f]+)\]/i.exec(words)?.[1] ?? '0', 16) & 0xffff
  if (status !== 500) return undefined
  if (tdengineBadData.has(number)) return { kind: 'suspect', text: words }
  if (number === tdengineOutOfKeep) return { kind: 'out-of-keep', text: words }
  if (tdengineLimits.has(number)) return limitReached(words)
  if (tdengineNoPlace.has(number))
    return setback(blocked(influxCodes.notFound, words, 'CREATE DATABASE there, precision µs.'))
  if (tdengineNoRights.has(number))
    return setback(
      blocked(
        influxCodes.credentials,
        `the server refuses the credentials: ${words}`,
        `Check user, password and rights. ${renewHint}`,
      ),
    )
  return undefined
}

/** Nanoseconds: InfluxDB 2 takes 1's requests too, and there `u` without a word for nanoseconds, as 1 takes `us`. */
const influxdb1: InfluxDialect = {
  path: '/write',
  query: { db: 'database', rp: 'retention_policy', precision: '=ns' },
  needs: ['database'],
  takes: ['database', 'retention_policy'],
  token: undefined,
  user: 'basic',
  layout: 'fields',
  idColumn: false,
  names: 'influxdb1',
  timeUnitUs: 1,
  timeTail: '000',
  strings: true,
  lineFeed: 'plain',
  unholdable: holdsAll,
  read: asElsewhere,
}
const others = { ...influxdb1, timeTail: '' } as const
const rows = { layout: 'rows', idColumn: false } as const

export const influxDialects: Readonly<Record<InfluxDialectName, InfluxDialect>> = {
  influxdb1,
  influxdb2: {
    ...others,
    path: '/api/v2/write',
    query: { org: 'org', bucket: 'bucket', precision: '=us' },
    needs: ['org', 'bucket', 'token'],
    takes: ['org', 'bucket'],
    token: 'Token',
    user: undefined,
    names: 'influxdb2',
  },
  // Not its /api/v2/write, which calls its own troubles 400. Not no_sync, which answers before anything is durable.
  influxdb3: {
    ...others,
    path: '/api/v3/write_lp',
    query: { db: 'database', precision: '=microsecond', accept_partial: '=true' },
    needs: ['database', 'token'],
    takes: ['database'],
    token: 'Bearer',
    user: undefined,
    names: 'influxdb3',
    read: readInflux3,
  },
  victoriametrics: {
    ...others,
    needs: [],
    takes: ['database'],
    query: { db: 'database', precision: '=u' },
    token: 'Bearer',
    names: 'victoriametrics',
    timeUnitUs: 1_000,
    strings: false,
    unholdable: floatsOnly,
  },
  questdb: {
    ...others,
    ...rows,
    query: { precision: '=u' },
    needs: [],
    takes: ['table'],
    token: 'Bearer',
    names: 'questdb',
    idColumn: true,
    lineFeed: 'escaped',
    unholdable: noSmallestInt('QuestDB'),
  },
  greptimedb: {
    ...others,
    path: '/v1/influxdb/api/v2/write',
    query: { db: 'database', precision: '=us' },
    needs: [],
    takes: ['database'],
    user: 'token',
    names: 'greptimedb',
    read: readGreptimedb,
  },
  tdengine: {
    ...others,
    ...rows,
    path: '/influxdb/v1/write',
    query: { db: 'database', precision: '=u' },
    takes: ['database', 'table'],
    names: 'tdengine',
    lineFeed: 'never',
    unholdable: tdengineCannot,
    read: readTdengine,
  },
}
