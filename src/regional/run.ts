/**
 * A regional node as a process: its store, its door, its metrics, until the signal fires.
 * Invariant: it listens only once the schema is known to be right; a database that is not there yet is waited for.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { extendDictionaryHash } from '../codec/series-id.ts'
import { createEmbeddedStore } from '../database/embedded.ts'
import { createPostgresStore } from '../database/postgres.ts'
import type { PostgresTls } from '../database/postgres-hosts.ts'
import type { RegionStore } from '../database/store.ts'
import { exitCodes, Failure } from '../errors.ts'
import type { Host } from '../host.ts'
import { createTokenNow } from '../renewed.ts'
import type { ServiceManager } from '../service-manager.ts'
import { openTlsFiles } from '../tls.ts'
import { createRegional } from './handle.ts'
import { openRegionalServer, type RegionalServer } from './server.ts'

/** What of a regional configuration (`config/regional.ts`) is needed here. */
export interface RegionalSettings {
  readonly listen: string
  readonly tls: { readonly ca: string; readonly cert: string; readonly key: string }
  readonly identity: 'certificate' | 'signature'
  /** As agents name this region, `host:port`: what a signed request must be made for. */
  readonly audiences: readonly string[]
  readonly state_dir: string
  readonly database: {
    readonly urls: readonly string[]
    readonly password?: string | undefined
    /** The password read again, where it stands elsewhere; asked at each new connection. */
    readonly renewed?: () => string | undefined
    /** Paths of PEM files; 'off' for a Unix socket or this machine only. */
    readonly tls: PostgresTls | 'off'
    readonly pool_max: number
  } | null
  readonly metrics?: { readonly listen: string; readonly token?: string | undefined } | undefined
  /** The token of `metrics` read again, where it stands elsewhere. */
  readonly renewedToken?: () => string | undefined
  readonly limits: { readonly requests: number; readonly bytes: number }
}
export interface RunRegionalOptions {
  readonly host: Host
  readonly meter: { readonly text: () => Promise<string>; readonly contentType: string }
  readonly signal: AbortSignal
  readonly manager?: ServiceManager
  /** `reload` reads the certificates again; false when they do not work and the earlier ones stay. */
  readonly onReady?: (server: RegionalServer, reload: () => boolean) => void
}

const waitMsMin = 500
const waitMsMax = 15_000
const agentsLookMs = 15_000
/** An agent that is well says hello once a minute. */
const heardWithinUs = 600 * 1_000_000

/** The store a configuration names; nothing is asked of it yet. */
export const openStore = (
  settings: Pick<RegionalSettings, 'database' | 'state_dir'>,
  host: Host,
): RegionStore => {
  const { database, state_dir: folder } = settings
  if (database === null) {
    mkdirSync(folder, { recursive: true, mode: 0o750 })
    return createEmbeddedStore({ path: join(folder, 'region.db'), host, extendDictionaryHash })
  }
  let { password } = database
  const passwordNow = () => {
    password = database.renewed?.() ?? password
    return password ?? ''
  }
  return createPostgresStore({
    urls: database.urls,
    tls: database.tls,
    ...(password === undefined ? {} : { password: passwordNow }),
    poolMax: database.pool_max,
    host,
    extendDictionaryHash,
  })
}

/** A region may start before its database does; what only a person can mend ends it at once. */
const prepare = async (
  store: RegionStore,
  { host, manager, signal }: RunRegionalOptions,
): Promise<void> => {
  for (let waitMs = waitMsMin; !signal.aborted; waitMs = Math.min(waitMsMax, waitMs * 2)) {
    const answer = await store.prepare()
    if (answer.kind === 'ok') return
    if (answer.kind !== 'later') {
      const [code, hint] = answer.kind === 'blocked' ? [answer.code, answer.hint] : ['HF-D001', '']
      throw new Failure(code, 'text' in answer ? answer.text : answer.kind, hint)
    }
    host.log.warn('database_not_ready', { why: answer.text, retry_ms: waitMs })
    manager?.status(`waiting for the database: ${answer.text}`)
    await host.clock.sleep(waitMs, signal)
  }
}

const addressOf = (listen: string): { address: string; port: number } => {
  const at = listen.lastIndexOf(':')
  const name = listen.slice(0, at).replace(/^\[|\]$/g, '')
  return { address: name === '' || name === '*' ? '::' : name, port: Number(listen.slice(at + 1)) }
}

const watchAgents = async (
  store: RegionStore,
  { host, manager, signal }: RunRegionalOptions,
): Promise<void> => {
  while (!signal.aborted) {
    const answer = await store.agents()
    host.meter.gauge('holdfast_regional_database_up', answer.kind === 'ok' ? 1 : 0)
    if (answer.kind === 'ok') {
      const sinceUs = host.clock.nowUs() - heardWithinUs
      const heard = answer.agents.filter((one) => one.lastHeardUs >= sinceUs)
      manager?.status(`ok: ${heard.length} agents heard in the last 10 minutes`)
      host.meter.gauge('holdfast_regional_agents', heard.length)
      const fenced = answer.agents.reduce((sum, one) => sum + one.fenced.length, 0)
      host.meter.gauge('holdfast_regional_fenced', fenced)
    } else {
      const why = 'text' in answer ? answer.text : answer.kind
      manager?.status(`unhealthy: the database does not answer: ${why}`)
    }
    await host.clock.sleep(agentsLookMs, signal)
  }
}

/** Runs until `signal`; returns the exit code. Throws a Failure when it cannot start. */
export const runRegional = async (
  settings: RegionalSettings,
  options: RunRegionalOptions,
): Promise<number> => {
  const { host, meter, signal } = options
  await using store = openStore(settings, host)
  await prepare(store, options)
  if (signal.aborted) return exitCodes.good
  using tls = openTlsFiles(settings.tls, host, { watch: true })
  const expiryGauge = () => {
    const endsUs = tls.expiresAtUs()
    const name = 'holdfast_certificate_expiry_timestamp_seconds'
    if (endsUs !== null) host.meter.gauge(name, endsUs / 1e6, { use: 'regional' })
  }
  expiryGauge()
  tls.onChange(expiryGauge)
  const regional = createRegional({
    store,
    host,
    limits: { requestsMax: settings.limits.requests, bytesMax: settings.limits.bytes },
  })
  const { metrics, audiences, renewedToken } = settings
  const token = createTokenNow(host.clock, metrics?.token, () => renewedToken?.())
  await using server = await openRegionalServer({
    regional,
    host,
    listen: addressOf(settings.listen),
    tls,
    ...(settings.identity === 'signature' ? { proxy: { agents: tls, audiences } } : {}),
    ...(metrics ? { monitor: { ...addressOf(metrics.listen), token } } : {}),
    metrics: meter,
    health: async () => {
      const answer = await store.identity()
      return answer.kind === 'ok'
        ? { good: true, text: `region ${answer.region}` }
        : { good: false, text: 'text' in answer ? answer.text : answer.kind }
    },
  })
  options.onReady?.(server, tls.reload)
  const watching = watchAgents(store, options)
  // A database that is away is no reason to be killed: this says only that requests would be heard.
  const beating = options.manager?.watch(async () => {}, signal)
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
  await Promise.all([watching, beating])
  host.log.info('regional_stopping')
  return exitCodes.good
}
