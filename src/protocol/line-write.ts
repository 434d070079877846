/**
 * Points -> line protocol, so that `line.ts` and every InfluxDB reads back the same names and values.
 *
 * Invariants: what the protocol cannot say (a NaN, a name ending in a backslash, a newline in a name) is answered
 * with undefined and never written almost right; -0 stays -0.
 */
import type { Value } from '../model.ts'

type Tag = readonly [string, string]

const unsayable = (name: string): boolean =>
  name === '' || name.endsWith('\\') || /[\n\r]/.test(name)
const escapeKey = (text: string): string => text.replace(/[,= ]/g, '\\$&')

/** `measurement,tag=value` (the same for all points of a series: keep it), or undefined. */
export const lineHead = (measurement: string, tags: readonly Tag[]): string | undefined => {
  // A leading # is a comment, a leading tab is skipped.
  if (unsayable(measurement) || /^[#\t]/.test(measurement)) return undefined
  let head = measurement.replace(/[, ]/g, '\\$&')
  for (const [key, value] of tags) {
    if (unsayable(key) || unsayable(value)) return undefined
    head += `,${escapeKey(key)}=${escapeKey(value)}`
  }
  return head
}
export const lineFieldKey = (field: string): string | undefined =>
  unsayable(field) ? undefined : escapeKey(field)

export const lineValue = (value: Value): string | undefined => {
  switch (typeof value) {
    case 'number':
      if (!Number.isFinite(value)) return undefined
      return Object.is(value, -0) ? '-0' : String(value)
    case 'bigint':
      return `${value}i`
    case 'boolean':
      return value ? 't' : 'f'
    case 'string':
      return `"${value.replace(/["\\]/g, '\\$&')}"`
  }
}

export interface LinePoint {
  readonly measurement: string
  readonly tags: readonly Tag[]
  readonly fields: readonly (readonly [string, Value])[]
  /** Without, the receiver stamps it. */
  readonly timeUs?: number
}
/** One line without its newline, time in microseconds (`precision=us`); undefined when a part cannot be said. */
export const writeLine = ({ measurement, tags, fields, timeUs }: LinePoint): string | undefined => {
  const head = lineHead(measurement, tags)
  const pairs = fields.map(([key, value]) => [lineFieldKey(key), lineValue(value)] as const)
  if (head === undefined || pairs.length === 0) return undefined
  if (pairs.some(([key, value]) => key === undefined || value === undefined)) return undefined
  const time = timeUs === undefined ? '' : ` ${timeUs}`
  return `${head} ${pairs.map(([key, value]) => `${key}=${value}`).join(',')}${time}`
}
