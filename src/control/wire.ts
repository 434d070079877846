/** How the control API writes what JSON cannot: 64-bit integers, NaN and infinities, bytes, times. */
import type { QuarantineRow, TapPoint } from '../spool-port.ts'

const qualityNames = ['good', 'uncertain', 'bad', 'bad'] as const

export interface TapJson {
  readonly series: string
  readonly tags: Readonly<Record<string, string>>
  /** RFC 3339 with microseconds, UTC. */
  readonly time: string
  readonly kind: 'float' | 'int' | 'bool' | 'string'
  /** int64 as text, NaN and infinities as text, else the value. */
  readonly value: number | boolean | string
  readonly quality: (typeof qualityNames)[number]
}
/** `2026-11-21T02:14:05.123456Z`; a time no calendar has is written as microseconds. */
export const timeText = (timeUs: number): string => {
  const ms = Math.floor(timeUs / 1_000)
  if (!Number.isFinite(ms) || Math.abs(ms) > 8.64e15) return `${timeUs}us`
  const micros = String(timeUs - ms * 1_000).padStart(3, '0')
  return new Date(ms).toISOString().replace('Z', `${micros}Z`)
}
export const tapJson = (point: TapPoint): TapJson => {
  const { value } = point
  const kinds = { number: 'float', bigint: 'int', boolean: 'bool', string: 'string' } as const
  return {
    series: point.name,
    tags: Object.fromEntries(point.tags),
    time: timeText(point.timeUs),
    kind: kinds[typeof value as keyof typeof kinds],
    value:
      typeof value === 'bigint' || (typeof value === 'number' && !Number.isFinite(value))
        ? String(value)
        : Object.is(value, -0)
          ? '-0'
          : value,
    quality: qualityNames[point.quality & 3] ?? 'bad',
  }
}
export type QuarantineJson = Omit<QuarantineRow, 'sample'> & {
  /** Base64. */
  readonly sample: string
}
type Row = QuarantineRow & { readonly refused?: unknown }
export const quarantineJson = ({ refused: _, ...row }: Row): QuarantineJson => ({
  ...row,
  sample: Buffer.from(row.sample).toString('base64'),
})
