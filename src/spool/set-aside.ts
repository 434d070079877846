/**
 * Spool files that were set aside: how they are called, and which of them were dealt with.
 * Invariant: it asks for nothing but names, so that the spool's own thread, which makes them, loads no more than that.
 */
import { join } from 'node:path'

/** Set aside by safe mode; the other kind, `.damaged-`, by a database that cannot be read. */
export const suspectMark = '.suspect-'
/** Beside a file set aside: everything in it that can be rescued has been. */
export const salvagedMark = '-salvaged'

/** Files set aside in this folder, by name; `dealtWith` once their salvage has ended. */
export interface SetAside {
  readonly file: string
  readonly kind: 'suspect' | 'damaged'
  readonly dealtWith: boolean
}
export const setAsideIn = (names: readonly string[], stateDir: string): readonly SetAside[] =>
  names
    .filter((name) => /^spool\.db\.(suspect|damaged)-[0-9a-f]{8}$/.test(name))
    .sort()
    .map((name) => ({
      file: join(stateDir, name),
      kind: name.includes(suspectMark) ? 'suspect' : 'damaged',
      dealtWith: names.includes(`${name}${salvagedMark}`),
    }))
