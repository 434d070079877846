/**
 * How a line's (measurement, field) becomes one series name and comes back: `measurement.field`, where a dot inside
 * the field is written %2E (and a per cent sign that would then be mistaken, %25), so the last dot always divides.
 */
export const seriesNameOf = (measurement: string, field: string): string =>
  `${measurement}.${field.replace(/%(?=2E|25)/g, '%25').replaceAll('.', '%2E')}`

/** The inverse; a name without a dot (made by another door) is a measurement with the field `value`. */
export const splitSeriesName = (name: string): { measurement: string; field: string } => {
  const dot = name.lastIndexOf('.')
  if (dot <= 0 || dot === name.length - 1) return { measurement: name, field: 'value' }
  const field = name.slice(dot + 1).replace(/%(2E|25)/g, (_, code) => (code === '2E' ? '.' : '%'))
  return { measurement: name.slice(0, dot), field }
}
