/**
 * One unsigned number as a token (a byte, for the compressor's entropy coder) and raw bits (which no
 * compressor helps).
 * A number's low `shift` bits are raw; of the rest q: q < 16 is the token itself, else the token says
 * the position of
 * the top bit and the two bits below it: 16 + 4 (log2 q - 4) + those two; the bits below them are raw.
 * So 64 bits fit one token, and the token keeps what is uneven about the distribution.
 */
import {
  type BitCursor,
  type BitSink,
  type Cursor,
  malformed,
  putBits,
  putByte,
  reserve,
  type Sink,
  takeBits,
  takeByte,
  taken,
} from './streams.ts'

export const shiftMax = 48
/** Token t stands for `tops[t]` · 2^(`rawBits[t]` + shift) + raw bits. */
const tops = Uint8Array.from({ length: 256 }, (_, token) => (token < 16 ? token : 4 + (token & 3)))
const rawBits = Uint8Array.from({ length: 256 }, (_, token) =>
  token < 16 ? 0 : ((token - 16) >>> 2) + 2,
)

/** Numbers below 2^32, `zs[from..to)`. The loop of loops: everything is in locals. */
const putSmall = (
  tokens: Sink,
  bits: BitSink,
  zs: Float64Array,
  count: number,
  shift: number,
): void => {
  reserve(tokens, count)
  reserve(bits, count * 5 + 8)
  const out = tokens.bytes
  const raw = bits.bytes
  let at = tokens.length
  let rawAt = bits.length
  let held = bits.held
  let heldBits = bits.heldBits
  for (let i = 0; i < count; i++) {
    const z = (zs[i] as number) >>> 0
    const q = shift === 0 ? z : z >>> shift
    let width = shift
    if (q < 16) out[at++] = q
    else {
      const below = 29 - Math.clz32(q)
      out[at++] = 8 + (below << 2) + ((q >>> below) & 3)
      width += below
    }
    if (width > 16) {
      held |= (z & 0xffff) << heldBits
      raw[rawAt++] = held
      raw[rawAt++] = held >>> 8
      held = (held >>> 16) | (((z >>> 16) & ((1 << (width - 16)) - 1)) << heldBits)
      heldBits += width - 16
    } else {
      held |= (z & ((1 << width) - 1)) << heldBits
      heldBits += width
    }
    if (heldBits >= 16) {
      raw[rawAt++] = held
      raw[rawAt++] = held >>> 8
      held >>>= 16
      heldBits -= 16
    }
  }
  if (heldBits >= 8) {
    raw[rawAt++] = held
    held >>>= 8
    heldBits -= 8
  }
  tokens.length = at
  bits.length = rawAt
  bits.held = held
  bits.heldBits = heldBits
}

/** One number hi·2^32 + lo. */
export const putWide = (
  tokens: Sink,
  bits: BitSink,
  hi: number,
  lo: number,
  shift: number,
): void => {
  const high = hi >>> 0
  const low = lo >>> 0
  const top = high === 0 ? 31 - Math.clz32(low) : 63 - Math.clz32(high)
  const topQ = top - shift
  reserve(bits, 9)
  if (topQ < 4) {
    // q below 16: it lies in bits shift..shift+3.
    putByte(tokens, top < shift ? 0 : lowBits(high, low, shift, 4))
    putBits(bits, high, low, shift)
  } else {
    const width = topQ - 2 + shift
    putByte(tokens, 16 + ((topQ - 4) << 2) + lowBits(high, low, width, 2))
    putBits(bits, high, low, width)
  }
}
/** `count` bits of hi·2^32 + lo from bit `from` up. */
const lowBits = (hi: number, lo: number, from: number, count: number): number => {
  const word =
    from >= 32 ? hi >>> (from - 32) : from === 0 ? lo : (lo >>> from) | (hi << (32 - from))
  return word & ((1 << count) - 1)
}

/** Whole numbers below 2^53 in `zs[0..count)`. */
export const putTokens = (
  tokens: Sink,
  bits: BitSink,
  zs: Float64Array,
  count: number,
  shift: number,
  largest: number,
): void => {
  if (largest < 16 && shift === 0) {
    reserve(tokens, count)
    for (let i = 0; i < count; i++) tokens.bytes[tokens.length + i] = zs[i] as number
    tokens.length += count
    return
  }
  if (largest < 2 ** 32 && shift <= 24) {
    putSmall(tokens, bits, zs, count, shift)
    return
  }
  for (let i = 0; i < count; i++) {
    const z = zs[i] as number
    putWide(tokens, bits, z / 2 ** 32, z >>> 0, shift)
  }
}

/** Reads one number into `taken`. */
export const takeWide = (tokens: Cursor, bits: BitCursor, shift: number): void => {
  const token = takeByte(tokens)
  const width = (rawBits[token] as number) + shift
  if (width > 64) throw malformed('a number has more than 64 bits')
  takeBits(bits, width)
  const top = tops[token] as number
  if (width >= 32) taken.hi |= width === 64 ? 0 : top << (width - 32)
  else {
    taken.lo |= top << width
    if (width > 28) taken.hi |= top >>> (32 - width)
  }
}

/** Reads `count` numbers below 2^53 into `zs`. */
export const takeTokens = (
  tokens: Cursor,
  bits: BitCursor,
  zs: Float64Array,
  count: number,
  shift: number,
): void => {
  const { bytes } = tokens
  const raw = bits.bytes
  let at = tokens.at
  let bit = bits.at
  if (at + count > bytes.length) throw malformed('the tokens end early')
  for (let i = 0; i < count; i++) {
    const token = bytes[at++] as number
    const width = (rawBits[token] as number) + shift
    if (width === 0) {
      zs[i] = token
      continue
    }
    if (width > 24) {
      tokens.at = at - 1
      bits.at = bit
      takeWide(tokens, bits, shift)
      bit = bits.at
      zs[i] = (taken.hi >>> 0) * 2 ** 32 + (taken.lo >>> 0)
      continue
    }
    const from = bit >>> 3
    const word =
      ((raw[from] as number) |
        ((raw[from + 1] as number) << 8) |
        ((raw[from + 2] as number) << 16) |
        ((raw[from + 3] as number) << 24)) >>>
      (bit & 7)
    zs[i] = ((tops[token] as number) << width) + (word & ((1 << width) - 1))
    bit += width
    if (bit > bits.bits) throw malformed('the bits end early')
  }
  tokens.at = at
  bits.at = bit
}
