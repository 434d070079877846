/**
 * Line protocol as TDengine's client library reads it for taosAdapter: over bytes, cut at every newline (also one within
 * quotes), numbers by strtod, names by length.
 *
 * Source: taosdata/TDengine at b0c5587bab68ab69a1e9657221c088c2139cbd6f, source/client/src/clientSmlLine.c, and at
 * 51c962443865dce63b4e93edd797bdf4409926f5, source/client/src/clientSml.c (smlParseNumber, smlGetTimeValue, getLine).
 * Error numbers: include/util/taoserror.h at 008ea52febd3c6a81674ed00b2df19b03ae1c5bd. A message, where one is set,
 * ends with the rest of the body, cut at 512 bytes, since it is a pointer into it.
 */
import type { Scalar } from './held.ts'

/** TDengine's column types that line protocol can make. */
export type TaosType =
  | 'double'
  | 'float'
  | 'bigint'
  | 'ubigint'
  | 'bool'
  | 'binary'
  | 'nchar'
  | `${'int' | 'uint'}${8 | 16 | 32}`
export interface TaosColumn {
  readonly name: string
  readonly type: TaosType
  /** Of strings, as written (before escapes are undone). */
  readonly bytes: number
  readonly value: Scalar
}
export interface TaosLine {
  readonly table: string
  readonly tags: readonly TaosColumn[]
  readonly columns: readonly TaosColumn[]
  /** In the precision of the request; `undefined`: none or 0 was given, the server's clock stands. */
  readonly time: bigint | undefined
}
export class TaosFault extends Error {
  readonly code: number
  constructor(code: number, message: string) {
    super(Buffer.from(message, 'latin1').subarray(0, 512).toString('utf8'))
    this.code = code
  }
}
export const codes = {
  duplicateKey: 0x0124,
  invalidTimestamp: 0x0127,
  invalidValue: 0x0203,
  tableNameLength: 0x020a,
  columnNameLength: 0x021f,
  authentication: 0x0357,
  noDatabase: 0x0388,
  outOfRange: 0x060b,
  tagsLength: 0x263d,
  rowLength: 0x263e,
  tooManyColumns: 0x2640,
  varLength: 0x2642,
  tooManyTags: 0x2643,
  invalidData: 0x3002,
  notSameType: 0x3004,
} as const

const unicode = (bytes: string) => Buffer.from(bytes, 'latin1').toString('utf8')
/** include/util/tdef.h: a name has a NUL behind it. */
const [columnNameMax, tableNameMax] = [64, 192]
/** TSDB_MAX_BINARY_LEN and TSDB_MAX_NCHAR_LEN are 65519 with two bytes of length; an NCHAR takes four bytes a character. */
const [binaryBytesMax, ncharBytesMax] = [65_517, 16_379]

interface Cursor {
  /** The whole body: what comes after a line is part of the messages. */
  readonly all: string
  readonly end: number
  at: number
}
/** A delimiter counts unless the byte before is a backslash, also when that backslash follows another. */
const is = (on: Cursor, chars: string) =>
  chars.includes(on.all[on.at] as string) && on.all[on.at - 1] !== '\\'
const unescapeName = (bytes: string) => unicode(bytes.replace(/\\([, =])/g, '$1'))
const escapes = (bytes: string) => bytes.match(/\\[, =]/g)?.length ?? 0
const fail = (code: number, on: Cursor, message: string, at = on.at): never => {
  throw new TaosFault(code, `${message}:${on.all.slice(at, at + 512)}`)
}
const skipSpaces = (on: Cursor) => {
  while (on.at < on.end && on.all[on.at] === ' ') on.at++
}

const readName = (on: Cursor): string => {
  const start = on.at
  let name = ''
  for (; on.at < on.end; on.at++) {
    if (is(on, ' ,')) fail(codes.invalidData, on, 'invalid data')
    if (is(on, '=')) {
      name = on.all.slice(start, on.at)
      on.at++
      break
    }
  }
  const length = name.length - escapes(name)
  if (length < 1 || length > columnNameMax)
    fail(codes.columnNameLength, on, 'invalid key or key is too long than 64', start)
  return unescapeName(name)
}
const readTags = (on: Cursor): TaosColumn[] => {
  const tags: TaosColumn[] = []
  while (on.at < on.end && !is(on, ' ')) {
    const name = readName(on)
    const start = on.at
    for (; on.at < on.end && !is(on, ' ,'); on.at++)
      if (is(on, '=')) fail(codes.invalidData, on, 'invalid data')
    const value = on.all.slice(start, on.at)
    if (value === '') fail(codes.invalidData, on, 'invalid value', start)
    const bytes = value.length - escapes(value)
    if (bytes > ncharBytesMax) throw new TaosFault(codes.varLength, '')
    tags.push({ name, type: 'nchar', bytes, value: { kind: 'string', value: unescapeName(value) } })
    if (on.at >= on.end || is(on, ' ')) break
    on.at++
  }
  return tags
}

/** strtod: decimal, hexadecimal, inf and nan; the rest is the suffix. */
const number =
  /^[+-]?(?:0x[\da-f]+(?:p[+-]?\d+)?|(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?|nan)/i
const toDouble = (token: string): number => {
  const [, sign, word] = /^([+-]?)(.*)$/.exec(token.toLowerCase()) ?? []
  const scale = sign === '-' ? -1 : 1
  if (word?.startsWith('nan')) return Number.NaN
  if (word?.startsWith('inf')) return scale * Number.POSITIVE_INFINITY
  return scale * Number(word)
}
const narrow: Readonly<Record<string, readonly [TaosType, bigint, bigint]>> = {
  i8: ['int8', -128n, 127n],
  i16: ['int16', -32_768n, 32_767n],
  i32: ['int32', -(2n ** 31n), 2n ** 31n - 1n],
  u8: ['uint8', 0n, 255n],
  u16: ['uint16', 0n, 65_535n],
  u32: ['uint32', 0n, 2n ** 32n - 1n],
  i: ['bigint', -(2n ** 63n), 2n ** 63n - 1n],
  i64: ['bigint', -(2n ** 63n), 2n ** 63n - 1n],
  u: ['ubigint', 0n, 2n ** 64n - 1n],
  u64: ['ubigint', 0n, 2n ** 64n - 1n],
}
type Value = Pick<TaosColumn, 'type' | 'bytes' | 'value'>
const readNumber = (token: string): Value | undefined => {
  const digits = number.exec(token)?.[0]
  if (digits === undefined) return undefined
  const suffix = token.slice(digits.length).toLowerCase()
  const double = toDouble(digits)
  if (suffix === '' || suffix === 'f64')
    return { type: 'double', bytes: 8, value: { kind: 'float', value: double } }
  if (suffix === 'f32') {
    const value = Math.fround(double)
    return Number.isFinite(value)
      ? { type: 'float', bytes: 4, value: { kind: 'float', value } }
      : undefined
  }
  const [type, least, most] = narrow[suffix] ?? []
  if (type === undefined || least === undefined || most === undefined) return undefined
  // strtoll stops at the point: 1.5i is 1.
  const whole = /^[+-]?\d+/.exec(digits)?.[0].replace('+', '')
  if (whole === undefined) return undefined
  const value = BigInt(whole)
  if (value < least || value > most) return undefined
  return { type, bytes: 8, value: { kind: type.startsWith('u') ? 'uint' : 'int', value } }
}
const readText = (inner: string, type: 'binary' | 'nchar'): Value => {
  if (inner.length > (type === 'binary' ? binaryBytesMax : ncharBytesMax))
    throw new TaosFault(codes.varLength, 'smlParseValue error')
  const value = unicode(inner.replace(/\\(["\\])/g, '$1'))
  return { type, bytes: inner.length, value: { kind: 'string', value } }
}
const readValue = (token: string): Value | undefined => {
  if (token.startsWith('"'))
    return token.length >= 2 && token.endsWith('"')
      ? readText(token.slice(1, -1), 'binary')
      : undefined
  if (/^l/i.test(token))
    return /^l".*"$/is.test(token) ? readText(token.slice(2, -1), 'nchar') : undefined
  const truth = /^(?:(t|true)|f|false)$/i.exec(token)
  if (truth !== null)
    return { type: 'bool', bytes: 1, value: { kind: 'bool', value: truth[1] !== undefined } }
  return readNumber(token)
}
/** The end of a value: quotes count unless escaped, and only a third one ends it at once. */
const endOfValue = (on: Cursor): void => {
  const start = on.at
  let [quotes, escaped] = [0, -1]
  for (; on.at < on.end; on.at++) {
    const [byte, before] = [on.all[on.at], on.all[on.at - 1]]
    if (byte === '"' && (before !== '\\' || on.at - 1 === escaped)) {
      quotes++
      if (quotes > 2) break
      continue
    }
    if (quotes % 2 === 0 && is(on, ' ,')) break
    if (before === '\\' && (byte === '"' || byte === '\\') && on.at - 1 !== escaped) escaped = on.at
  }
  if (quotes !== 0 && quotes !== 2) fail(codes.invalidData, on, 'unbalanced quotes', start)
}
const readColumns = (on: Cursor): TaosColumn[] => {
  const columns: TaosColumn[] = []
  while (on.at < on.end && !is(on, ' ')) {
    const name = readName(on)
    const start = on.at
    endOfValue(on)
    if (on.at === start) fail(codes.invalidData, on, 'invalid value', start)
    const value = readValue(on.all.slice(start, on.at))
    if (value === undefined) return fail(codes.invalidValue, on, 'smlParseValue error', start)
    columns.push({ name, ...value })
    if (on.at >= on.end || is(on, ' ')) break
    on.at++
  }
  if (columns.length === 0) throw new TaosFault(codes.invalidData, 'cols is empty')
  return columns
}
const readTable = (on: Cursor): string => {
  skipSpaces(on)
  if (on.at < on.end && on.all[on.at] === ',') throw new TaosFault(codes.invalidData, '')
  const start = on.at
  while (on.at < on.end && !(on.at > start ? is(on, ', ') : ', '.includes(on.all[on.at] as string)))
    on.at++
  const name = on.all.slice(start, on.at).replace(/\\([, ])/g, '$1')
  if (name.length < 1 || name.length > tableNameMax)
    throw new TaosFault(codes.tableNameLength, 'measure is empty or too large than 192')
  // tsSmlDot2Underline, on by default (source/common/src/tglobal.c): a table of that name with `_` is the same table.
  return unicode(name).replaceAll('.', '_')
}
const readTime = (on: Cursor): bigint | undefined => {
  skipSpaces(on)
  const start = on.at
  while (on.at < on.end && !/\s/.test(on.all[on.at] as string)) on.at++
  const token = on.all.slice(start, on.at)
  if (token === '' || token === '0') return undefined
  if (!/^[+-]?\d+$/.test(token)) fail(codes.invalidTimestamp, on, 'invalid timestamp', start)
  const time = BigInt(token.replace('+', ''))
  // Before 1970, and 1970 itself, are no times.
  if (time <= 0n) throw new TaosFault(codes.invalidTimestamp, 'Invalid timestamp format')
  return time < 2n ** 63n ? time : 2n ** 63n - 1n
}

/** The first wrong line ends it. What follows a line's time is not looked at. */
export const readTaosLines = (body: Buffer): TaosLine[] => {
  // taosAdapter trims the body (schemaless/capi/influxdb.go); an empty line within it is a line without a table.
  const all = body.toString('utf8').trim()
  const bytes = Buffer.from(all).toString('latin1')
  if (bytes === '') throw new TaosFault(codes.invalidData, 'line num is invalid')
  const lines: TaosLine[] = []
  for (let start = 0; start < bytes.length; ) {
    const newline = bytes.indexOf('\n', start)
    const end = newline === -1 ? bytes.length : newline
    const on: Cursor = { all: bytes, at: start, end }
    start = end + 1
    if (bytes[on.at] === '#') continue
    const table = readTable(on)
    if (bytes[on.at] === ',') on.at++
    const tags = on.at < end ? readTags(on) : []
    skipSpaces(on)
    const columns = readColumns(on)
    lines.push({ table, tags, columns, time: readTime(on) })
  }
  return lines
}
