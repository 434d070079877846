/**
 * Runs services until told to stop: each is restarted with full-jitter backoff when it fails, and they are stopped one
 * after another in flow order, so that what an earlier one handed over can still get out.
 */
import { textOf } from './errors.ts'
import type { Host } from './host.ts'
import type { Service } from './model.ts'

const restartMsMin = 500
const restartMsMax = 30_000
/** A service that ran this long was well: its next failure starts counting afresh. */
const wellAfterMs = 60_000

const runOne = async (
  host: Pick<Host, 'clock' | 'random' | 'log'>,
  service: Service,
  signal: AbortSignal,
): Promise<void> => {
  let failures = 0
  while (!signal.aborted) {
    const startedMs = host.clock.monotonicMs()
    try {
      await service.run(signal)
      if (signal.aborted) return
      host.log.warn('service_ended', { service: service.name })
    } catch (error) {
      if (signal.aborted) return
      host.log.warn('service_failed', { service: service.name, error: textOf(error) })
    }
    if (host.clock.monotonicMs() - startedMs > wellAfterMs) failures = 0
    const ceilingMs = Math.min(restartMsMax, restartMsMin * 2 ** failures++)
    await host.clock.sleep(host.random() * ceilingMs + 100, signal)
  }
}

/** Resolves when all have ended: after `signal`, each group is given `graceMs` before the next is stopped. */
export const supervise = async (
  host: Pick<Host, 'clock' | 'random' | 'log'>,
  groups: readonly (readonly Service[])[],
  signal: AbortSignal,
  graceMs = 10_000,
): Promise<void> => {
  const running = groups.map((services) => {
    const stop = new AbortController()
    return { stop, ended: Promise.all(services.map((one) => runOne(host, one, stop.signal))) }
  })
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
  for (const { stop, ended } of running) {
    stop.abort()
    const waiting = new AbortController()
    await Promise.race([ended, host.clock.sleep(graceMs, waiting.signal)])
    waiting.abort()
  }
}
