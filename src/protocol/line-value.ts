/**
 * One field value of line protocol, scanned from bytes without making a string where that can be helped.
 *
 * Invariants: the float is the correctly rounded one (the short way is taken only where a division of two exact
 * numbers gives it); an int is exact; nothing is read behind the value's own end but the byte that ends it.
 */
import { isUtf8 } from 'node:buffer'
import { textBytesMax } from '../limits.ts'
import { type Kind, kinds } from '../model.ts'

/** What the last scan found; one object, overwritten, because an object a point would cost more than the scan. */
export interface Scanned {
  /** Offset behind the value, or of the trouble. */
  end: number
  kind: Kind
  /** A float, a bool (0 or 1), or an int within ±(2^53 − 1). */
  number: number
  /** The int when `number` cannot hold it. */
  big: bigint | undefined
  text: string
  /** Why there is no value, where `scanValue` said so. */
  trouble: string
  /** The value is well written and refused for what it is: only its point is lost, not its line. */
  refused: boolean
}
export const createScanned = (): Scanned => ({
  end: 0,
  kind: kinds.float,
  number: 0,
  big: undefined,
  text: '',
  trouble: '',
  refused: false,
})

const quote = 34 // "
const backslash = 92
const dot = 46
const minus = 45
const plus = 43
const comma = 44
const space = 32
const newline = 10
const carriage = 13
const lowerI = 105
const lowerU = 117
const tens = Array.from({ length: 23 }, (_, power) => Number(`1e${power}`))
const words = new Map<string, number>([
  ...['t', 'T', 'true', 'True', 'TRUE'].map((word) => [word, 1] as const),
  ...['f', 'F', 'false', 'False', 'FALSE'].map((word) => [word, 0] as const),
])
const notANumber = /^[-+]?(nan|inf|infinity)$/i

/** Whether a value may end here: a comma, a space, a line's end, or the end of the bytes. */
export const endsValue = (code: number | undefined): boolean =>
  code === comma || code === space || code === newline || code === carriage || code === undefined

/** Whether there is a value that can be taken; if not, `trouble` says why. */
export const scanValue = (bytes: Buffer, at: number, into: Scanned): boolean => {
  const first = bytes[at] as number
  if (first === quote) return scanText(bytes, at, into)
  if ((first >= 48 && first <= 57) || first === minus || first === dot || first === plus) {
    return scanNumber(bytes, at, into)
  }
  return scanWord(bytes, at, into)
}

const fail = (into: Scanned, end: number, trouble: string, refused = false): false => {
  into.end = end
  into.trouble = trouble
  into.refused = refused
  return false
}
const endOfValue = (bytes: Buffer, at: number): number => {
  let end = at
  while (end < bytes.length && !endsValue(bytes[end])) end++
  return end
}

const scanNumber = (bytes: Buffer, start: number, into: Scanned): boolean => {
  const size = bytes.length
  const negative = bytes[start] === minus
  let at = negative || bytes[start] === plus ? start + 1 : start
  let mantissa = 0
  let digits = 0
  let scale = 0
  let code = 0
  for (; at < size; at++) {
    code = bytes[at] as number
    if (code < 48 || code > 57) break
    mantissa = mantissa * 10 + (code - 48)
    digits++
  }
  const whole = at
  if (at < size && code === dot) {
    for (at++; at < size; at++) {
      code = bytes[at] as number
      if (code < 48 || code > 57) break
      mantissa = mantissa * 10 + (code - 48)
      digits++
    }
    scale = at - whole - 1
  }
  const exact = digits > 0 && mantissa <= Number.MAX_SAFE_INTEGER
  if (exact && scale <= 22 && (at === size || endsValue(code))) {
    const value = scale === 0 ? mantissa : mantissa / (tens[scale] as number)
    into.end = at
    into.kind = kinds.float
    into.number = negative ? -value : value
    return true
  }
  if (digits > 0 && at === whole && (code === lowerI || code === lowerU)) {
    const small = negative ? -mantissa : mantissa
    return scanIntEnd(bytes, start, at, exact ? small : undefined, into)
  }
  return scanLongNumber(bytes, start, digits > 0 ? at : start, into)
}

/** `at` is the `i` or `u`. */
const scanIntEnd = (
  bytes: Buffer,
  start: number,
  at: number,
  small: number | undefined,
  into: Scanned,
): boolean => {
  if (!endsValue(bytes[at + 1])) return fail(into, at + 1, 'unexpected text behind a number')
  into.end = at + 1
  into.kind = kinds.int
  // Minus zero is no int.
  into.number = small === undefined ? 0 : small + 0
  into.big = undefined
  if (bytes[at] === lowerU && bytes[start] === minus) {
    return fail(into, at + 1, 'an unsigned number with a minus sign', true)
  }
  if (small !== undefined) return true
  if (at - start > 40) return fail(into, at + 1, 'the whole number is beyond 64 bits', true)
  const big = BigInt(bytes.toString('latin1', bytes[start] === plus ? start + 1 : start, at))
  into.big = big
  if (BigInt.asIntN(64, big) === big) return true
  const why =
    bytes[at] === lowerU && BigInt.asUintN(64, big) === big
      ? 'unsigned numbers from 2^63 on have no place in an int64'
      : 'the whole number is beyond 64 bits'
  return fail(into, at + 1, why, true)
}

/** Exponents and long mantissas: the engine's own reader, over a checked spelling. */
const scanLongNumber = (bytes: Buffer, start: number, at: number, into: Scanned): boolean => {
  const end = endOfValue(bytes, start)
  const text = bytes.toString('latin1', start, end)
  if (!/^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$/.test(text)) {
    if (notANumber.test(text)) return fail(into, end, `${text} is no value of line protocol`, true)
    return fail(into, at, 'not a number')
  }
  into.end = end
  into.kind = kinds.float
  into.number = Number(text)
  if (Number.isFinite(into.number)) return true
  return fail(into, end, 'the number is beyond float64', true)
}

const scanWord = (bytes: Buffer, start: number, into: Scanned): boolean => {
  const end = endOfValue(bytes, start)
  if (end === start) return fail(into, start, 'a value is missing')
  const text = end - start > 9 ? '' : bytes.toString('latin1', start, end)
  const bool = words.get(text)
  if (bool === undefined) {
    if (notANumber.test(text)) return fail(into, end, `${text} is no value of line protocol`, true)
    return fail(into, start, 'not a value: a string needs double quotes')
  }
  into.end = end
  into.kind = kinds.bool
  into.number = bool
  return true
}

const scanText = (bytes: Buffer, start: number, into: Scanned): boolean => {
  const size = bytes.length
  let at = start + 1
  let escaped = false
  let highest = 0
  let hasNul = false
  for (; at < size; at++) {
    const code = bytes[at] as number
    if (code === quote) break
    if (code === backslash && at + 1 < size) {
      escaped = true
      at++
    }
    const one = bytes[at] as number
    if (one > highest) highest = one
    if (one === 0) hasNul = true
  }
  if (at >= size) return fail(into, start, 'the string has no closing quote')
  into.end = at + 1
  into.kind = kinds.string
  if (!endsValue(bytes[at + 1])) return fail(into, at + 1, 'unexpected text behind a string')
  if (at - start - 1 > textBytesMax) {
    return fail(into, at + 1, `the string has more than ${textBytesMax} bytes`, true)
  }
  if (hasNul) return fail(into, at + 1, 'the string contains a NUL character', true)
  if (highest < 0x80) into.text = bytes.toString('latin1', start + 1, at)
  else {
    if (!isUtf8(bytes.subarray(start + 1, at))) {
      return fail(into, at + 1, 'the string is not well-formed UTF-8', true)
    }
    into.text = bytes.toString('utf8', start + 1, at)
  }
  if (escaped) into.text = into.text.replace(/\\(["\\])/g, '$1')
  return true
}
