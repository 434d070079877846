/** What a destination logs in with, renewed where the far side refuses it (`renewed.ts`), and what a refusal means. */
import type { Outcome } from '../model.ts'
import { createRenewed } from '../renewed.ts'
import { later } from './relay-outcome.ts'

type Setback = Extract<Outcome, { kind: 'later' | 'blocked' }>
export interface Login<T> {
  /** For the next request. */
  readonly current: () => T
  /** What a setback means that an answer to a request with `used` was. */
  readonly heard: (used: T, setback: Setback) => Setback
}

/** `code`: of the setback that says that credentials are refused. `renewed`: the settings as they would be read now. */
export const createLogin = <T extends Parameters<typeof createRenewed>[0]>(
  given: T,
  renewed: (() => unknown) | undefined,
  code: string,
): Login<T> => {
  const settings = createRenewed(given, renewed)
  return {
    current: settings.current,
    heard: (used, setback) =>
      setback.kind === 'blocked' && setback.code === code && settings.refused(used)
        ? later(`${setback.text}; there are others by now, tried next`)
        : setback,
  }
}

/** What to do, behind what is wrong. */
export const renewHint =
  'A secret in a file of its own (file:) is read again before each try; after a change of the configuration, ' +
  'of env: or of cred: restart the agent.'
