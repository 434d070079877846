/**
 * One look at the way to a far side, step by step: name, TCP, TLS, hello; each with its time, and what to do about the
 * first that fails. For `holdfast doctor` and whoever else asks; the agent itself never needs it.
 *
 * Invariants: it introduces no epoch and stores nothing on the far side; TLS is verified as in earnest; every step ends
 * within its deadline and leaves no socket behind.
 */
import { lookup } from 'node:dns/promises'
import { connect, isIP, type Socket } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { deniedBy, Failure, textOf } from '../errors.ts'
import type { Host } from '../host.ts'
import { openTlsFiles, type TlsFiles, type TlsPaths, tlsVersionMin } from '../tls.ts'
import { createHttpTransport } from './relay-http.ts'
import type { RelayPost, RelayReply } from './relay-transport.ts'
import { troubleOf } from './relay-trouble.ts'

export interface LinkStep {
  readonly step: 'dns' | 'tcp' | 'tls' | 'hello' | 'login' | 'ready' | 'write'
  readonly good: boolean
  /** Which of several hosts; absent where there is one. */
  readonly host?: string
  /** It is not good, and does not matter now: another host of the same far side is. */
  readonly bearable?: boolean
  /** A file it needs is closed to whoever looks: the agent may find it open. */
  readonly denied?: true
  readonly ms: number
  /** What was found, or what is wrong. */
  readonly text: string
  /** '' when nothing is wrong. */
  readonly code: string
  readonly hint: string
}
export interface LinkReport {
  /** In their order; the last one is the first that failed, if any did. */
  readonly steps: readonly LinkStep[]
  /** When the far side's certificate ends; null when it was not seen. */
  readonly serverEndsUs: number | null
  /** Far side's clock minus ours, to a second or so; null when it named no time. */
  readonly offsetUs: number | null
}
/** What a destination says of its far side. */
export interface LinkTarget {
  readonly url: URL
  /** HTTP proxy to CONNECT through: name and TCP are then the proxy's, TLS and hello go through it. */
  readonly proxy?: URL | undefined
  readonly tls: TlsPaths
  readonly sign?: boolean
  /** A request that changes nothing over there, and what its answer means; without it the look ends before. */
  readonly hello?: Omit<RelayPost, 'timeoutMs'> & { readonly read: (reply: RelayReply) => Reading }
}
export type Reading = Pick<LinkStep, 'good' | 'text' | 'code' | 'hint' | 'denied'>
type LinkHost = Pick<Host, 'clock' | 'log'>

const stepMs = 10_000
/** Does one step and says how long it took. */
export const timed = async (
  { clock }: Pick<Host, 'clock'>,
  step: LinkStep['step'],
  work: () => Promise<Reading>,
): Promise<LinkStep> => {
  const beganMs = clock.monotonicMs()
  const reading = await work()
  return { step, ms: clock.monotonicMs() - beganMs, ...reading }
}
export const well = (text: string): Reading => ({ good: true, text, code: '', hint: '' })
export const unwell = (code: string, text: string, hint: string): Reading => ({
  good: false,
  text,
  code,
  hint,
})

/** `work` is told by the signal when its time is over, or the caller's. */
const within = async <T>(
  { clock }: LinkHost,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> => {
  const stop = new AbortController()
  const give = () => stop.abort(signal.reason)
  if (signal.aborted) give()
  signal.addEventListener('abort', give, { once: true })
  const cancel = clock.after(stepMs, () =>
    stop.abort(new Failure('HF-N020', `no answer within ${stepMs / 1_000} s`)),
  )
  const over = new Promise<never>((_, reject) => {
    stop.signal.addEventListener('abort', () => reject(stop.signal.reason), { once: true })
  })
  try {
    return await Promise.race([work(stop.signal), over])
  } finally {
    cancel()
    signal.removeEventListener('abort', give)
  }
}

const opened = <S extends Socket>(socket: S, event: string, signal: AbortSignal): Promise<S> =>
  new Promise((resolve, reject) => {
    const fail = (error: unknown) => {
      socket.destroy()
      reject(error)
    }
    socket.once('error', fail)
    socket.once('close', () => fail(new Error('the far side hung up')))
    signal.addEventListener('abort', () => socket.destroy(), { once: true })
    socket.once(event, () => resolve(socket))
  })
const portOf = (url: URL) => Number(url.port || (url.protocol === 'https:' ? 443 : 80))
const bareName = (url: URL) => url.hostname.replace(/^\[|\]$/g, '')

const lookUp = async (name: string): Promise<Reading> => {
  if (isIP(name) !== 0) return well('an address, no name to look up')
  try {
    const found = await lookup(name, { all: true })
    return well(found.map(({ address }) => address).join(', '))
  } catch (error) {
    const hint = 'Correct the name, or look at the DNS server of this machine (resolvectl status).'
    return unwell('HF-N021', `${name} has no address: ${textOf(error)}`, hint)
  }
}
const tcpReading = (at: string, error: unknown): Reading => {
  const refused = (error as { code?: string }).code === 'ECONNREFUSED'
  const hint = refused
    ? 'The machine answers, nothing listens there: is the far side running, is the port right?'
    : 'Look at the link, the route and firewalls in between; it recovers by itself.'
  return unwell('HF-N022', `${at} cannot be reached: ${textOf(error) || String(error)}`, hint)
}

interface Look {
  readonly target: LinkTarget
  readonly host: LinkHost
  readonly tls: TlsFiles
  readonly signal: AbortSignal
  readonly trouble: (error: unknown) => Reading
}
const lookAtTls = async ({ target, host, tls, signal, trouble }: Look) => {
  const name = bareName(target.url)
  let socket: TLSSocket | undefined
  try {
    const plain = connect({ host: name, port: portOf(target.url) })
    const options = { ...tls.current(), minVersion: tlsVersionMin, socket: plain } as const
    socket = connectTls(
      isIP(name) === 0 ? { ...options, servername: name } : { ...options, host: name },
    )
    plain.once('error', (error) => socket?.destroy(error))
    const secure = await within(host, signal, (over) =>
      opened(socket as TLSSocket, 'secureConnect', over),
    )
    const endsUs = Date.parse(secure.getPeerCertificate().valid_to) * 1_000
    const until = new Date(endsUs / 1_000).toISOString().slice(0, 10)
    const reading = well(`${secure.getProtocol()}, its certificate is good until ${until}`)
    return { reading, endsUs }
  } catch (error) {
    return { reading: trouble(error), endsUs: null }
  } finally {
    socket?.destroy()
  }
}
const greet = async (
  { target, host, tls, signal, trouble }: Look,
  hello: NonNullable<LinkTarget['hello']>,
) => {
  const { url, proxy, sign = false } = target
  const http = createHttpTransport({ url, tls, host, proxy, sign })
  try {
    const reply = await http.transport({ ...hello, timeoutMs: stepMs }, signal)
    const farMs = Date.parse(reply.headers.date ?? '')
    const offsetUs = Number.isNaN(farMs) ? null : farMs * 1_000 - host.clock.nowUs()
    return { reading: hello.read(reply), offsetUs }
  } catch (error) {
    return { reading: trouble(error), offsetUs: null }
  } finally {
    await http.close()
  }
}

/** Never rejects for a far side's sake; a certificate file that does not work is the first step that failed. */
export const probeLink = async (
  target: LinkTarget,
  host: LinkHost,
  signal: AbortSignal,
): Promise<LinkReport> => {
  const steps: LinkStep[] = []
  let [serverEndsUs, offsetUs] = [null as number | null, null as number | null]
  const step = async (name: LinkStep['step'], work: () => Promise<Reading>) => {
    if (steps.some(({ good }) => !good)) return
    steps.push(await timed(host, name, work))
  }
  const first = target.proxy ?? target.url
  const at = `${bareName(first)} port ${portOf(first)}`
  await step('dns', () =>
    within(host, signal, () => lookUp(bareName(first))).catch((error: unknown) =>
      unwell('HF-N021', `no answer for ${bareName(first)}: ${textOf(error)}`, 'Look at DNS.'),
    ),
  )
  await step('tcp', async () => {
    const socket = connect({ host: bareName(first), port: portOf(first) })
    try {
      await within(host, signal, (over) => opened(socket, 'connect', over))
      return well(`${at}, ${socket.remoteAddress}${target.proxy ? ' (the proxy)' : ''}`)
    } catch (error) {
      return tcpReading(at, error)
    } finally {
      socket.destroy()
    }
  })
  if (steps.some(({ good }) => !good)) return { steps, serverEndsUs, offsetUs }
  let tls: TlsFiles
  try {
    tls = openTlsFiles(target.tls, host)
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    const { code, message, hint, cause } = error
    await step('tls', async () => ({ ...unwell(code, message, hint), ...deniedBy(cause) }))
    return { steps, serverEndsUs, offsetUs }
  }
  try {
    const trouble = (error: unknown): Reading => {
      const found = troubleOf(error, {
        authority: target.url.host,
        nowUs: host.clock.nowUs(),
        certificateExpiresAtUs: tls.expiresAtUs(),
        answered: tls.expiresAtUs() === null,
      })
      if (found.kind === 'blocked') return unwell(found.code, found.text, found.hint)
      return unwell('HF-N020', found.text, 'It is tried again by itself; look at the far side.')
    }
    const look = { target, host, tls, signal, trouble }
    if (target.url.protocol === 'https:' && target.proxy === undefined)
      await step('tls', async () => {
        const { reading, endsUs } = await lookAtTls(look)
        serverEndsUs = endsUs
        return reading
      })
    const { hello } = target
    if (hello === undefined) return { steps, serverEndsUs, offsetUs }
    await step('hello', async () => {
      const greeted = await greet(look, hello)
      offsetUs = greeted.offsetUs
      return greeted.reading
    })
  } finally {
    tls[Symbol.dispose]()
  }
  return { steps, serverEndsUs, offsetUs }
}

/** Ways to one far side, all looked at: one good host is enough, the others are told with their remedy. */
export const probeLinks = async (
  targets: readonly LinkTarget[],
  host: LinkHost,
  signal: AbortSignal,
): Promise<LinkReport> => {
  const reports = await Promise.all(targets.map((one) => probeLink(one, host, signal)))
  const [first] = reports
  if (first === undefined) return { steps: [], serverEndsUs: null, offsetUs: null }
  if (reports.length === 1) return first
  const one = reports.some(({ steps }) => steps.every(({ good }) => good))
  const steps = reports.flatMap((report, at) =>
    report.steps.map((step) => ({
      ...step,
      host: (targets[at] as LinkTarget).url.host,
      ...(step.good ? {} : { bearable: one }),
    })),
  )
  return { ...first, steps }
}
/** Whether the way is open: what is bearable closes nothing. */
export const isOpen = (steps: readonly LinkStep[]): boolean =>
  steps.every(({ good, bearable }) => good || bearable === true)
