/** Line protocol read slowly and plainly, with strings and regular expressions: what the fast reader is compared with. */
import type { LinePrecision } from '../../../src/protocol/line.ts'

export interface ReferencePoint {
  readonly measurement: string
  readonly tags: readonly (readonly [string, string])[]
  readonly field: string
  readonly value: number | bigint | boolean | string
  readonly timeUs: number
}
export interface Reference {
  readonly points: readonly ReferencePoint[]
  readonly malformed: readonly number[]
  readonly refused: readonly number[]
}

// A backslash and what it escapes are one character; a backslash before anything else stands for itself.
const one = (not: string) => String.raw`(?:\\[,= ]|\\(?![,= ])|[^\\\n${not}])`
const measurementText = new RegExp(`${one(' ,')}+`, 'y')
const keyText = new RegExp(`${one(' ,=')}+`, 'y')
const tagValueText = new RegExp(`${one(' ,=')}*`, 'y')
const stringText = /"((?:\\[\s\S]|[^"\\])*)"/y
const plainText = /[^, \n\r]*/y
const spaces = / */y
const timeText = /-?\d+/y
const lineEnd = /\r?\n|\r?$/y

const units = {
  ns: 1n,
  us: 1_000n,
  ms: 10n ** 6n,
  s: 10n ** 9n,
  m: 6n * 10n ** 10n,
  h: 36n * 10n ** 11n,
}

const fromLatin1 = (text: string): string => {
  const bytes = Buffer.from(text, 'latin1')
  return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
}
const bools = new Map([
  ...['t', 'T', 'true', 'True', 'TRUE'].map((word) => [word, true] as const),
  ...['f', 'F', 'false', 'False', 'FALSE'].map((word) => [word, false] as const),
])

const plainValue = (text: string): number | bigint | boolean | 'malformed' | 'refused' => {
  const bool = bools.get(text)
  if (bool !== undefined) return bool
  if (/^[-+]?(nan|inf|infinity)$/i.test(text)) return 'refused'
  const int = /^([-+]?\d+)([iu])$/.exec(text)
  if (int) {
    const value = BigInt((int[1] as string).replace('+', ''))
    if (int[2] === 'u' && int[1]?.startsWith('-')) return 'refused'
    return value >= -(2n ** 63n) && value < 2n ** 63n ? value : 'refused'
  }
  if (!/^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$/.test(text)) return 'malformed'
  const value = Number(text)
  return Number.isFinite(value) ? value : 'refused'
}

const floorDivide = (a: bigint, b: bigint): bigint => (a >= 0n ? a / b : -((-a + b - 1n) / b))

/** Where a bad line ends: at its newline, but for newlines in a string that is closed. */
const endOfBad = (text: string, from: number): number => {
  let [inFields, before] = [false, '']
  for (let at = from; at < text.length; at++) {
    const character = text[at] as string
    if (character === '\n') return at + 1
    if (character === '\\' && text[at + 1] !== '\n') {
      at++
      before = ''
      continue
    }
    if (character === ' ') inFields = true
    if (character === '"' && inFields && before === '=') {
      stringText.lastIndex = at
      const match = stringText.exec(text)
      if (match) {
        at += match[0].length - 1
        before = '"'
        continue
      }
    }
    before = character
  }
  return text.length
}

export const readSlowly = (body: Buffer, precision: LinePrecision): Reference => {
  const text = body.toString('latin1')
  const points: ReferencePoint[] = []
  const malformed: number[] = []
  const refused: number[] = []
  let at = 0
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at
    const match = pattern.exec(text)
    if (match) at += match[0].length
    return match
  }
  const lineNumber = (offset: number) => text.slice(0, offset).split('\n').length
  const must = <T>(value: T | null): T => {
    if (value === null) throw new SyntaxError('malformed')
    return value
  }
  const literally = (wanted: string): boolean => {
    if (!text.startsWith(wanted, at)) return false
    at += wanted.length
    return true
  }
  const readLine = () => {
    const start = at
    const measurement = must(take(measurementText))[0].replace(/\\([, ])/g, '$1')
    const tags: [string, string][] = []
    const plain = (match: RegExpExecArray) => match[0].replace(/\\([,= ])/g, '$1')
    while (literally(',')) {
      const key = plain(must(take(keyText)))
      if (!literally('=')) must(null)
      tags.push([key, plain(must(take(tagValueText)))])
    }
    if (!literally(' ')) must(null)
    take(spaces)
    const found: Omit<ReferencePoint, 'timeUs'>[] = []
    let lost = 0
    do {
      const field = plain(must(take(keyText)))
      if (!literally('=')) must(null)
      const string = text[at] === '"' ? must(take(stringText)) : null
      if (string && !/^([, \r\n]|$)/.test(text.slice(at, at + 1))) must(null)
      let value = string
        ? (string[1] as string).replace(/\\(["\\])/g, '$1')
        : plainValue(must(take(plainText))[0])
      if (!string && value === 'malformed') must(null)
      if (!string && value === 'refused') {
        lost++
        continue
      }
      try {
        const key = [measurement, field, ...tags.flat()].map(fromLatin1)
        if (key.some((part) => part.includes('\0'))) throw new TypeError('NUL')
        if (
          new Set(tags.map(([name]) => name)).size < tags.filter(([, said]) => said !== '').length
        )
          throw new TypeError('twice')
        if (typeof value === 'string') value = fromLatin1(value)
        if (typeof value === 'string' && value.includes('\0')) throw new TypeError('NUL')
        const named = tags.map((tag) => tag.map(fromLatin1) as [string, string])
        found.push({ measurement: key[0] as string, tags: named, field: key[1] as string, value })
      } catch {
        lost++
      }
    } while (literally(','))
    take(spaces)
    const time = take(timeText)
    take(spaces)
    must(take(lineEnd))
    let timeUs = Number.NaN
    if (time) {
      timeUs = Number(floorDivide(BigInt(time[0]) * units[precision], 1000n))
      if (!Number.isSafeInteger(timeUs)) must(null)
    }
    points.push(...found.map((point) => ({ ...point, timeUs })))
    for (let i = 0; i < lost; i++) refused.push(lineNumber(start))
  }
  while (at < text.length) {
    take(/[ \t]*/y)
    const start = at
    if (text[at] === '#') take(/[^\n]*/y)
    if (take(lineEnd)) continue
    try {
      readLine()
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error
      malformed.push(lineNumber(start))
      at = endOfBad(text, start)
    }
  }
  return { points, malformed, refused }
}
