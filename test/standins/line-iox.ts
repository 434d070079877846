/**
 * Line protocol as the Rust parser of InfluxDB 3 and GreptimeDB reads it: over characters, with a backslash that
 * escapes itself in names too, and stricter numbers.
 *
 * Source: influxdata/influxdb, branch 3.10 at c342445ac4b7a0cd2c0e0a7c8706b43e03b8d240,
 * core/influxdb_line_protocol/src/lib.rs (split_lines, trim_leading, parse_line, escape_or_fallback, field_value).
 * GreptimeDB uses a fork of the same crate (src/servers/Cargo.toml: evenyag/influxdb_iox), which was not readable here.
 */
import type { Scalar } from './held.ts'

export interface IoxLine {
  readonly raw: string
  readonly table: string
  readonly tags: readonly (readonly [string, string])[]
  readonly fields: readonly (readonly [string, Scalar])[]
  readonly timestamp: bigint | undefined
}
export type IoxRead = IoxLine | { readonly raw: string; readonly wrong: string }

class BadLine extends Error {}
const bad = (message: string): never => {
  throw new BadLine(message)
}

/** A line ends at a newline that is neither escaped nor within a quoted field value. */
const splitLines = (body: string): string[] => {
  const lines: string[] = []
  let [start, inFields, quoted, equals, commas] = [0, false, false, 0, 0]
  for (let at = 0; at < body.length; at++) {
    const char = body[at]
    if (char === '\\') at++
    else if (char === ' ') inFields = true
    else if (inFields && !quoted && char === '=') equals++
    else if (inFields && !quoted && char === ',') commas++
    else if (inFields && char === '"' && equals > commas) quoted = !quoted
    else if (char === '\n' && !quoted) {
      lines.push(body.slice(start, at))
      ;[start, inFields, equals, commas] = [at + 1, false, 0, 0]
    }
  }
  lines.push(body.slice(start))
  return lines
}
/** Blanks go, and with them comments: a `#` up to the next newline, which an escape may have put inside. */
const trimLeading = (line: string): string => {
  let rest = line.replace(/^[ \t\n]+/, '')
  while (rest.startsWith('#')) rest = rest.replace(/^#[^\n]*/, '').replace(/^[ \t\n]+/, '')
  return rest
}

interface Cursor {
  readonly line: string
  at: number
  readonly stringBytesMax: number
}
/** A name or tag value: up to an unescaped delimiter. Whatever ends with a backslash once read is refused. */
const readName = (on: Cursor, delimiters: string, escapable: string): string => {
  let out = ''
  for (; on.at < on.line.length; on.at++) {
    const char = on.line[on.at] as string
    if (char === '\\') {
      on.at++
      const next = on.line[on.at] ?? ''
      out += escapable.includes(next) && next !== '' ? next : `\\${next}`
    } else if (delimiters.includes(char)) break
    else out += char
  }
  if (out.endsWith('\\'))
    bad('Measurements, tag keys and values, and field keys may not end with a backslash')
  if (Buffer.byteLength(out) > on.stringBytesMax) bad('String is greater than 1MB')
  return out
}
const blank = ' \t\n'
const shorten = (text: string) => (text.length > 64 ? `${text.slice(0, 64)}...` : text)
const rest = (on: Cursor) => shorten(on.line.slice(on.at))

const readTags = (on: Cursor): [string, string][] => {
  const tags: [string, string][] = []
  const begin = on.at + 1
  while (on.line[on.at] === ',') {
    on.at++
    const keyAt = rest(on)
    const key = readName(on, `${blank}=`, '\\,= ')
    if (key === '') bad(`Expected tag key, got ${keyAt === '' ? 'end of input' : `\`${keyAt}\``}`)
    if (on.line[on.at] !== '=')
      bad(`Tag set malformed: could not find equals sign in \`${shorten(on.line.slice(begin))}\``)
    on.at++
    const valueAt = rest(on)
    const value = readName(on, `${blank},`, '\\,= ')
    if (value === '')
      bad(`Expected tag value, got ${valueAt === '' ? 'end of input' : `\`${valueAt}\``}`)
    tags.push([key, value])
  }
  return tags
}

/** In a quoted value only `\"` and `\\` are escapes; any other backslash stays. */
const readString = (on: Cursor): string | undefined => {
  let out = ''
  for (let at = on.at + 1; at < on.line.length; at++) {
    const char = on.line[at] as string
    if (char === '"') {
      on.at = at + 1
      if (Buffer.byteLength(out) > on.stringBytesMax) bad('String is greater than 1MB')
      return out
    }
    const next = on.line[at + 1]
    if (char === '\\' && (next === '"' || next === '\\')) {
      out += next
      at++
    } else out += char
  }
  return undefined
}
const integer = /-?\d+i/y
const unsigned = /\d+u/y
/** No leading or trailing point, no NaN, no Inf; but a magnitude past float64 is read as infinite, as Rust does. */
const float = /-?\d+(?:\.\d+)?[eE][+-]?\d+|-?\d+\.\d+|-?\d+/y
const truth = /true|True|TRUE|t|T|false|False|FALSE|f|F/y
const take = (on: Cursor, what: RegExp): string | undefined => {
  what.lastIndex = on.at
  const found = what.exec(on.line)?.[0]
  if (found !== undefined) on.at += found.length
  return found
}
const readValue = (on: Cursor): Scalar | undefined => {
  const int = take(on, integer)?.slice(0, -1)
  if (int !== undefined) {
    const value = BigInt(int)
    if (value !== BigInt.asIntN(64, value)) bad(`Unable to parse integer value \`${int}\``)
    return { kind: 'int', value }
  }
  const uint = take(on, unsigned)?.slice(0, -1)
  if (uint !== undefined) {
    const value = BigInt(uint)
    if (value !== BigInt.asUintN(64, value))
      bad(`Unable to parse unsigned integer value \`${uint}\``)
    return { kind: 'uint', value }
  }
  const number = take(on, float)
  if (number !== undefined) return { kind: 'float', value: Number(number) }
  if (on.line[on.at] === '"') {
    const value = readString(on)
    return value === undefined ? undefined : { kind: 'string', value }
  }
  const word = take(on, truth)
  return word === undefined ? undefined : { kind: 'bool', value: /^t/i.test(word) }
}
/** A later field that cannot be read is left over, and what is left over fails the line. */
const readFields = (on: Cursor): [string, Scalar][] => {
  const fields: [string, Scalar][] = []
  for (;;) {
    const before = on.at
    if (fields.length > 0) {
      if (on.line[on.at] !== ',') return fields
      on.at++
    }
    const key = readName(on, `${blank}=`, '\\,= ')
    let value: Scalar | undefined
    if (key !== '' && on.line[on.at] === '=') {
      on.at++
      value = readValue(on)
    }
    if (value === undefined) {
      on.at = before
      return fields
    }
    fields.push([key, value])
  }
}

const readLine = (line: string, stringBytesMax: number): IoxLine => {
  const on: Cursor = { line, at: 0, stringBytesMax }
  // A NUL ends the table's name, and so nothing is left to make one of where it comes first.
  const table = readName(on, `${blank}\0,`, ', \\')
  if (table === '') bad('Invalid measurement was provided')
  const tags = readTags(on)
  const spaces = () => take(on, / +/y)
  if (spaces() === undefined) {
    const got = on.line.slice(on.at)
    bad(`Expected at least one space character, got ${got === '' ? 'end of input' : `\`${got}\``}`)
  }
  const fields = readFields(on)
  if (fields.length === 0) bad('No fields were provided')
  const before = on.at
  const digits = spaces() === undefined ? undefined : take(on, /-?\d+/y)
  const timestamp = digits === undefined ? undefined : BigInt(digits)
  if (timestamp === undefined) on.at = before
  else if (timestamp !== BigInt.asIntN(64, timestamp))
    bad(`Unable to parse timestamp value \`${digits}\``)
  else spaces()
  if (on.at < line.length)
    bad(`Could not parse entire line. Found trailing content: \`${rest(on)}\``)
  return { raw: line, table, tags, fields, timestamp }
}

/** Each line that is not blank or a comment, in order, read or refused. */
export const readIoxLines = (body: string, stringBytesMax = Number.POSITIVE_INFINITY): IoxRead[] =>
  splitLines(body)
    .map(trimLeading)
    .filter((line) => line !== '')
    .map((line) => {
      try {
        return readLine(line, stringBytesMax)
      } catch (error) {
        if (!(error instanceof BadLine)) throw error
        return { raw: line, wrong: error.message }
      }
    })
