/**
 * The spelling of line protocol: where keys and lines end, and what a line's head says. Off the hot path but for
 * the small scanners. A backslash escapes a comma, a space, an equals sign; before anything else it is itself.
 */
const tab = 9
const newline = 10
const carriage = 13
const space = 32
const quote = 34
const comma = 44
const equals = 61
const backslash = 92

export const isDigit = (code: number): boolean => code >= 48 && code <= 57

export const skipSpaces = (bytes: Uint8Array, from: number): number => {
  let at = from
  while (bytes[at] === space) at++
  return at
}
export const skipBlanks = (bytes: Uint8Array, from: number): number => {
  let at = from
  while (bytes[at] === space || bytes[at] === tab) at++
  return at
}

/** Whether the line ends here: LF, CR LF, or the end of the bytes. */
export const isLineEnd = (bytes: Uint8Array, at: number): boolean => {
  if (at >= bytes.length || bytes[at] === newline) return true
  return bytes[at] === carriage && (at + 1 === bytes.length || bytes[at + 1] === newline)
}
/** Offset behind the next newline, or the size. */
export const afterLine = (bytes: Uint8Array, from: number): number => {
  const at = bytes.indexOf(newline, from)
  return at < 0 ? bytes.length : at + 1
}
export const newlinesIn = (bytes: Uint8Array, from: number, to: number): number => {
  let count = 0
  for (let at = from; at < to; at++) if (bytes[at] === newline) count++
  return count
}

/**
 * Where a line that cannot be read ends. A newline inside a string does not end it: what a string says must never
 * be taken for a line of its own. A quote that is never closed counts for nothing.
 */
export const afterBadLine = (bytes: Uint8Array, from: number): number => {
  let inFields = false
  let afterEquals = false
  let at = from
  while (at < bytes.length) {
    const code = bytes[at]
    if (code === newline) return at + 1
    if (code === backslash && bytes[at + 1] !== newline) at++
    else if (code === space) inFields = true
    else if (code === quote && inFields && afterEquals) {
      const close = closingQuote(bytes, at)
      if (close >= 0) at = close
    }
    afterEquals = code === equals
    at++
  }
  return bytes.length
}
const closingQuote = (bytes: Uint8Array, open: number): number => {
  for (let at = open + 1; at < bytes.length; at++) {
    if (bytes[at] === quote) return at
    if (bytes[at] === backslash) at++
  }
  return -1
}

/** Offset of the unescaped `end` (a space or an equals sign), or -1 when the line or the key ends before. */
export const scanKey = (bytes: Uint8Array, from: number, end: number): number => {
  for (let at = from; at < bytes.length; at++) {
    const code = bytes[at]
    if (code === end) return at
    if (code === backslash) {
      const next = bytes[at + 1]
      if (next === comma || next === space || next === equals) at++
    } else if (code === newline) return -1
    else if (end === equals && (code === space || code === comma)) return -1
  }
  return -1
}

/** What is wrong with the head in `bytes[from, to)`, if anything. */
export const headTrouble = (
  bytes: Uint8Array,
  from: number,
  to: number,
): { at: number; text: string } | undefined => {
  const parts = split(bytes, from, to, comma)
  const [measurement, ...tags] = parts
  if (measurement === undefined || measurement.from === measurement.to) {
    return { at: from, text: 'the measurement is missing' }
  }
  for (const tag of tags) {
    const sides = split(bytes, tag.from, tag.to, equals)
    if (sides.length !== 2) return { at: tag.from, text: 'a tag is not of the form key=value' }
    if (sides[0]?.from === sides[0]?.to) return { at: tag.from, text: 'a tag key is missing' }
  }
  return undefined
}
/** Names in a head that `headTrouble` found good and that is well-formed UTF-8. */
export const namesOf = (
  bytes: Buffer,
  from: number,
  to: number,
): { measurement: string; tags: [string, string][] } => {
  const text = (slice: Slice) => bytes.toString('utf8', slice.from, slice.to)
  const [measurement, ...tags] = split(bytes, from, to, comma)
  return {
    measurement: text(measurement as Slice).replace(/\\([, ])/g, '$1'),
    tags: tags.map((tag) => {
      const [key, value] = split(bytes, tag.from, tag.to, equals) as [Slice, Slice]
      return [unescapeKey(text(key)), unescapeKey(text(value))]
    }),
  }
}
export const unescapeKey = (text: string): string => text.replace(/\\([,= ])/g, '$1')

interface Slice {
  readonly from: number
  readonly to: number
}
const split = (bytes: Uint8Array, from: number, to: number, by: number): Slice[] => {
  const slices: Slice[] = []
  let start = from
  for (let at = from; at < to; at++) {
    const next = bytes[at + 1]
    if (bytes[at] === backslash && (next === comma || next === space || next === equals)) at++
    else if (bytes[at] === by) {
      slices.push({ from: start, to: at })
      start = at + 1
    }
  }
  slices.push({ from: start, to })
  return slices
}
