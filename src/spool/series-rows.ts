/**
 * Rows of the `series` table: what a series' number on the wire means, years later too.
 *
 * Invariants: a row is believed only when its CRC32 holds; one flipped bit, wherever in the row, is found and put
 * right (every single flip has a CRC of its own), more are damage and nobody guesses.
 */
import { crc32 } from 'node:zlib'
import type { Contract, ContractVersion, SeriesEntry } from '../model.ts'
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

/** Rows from before they were told by time hold one contract, no list. */
const versionsIn = (text: string): readonly ContractVersion[] => {
  if (text === '') return []
  const found = JSON.parse(text) as Contract | readonly ContractVersion[]
  return 'method' in found ? [{ fromUs: null, contract: found }] : found
}
/** A damaged row says nothing here: whoever reads the series hears of it. */
export const contractsOf = (
  state: SpoolState,
  id: SeriesEntry['id'],
): readonly ContractVersion[] => {
  const row = state
    .sql(`SELECT ${seriesColumns} FROM series s WHERE id = ?`)
    .safeIntegers()
    .get(id) as SeriesRow | undefined
  return (row === undefined ? undefined : entryOfRow(row))?.contracts ?? []
}

/**
 * Inside a transaction. Answers the entry with the contracts that its series has: one that comes without keeps those
 * it had, points thinned by them may still be held. What stands there as it should is not written again: each opening
 * names its series anew, and windows have hundreds of thousands.
 */
export const saveSeries = (state: SpoolState, entry: SeriesEntry): SeriesEntry => {
  const { id, name, tags, unit } = entry
  const found = state
    .sql('SELECT name, tags, unit, contract, crc FROM series WHERE id = ?')
    .raw()
    .get(id) as readonly unknown[] | undefined
  const had = found !== undefined && found[3] !== ''
  const contracts = entry.contracts ?? (had ? contractsOf(state, id) : [])
  const contractText = contracts.length === 0 ? '' : JSON.stringify(contracts)
  const texts = [name, JSON.stringify(tags), unit, contractText]
  const crc = crc32(
    bytesOf(
      id,
      texts.map((text) => Buffer.from(text)),
    ),
  )
  const stands = found !== undefined && [...texts, crc].every((value, at) => value === found[at])
  if (!stands)
    state.sql('INSERT OR REPLACE INTO series VALUES (?, ?, ?, ?, ?, ?)').run(id, ...texts, crc)
  return contracts.length === 0 ? entry : { ...entry, contracts }
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
    ...(contract === '' ? {} : { contracts: versionsIn(contract) }),
  }
}

const keyIn = ({ ordinal }: SpoolState, number: number): number => ordinal * 2 ** 24 + number
/** Whether this number of the epoch's dictionary stands in the file: it may have been read, and sent. */
export const isSaved = (state: SpoolState, number: number): boolean =>
  state.sql('SELECT 1 FROM dictionary WHERE key = ?').get(keyIn(state, number)) !== undefined

/** New entries of the dictionary since `from`, and their series: with the contracts that these are known to have. */
export const saveDictionary = (state: SpoolState, from: number): number => {
  const entries = state.dictionary.entries(from)
  // Ids are random: in their order a page of the table is written once.
  const order = entries.map((_, at) => at)
  const idAt = (at: number) => (entries[at] as SeriesEntry).id
  for (const at of order.sort((a, b) => (idAt(a) < idAt(b) ? -1 : 1)))
    state.dictionary.complete(from + at, saveSeries(state, entries[at] as SeriesEntry))
  entries.forEach((entry, at) => {
    state.sql('INSERT INTO dictionary VALUES (?, ?)').run(keyIn(state, from + at), entry.id)
  })
  return entries.length * 96
}
