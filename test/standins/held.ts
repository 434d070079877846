/**
 * What a stand-in holds, and in what form it is asked for: one row per (table, tags, time, field), the newest value
 * standing, as every vendor here keys its points.
 *
 * A float is compared by `Object.is` in strict deep equality: -0 is not 0, and NaN is NaN.
 */
export type Scalar =
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'int' | 'uint'; readonly value: bigint }
  | { readonly kind: 'bool'; readonly value: boolean }
  | { readonly kind: 'string'; readonly value: string }
export interface ReadPoint {
  readonly table: string
  readonly tags: readonly (readonly [string, string])[]
  readonly fields: readonly (readonly [string, Scalar])[]
  readonly timeNs: bigint
}
export interface StoredField {
  readonly table: string
  readonly tags: Readonly<Record<string, string>>
  readonly timeNs: bigint
  readonly field: string
  readonly value: Scalar
}
export interface Held {
  readonly put: (point: ReadPoint) => void
  /** In the order of (table, tags, time, field). */
  readonly rows: () => StoredField[]
  /** Fields written again with another value than before. Where the vendor says which one wins is open, none may be. */
  readonly changed: () => number
}

const sameValue = (a: Scalar, b: Scalar) => a.kind === b.kind && Object.is(a.value, b.value)
const inOrder = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)
/** The series of a point: tags in the order of their names. */
export const seriesOf = (table: string, tags: ReadPoint['tags']): string =>
  JSON.stringify([table, ...[...tags].sort(([a], [b]) => inOrder(a, b))])

export const createHeld = (): Held => {
  const rows = new Map<string, StoredField>()
  let changed = 0
  return {
    put: ({ table, tags, fields, timeNs }) => {
      const series = seriesOf(table, tags)
      // Sorts as a number does: no time here is below the first of an int64.
      const time = (timeNs + 2n ** 63n).toString().padStart(20, '0')
      for (const [field, value] of fields) {
        const key = `${series}\n${time}\n${field}`
        const before = rows.get(key)
        if (before !== undefined && !sameValue(before.value, value)) changed++
        rows.set(key, { table, tags: Object.fromEntries(tags), timeNs, field, value })
      }
    },
    rows: () => [...rows].sort(([a], [b]) => inOrder(a, b)).map(([, row]) => row),
    changed: () => changed,
  }
}
