/**
 * Line protocol as InfluxDB 2 reads it: over bytes, escapes seen by looking at the byte before.
 *
 * Source: influxdata/influxdb, branch 2.9 at d4fa1941fd4adb29a556e774de426dfbab72f346, models/points.go (scanLine,
 * scanKey, scanTags, scanFields, scanNumber, scanBoolean, scanTime, parsePoint), pkg/escape/bytes.go, models/time.go.
 * The text is held as one character a byte; a name or value becomes Unicode only when it is given out.
 */
import type { ReadPoint, Scalar } from './held.ts'

class BadLine extends Error {}
const bad = (message: string): never => {
  throw new BadLine(message)
}
const unicode = (bytes: string) => Buffer.from(bytes, 'latin1').toString('utf8')
/** Go's %q. */
export const quoted = (text: string) => JSON.stringify(text).replace(/\\u00(..)/g, '\\x$1')
const reserved = new Set(['_field', '_measurement', 'time', '\xff', '\x00'])
/** models/points.go: MaxKeyLength. */
const keyBytesMax = 65_535
const multiplier: Readonly<Record<string, bigint>> = {
  ns: 1n,
  us: 1_000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
}
/** models/time.go: two nanoseconds of each end are kept for sentinels. */
const [timeMin, timeMax] = [-(2n ** 63n) + 2n, 2n ** 63n - 2n]

/** A line ends at a newline that is neither escaped nor within a quoted field value. */
const endOfLine = (all: string, from: number): number => {
  let [inFields, quoted, equals, commas] = [false, false, 0, 0]
  for (let at = from; at < all.length; at++) {
    const byte = all[at]
    if (byte === '\\' && at + 2 < all.length) {
      at++
      continue
    }
    if (byte === ' ') inFields = true
    if (inFields && !quoted && byte === '=') equals++
    else if (inFields && !quoted && byte === ',') commas++
    else if (inFields && byte === '"' && equals > commas) quoted = !quoted
    else if (byte === '\n' && !quoted) return at
  }
  return all.length
}
const skipBlank = (line: string, from: number): number => {
  let at = from
  while (at < line.length && ' \t\0'.includes(line[at] as string)) at++
  return at
}

export interface GoPoint extends ReadPoint {
  /** As it stands in the line, tags in order. */
  readonly key: string
}
interface Key {
  readonly key: string
  readonly table: string
  readonly tags: [string, string][]
  readonly bytes: number
  readonly end: number
}
const endOfTable = (line: string): number => {
  if (line === '' || line[0] === ',') bad('missing measurement')
  for (let at = 1; at < line.length; at++) {
    if (line[at - 1] !== '\\' && (line[at] === ',' || line[at] === ' ')) return at
  }
  return bad('missing fields')
}
/** From the `=` on: the end of a tag's value. A backslash before a delimiter always escapes it, even one that follows another. */
const endOfTagValue = (line: string, from: number): number => {
  if (from >= line.length || line[from] === ',' || line[from] === ' ') bad('missing tag value')
  for (let at = from + 1; at < line.length; at++) {
    if (line[at - 1] === '\\') continue
    if (line[at] === '=') bad('invalid tag format')
    if (line[at] === ',' || line[at] === ' ') return at
  }
  return bad('missing fields')
}
const endOfTagKey = (line: string, from: number): number => {
  if (from >= line.length || ' ,='.includes(line[from] as string)) bad('missing tag key')
  for (let at = from + 1; at < line.length; at++) {
    if (line[at - 1] === '\\') continue
    if (line[at] === '=') return at
    if (line[at] === ' ' || line[at] === ',') break
  }
  return bad('missing tag value')
}
/** pkg/escape: names of fields, and of a table by models' Name(). */
const unescapeField = (bytes: string) => unicode(bytes.replace(/\\([," =])/g, '$1'))
const unescapeTag = (bytes: string) => unicode(bytes.replace(/\\([, =])/g, '$1'))
const byteOrder = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)
const readKey = (line: string): Key => {
  let at = endOfTable(line)
  const name = line.slice(0, at)
  const table = unescapeField(name)
  const raw: [string, string][] = []
  while (line[at] === ',') {
    const equals = endOfTagKey(line, at + 1)
    const end = endOfTagValue(line, equals + 1)
    raw.push([line.slice(at + 1, equals), line.slice(equals + 1, end)])
    at = end
  }
  for (const [name] of raw)
    if (reserved.has(name)) bad(`cannot use reserved tag key ${quoted(name)}`)
  if (new Set(raw.map(([name]) => name)).size < raw.length) bad('duplicate tags')
  const tags = raw.map(([name, value]): [string, string] => [unescapeTag(name), unescapeTag(value)])
  const key = unicode([name, ...raw.map((tag) => tag.join('=')).sort(byteOrder)].join(','))
  return { key, table, tags, bytes: at, end: at }
}

const float = /^-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/
const strconvText = (by: string, digits: string) =>
  `strconv.${by}: parsing "${digits}": value out of range`
/** scanNumber: one dot, signs behind an `e`; the rest is left to strconv. */
const scanned = /^(?!.*\..*\.)-?(?:[\d.]|(?<=.)e[+-]?)+$/i
const readNumber = (token: string): Scalar => {
  if (/^-?\d+i$/.test(token)) {
    const value = BigInt(token.slice(0, -1))
    if (value !== BigInt.asIntN(64, value))
      bad(
        `unable to parse integer ${token.slice(0, -1)}: ${strconvText('ParseInt', token.slice(0, -1))}`,
      )
    return { kind: 'int', value }
  }
  if (/^\d+u$/.test(token)) {
    const value = BigInt(token.slice(0, -1))
    if (value !== BigInt.asUintN(64, value))
      bad(
        `unable to parse unsigned ${token.slice(0, -1)}: ${strconvText('ParseUint', token.slice(0, -1))}`,
      )
    return { kind: 'uint', value }
  }
  if (!float.test(token))
    bad(/e/i.test(token) && scanned.test(token) ? 'invalid float' : 'invalid number')
  const value = Number(token)
  // strconv.ParseFloat: a magnitude that would be infinite is out of range.
  if (!Number.isFinite(value)) bad('invalid float')
  return { kind: 'float', value }
}
const truths = new Set(['t', 'T', 'true', 'True', 'TRUE'])
const lies = new Set(['f', 'F', 'false', 'False', 'FALSE'])
const readBare = (token: string): Scalar => {
  if (/^[\d.\-Nn]/.test(token)) return readNumber(token)
  if (!truths.has(token) && !lies.has(token)) bad('invalid boolean')
  return { kind: 'bool', value: truths.has(token) }
}
const unescapeString = (bytes: string) => unicode(bytes.replace(/\\(["\\])/g, '$1'))

/** The end of the field set, each key and value looked at on the way as scanFields does. */
const checkFields = (line: string, from: number): number => {
  let [at, quoted, equals, commas] = [from, false, 0, 0]
  const nameMissing = () => /^[ ,]$/.test(line[at - 1] ?? '') && line[at - 2] !== '\\'
  while (at < line.length) {
    const byte = line[at]
    if (byte === '\\' && at + 1 < line.length) {
      at += 2
      continue
    }
    if (byte === '"' && equals > commas) quoted = !quoted
    else if (byte === '=' && !quoted) {
      equals++
      if (nameMissing()) bad('missing field key')
      const next = line[at + 1]
      if (next === undefined || next === ',' || next === ' ') bad('missing field value')
      if (next !== '"') {
        const token = /^[^, ]*/.exec(line.slice(at + 1))?.[0] ?? ''
        readBare(token)
        at += 1 + token.length
        continue
      }
    } else if (byte === ',' && !quoted) commas++
    else if (byte === ' ' && !quoted) break
    at++
  }
  if (quoted) bad('unbalanced quotes')
  if (equals === 0 || commas !== equals - 1) bad('invalid field format')
  return at
}
const endOfValue = (fields: string, from: number): number => {
  let quoted = false
  for (let at = from; at < fields.length; at++) {
    if (fields[at] === '\\' && /^["\\]$/.test(fields[at + 1] ?? '')) at++
    else if (fields[at] === '"') quoted = !quoted
    else if (fields[at] === ',' && !quoted) return at
  }
  return fields.length
}
const readFields = (fields: string): [string, Scalar][] => {
  const out: [string, Scalar][] = []
  for (let at = 0; at < fields.length; ) {
    let equals = at
    while (equals < fields.length && (fields[equals] !== '=' || fields[equals - 1] === '\\'))
      equals++
    const end = endOfValue(fields, equals + 1)
    const value = fields.slice(equals + 1, end)
    const name = unescapeField(fields.slice(at, equals))
    out.push([
      name,
      value.startsWith('"')
        ? { kind: 'string', value: unescapeString(value.slice(1, -1)) }
        : readBare(value),
    ])
    at = end + 1
  }
  return out
}

const readTime = (line: string, from: number, precision: string, nowNs: bigint): bigint => {
  const start = skipBlank(line, from)
  const token = /^-?\d*/.exec(line.slice(start))?.[0] ?? ''
  const after = line[start + token.length]
  if (after !== undefined && after !== ' ' && after !== '\n') bad('bad timestamp')
  const scale = multiplier[precision] ?? 1n
  if (token === '') return (nowNs / scale) * scale
  if (!/\d/.test(token)) bad('bad timestamp')
  if (!/^ *$/.test(line.slice(start + token.length))) bad('point is invalid')
  const time = BigInt(token)
  if (time !== BigInt.asIntN(64, time)) bad(strconvText('ParseInt', token))
  if (time * scale < timeMin || time * scale > timeMax)
    bad(`time outside range ${timeMin} - ${timeMax}`)
  return time * scale
}
const readLine = (line: string, precision: string, nowNs: bigint): GoPoint => {
  const key = readKey(line)
  if (key.bytes > keyBytesMax) bad(`max key length exceeded: ${key.bytes} > ${keyBytesMax}`)
  const start = skipBlank(line, key.end)
  const end = checkFields(line, start)
  const fields = readFields(line.slice(start, end))
  return { ...key, fields, timeNs: readTime(line, end, precision, nowNs) }
}

/** Every line that can be read, and what is wrong with each of the others. */
export const readGoLines = (
  body: Buffer,
  precision: string,
  nowNs: bigint,
): { points: GoPoint[]; wrong: string[] } => {
  const all = body.toString('latin1')
  const points: GoPoint[] = []
  const wrong: string[] = []
  for (let at = 0; at < all.length; ) {
    const end = endOfLine(all, at)
    const block = all.slice(at, end)
    at = end + 1
    const line = block.slice(skipBlank(block, 0))
    if (line === '' || line.startsWith('#')) continue
    try {
      points.push(readLine(line, precision, nowNs))
    } catch (error) {
      if (!(error instanceof BadLine)) throw error
      wrong.push(`unable to parse '${unicode(line)}': ${error.message}`)
    }
  }
  return { points, wrong }
}
