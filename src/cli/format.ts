/** Quantities as people read them. Pure. */

const scaled = (value: number, units: readonly string[]): string => {
  let unit = 0
  let left = Math.abs(value)
  while (left >= 999.5 && unit < units.length - 1) {
    left /= 1_000
    unit++
  }
  const digits = unit === 0 || left >= 99.5 ? 0 : 1
  return `${value < 0 ? '-' : ''}${left.toFixed(digits)}${units[unit] ? ` ${units[unit]}` : ''}`
}
/** `410 MB` (powers of 1,000, as disks are sold). */
export const bytesText = (bytes: number): string => scaled(bytes, ['B', 'kB', 'MB', 'GB', 'TB'])
/** `31.2 M` above ten thousand, `9,840` below. */
export const countText = (count: number): string =>
  Math.abs(count) < 10_000
    ? Math.round(count).toLocaleString('en-US')
    : scaled(count, ['', 'k', 'M', 'G', 'T'])
/** `1 point`, `2 points`, `31.2 M points`. */
export const amountText = (count: number, word: string): string =>
  `${countText(count)} ${word}${count === 1 ? '' : 's'}`
/** `900 ms`, `45 s`, `12 min`, `21 h`, `12 d`. */
export const spanText = (ms: number): string => {
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))} ms`
  const s = ms / 1_000
  if (s < 90) return `${Math.round(s)} s`
  if (s < 90 * 60) return `${Math.round(s / 60)} min`
  if (s < 48 * 3_600) return `${Math.round(s / 3_600)} h`
  return `${Math.round(s / 86_400)} d`
}
export const hoursText = (hours: number): string =>
  hours > 24 * 365 ? 'more than a year' : spanText(hours * 3_600_000)

/** Columns padded to their widest cell; nothing after the last. Wide characters count as one. */
export const table = (rows: readonly (readonly string[])[]): string[] => {
  const widths: number[] = []
  for (const row of rows)
    row.forEach((cell, at) => {
      widths[at] = Math.max(widths[at] ?? 0, cell.length)
    })
  return rows.map((row) =>
    row
      .map((cell, at) => (at === row.length - 1 ? cell : cell.padEnd(widths[at] ?? 0)))
      .join('  ')
      .trimEnd(),
  )
}
