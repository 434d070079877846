/**
 * Single values of a message: what a field's type takes, plain payloads, quality words and codes.
 *
 * Invariants: an int is the very integer of the text; texts are well formed and hold no NUL; a refusal says why.
 */
import { textBytesMax } from '../limits.ts'
import { because, type Quality, quality } from '../model.ts'
import { decodeText } from './json.ts'
import type { Json } from './template.ts'

export const typeNames = ['float', 'int', 'bool', 'string'] as const
export type TypeName = (typeof typeNames)[number]
export const qualityCodes = ['word', 'opc_da', 'opc_ua'] as const
export type QualityAs = (typeof qualityCodes)[number]

export const readPlain = (
  bytes: Uint8Array,
  type: 'number' | 'bool' | 'string',
): { readonly value: Json } | { readonly why: string } => {
  const text = decodeText(bytes)
  if (text === undefined) return { why: 'not well-formed UTF-8' }
  if (type === 'string') return { value: text }
  const word = text.trim()
  if (type === 'number') {
    if (!/^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?$/.test(word))
      return { why: 'not a number' }
    const value = Number(word)
    return Number.isFinite(value) ? { value } : { why: 'a number beyond float64' }
  }
  if (/^(?:true|1|on|yes)$/i.test(word)) return { value: true }
  return /^(?:false|0|off|no)$/i.test(word) ? { value: false } : { why: 'not a bool' }
}

const int64Min = -(2n ** 63n)
const int64Max = 2n ** 63n - 1n
/** The value as its field asks for it, or why not. */
export const takeValue = (
  value: Exclude<Json, null>,
  type: TypeName | 'auto',
): number | bigint | boolean | string | { readonly why: string } => {
  if (typeof value === 'object')
    return { why: `${Array.isArray(value) ? 'an array' : 'an object'} where a value is asked` }
  switch (type) {
    case 'auto':
      if (typeof value === 'string') return takeText(value)
      return typeof value === 'boolean' ? value : takeFloat(value)
    case 'float':
      return typeof value === 'number' || typeof value === 'bigint'
        ? takeFloat(value)
        : wrong(value, type)
    case 'int':
      return takeInt(value)
    case 'bool':
      if (value === 0 || value === 1) return value === 1
      return typeof value === 'boolean' ? value : wrong(value, type)
    case 'string':
      return typeof value === 'string' ? takeText(value) : wrong(value, type)
  }
}
const wrong = (value: Json, type: TypeName) => ({ why: `a ${typeof value} where ${type} is asked` })
const takeFloat = (value: number | bigint): number | { readonly why: string } => {
  const float = Number(value)
  return Number.isFinite(float) ? float : { why: 'a number beyond float64' }
}
const takeInt = (value: Exclude<Json, null>): bigint | { readonly why: string } => {
  if (typeof value === 'number') {
    if (Number.isSafeInteger(value)) return BigInt(value)
    return {
      why: Number.isInteger(value) ? 'an integer outside int64' : 'a fraction where int is asked',
    }
  }
  if (typeof value !== 'bigint') return wrong(value, 'int')
  return value >= int64Min && value <= int64Max ? value : { why: 'an integer outside int64' }
}
const takeText = (value: string): string | { readonly why: string } => {
  if (value.includes('\0')) return { why: 'a text with a NUL character' }
  if (!value.isWellFormed()) return { why: 'a text with ill-formed Unicode' }
  const long = value.length * 3 > textBytesMax && Buffer.byteLength(value) > textBytesMax
  return long ? { why: `a text of more than ${textBytesMax} bytes` } : value
}

const words: Readonly<Record<string, Quality>> = {
  good: quality.good,
  ok: quality.good,
  uncertain: quality.uncertain,
  bad: quality.bad,
}
/** What nobody can read is uncertain, never good. */
export const readQuality = (value: Json | undefined, as: QualityAs): Quality => {
  const unreadable = quality.uncertain | because.unknown
  if (typeof value === 'string') return words[value.toLowerCase()] ?? unreadable
  if (typeof value === 'boolean') return value ? quality.good : quality.bad
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0) return unreadable
  if (as === 'word') return value <= 2 ? value : unreadable
  // OPC UA keeps the severity in the two high bits (0 good); OPC DA in bits 6 and 7 (3 good, 0 bad).
  if (as === 'opc_ua') return Math.min(Math.floor(value / 2 ** 30), 2)
  return value >> 6 === 3 ? quality.good : value >> 6 === 1 ? quality.uncertain : quality.bad
}
