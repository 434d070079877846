/** Durations and sizes as people write them ("100ms", "24h", "1GiB"), and their schema types. */
import { z } from 'zod'

const durationMs: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  min: 60_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
}
const sizeBytes: Readonly<Record<string, number>> = {
  B: 1,
  kB: 1e3,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  TiB: 1024 ** 4,
}

const parse = (text: string, units: Readonly<Record<string, number>>): number | undefined => {
  const match = /^(\d{1,12}(?:\.\d{1,6})?)\s*([A-Za-z]{1,3})$/.exec(text.trim())
  const factor = match?.[2] === undefined ? undefined : units[match[2]]
  return match?.[1] === undefined || factor === undefined
    ? undefined
    : Math.round(Number(match[1]) * factor)
}
/** Milliseconds, or undefined when the text is no duration. */
export const parseDurationMs = (text: string): number | undefined => parse(text, durationMs)
/** Bytes, or undefined when the text is no size. */
export const parseSizeBytes = (text: string): number | undefined => parse(text, sizeBytes)

const quantity = (read: (text: string) => number | undefined, what: string) =>
  z.string().transform((text, context) => {
    const value = read(text)
    if (value !== undefined) return value
    context.addIssue({ code: 'custom', message: `must be a ${what}, got "${text}"` })
    return z.NEVER
  })
/** Schema of a duration: text in, milliseconds out. */
export const duration = () => quantity(parseDurationMs, 'duration such as "100ms", "30s", "24h"')
/** Schema of a size: text in, bytes out. */
export const size = () => quantity(parseSizeBytes, 'size such as "64KiB", "500MB", "10GiB"')
