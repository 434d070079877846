/** What `holdfast doctor` finds: one line each, with the remedy where something is wrong. */

export interface Finding {
  readonly check: string
  /** `unknown`: it could not be looked at from here; it makes no verdict worse. */
  readonly state: 'good' | 'warning' | 'bad' | 'unknown'
  readonly text: string
  /** '' where nothing is to be done. */
  readonly fix: string
  readonly code?: string
  /** How long the step took, where that says something. */
  readonly ms?: number
}
export const good = (check: string, text: string): Finding => ({
  check,
  state: 'good',
  text,
  fix: '',
})
export const warning = (check: string, text: string, fix: string): Finding => ({
  check,
  state: 'warning',
  text,
  fix,
})
export const bad = (check: string, text: string, fix: string): Finding => ({
  check,
  state: 'bad',
  text,
  fix,
})
export const unknown = (check: string, text: string, fix = ''): Finding => ({
  check,
  state: 'unknown',
  text,
  fix,
})
/** What is closed to this user: nothing is known of it, and somebody else may look. */
export const notForUs = (check: string, text: string): Finding =>
  unknown(check, text, 'Run it as root: sudo holdfast doctor')
