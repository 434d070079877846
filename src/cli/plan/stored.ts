/** What a segment takes in the spool's file: SQLite's pages around its bytes. Pure. */
import { pageBytes } from '../../spool/room.ts'

/** Columns beside the bytes, the row's header, its place in the page. */
const rowBytes = 48
/** Of a table's row in a page of 4,096: all of it up to here, else the rest lies on pages of its own. */
const localMax = pageBytes - 35
const localMin = Math.floor(((pageBytes - 12) * 32) / 255) - 23
const overflowBytes = pageBytes - 4

export const storedBytes = (bytes: number): number => {
  const payload = bytes + rowBytes
  if (payload <= localMax) return payload
  const rest = localMin + ((payload - localMin) % overflowBytes)
  const local = rest <= localMax ? rest : localMin
  return local + Math.ceil((payload - local) / overflowBytes) * pageBytes
}
