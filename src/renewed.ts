/**
 * Settings whose secrets may be renewed while the process runs: what a file holds is read again once what is in use was
 * refused; or, of a token that others bring, beside what they ask, now and then.
 *
 * Invariants: without a refusal, or anybody who asks, nothing is read; what cannot be read, or is not valid, leaves the
 * earlier one in use; a refusal of what has been replaced since is not held against the new one; tokens are compared in
 * constant time.
 */
import { createHash, timingSafeEqual } from 'node:crypto'

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

/** A token that is replaced is over for whoever holds it: the file is looked at beside what comes in, now and then. */
const tokenLookMs = 2_000
/** Whoever sends wrong ones makes no more work than this. */
const doubtLookMs = 100
/** The token that others must bring; undefined: none is needed. `doubted`: they came with another. */
export type TokenNow = (doubted: boolean) => string | undefined
export const createTokenNow = (
  clock: { readonly monotonicMs: () => number },
  given: string | undefined,
  read: () => string | undefined,
): TokenNow => {
  let token = given
  let lookedMs = clock.monotonicMs()
  return (doubted) => {
    const nowMs = clock.monotonicMs()
    const sinceMs = nowMs - lookedMs
    if (given === undefined || sinceMs < (doubted ? doubtLookMs : tokenLookMs)) return token
    lookedMs = nowMs
    token = read() ?? token
    return token
  }
}

const digestOf = (token: string): Buffer => createHash('sha256').update(token).digest()
/** Whether one of what was brought is the token. */
export const createTokenCheck = (now: TokenNow): ((brought: readonly string[]) => boolean) => {
  let known: { readonly token: string; readonly digest: Buffer } | undefined
  const expectedOf = (token: string) => {
    if (known?.token !== token) known = { token, digest: digestOf(token) }
    return known.digest
  }
  return (brought) => {
    const given = brought.map(digestOf)
    for (const doubted of [false, true]) {
      const token = now(doubted)
      if (token === undefined) return true
      const expected = expectedOf(token)
      if (given.some((one) => timingSafeEqual(one, expected))) return true
    }
    return false
  }
}
export const bearerOf = (authorization: string | undefined): string =>
  /^Bearer +(.+)$/i.exec(authorization ?? '')?.[1] ?? ''
