/**
 * A message's own time as whole microseconds: epoch seconds to nanoseconds, or RFC 3339.
 *
 * Invariants: finer times are floored, also before 1970's zero is reached; decimals are read from their digits, never
 * multiplied as floats; a time outside 1970..2255 is refused, so every answer is exact in a number.
 */
import type { Json } from './template.ts'

export const timeUnits = ['auto', 's', 'ms', 'us', 'ns', 'rfc3339'] as const
export type TimeUnit = (typeof timeUnits)[number]

/** Digits after the point that make one microsecond. */
const decimals = { s: 6, ms: 3, us: 0, ns: -3 } as const

/** Microseconds, or why not. `auto` takes the unit from the size: it is unambiguous from 1973 to 5138. */
export const parseTime = (value: Json | undefined, unit: TimeUnit): number | string => {
  if (typeof value === 'number' || typeof value === 'bigint') {
    if (unit === 'rfc3339') return 'the time is a number, not RFC 3339'
    if (typeof value === 'number' && Number.isSafeInteger(value)) return fromInteger(value, unit)
    return fromDigits(String(value), unit)
  }
  if (typeof value !== 'string') return 'there is no time'
  if (unit !== 'rfc3339' && /^-?\d/.test(value) && !/^\d{4}-/.test(value))
    return fromDigits(value, unit)
  return unit === 'auto' || unit === 'rfc3339' ? parseRfc3339(value) : 'the time is no number'
}

const unitOf = (size: number): 's' | 'ms' | 'us' | 'ns' =>
  size < 1e11 ? 's' : size < 1e14 ? 'ms' : size < 1e17 ? 'us' : 'ns'

const inRange = (us: number): number | string =>
  us >= 0 && us <= Number.MAX_SAFE_INTEGER ? us : 'the time is outside 1970 to 2255'

const fromInteger = (value: number, unit: Exclude<TimeUnit, 'rfc3339'>): number | string => {
  const places = decimals[unit === 'auto' ? unitOf(Math.abs(value)) : unit]
  return inRange(places < 0 ? Math.floor(value / 1000) : value * 10 ** places)
}
const fromDigits = (text: string, unit: TimeUnit): number | string => {
  const match = /^(-?)(\d{1,25})(?:\.(\d{1,30}))?$/.exec(text)
  if (match === null || unit === 'rfc3339') return 'the time is no number'
  const [, sign, whole = '', fraction = ''] = match
  if (sign === '-' && /[1-9]/.test(whole + fraction)) return 'the time is outside 1970 to 2255'
  const places = decimals[unit === 'auto' ? unitOf(Number(whole)) : unit]
  const digits =
    places < 0
      ? whole.slice(0, places) || '0'
      : whole + fraction.slice(0, places).padEnd(places, '0')
  return inRange(Number(digits))
}

const rfc3339 =
  /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,30}))?(?:([Zz])|([+-])(\d\d):?(\d\d))$/

const parseRfc3339 = (text: string): number | string => {
  const match = rfc3339.exec(text)
  if (match === null) return 'the time is not RFC 3339'
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match
    .slice(1, 7)
    .map(Number)
  const ms = Date.UTC(year, month - 1, day, hour, minute, second)
  const real =
    new Date(Date.UTC(year, month - 1, day)).getUTCDate() === day &&
    month >= 1 &&
    month <= 12 &&
    hour < 24 &&
    minute < 60 &&
    second <= 60 // 60: a leap second
  if (!real) return 'there is no such time'
  const offsetMinutes = match[8]
    ? 0
    : (match[9] === '-' ? -1 : 1) * (Number(match[10]) * 60 + Number(match[11]))
  const fractionUs = Number((match[7] ?? '').slice(0, 6).padEnd(6, '0'))
  return inRange((ms - offsetMinutes * 60_000) * 1000 + fractionUs)
}
