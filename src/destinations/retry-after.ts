/** Reads `Retry-After` (RFC 9110): whole seconds or an HTTP date; pure. */

/**
 * Milliseconds to wait, or undefined when the header is absent or means nothing. A date is measured
 * against the answer's own `Date` where it has one, so that a wrong clock here does no harm.
 */
export const retryAfterMs = (
  header: string | undefined,
  dateHeader: string | undefined,
  nowUs: number,
): number | undefined => {
  const text = header?.trim() ?? ''
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000
  // A weekday first: Date.parse would also take "12" or "-5" for a date.
  if (!/^[A-Z][a-z]{2,8}, /.test(text)) return undefined
  const untilMs = Date.parse(text)
  const farMs = Date.parse(dateHeader ?? '')
  const waitMs = untilMs - (Number.isNaN(farMs) ? nowUs / 1000 : farMs)
  return Number.isNaN(waitMs) ? undefined : Math.max(0, waitMs)
}
