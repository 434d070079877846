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

/** The system says no to this user, whatever is there: another may find it right. */
export const isDenied = (error: unknown): boolean =>
  /^(EACCES|EPERM)$/.test((error as NodeJS.ErrnoException | undefined)?.code ?? '')
/** The same, as a part of what is reported. */
export const deniedBy = (error: unknown): { readonly denied?: true } =>
  isDenied(error) ? { denied: true } : {}

/** A person has ended it: Ctrl-C, or Ctrl-D at a prompt. Nothing is wrong, and nothing is to be said. */
export const interrupted = (): Failure => new Failure('HF-X130', 'ended by hand')

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
  interrupted: 130,
} as const
