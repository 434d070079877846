/**
 * What a destination logs in with, where it may be renewed while the agent runs: a file that the configuration
 * refers to is read again once the far side has refused what it held.
 *
 * Invariants: without a refusal nothing is read; what cannot be read, or is not valid, leaves the earlier one in use; a
 * refusal of credentials that have been replaced since is not held against the new ones.
 */
import type { Outcome } from '../model.ts'
import { later } from './relay-outcome.ts'

interface Credentials {
  readonly token?: string | undefined
  readonly username?: string | undefined
  readonly password?: string | undefined
}
type Setback = Extract<Outcome, { kind: 'later' | 'blocked' }>
export interface Login<T> {
  /** For the next request. */
  readonly current: () => T
  /** What a setback means that an answer to a request with `used` was. */
  readonly heard: (used: T, setback: Setback) => Setback
}

const same = (one: Credentials, other: Credentials) =>
  one.token === other.token && one.username === other.username && one.password === other.password

/** `code`: of the setback that says that credentials are refused. `renewed`: the settings as they would be read now. */
export const createLogin = <T extends Credentials>(
  given: T,
  renewed: (() => unknown) | undefined,
  code: string,
): Login<T> => {
  let known = given
  let doubted = false
  const look = () => {
    const next = renewed?.() as T | undefined
    if (next !== undefined && !same(next, known)) known = next
  }
  return {
    current: () => {
      if (doubted) look()
      doubted = false
      return known
    },
    heard: (used, setback) => {
      if (setback.kind !== 'blocked' || setback.code !== code) return setback
      if (used === known) look()
      if (used !== known) return later(`${setback.text}; there are others by now, tried next`)
      doubted = true
      return setback
    },
  }
}

/** What to do, behind what is wrong. */
export const renewHint =
  'A secret in a file of its own (file:) is read again before each try; after a change of the configuration, ' +
  'of env: or of cred: restart the agent.'
