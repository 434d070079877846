/**
 * Settings whose secrets may be renewed while the process runs: what a file holds is read again once what is in use was
 * refused.
 *
 * Invariants: without a refusal nothing is read; what cannot be read, or is not valid, leaves the earlier one in use; a
 * refusal of what has been replaced since is not held against the new one.
 */
interface Credentials {
  readonly token?: string | undefined
  readonly username?: string | undefined
  readonly password?: string | undefined
}
export interface Renewed<T> {
  /** For the next try. */
  readonly current: () => T
  /** `used` was refused; true: there are others by now. */
  readonly refused: (used: T) => boolean
}

const same = (one: Credentials, other: Credentials) =>
  one.token === other.token && one.username === other.username && one.password === other.password

/** `read`: the settings as they would be read now; undefined where that does not work. */
export const createRenewed = <T extends Credentials>(
  given: T,
  read: (() => unknown) | undefined,
): Renewed<T> => {
  let known = given
  let doubted = false
  const look = () => {
    const next = read?.() as T | undefined
    if (next !== undefined && !same(next, known)) known = next
  }
  return {
    current: () => {
      if (doubted) look()
      doubted = false
      return known
    },
    refused: (used) => {
      if (used === known) look()
      if (used !== known) return true
      doubted = true
      return false
    },
  }
}
