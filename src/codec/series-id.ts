/**
 * Who a series is, in 63 bits, and the running hash that says two sides hold the same dictionary.
 * Both are laid down in decision 0001 and never change: ids stand in databases.
 */
import { createHash } from 'node:crypto'
import type { SeriesId, SeriesKey } from '../model.ts'

/**
 * First 8 bytes, big-endian, top bit cleared, of SHA-256 over "holdfast-series-1" and length-prefixed
 * UTF-8 texts.
 */
export const seriesIdOf = (agent: string, key: SeriesKey): SeriesId => {
  const hash = createHash('sha256').update('holdfast-series-1')
  const add = (text: string) => {
    const bytes = Buffer.from(text, 'utf8')
    const length = Buffer.allocUnsafe(4)
    length.writeUInt32LE(bytes.length)
    hash.update(length).update(bytes)
  }
  add(agent)
  add(key.name)
  for (const [name, value] of key.tags) {
    add(name)
    add(value)
  }
  return hash.digest().readBigUInt64BE(0) & 0x7fff_ffff_ffff_ffffn
}

/** Hash of the empty dictionary. */
export const dictionaryHashStart = '0'.repeat(32)

/** The hash after one more entry: first 16 bytes of SHA-256 over the hash before and the id, 8 bytes big-endian. */
export const extendDictionaryHash = (hash: string, id: SeriesId): string => {
  const bytes = Buffer.allocUnsafe(24)
  bytes.write(hash, 0, 16, 'hex')
  bytes.writeBigUInt64BE(id, 16)
  return createHash('sha256').update(bytes).digest().toString('hex', 0, 16)
}
