/**
 * CRC-32C (Castagnoli), slicing by 8: the checksum over every segment and journal row.
 * Invariant: `crc32c(b, crc32c(a))` equals the checksum of a followed by b; 0 is the seed of nothing.
 */

const slices = 8
/** `tables[s * 256 + b]`: effect of byte `b` followed by `s` zero bytes. */
const makeTables = (): Int32Array => {
  const tables = new Int32Array(256 * slices)
  // Of single bits first, then of their sums: an eighth of the steps, too few to wake the optimising compiler.
  for (let bit = 128, crc = 1; bit > 0; bit >>>= 1) {
    crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1
    tables[bit] = crc
  }
  for (let bit = 2; bit < 256; bit *= 2)
    for (let rest = 1; rest < bit; rest++)
      tables[bit + rest] = (tables[bit] as number) ^ (tables[rest] as number)
  for (let at = 256; at < tables.length; at++) {
    const before = tables[at - 256] as number
    tables[at] = (before >>> 8) ^ (tables[before & 255] as number)
  }
  return tables
}
const tables = makeTables()

/** Unsigned 32-bit checksum of `bytes`, going on from `seed` (the checksum of what came before). */
export const crc32c = (bytes: Uint8Array, seed = 0): number => {
  const t = tables
  let crc = ~seed
  let at = 0
  const length = bytes.length
  for (const whole = length - 7; at < whole; at += 8) {
    crc ^=
      (bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)
    crc =
      (t[1792 + (crc & 255)] as number) ^
      (t[1536 + ((crc >>> 8) & 255)] as number) ^
      (t[1280 + ((crc >>> 16) & 255)] as number) ^
      (t[1024 + (crc >>> 24)] as number) ^
      (t[768 + (bytes[at + 4] as number)] as number) ^
      (t[512 + (bytes[at + 5] as number)] as number) ^
      (t[256 + (bytes[at + 6] as number)] as number) ^
      (t[bytes[at + 7] as number] as number)
  }
  for (; at < length; at++) crc = (crc >>> 8) ^ (t[(crc ^ (bytes[at] as number)) & 255] as number)
  return ~crc >>> 0
}
