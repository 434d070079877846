/** Text from devices and far sides, made safe to show on a terminal and in a log. Pure. */

const isControl = (code: number) => code < 32 || (code >= 127 && code < 160)
/** Nothing a device sends may move the reader's cursor or forge a second line. */
export const printable = (text: string): string => {
  let out = ''
  for (const char of text) {
    const code = char.codePointAt(0) ?? 0
    out += isControl(code) ? `\\x${code.toString(16).padStart(2, '0')}` : char
  }
  return out
}
