/**
 * Snappy's block format, the writing half: what remote write wants around its bodies. Pure.
 * Layout (github.com/google/snappy, format_description.txt): varint of the raw length, then literals (tag 00) and
 * copies (tag 10: length − 1 in six bits, two bytes of offset).
 * Invariant: what decodes is what went in; output is at most input + input / 60 + 16 bytes.
 */

const blockBytes = 1 << 16
const tableBits = 14
const lengthMin = 4
const copyMax = 64

export const snappyCompress = (input: Uint8Array): Uint8Array => {
  const output = new Uint8Array(input.length + Math.ceil(input.length / 60) + 16)
  let to = 0
  let rest = input.length
  for (; rest >= 128; rest = Math.floor(rest / 128)) output[to++] = (rest % 128) | 128
  output[to++] = rest

  const literal = (from: number, until: number) => {
    const length = until - from - 1
    if (length < 0) return
    if (length < 60) output[to++] = length << 2
    else if (length < 256) {
      output[to++] = 60 << 2
      output[to++] = length
    } else {
      output[to++] = 61 << 2
      output[to++] = length & 255
      output[to++] = length >> 8
    }
    output.set(input.subarray(from, until), to)
    to += until - from
  }
  const copy = (offset: number, length: number) => {
    for (let left = length; left > 0; left -= copyMax) {
      output[to++] = ((Math.min(left, copyMax) - 1) << 2) | 2
      output[to++] = offset & 255
      output[to++] = offset >> 8
    }
  }
  const table = new Uint32Array(1 << tableBits)
  const wordAt = (at: number) =>
    (input[at] as number) |
    ((input[at + 1] as number) << 8) |
    ((input[at + 2] as number) << 16) |
    ((input[at + 3] as number) << 24)

  for (let start = 0; start < input.length; start += blockBytes) {
    // Offsets stay within a block, so they always fit in two bytes; places are kept one higher, 0 is none.
    table.fill(0)
    const end = Math.min(start + blockBytes, input.length)
    let from = start
    let at = start
    while (at + lengthMin <= end) {
      const word = wordAt(at)
      const slot = Math.imul(word, 0x1e35a7bd) >>> (32 - tableBits)
      const known = (table[slot] as number) - 1
      table[slot] = at + 1
      if (known < start || wordAt(known) !== word) {
        at += 1 + ((at - from) >> 5)
        continue
      }
      let length = lengthMin
      while (at + length < end && input[known + length] === input[at + length]) length++
      literal(from, at)
      copy(at - known, length)
      at += length
      from = at
    }
    literal(from, end)
  }
  return output.slice(0, to)
}
