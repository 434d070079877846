/**
 * JSON from the wire, exactly: bytes must be well-formed UTF-8, and integers that a number cannot
 * hold become bigints.
 *
 * Invariants: the last of duplicate keys stands, as in `JSON.parse`; no input makes it throw.
 */
import { textOf } from '../errors.ts'
import type { Json } from './template.ts'

const decoder = new TextDecoder('utf-8', { fatal: true })

/** Well-formed text (without a byte order mark), or undefined. */
export const decodeText = (bytes: Uint8Array): string | undefined => {
  try {
    return decoder.decode(bytes)
  } catch {
    return undefined
  }
}

/** Integers of up to 20 digits cover int64 and uint64; longer ones are floats that no int field takes. */
const longInteger = /^-?\d{16,20}$/
const exact = (_key: string, value: unknown, context: { source: string }): unknown =>
  typeof value === 'number' && !Number.isSafeInteger(value) && longInteger.test(context.source)
    ? BigInt(context.source)
    : value
const parseExact = JSON.parse as (text: string, reviver: typeof exact) => Json

/** `exactly`: integers of 16 digits and more as bigints where a number cannot hold them. */
export const parseJson = (
  bytes: Uint8Array,
  exactly = true,
): { readonly value: Json } | { readonly why: string } => {
  const text = decodeText(bytes)
  if (text === undefined) return { why: 'not well-formed UTF-8' }
  try {
    // The reviver sees every value and costs as much as the parse: only where a number is long enough to need it.
    const value = exactly && /\d{16}/.test(text) ? parseExact(text, exact) : JSON.parse(text)
    return { value: value as Json }
  } catch (error) {
    // V8 quotes the input and counts positions: without them one kind of mistake is one reason.
    const why = textOf(error).replace(/,? ?(?:"|\.\.\.|(?:in JSON )?at position).*$/s, '')
    return { why: `not JSON: ${why.slice(0, 80)}` }
  }
}
