/**
 * Reads a flat JSON object whose keys are known beforehand, straight from its bytes: what sensors send, over
 * and over.
 *
 * Invariants: it answers exactly what `JSON.parse` would, or declines; it declines whatever is unusual (other
 * keys or another order, nesting, escapes, non-ASCII texts, exponents, more than 15 digits, mistakes), so the
 * caller must then parse in full.
 */
import type { Json } from './template.ts'

/** The keys of an object, quoted, in their order. */
export type FlatKeys = readonly Uint8Array[]

const [quote, backslash, colon, comma, open, close, minus, point, zero, nine] = [
  0x22, 0x5c, 0x3a, 0x2c, 0x7b, 0x7d, 0x2d, 0x2e, 0x30, 0x39,
] as const
const words: readonly (readonly [Uint8Array, Json])[] = [
  [Buffer.from('true'), true],
  [Buffer.from('false'), false],
  [Buffer.from('null'), null],
]
/** Up to here a product and a quotient of powers of ten and integers are exact, so rounding happens once. */
const digitsMax = 15
const powers = Float64Array.from({ length: digitsMax + 1 }, (_, at) => 10 ** at)

export interface FlatReader {
  /** True: `values` holds one value a key. False: parse it in full. */
  readonly read: (bytes: Uint8Array, keys: FlatKeys) => boolean
  readonly values: readonly Json[]
}

export const createFlatReader = (): FlatReader => {
  const values: Json[] = []
  let bytes: Uint8Array = new Uint8Array(0)
  let at = 0

  const skipSpace = () => {
    for (let byte = bytes[at]; byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09; )
      byte = bytes[++at]
  }
  const takeByte = (wanted: number): boolean => {
    skipSpace()
    if (bytes[at] !== wanted) return false
    at++
    return true
  }
  const takeBytes = (wanted: Uint8Array): boolean => {
    for (let index = 0; index < wanted.length; index++)
      if (bytes[at + index] !== wanted[index]) return false
    at += wanted.length
    return true
  }
  const takeNumber = (): number | undefined => {
    const negative = bytes[at] === minus
    if (negative) at++
    const first = at
    let whole = 0
    let decimals = 0
    let byte = bytes[at] as number
    for (; byte >= zero && byte <= nine; byte = bytes[++at] as number)
      whole = whole * 10 + (byte - zero)
    const digits = at - first
    if (digits === 0 || (digits > 1 && bytes[first] === zero)) return undefined
    if (byte === point) {
      for (
        byte = bytes[++at] as number;
        byte >= zero && byte <= nine;
        byte = bytes[++at] as number
      ) {
        whole = whole * 10 + (byte - zero)
        decimals++
      }
      if (decimals === 0) return undefined
    }
    // A letter: an exponent, or a mistake.
    if (digits + decimals > digitsMax || (byte | 0x20) === 0x65) return undefined
    const size = whole / (powers[decimals] as number)
    return negative ? -size : size
  }
  const takeText = (): string | undefined => {
    const from = ++at
    let byte = bytes[at] as number
    for (; byte !== quote; byte = bytes[++at] as number)
      if (!(byte >= 0x20 && byte < 0x7f) || byte === backslash) return undefined
    let text = ''
    // Short as a rule: joined by the engine without leaving it.
    for (let index = from; index < at; index++) text += String.fromCharCode(bytes[index] as number)
    at++
    return text
  }
  const takeValue = (): Json | undefined => {
    skipSpace()
    const byte = bytes[at] as number
    if (byte === minus || (byte >= zero && byte <= nine)) return takeNumber()
    if (byte === quote) return takeText()
    for (const [word, value] of words) if (takeBytes(word)) return value
    return undefined
  }
  return {
    values,
    read: (input, keys) => {
      bytes = input
      at = 0
      if (!takeByte(open)) return false
      for (let index = 0; index < keys.length; index++) {
        if (index > 0 && !takeByte(comma)) return false
        skipSpace()
        if (!takeBytes(keys[index] as Uint8Array) || !takeByte(colon)) return false
        const value = takeValue()
        if (value === undefined) return false
        values[index] = value
      }
      if (!takeByte(close)) return false
      skipSpace()
      return at === bytes.length
    },
  }
}
