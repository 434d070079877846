/**
 * What systemd hears of this process: ready, how it is, reloading, stopping, and that it is alive; and the way to its
 * journal.
 *
 * Node cannot open datagram sockets of the Unix family; `platforms/linux/launch.pl` opens the manager's before Node
 * takes its place, and names its descriptor in the environment. A message is then one write, from the main process.
 *
 * Invariants: without that descriptor nothing happens; a beat leaves only after `alive` has answered; a manager that
 * does not read never blocks this process; no secret is told.
 */
import { fstatSync, writeSync } from 'node:fs'
import type { Host } from './host.ts'

export interface ServiceManager {
  readonly ready: () => void
  readonly status: (text: string) => void
  /** Followed by `ready` once it is done. */
  readonly reloading: () => void
  readonly stopping: () => void
  /** Beats until `signal`, when the manager asked for it; resolves at once when not. */
  readonly watch: (alive: () => Promise<unknown>, signal: AbortSignal) => Promise<void>
}
export interface ServiceManagerOptions {
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly host: Pick<Host, 'clock' | 'log'>
  /** Takes secrets out of a status, which every user of the machine may read. */
  readonly hide: (text: string) => string
}

export const notifyDescriptor = 'HOLDFAST_NOTIFY_FD'
export const journalDescriptor = 'HOLDFAST_JOURNAL_FD'
const statusCharsMax = 300
/** A manager whose queue is full is asked again, ten times a second, for ten seconds. */
const againMs = 100
const triesMax = 100
/** Beats in the time after which a silent process is killed: a late one or a lost one is no death. */
const beatsAWatch = 4

export const silentServiceManager: ServiceManager = {
  ready: () => {},
  status: () => {},
  reloading: () => {},
  stopping: () => {},
  watch: async () => {},
}

/**
 * Whether stderr is the journal. `stat` is fstat(2) of it: $JOURNAL_STREAM names the journal's socket; stderr may have
 * been redirected since.
 */
export const isJournal = (
  journalStream: string | undefined,
  stat: () => { readonly dev: number; readonly ino: number } = () => fstatSync(2),
): boolean => {
  if (!journalStream) return false
  try {
    const { dev, ino } = stat()
    return journalStream === `${dev}:${ino}`
  } catch {
    return false
  }
}
/** Each line with its priority (3: an error, 4: a warning), which the journal takes off again; without one it is 6. */
export const forJournal = (priority: 3 | 4, text: string): string =>
  text.replaceAll(/^(?=.)/gm, `<${priority}>`)

/** The number of a socket that was left open for us under this name; undefined when there is none. */
export const inheritedSocket = (
  environment: ServiceManagerOptions['environment'],
  name: string,
): number | undefined => {
  const text = environment[name] ?? ''
  if (!/^\d{1,6}$/.test(text) || Number(text) < 3) return undefined
  try {
    return fstatSync(Number(text)).isSocket() ? Number(text) : undefined
  } catch {
    return undefined
  }
}

/** One write, one datagram, to a socket left open under this name: false when it was not taken. */
export const inheritedWriter = (
  environment: ServiceManagerOptions['environment'],
  name: string,
): ((datagram: string) => boolean) | undefined => {
  const descriptor = inheritedSocket(environment, name)
  if (descriptor === undefined) return undefined
  return (datagram) => {
    try {
      writeSync(descriptor, datagram)
      return true
    } catch {
      return false
    }
  }
}

const createTeller = (descriptor: number, { clock, log }: ServiceManagerOptions['host']) => {
  let failed = false
  const tell = (message: string, tries = triesMax): void => {
    try {
      writeSync(descriptor, message)
      failed = false
    } catch (error) {
      const { code = '' } = error as NodeJS.ErrnoException
      if (code === 'EAGAIN' && tries > 1) clock.after(againMs, () => tell(message, tries - 1))
      else if (!failed) {
        failed = true
        log.warn('service_manager_deaf', { error: code })
      }
    }
  }
  return tell
}

export const openServiceManager = (options: ServiceManagerOptions): ServiceManager => {
  const { environment, host, hide } = options
  const descriptor = inheritedSocket(environment, notifyDescriptor)
  if (descriptor === undefined) {
    if (environment.NOTIFY_SOCKET)
      host.log.warn('service_manager_not_told', {
        why: 'a notify socket was given, but no descriptor of it',
        fix: 'start this program by /usr/lib/holdfast/bin/launch',
      })
    return silentServiceManager
  }
  const tell = createTeller(descriptor, host)
  const watchUs = Number(environment.WATCHDOG_USEC ?? 0)
  let told = ''
  return {
    ready: () => tell('READY=1'),
    status: (text) => {
      const line = hide(text).replaceAll(/\p{Cc}+/gu, ' ')
      if (line === told) return
      told = line
      tell(`STATUS=${line.slice(0, statusCharsMax)}`)
    },
    reloading: () =>
      tell(`RELOADING=1\nMONOTONIC_USEC=${Math.floor(host.clock.monotonicMs() * 1000)}`),
    stopping: () => tell('STOPPING=1'),
    watch: async (alive, signal) => {
      if (!(watchUs > 0)) return
      while (!signal.aborted) {
        // Whoever cannot answer is not alive; the manager draws the conclusion.
        const answered = await alive().then(
          () => true,
          () => false,
        )
        // A beat that finds no room is not repeated: the next one says as much.
        if (answered) tell('WATCHDOG=1', 1)
        await host.clock.sleep(watchUs / 1000 / beatsAWatch, signal)
      }
    },
  }
}
