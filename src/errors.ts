/**
 * One class for trouble a person may meet: a stable code, what happened, and what to do about it.
 * Codes: HF-C config, HF-I intake and sources, HF-S spool, HF-F forwarding, HF-N network and TLS, HF-R regional,
 * HF-D database, HF-K codec, HF-P protocol, HF-X command line. Each code is listed in docs/operate/codes.md.
 */
export class Failure extends Error {
  readonly code: string
  readonly hint: string
  override readonly name = 'Failure'

  constructor(code: string, message: string, hint = '', options?: ErrorOptions) {
    super(message, options)
    this.code = code
    this.hint = hint
  }
}

export const isFailure = (error: unknown, code?: string): error is Failure =>
  error instanceof Failure && (code === undefined || error.code === code)

/** A thrown thing as one line of text. */
export const textOf = (error: unknown): string =>
  error instanceof Error ? error.message : String(error)

/** Exit codes of every verb (sysexits where one fits). */
export const exitCodes = {
  good: 0,
  failed: 1,
  usage: 2,
  degraded: 3,
  unhealthy: 4,
  notReachable: 5,
  diskTrouble: 74,
  tryLater: 75,
  noPermission: 77,
  configInvalid: 78,
} as const
