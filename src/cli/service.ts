/**
 * What a long-running verb owes the service manager that started it: SIGHUP is answered, the end is announced.
 * Invariant: nothing of it stays behind when the verb ends.
 */

import type { Host } from '../host.ts'
import { isJournal, openServiceManager, type ServiceManager } from '../service-manager.ts'
import type { CliContext } from './context.ts'

export interface Service {
  readonly manager: ServiceManager
  /** Everything runs; from now on SIGHUP calls `reload`. */
  readonly ready: (reload: () => Promise<void>) => void
}

/** Runs `work` with signals and service manager connected; returns what it returns. */
export const asService = async (
  context: CliContext,
  host: Pick<Host, 'clock' | 'log'>,
  work: (service: Service) => Promise<number>,
): Promise<number> => {
  const { environment, redactor, signal } = context
  const manager = openServiceManager({ environment, host, hide: redactor.hide })
  let reload: (() => Promise<void>) | undefined
  const onHangup = async () => {
    if (reload === undefined || signal.aborted) return
    manager.reloading()
    await reload()
    manager.ready()
  }
  // What Node itself says of an exception that nobody caught has no priority in the journal.
  const onBug = (error: unknown) => {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
    context.warn(redactor.hide(`holdfast: a bug, please report it\n${text}`), 3)
  }
  const inJournal = isJournal(environment.JOURNAL_STREAM)
  if (inJournal) process.on('uncaughtExceptionMonitor', onBug)
  process.on('SIGHUP', onHangup)
  signal.addEventListener('abort', manager.stopping, { once: true })
  try {
    return await work({
      manager,
      ready: (given) => {
        reload = given
        manager.ready()
      },
    })
  } finally {
    process.off('SIGHUP', onHangup)
    process.off('uncaughtExceptionMonitor', onBug)
    signal.removeEventListener('abort', manager.stopping)
  }
}
