/**
 * Rows of the `series` table: what a series' number on the wire means, years later too.
 *
 * Invariants: a row is believed only when its CRC32 holds; one flipped bit, wherever in the row, is found and put
 * right (every single flip has a CRC of its own), more are damage and nobody guesses.
 */
import { crc32 } from 'node:zlib'
import type { Contract, SeriesEntry } from '../model.ts'
import type { SpoolState } from './state.ts'

/** As columns of a query over `series s`. Text as bytes: a flipped bit may leave no valid UTF-8. */
const textColumns = ['name', 'tags', 'unit', 'contract'].map(
  (name) => `CAST(s.${name} AS BLOB) AS ${name}`,
)
export const seriesColumns = ['s.id', ...textColumns, 's.crc'].join(', ')
export interface SeriesRow {
  readonly id: bigint
  readonly name: Uint8Array
  readonly tags: Uint8Array
  readonly unit: Uint8Array
  readonly contract: Uint8Array
  readonly crc: bigint
}

const idBytes = 8
/** No door lets a NUL into a name, a tag or a unit. */
const between = Buffer.of(0)
const bytesOf = (id: bigint, texts: readonly Uint8Array[]): Buffer => {
  const idPart = Buffer.alloc(idBytes)
  idPart.writeBigInt64BE(id)
  return Buffer.concat([idPart, ...texts.flatMap((text) => [between, text])])
}

/**
 * A series that comes without a contract keeps the one it had: points thinned by it may still be held. What stands
 * there as it should is not written again: each opening names its series anew, and windows have hundreds of thousands.
 */
export const saveSeries = (state: SpoolState, entry: SeriesEntry): void => {
  const { id, name, tags, unit, contract } = entry
  const found = state
    .sql('SELECT name, tags, unit, contract, crc FROM series WHERE id = ?')
    .raw()
    .get(id) as readonly unknown[] | undefined
  const known = typeof found?.[3] === 'string' ? found[3] : ''
  const contractText = contract === undefined ? known : JSON.stringify(contract)
  const texts = [name, JSON.stringify(tags), unit, contractText]
  const crc = crc32(
    bytesOf(
      id,
      texts.map((text) => Buffer.from(text)),
    ),
  )
  if (found !== undefined && [...texts, crc].every((value, at) => value === found[at])) return
  state.sql('INSERT OR REPLACE INTO series VALUES (?, ?, ?, ?, ?, ?)').run(id, ...texts, crc)
}

/** The row's bytes as they were written, or undefined when no single flipped bit explains what is there. */
const mended = (bytes: Buffer, crc: number): Buffer | undefined => {
  const found = crc32(bytes)
  const differing = (found ^ crc) >>> 0
  // None, or one bit of the CRC itself.
  if ((differing & (differing - 1)) === 0) return bytes
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const at = bit >> 3
    const was = bytes[at] as number
    bytes[at] = was ^ (1 << (bit & 7))
    if (crc32(bytes) === crc) return bytes
    bytes[at] = was
  }
  return undefined
}

/** Undefined when the row is damaged. */
export const entryOfRow = (row: SeriesRow): SeriesEntry | undefined => {
  const texts = [row.name, row.tags, row.unit, row.contract]
  const bytes = mended(bytesOf(row.id, texts), Number(row.crc))
  if (bytes === undefined) return undefined
  let at = idBytes
  const [name, tags, unit, contract] = texts.map(({ length }) => {
    const text = bytes.toString('utf8', at + 1, at + 1 + length)
    at += 1 + length
    return text
  }) as [string, string, string, string]
  return {
    id: bytes.readBigInt64BE(0),
    name,
    tags: JSON.parse(tags) as SeriesEntry['tags'],
    unit,
    ...(contract === '' ? {} : { contract: JSON.parse(contract) as Contract }),
  }
}

/** New entries of the dictionary since `from`, and their series. */
export const saveDictionary = (state: SpoolState, from: number): number => {
  const entries = state.dictionary.entries(from)
  // Ids are random: in their order a page of the table is written once.
  for (const entry of entries.toSorted((a, b) => (a.id < b.id ? -1 : 1))) saveSeries(state, entry)
  entries.forEach((entry, at) => {
    state
      .sql('INSERT INTO dictionary VALUES (?, ?)')
      .run(state.ordinal * 2 ** 24 + from + at, entry.id)
  })
  return entries.length * 96
}
